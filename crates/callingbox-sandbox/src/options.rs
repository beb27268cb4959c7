//! What a sandbox is started with, and why it may not start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::ClockMode;

/// How a sandbox behaves. Every option has a default: `Options { seed: 7, ..Options::default() }`.
#[derive(Debug, Clone)]
pub struct Options {
    /// How simulated time passes. Default: as fast as real time.
    pub clock: ClockMode,
    /// Determines ids, numbers, conversations, results and delays. A state file keeps its own seed. Default: 1.
    pub seed: u64,
    /// The simulated time at the start. The time of a state file takes precedence. Default: the real time.
    pub start_at: Option<jiff::Timestamp>,
    /// The file that keeps organizations over a restart. It is read and written at the start, and saved within a
    /// second after a change and by [`Sandbox::shutdown`](crate::Sandbox::shutdown). Default: none.
    pub state_file: Option<PathBuf>,
    /// TOML files with scenarios of your own, in order of precedence. Default: none.
    pub scenario_files: Vec<PathBuf>,
    /// The credit of each new organization, in thousandths of a cent. Default: 10,000,000, which is $100.
    pub credit_milli_cents: u64,
    /// Allows webhooks to plain HTTP and private addresses. Default: no.
    pub allow_private_webhooks: bool,
    /// Allows an address that other machines can reach, and any host name in requests, although the sandbox accepts any
    /// key. Default: no.
    pub allow_remote: bool,
    /// Real time for which the destination 555 0113 withholds its answer. Default: 60 seconds.
    pub late_answer: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: ClockMode::Speed(1.0),
            seed: 1,
            start_at: None,
            state_file: None,
            scenario_files: Vec::new(),
            credit_milli_cents: 10_000_000,
            allow_private_webhooks: false,
            allow_remote: false,
            late_answer: Duration::from_secs(60),
        }
    }
}

/// Why a sandbox cannot start, or cannot save its state when it ends.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Other machines could reach the address, and [`Options::allow_remote`] is not set.
    #[error(
        "the sandbox cannot listen on {0}: it accepts any API key, so the address must be a loopback address such as 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    /// The port cannot be used.
    #[error("the sandbox cannot listen on {address}: {reason}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// The error of the operating system.
        reason: std::io::Error,
    },
    /// The speed of the clock is out of range.
    #[error("the speed of the sandbox clock must be above 0 and at most 1000000")]
    Speed,
    /// A scenario file cannot be used.
    #[error("scenario file {}: {reason}", path.display())]
    Scenario {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// The state file cannot be read or written. A file that cannot be read is left unchanged.
    #[error("state file {}: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
}
