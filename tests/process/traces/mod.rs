//! Traces as a collector sees them: the real program, a collector and a CallingBox of the test's own.
//!
//! `cargo test --features otlp --test traces`; without the feature, only that its lack is told.
#[cfg(feature = "otlp")]
mod collector;
#[path = "../../it/http/support.rs"]
#[expect(dead_code, reason = "it serves the tests over HTTP first")]
mod support;
mod upstream;

#[cfg(feature = "otlp")]
mod sent;
#[cfg(not(feature = "otlp"))]
mod unsent;
