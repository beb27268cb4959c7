//! Parses a command line together with the environment. Adds to clap: an empty variable counts as unset, the help
//! of a command shows its own options only, and errors name the variable or the correct form of `--sandbox`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory, FromArgMatches};

use super::{Cli, SIMULATOR_URL};
use crate::env_var::{NotUtf8, is_blank};

const GLOBAL_OPTIONS_HINT: &str =
    "Global options, such as --sandbox and --config: see `callingbox-mcp --help`.";

impl Cli {
    /// Parses a command line and the environment.
    ///
    /// # Errors
    /// What is wrong with them. Help and version come as errors too, to be printed.
    pub fn parse_with_env<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        // Variables that are unset stay, because the help names them.
        Self::parse_with(words, |name| {
            !std::env::var_os(name).is_some_and(|value| is_blank(&value))
        })
    }

    /// Parses a command line and ignores the environment.
    ///
    /// # Errors
    /// What is wrong with it. Help and version come as errors too, to be printed.
    pub fn parse_without_env<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        Self::parse_with(words, |_| false)
    }

    fn parse_with<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
        reads_variable: fn(&OsStr) -> bool,
    ) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut command = restrict_variables(Self::command_with_own_help(), reads_variable);
        let parsed = command.try_get_matches_from_mut(&words).and_then(|matches| {
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
        });
        parsed.map_err(|error| explain_error(error, &words, &mut command))
    }

    /// The command line with global options in the help of the program only, and not in that of each command.
    #[must_use]
    pub fn command_with_own_help() -> clap::Command {
        let command = Self::command();
        let globals: Vec<Arg> = command
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .map(|arg| arg.clone().hide(true))
            .collect();
        command.mut_subcommands(|command| hide_globals(command, &globals))
    }
}

/// clap adds each global argument to a command that has none of that name.
fn hide_globals(command: clap::Command, globals: &[Arg]) -> clap::Command {
    command
        .args(globals)
        .after_help(GLOBAL_OPTIONS_HINT)
        .mut_subcommands(|command| hide_globals(command, globals))
}

fn restrict_variables(command: clap::Command, reads_variable: fn(&OsStr) -> bool) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if !reads_variable(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
        .mut_subcommands(|inner| restrict_variables(inner, reads_variable))
}

/// The error with two things that clap does not say: which variable is not UTF-8, and that the URL of `--sandbox`
/// follows a `=`.
fn explain_error(
    error: clap::Error,
    words: &[OsString],
    command: &mut clap::Command,
) -> clap::Error {
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some(name) = find_variable_not_utf8(command)
    {
        return command.error(ErrorKind::InvalidUtf8, NotUtf8(name));
    }
    let url_after_sandbox = words.windows(2).find_map(|pair| match pair {
        [flag, word] if flag == "--sandbox" => word.to_str().filter(|word| word.contains(':')),
        _ => None,
    });
    let is_that_url = |(_, value): (ContextKind, &ContextValue)| matches!(value, ContextValue::String(text) if Some(text.as_str()) == url_after_sandbox);
    if error.context().any(is_that_url) {
        let message =
            format!("write the URL of the simulator after `=`: --sandbox={SIMULATOR_URL}");
        return command.error(error.kind(), message);
    }
    error
}

/// The first variable of a command, or of its subcommands, that must be UTF-8 and is not. A path need not be.
fn find_variable_not_utf8(command: &clap::Command) -> Option<String> {
    let path = clap::value_parser!(PathBuf).type_id();
    let not_paths = command.get_arguments().filter(|arg| arg.get_value_parser().type_id() != path);
    let mut names = not_paths.filter_map(Arg::get_env);
    let is_not_utf8 =
        |name: &&OsStr| std::env::var_os(name).is_some_and(|value| value.to_str().is_none());
    names
        .find(is_not_utf8)
        .map(|name| name.to_string_lossy().into_owned())
        .or_else(|| command.get_subcommands().find_map(find_variable_not_utf8))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        Cli::command_with_own_help().debug_assert();
    }

    #[test]
    fn global_options_still_work_after_the_command() {
        let cli = Cli::parse_without_env(["callingbox-mcp", "policy", "init", "--read-only"]);
        assert!(cli.unwrap().global.read_only);
    }

    #[test]
    fn the_values_of_install_are_checked() {
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
    fn no_flag_takes_an_api_key() {
        for flag in ["--api-key", "--key"] {
            let parsed = Cli::try_parse_from(["callingbox-mcp", flag, "sk_live_x"]);
            assert!(parsed.is_err(), "{flag}");
        }
    }
}
