//! The command line: what can be typed, and what it means together with the environment and the
//! file. Knows no command's inside.

mod http;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use self::http::{Auth, Healthcheck, Http, OAuth, State, Token};
use crate::config::File;
use crate::environment::{NotText, is_empty};
use crate::install::{Client, Scope};
use crate::mcp::selection::Selection;
use crate::mcp::toolset::Toolset;
use crate::telemetry::LogFormat;

/// Where clients look for the token of a server over HTTP, if nothing else is said.
pub const TOKEN_VARIABLE: &str = "CALLINGBOX_MCP_TOKEN";

/// How many times faster than the wall clock the embedded simulator runs, if nothing else is said.
pub const SANDBOX_SPEED: f64 = 10.0;

/// What the address of a simulator looks like: where the command `sandbox` listens, if nothing else is said.
pub const SIMULATOR_URL: &str = "http://127.0.0.1:4010";

/// Gives any AI client a telephone: an MCP server for CallingBox's AI phone calls.
///
/// Without a command it serves MCP over standard input and output. With --sandbox everything runs
/// on a simulator inside this program: no account, no money, and no telephone rings.
#[derive(Debug, Parser)]
#[command(name = "callingbox-mcp", version, propagate_version = true)]
#[command(
    after_help = "The API key is taken from CALLINGBOX_API_KEY, from the file named by CALLINGBOX_API_KEY_FILE or by api_key_file in the configuration, from the key file that `setup` and `install` keep, or from CallingBox's own ~/.config/callingbox/config.toml; never from an argument."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do; without one, serve MCP over standard input and output.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Run on a simulator: an embedded one, or the one at URL (see the `sandbox` command). Without
    /// the flag CALLINGBOX_MCP_SANDBOX decides: true, false or URL.
    #[arg(long, global = true, value_name = "URL", num_args = 0..=1, require_equals = true)]
    pub sandbox: Option<Option<String>>,
    /// How many times faster than the wall clock the embedded simulator runs. Default: 10.
    #[arg(long, global = true, value_name = "N")]
    pub sandbox_speed: Option<f64>,
    /// The configuration file. Default: callingbox-mcp/config.toml in the user's configuration folder.
    #[arg(long, global = true, value_name = "FILE", env = "CALLINGBOX_MCP_CONFIG")]
    pub config: Option<PathBuf>,
    /// Groups of tools to offer. Default: calls,agents,numbers.
    #[arg(
        long,
        global = true,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_TOOLSETS"
    )]
    pub toolsets: Option<Vec<Toolset>>,
    /// Single tools to offer; without --toolsets, only these.
    #[arg(
        long,
        global = true,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_TOOLS"
    )]
    pub tools: Option<Vec<String>>,
    /// Tools never to offer.
    #[arg(
        long,
        global = true,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_EXCLUDE_TOOLS"
    )]
    pub exclude_tools: Option<Vec<String>>,
    /// Offer only tools that change nothing. Nothing overrules it.
    #[arg(
        long,
        global = true,
        env = "CALLINGBOX_MCP_READ_ONLY",
        // Of the environment, anything but an empty text or a plain no means yes.
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub read_only: bool,
    /// How log lines are written, on standard error.
    #[arg(long, global = true, value_name = "FORMAT", env = "CALLINGBOX_MCP_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Which log lines are written, such as `info` or `callingbox_mcp=debug`. Default: warn; of `http`:
    /// a line for each tool call too.
    #[arg(long, global = true, value_name = "FILTER", env = "CALLINGBOX_MCP_LOG")]
    pub log: Option<String>,
    /// Log the arguments of tool calls too, with numbers masked and secrets left out. What people say and
    /// want stands in them.
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        env = "CALLINGBOX_MCP_LOG_ARGUMENTS",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub log_arguments: Option<bool>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve MCP over standard input and output (the same as no command).
    Stdio,
    /// Serve MCP over HTTP, to one user or to an organization.
    Http(Box<Http>),
    /// The tokens that `http --auth token` takes: make, list or revoke them.
    #[command(subcommand)]
    Token(Token),
    /// Run the simulated CallingBox API alone, for any HTTP client.
    Sandbox(Sandbox),
    /// Make a simulated call from beginning to end, through a real MCP session.
    Demo,
    /// Print the tools.
    Catalogue(Catalogue),
    /// Print the effective configuration, without any key.
    Config(Config),
    /// What was dialed and bought, when, by which rule, with which outcome; numbers masked.
    Receipts(Receipts),
    /// The calling rules: explain them for a number, or write a file to start from.
    #[command(subcommand)]
    Policy(Policy),
    /// Write this server into the configuration of an MCP client; without one, list those found here.
    Install(Install),
    /// From nothing to the first call, in the terminal: key, number, agent, and a call to your own
    /// telephone. Asks before it buys or dials, and goes on where it stopped.
    Setup,
    /// Find out what is wrong, and say which command mends it. Fails if anything does not work.
    Doctor(Doctor),
    /// Ask a running `http` server whether it is alive, for a container's health check. Fails if it is
    /// not.
    Healthcheck(Healthcheck),
    /// Print the completions of a shell.
    Completions(Completions),
    /// Print the manual page (roff), or write one for each command into a folder.
    Man(Man),
}

