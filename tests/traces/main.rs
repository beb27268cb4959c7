//! Traces as a collector sees them: the real program, a collector and a CallingBox of the test's own.
//!
//! `cargo test --features otlp --test traces`; without the feature, only that its lack is told.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![cfg_attr(feature = "otlp", expect(clippy::panic, reason = "a test may panic"))]

#[cfg(feature = "otlp")]
mod collector;
#[path = "../http/support.rs"]
#[expect(dead_code, reason = "it serves the tests over HTTP first")]
mod support;
mod upstream;

#[cfg(feature = "otlp")]
mod sent;
#[cfg(not(feature = "otlp"))]
mod unsent;
