//! The simulator over real HTTP, as any client sees it. The clock is moved by hand throughout.
mod calls;
mod control;
mod errors;
mod support;
mod webhooks;
