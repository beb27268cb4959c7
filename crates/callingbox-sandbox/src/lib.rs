#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod clock;
mod engine;
mod handlers;
mod http;
mod model;
mod options;
mod sandbox;
mod scenario;
mod seed;
mod simulator;
mod state_file;
mod store;
mod webhook_sender;
mod webhook_url;

pub use clock::ClockMode;
pub use options::{Options, SandboxError};
pub use sandbox::Sandbox;
