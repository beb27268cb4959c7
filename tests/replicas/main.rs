//! Three replicas of `callingbox-mcp http`, one simulator and one Redis, all real processes, and a
//! balancer that gives each connection to the next replica. Clients meet the balancer, as they would
//! anywhere; a test goes to one replica by name only to say which.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod client;
mod dialing;
mod failures;
mod house;
mod settings;
mod webhooks;
