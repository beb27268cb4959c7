//! The command line: which commands and options exist, and how they are parsed together with the environment.
//! Knows nothing of what a command does.

mod args;
mod batch;
mod global;
mod http;
mod parse;
mod values;

use clap::{Parser, Subcommand};

pub use self::args::{
    CatalogueArgs, CatalogueFormat, CompletionsArgs, ConfigArgs, DoctorArgs, InstallArgs, ManArgs,
    OptOutArgs, OptOutCommand, PolicyCheckArgs, PolicyCommand, ReceiptsArgs, SandboxArgs,
};
pub use self::batch::{
    BatchCommand, BatchIdArgs, BatchResumeArgs, BatchRunArgs, BatchShowArgs, RetryOn, YesArgs,
};
pub use self::global::{Global, GlobalError};
pub use self::http::{AuthMode, HealthcheckArgs, HttpArgs, OAuthArgs, StateArgs, TokenCommand};
pub use self::values::ClientName;
pub(crate) use self::values::parse_server_name;

/// The default speed of the embedded simulator, in multiples of real time.
pub const DEFAULT_SANDBOX_SPEED: f64 = 10.0;

/// The URL at which the command `sandbox` listens by default; the example in errors.
pub const SIMULATOR_URL: &str = "http://127.0.0.1:4010";

/// Gives any AI client a telephone: an MCP server for CallingBox's AI phone calls.
///
/// Without a command it serves MCP over standard input and output. With --sandbox, everything runs on a simulator
/// inside this program: no account is needed, nothing is charged, and no telephone rings.
#[derive(Debug, Parser)]
#[command(name = "callingbox-mcp", version, propagate_version = true)]
#[command(
    after_help = "The API key is read from CALLINGBOX_API_KEY, else from the file named by CALLINGBOX_API_KEY_FILE or by api_key_file in the configuration, else from the key file that `setup` and `install` write, else from CallingBox's own callingbox/config.toml (in ~/.config, on Windows in %APPDATA%). It is never read from an argument."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve MCP over standard input and output (the default).
    Stdio,
    /// Serve MCP over HTTP, to one user or to an organization.
    Http(Box<HttpArgs>),
    /// Create, list or revoke the tokens for `http --auth token`.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Run the simulated CallingBox API on its own, for any HTTP client.
    Sandbox(SandboxArgs),
    /// Make a simulated call from start to finish, through a real MCP session.
    Demo,
    /// Call the people of a CSV file with one agent after one yes, and get a table of results.
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Print the tools.
    Catalogue(CatalogueArgs),
    /// Print the effective configuration, without the API key.
    Config(ConfigArgs),
    /// List what was dialed and bought, with time, rule and outcome; numbers are masked.
    Receipts(ReceiptsArgs),
    /// Explain the calling rules for a number, or write a file to start from.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The do-not-call list: the numbers of people who asked not to be called again.
    #[command(name = "optout")]
    OptOut(OptOutArgs),
    /// Add this server to the configuration of an MCP client; without a client, list the clients found here.
    Install(InstallArgs),
    /// Make the first call: set the API key, a number and an agent, and call your own telephone.
    ///
    /// Asks before it buys or dials anything. If it is interrupted, the next run continues where it stopped.
    Setup,
    /// Diagnose the installation; exits non-zero if a check fails.
    Doctor(DoctorArgs),
    /// Check that a running `http` server is healthy, as a container's health check does; exits non-zero if it is
    /// not.
    Healthcheck(HealthcheckArgs),
    /// Print the completions of a shell.
    Completions(CompletionsArgs),
    /// Print the manual page (roff), or write one page per command into a folder.
    Man(ManArgs),
}
