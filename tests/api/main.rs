//! The API client against a loopback server with scripted answers.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod answers;
mod failures;
mod mutilated;
mod requests;
mod wire;
