//! The API client against a loopback server with scripted answers.
mod answers;
mod failures;
mod mutilated;
mod requests;
mod wire;
