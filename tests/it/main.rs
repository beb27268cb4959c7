//! All tests that need nothing but this repository, in one binary, because each binary costs a link.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test may panic and print"
)]

mod harness;

mod api;
mod batch_faults;
mod batches;
mod card;
mod catalogue;
mod chaos;
mod dialing;
mod documents;
mod e2e;
mod http;
mod install;
mod packaging;
mod properties;
mod sandbox;