/// Options of `receipts`.
#[derive(Debug, Args)]
pub struct Receipts {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Not older than this: a date and time such as 2026-11-22T08:00:00Z, or a span such as 2h or 7d.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only what ended so (completed, voicemail, no_answer, busy, canceled, failed) or stands so (intent,
    /// unknown, not_placed, placed).
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Where several replicas keep the ledger.
    #[command(flatten)]
    pub state: State,
}

/// The commands under `policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Explain what would happen if this number were called, and why. Nobody is called.
    Check(PolicyCheck),
    /// Write a commented file of calling rules to start from, as shipped.
    Init {
        /// Only print it.
        #[arg(long)]
        print: bool,
    },
}

/// Options of `policy check`.
#[derive(Debug, Args)]
pub struct PolicyCheck {
    /// The number, E.164.
    pub number: String,
    /// The agent that would speak.
    #[arg(long, value_name = "ID", default_value = "")]
    pub agent: String,
    /// When; now without it. Such as 2026-11-22T23:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Where several replicas keep the ledger, by which the limits are counted.
    #[command(flatten)]
    pub state: State,
}

/// Options of `sandbox`.
#[derive(Debug, Args)]
pub struct Sandbox {
    /// Where to listen; this machine only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4010", value_parser = address)]
    pub listen: SocketAddr,
    /// How many times faster than the wall clock it runs.
    #[arg(long, value_name = "N", default_value_t = 1.0, conflicts_with = "manual")]
    pub speed: f64,
    /// The clock stands still, and is moved by POST /sandbox/clock only.
    #[arg(long)]
    pub manual: bool,
    /// The same seed gives the same ids and conversations.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Keep everything in this file over a restart.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// A file with scenarios of your own (TOML); may be repeated.
    #[arg(long, value_name = "FILE")]
    pub scenarios: Vec<PathBuf>,
    /// Deliver webhooks to this machine and over plain http too.
    #[arg(long)]
    pub allow_private_webhooks: bool,
}

/// How the catalogue is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CatalogueFormat {
    /// A table for people.
    #[default]
    Markdown,
    /// Exactly what tools/list serves.
    Json,
}

/// Options of `catalogue`.
#[derive(Debug, Args)]
pub struct Catalogue {
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    pub format: CatalogueFormat,
    /// What each tool and each toolset costs in a model's context instead (o200k_base).
    #[arg(long, conflicts_with = "format")]
    pub tokens: bool,
    /// Every tool there is, offered or not.
    #[arg(long)]
    pub all: bool,
}

/// Options of `config`.
#[derive(Debug, Args)]
pub struct Config {
    /// Print the JSON schema of the configuration file instead.
    #[arg(long)]
    pub schema: bool,
}

/// Options of `install`. The global flags that are given are written into the client's entry too.
#[derive(Debug, Args)]
pub struct Install {
    /// The client.
    #[arg(value_enum)]
    pub client: Option<Client>,
    /// For whom: the user, or everyone in the current folder.
    #[arg(long, value_enum, default_value_t)]
    pub scope: Scope,
    /// The name that the client has for this server.
    #[arg(long, value_name = "NAME", default_value = "callingbox", value_parser = server_name)]
    pub name: String,
    /// Connect to a server that runs elsewhere (see the `http` command), such as
    /// http://127.0.0.1:8080/mcp, instead of starting this program.
    #[arg(long, value_name = "URL", value_parser = server_url, conflicts_with = "uninstall")]
    pub http: Option<url::Url>,
    /// With --http: the server wants a bearer token, which the client finds in this environment
    /// variable (VS Code asks for it instead). The token itself is written nowhere.
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = TOKEN_VARIABLE,
        requires = "http",
        value_parser = variable_name
    )]
    pub http_token_env: Option<String>,
    /// Only print the entry and where it goes.
    #[arg(long, requires = "client", conflicts_with = "uninstall")]
    pub print: bool,
    /// Take the server out again.
    #[arg(long, requires = "client")]
    pub uninstall: bool,
}

