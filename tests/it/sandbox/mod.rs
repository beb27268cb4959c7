//! The simulator over real HTTP, as any client sees it. The tests move its clock; they do not wait.

mod calls;
mod control;
mod errors;
mod support;
mod webhooks;
