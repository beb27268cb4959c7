//! The arguments of each command, except those of servers over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use callingbox::MilliCents;
use clap::{Args, Subcommand, ValueEnum};

use super::http::{OAuthArgs, StateArgs};
use super::values::{
    ClientName, ClientNameParser, parse_address, parse_server_name, parse_server_url,
    parse_variable_name,
};
use crate::install::InstallScope;

/// The environment variable from which clients take a server's bearer token by default.
const DEFAULT_TOKEN_VARIABLE: &str = "CALLINGBOX_MCP_TOKEN";

#[derive(Debug, Args)]
pub struct ReceiptsArgs {
    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// Only entries since this time: a timestamp such as 2026-11-22T08:00:00Z, or a span such as 2h or 7d.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only entries with this outcome (completed, voicemail, no_answer, busy, canceled, failed) or status (intent,
    /// unknown, not_placed, placed).
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// Only entries of this caller: local, token:NAME, oauth:SUBJECT, key:HASH or anonymous.
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// Only the calls of this batch.
    #[arg(long, value_name = "BATCH_ID")]
    pub batch: Option<String>,
    /// The maximum number of entries.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    #[command(flatten)]
    pub state: StateArgs,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Explain whether a number may be called, and why. No call is made.
    Check(PolicyCheckArgs),
    /// Write the default calling rules, with comments, to a file to start from.
    Init {
        /// Only print the file.
        #[arg(long)]
        print: bool,
    },
}

#[derive(Debug, Args)]
pub struct OptOutArgs {
    #[command(subcommand)]
    pub command: OptOutCommand,
    #[command(flatten)]
    pub state: StateArgs,
}

#[derive(Debug, Subcommand)]
pub enum OptOutCommand {
    /// Put a number on the list.
    Add {
        /// The number in E.164 form, such as +14155550100.
        number: String,
        /// Why, such as what the person said.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// The number may be called again after so many days. Default: never.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
    },
    /// Print the list.
    List {
        /// Print whole numbers.
        #[arg(long)]
        full: bool,
        /// Include entries that were removed or have expired.
        #[arg(long)]
        all: bool,
    },
    /// Take a number off the list. Asks for its last four digits and for the reason, which is kept.
    Remove {
        /// The number in E.164 form, such as +14155550100.
        number: String,
    },
    /// Put the numbers of a CSV file on the list. Its first line names the columns number, reason and expires_at, or the
    /// first column is the number.
    Import { file: PathBuf },
    /// Print the list as CSV, with whole numbers.
    Export,
}

#[derive(Debug, Args)]
pub struct PolicyCheckArgs {
    /// The number in E.164 form, such as +14155550100.
    pub number: String,
    /// The agent that would make the call.
    #[arg(long, value_name = "ID", default_value = "")]
    pub agent: String,
    /// The caller who would ask for the call: local, token:NAME, oauth:SUBJECT or key:HASH.
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub caller: String,
    /// The time of the call, such as 2026-11-22T23:00:00Z. Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Metadata that the call would carry, as a model would write it.
    #[arg(long, value_name = "KEY=VALUE")]
    pub metadata: Vec<String>,
    #[command(flatten)]
    pub state: StateArgs,
}

#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// The address to listen on; it must be loopback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4010", value_parser = parse_address)]
    pub listen: SocketAddr,
    /// The speed of the simulated clock, in multiples of real time.
    #[arg(long, value_name = "N", default_value_t = 1.0, conflicts_with = "manual")]
    pub speed: f64,
    /// Stop the simulated clock: only POST /sandbox/clock moves it.
    #[arg(long)]
    pub manual: bool,
    /// The seed for IDs and conversations; equal seeds give equal ones.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The credit of each key, in US dollars; 5.00 is that of a new account.
    #[arg(long, value_name = "DOLLARS", default_value = "100.00")]
    pub credit: MilliCents,
    /// A file that keeps the simulator's data across restarts.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// A file with your own scenarios (TOML); can be repeated.
    #[arg(long, value_name = "FILE")]
    pub scenarios: Vec<PathBuf>,
    /// Also deliver webhooks to this machine and over plain http.
    #[arg(long)]
    pub allow_private_webhooks: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CatalogueFormat {
    /// A table for people.
    #[default]
    Markdown,
    /// Exactly what tools/list returns.
    Json,
}

#[derive(Debug, Args)]
pub struct CatalogueArgs {
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    pub format: CatalogueFormat,
    /// Print how many tokens of a model's context each tool and toolset takes (o200k_base).
    #[arg(long, conflicts_with = "format")]
    pub tokens: bool,
    /// Include the tools that are not offered.
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print the JSON schema of the configuration file instead.
    #[arg(long)]
    pub schema: bool,
}

/// `install` also writes the global options of its command line into the client's entry.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The MCP client. For any other one than these, --print prints the entry in the form that most clients read.
    #[arg(value_parser = ClientNameParser)]
    pub client: Option<ClientName>,
    /// Where to add the server: for the user, or for everyone in the current folder.
    #[arg(long, value_enum, default_value_t)]
    pub scope: InstallScope,
    /// The name of this server in the client.
    #[arg(long, value_name = "NAME", default_value = "callingbox", value_parser = parse_server_name)]
    pub name: String,
    /// Let the client connect to a running server (see the `http` command) instead of starting this program; its
    /// URL is such as http://127.0.0.1:8080/mcp.
    #[arg(long, value_name = "URL", value_parser = parse_server_url, conflicts_with = "uninstall")]
    pub http: Option<url::Url>,
    /// With --http: the environment variable from which the client takes the server's bearer token (VS Code asks
    /// for the token instead). The token itself is not stored.
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = DEFAULT_TOKEN_VARIABLE,
        requires = "http",
        value_parser = parse_variable_name
    )]
    pub http_token_env: Option<String>,
    /// Only print the entry and the file that it belongs in.
    #[arg(long, requires = "client", conflicts_with = "uninstall")]
    pub print: bool,
    /// Remove the server from the client, and with the last entry the copies of the program that `install` made.
    #[arg(long, requires = "client")]
    pub uninstall: bool,
    /// Let the entries of this program, in all clients or in the one named, start this version, where they start an
    /// earlier copy, or a program in a cache. Their flags stay.
    #[arg(long, conflicts_with_all = ["http", "print", "uninstall"])]
    pub upgrade: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub oauth: OAuthArgs,
    #[command(flatten)]
    pub state: StateArgs,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write the pages into, such as ~/.local/share/man/man1.
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
}