/// Where to listen. Nothing is looked up, so that what is listened on is what was typed.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:8080")
}

/// What every client takes for a name; tools are called NAME__tool in some, so it is short.
pub(crate) fn server_name(text: &str) -> Result<String, &'static str> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=32).contains(&text.len()) && text.bytes().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("a name is 1 to 32 letters, digits, - or _")
    }
}

fn variable_name(text: &str) -> Result<String, &'static str> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let secret = ["cbmcp_", "sk_"].iter().any(|beginning| text.starts_with(beginning));
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if begins_well && !secret && text.bytes().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("give the name of an environment variable, never the token itself")
    }
}

fn server_url(text: &str) -> Result<url::Url, &'static str> {
    const BEGINNING: &str = "the URL begins http:// or https://";
    let url: url::Url = text.parse().map_err(|_| BEGINNING)?;
    if !matches!(url.scheme(), "http" | "https") {
        Err(BEGINNING)
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("a URL with a password in it would be written in clear")
    } else {
        Ok(url)
    }
}

/// Options of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// The authorization server of `http --auth oauth`, to be looked at too.
    #[command(flatten)]
    pub oauth: OAuth,
    /// What several replicas share, to be looked at too.
    #[command(flatten)]
    pub state: State,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder that gets the pages, such as ~/.local/share/man/man1.
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
}

impl Cli {
    /// Reads a command line and the environment. A variable that is empty counts as not set.
    ///
    /// # Errors
    /// What is wrong with them; help and version come as errors too, to be printed.
    pub fn read<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        // One that is not there at all stays: the help names it.
        let counts = |name: &OsStr| !std::env::var_os(name).is_some_and(|it| is_empty(&it));
        Self::read_with(words, counts)
    }

    /// Reads a command line by itself, whatever the environment says.
    ///
    /// # Errors
    /// What is wrong with it; help and version come as errors too, to be printed.
    pub fn read_words<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        Self::read_with(words, |_| false)
    }

    /// With the variables that `counts` lets in.
    fn read_with<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
        counts: fn(&OsStr) -> bool,
    ) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut command = reading(Self::command(), counts);
        let read = command.try_get_matches_from_mut(&words).and_then(|matches| {
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
        });
        read.map_err(|error| explained(error, &words, &mut command))
    }
}

/// The command, which reads no other variables.
fn reading(command: clap::Command, counts: fn(&OsStr) -> bool) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if !counts(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
        .mut_subcommands(|inner| reading(inner, counts))
}

/// The error, with what clap does not say of it: the variable that it is about, and how an address follows
/// `--sandbox`.
fn explained(error: clap::Error, words: &[OsString], command: &mut clap::Command) -> clap::Error {
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some(name) = not_text(command)
    {
        return command.error(ErrorKind::InvalidUtf8, NotText(name));
    }
    let after_sandbox = words.windows(2).find_map(|pair| match pair {
        [flag, word] if flag == "--sandbox" => word.to_str().filter(|word| word.contains(':')),
        _ => None,
    });
    let of_it = |(_, value): (ContextKind, &ContextValue)| matches!(value, ContextValue::String(text) if Some(text.as_str()) == after_sandbox);
    if error.context().any(of_it) {
        let how = "an address is written behind --sandbox with `=`";
        return command.error(error.kind(), format!("{how}: --sandbox={SIMULATOR_URL}"));
    }
    error
}

/// The first variable of a command, or of those under it, that is not UTF-8. A path may be.
fn not_text(command: &clap::Command) -> Option<String> {
    let paths = clap::value_parser!(PathBuf).type_id();
    let texts = command.get_arguments().filter(|arg| arg.get_value_parser().type_id() != paths);
    let mut names = texts.filter_map(clap::Arg::get_env);
    let found = names.find(|name| std::env::var_os(name).is_some_and(|it| it.to_str().is_none()));
    let found = found.map(|name| name.to_string_lossy().into_owned());
    found.or_else(|| command.get_subcommands().find_map(not_text))
}

impl Global {
    /// Takes the sandbox from `CALLINGBOX_MCP_SANDBOX` when no flag asks for it: for bundles, whose
    /// questions become variables and not flags.
    ///
    /// # Errors
    /// It says neither true, nor false, nor the address of a simulator. Guessing could ring a telephone.
    pub fn settle_sandbox(&mut self, variable: Option<String>) -> anyhow::Result<()> {
        if self.sandbox.is_none() {
            self.sandbox = match variable.as_deref() {
                None | Some("" | "false" | "0") => None,
                Some("true" | "1") => Some(None),
                Some(url) if url.starts_with("http://") => Some(Some(url.to_owned())),
                Some(_) => anyhow::bail!(
                    "CALLINGBOX_MCP_SANDBOX is neither true, false nor the address of a simulator, such as {SIMULATOR_URL}"
                ),
            };
        }
        Ok(())
    }

