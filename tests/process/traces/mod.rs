//! Traces as a collector receives them: the real program, a collector, and a stand-in for the CallingBox API.
//!
//! `cargo test --features otlp --test process`; without the feature, the program must name it in a warning.
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
