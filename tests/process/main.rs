//! Tests that read or set something global to the process: its memory, its log subscriber, or its tracer.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test may panic and print"
)]
#![cfg_attr(feature = "otlp", expect(clippy::panic, reason = "a test may panic"))]

mod abandoned;
mod api_log;
mod traces;