    /// Which log lines are asked for, if anything is said of them.
    #[must_use]
    pub fn log_filter<'a>(&'a self, file: &'a File) -> Option<&'a str> {
        self.log.as_deref().or(file.log.as_deref())
    }

    /// Whether the arguments of tool calls are logged.
    #[must_use]
    pub fn logs_arguments(&self, file: &File) -> bool {
        self.log_arguments.or(file.log_arguments).unwrap_or(false)
    }

    /// The tools that the flags, the environment and the file together ask for.
    #[must_use]
    pub fn selection(&self, file: &File) -> Selection {
        let given = |flag: &Option<Vec<String>>, file: &Option<Vec<String>>| {
            flag.clone().or_else(|| file.clone()).unwrap_or_default()
        };
        Selection {
            toolsets: self.toolsets.clone().or_else(|| file.toolsets.clone()).unwrap_or_default(),
            tools: given(&self.tools, &file.tools),
            exclude_tools: given(&self.exclude_tools, &file.exclude_tools),
            // Either may tighten; neither may loosen the other.
            read_only: self.read_only || file.read_only.unwrap_or(false),
            sandbox: self.sandbox.is_some(),
            narrowed: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_sandbox_flag_never_swallows_a_command() {
        let cli = Cli::try_parse_from(["callingbox-mcp", "--sandbox", "demo"]).unwrap();
        assert_eq!(cli.global.sandbox, Some(None));
        assert!(matches!(cli.command, Some(Command::Demo)));
        let cli =
            Cli::try_parse_from(["callingbox-mcp", "--sandbox=http://127.0.0.1:4010"]).unwrap();
        assert_eq!(cli.global.sandbox, Some(Some("http://127.0.0.1:4010".to_owned())));
    }

    #[test]
    fn flags_beat_the_file_but_neither_loosens_read_only() {
        let file = File {
            toolsets: Some(vec![Toolset::Webhooks]),
            read_only: Some(true),
            ..File::default()
        };
        let cli = Cli::try_parse_from(["callingbox-mcp", "--toolsets", "calls,numbers"]).unwrap();
        let selection = cli.global.selection(&file);
        assert_eq!(selection.toolsets, [Toolset::Calls, Toolset::Numbers]);
        assert!(selection.read_only);
    }

    #[test]
    fn the_sandbox_of_the_environment_is_never_guessed() {
        let settled = |variable: &str| {
            let mut global = Global::default();
            global.settle_sandbox(Some(variable.to_owned())).map(|()| global.sandbox).ok()
        };
        for (variable, expected) in [
            ("true", Some(Some(None))),
            ("1", Some(Some(None))),
            ("false", Some(None)),
            ("", Some(None)),
            ("http://127.0.0.1:1", Some(Some(Some("http://127.0.0.1:1".to_owned())))),
            ("yes", None),
            ("${user_config.sandbox}", None),
        ] {
            assert_eq!(settled(variable), expected, "{variable}");
        }
        let mut global = Global { sandbox: Some(None), ..Global::default() };
        global.settle_sandbox(Some("false".to_owned())).unwrap();
        assert_eq!(global.sandbox, Some(None));
    }

    #[test]
    fn a_name_and_a_url_of_install_are_checked() {
        for arguments in [
            ["--name", "a b"],
            ["--name", ""],
            ["--name", "../x"],
            ["--http", "ftp://x/mcp"],
            ["--http", "http://u:p@x/mcp"],
            ["--http", "x"],
            ["--http=http://x/mcp", "--http-token-env=cbmcp_a-b"],
            ["--http=http://x/mcp", "--http-token-env=1X"],
            ["--http=http://x/mcp", "--http-token-env=cbmcp_abcd"],
            ["--sandbox", "--http-token-env"],
        ] {
            let line = ["callingbox-mcp", "install", "cursor"].into_iter().chain(arguments);
            assert!(Cli::try_parse_from(line).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn there_is_no_flag_for_a_key() {
        for flag in ["--api-key", "--key"] {
            let given = Cli::try_parse_from(["callingbox-mcp", flag, "sk_live_x"]);
            assert!(given.is_err(), "{flag}");
        }
    }
}
