//! The simulator over real HTTP, as any client sees it. The clock is moved by hand throughout.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod calls;
mod control;
mod errors;
mod support;
mod webhooks;
