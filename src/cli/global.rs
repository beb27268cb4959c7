//! The global options.

use std::path::PathBuf;

use callingbox::MilliCents;
use clap::{Args, ValueEnum};

use super::SIMULATOR_URL;
use crate::dialing::Environment;
use crate::telemetry::LogFormat;
use crate::toolset::Toolset;

#[derive(Debug, thiserror::Error)]
pub enum GlobalError {
    #[error(
        "CALLINGBOX_MCP_SANDBOX is neither true, nor false, nor the URL of a simulator, such as {SIMULATOR_URL}"
    )]
    SandboxVariable,
    #[error("{}: the path is not Unicode, so it cannot be written into a client's configuration", .0.display())]
    NotUnicode(PathBuf),
    #[error(transparent)]
    WorkingDirectory(#[from] std::io::Error),
}

/// The options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Run on a simulator: on the one at URL (see the `sandbox` command), or on one inside this program. Without
    /// this flag, CALLINGBOX_MCP_SANDBOX decides: true, false or a URL.
    #[arg(long, global = true, value_name = "URL", num_args = 0..=1, require_equals = true)]
    pub sandbox: Option<Option<String>>,
    /// The speed of the simulator inside this program, in multiples of real time. Default: 10.
    #[arg(long, global = true, value_name = "N")]
    pub sandbox_speed: Option<f64>,
    /// The credit of the simulator inside this program, in US dollars. Default: 100.00.
    #[arg(long, global = true, value_name = "DOLLARS")]
    pub sandbox_credit: Option<MilliCents>,
    /// The configuration file. Default: callingbox-mcp/config.toml in the user's configuration folder.
    #[arg(long, global = true, value_name = "FILE", env = "CALLINGBOX_MCP_CONFIG")]
    pub config: Option<PathBuf>,
    /// The groups of tools to offer. Default: calls,account,agents,numbers.
    #[arg(
        long,
        global = true,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_TOOLSETS"
    )]
    pub toolsets: Option<Vec<Toolset>>,
    /// Single tools to offer; without --toolsets, only these are offered.
    #[arg(
        long,
        global = true,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_TOOLS"
    )]
    pub tools: Option<Vec<String>>,
    /// Tools that are never offered.
    #[arg(
        long,
        global = true,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_EXCLUDE_TOOLS"
    )]
    pub exclude_tools: Option<Vec<String>>,
    /// Offer only tools that change nothing. No other option overrides this one.
    #[arg(
        long,
        global = true,
        env = "CALLINGBOX_MCP_READ_ONLY",
        // In the environment, everything but an empty value or a plain no means yes.
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub read_only: bool,
    /// Switch the call card off: no document that clients show in the conversation, and no tools for it.
    #[arg(
        long,
        global = true,
        env = "CALLINGBOX_MCP_NO_UI",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub no_ui: bool,
    /// The format of log lines, on standard error.
    #[arg(long, global = true, value_name = "FORMAT", env = "CALLINGBOX_MCP_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// The log lines to write, such as `info` or `callingbox_mcp=debug`. Default: warn; with `http`, also one line
    /// per tool call.
    #[arg(long, global = true, value_name = "FILTER", env = "CALLINGBOX_MCP_LOG")]
    pub log: Option<String>,
    /// Log the arguments of tool calls too, with numbers masked and secrets removed. They show what people say and
    /// want.
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

impl Global {
    /// Applies `CALLINGBOX_MCP_SANDBOX` if there is no flag. It is for MCPB bundles, which turn their user's answers
    /// into variables and not into flags.
    ///
    /// # Errors
    /// The value is neither true, nor false, nor a URL. It is not guessed, because a wrong guess could ring a
    /// telephone.
    pub fn apply_sandbox_variable(&mut self, value: Option<String>) -> Result<(), GlobalError> {
        if self.sandbox.is_none() {
            self.sandbox = match value.as_deref() {
                None | Some("" | "false" | "0") => None,
                Some("true" | "1") => Some(None),
                Some(url) if url.starts_with("http://") => Some(Some(url.to_owned())),
                Some(_) => return Err(GlobalError::SandboxVariable),
            };
        }
        Ok(())
    }

    #[must_use]
    pub fn environment(&self) -> Environment {
        match self.sandbox {
            Some(_) => Environment::Sandbox,
            None => Environment::Live,
        }
    }

    /// Whether an option selects the sandbox or the tools.
    #[must_use]
    pub fn selects_sandbox_or_tools(&self) -> bool {
        let Self { sandbox, toolsets, tools, exclude_tools, read_only, no_ui, .. } = self;
        *read_only
            || *no_ui
            || sandbox.is_some()
            || toolsets.is_some()
            || tools.is_some()
            || exclude_tools.is_some()
    }

    /// These options as flags, for the arguments in a client's configuration.
    ///
    /// # Errors
    /// The path of the configuration cannot be made absolute or is not Unicode.
    pub fn to_flags(&self) -> Result<Vec<String>, GlobalError> {
        let config = self.config.as_ref().map(std::path::absolute).transpose()?;
        let config = config.map(|path| match path.to_str() {
            Some(path) => Ok(format!("--config={path}")),
            None => Err(GlobalError::NotUnicode(path.clone())),
        });
        let speed = self.sandbox_speed.filter(|_| self.sandbox.is_some());
        let credit = self.sandbox_credit.filter(|_| self.sandbox.is_some());
        let toolsets = self.toolsets.as_ref();
        let toolsets: Option<Vec<String>> =
            toolsets.map(|toolsets| toolsets.iter().map(ToString::to_string).collect());
        let list = |flag: &str, names: &Option<Vec<String>>| {
            names.as_ref().map(|names| format!("{flag}={}", names.join(",")))
        };
        let format = self.log_format.and_then(|format| format.to_possible_value());
        let flags = [
            self.sandbox.as_ref().map(|url| match url {
                None => "--sandbox".to_owned(),
                Some(url) => format!("--sandbox={url}"),
            }),
            speed.map(|speed| format!("--sandbox-speed={speed}")),
            credit.map(|credit| format!("--sandbox-credit={}", credit.to_exact_dollars())),
            config.transpose()?,
            list("--toolsets", &toolsets),
            list("--tools", &self.tools),
            list("--exclude-tools", &self.exclude_tools),
            self.read_only.then(|| "--read-only".to_owned()),
            self.no_ui.then(|| "--no-ui".to_owned()),
            format.map(|format| format!("--log-format={}", format.get_name())),
            self.log.as_ref().map(|filter| format!("--log={filter}")),
            self.log_arguments.map(|logged| format!("--log-arguments={logged}")),
        ];
        Ok(flags.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    #[test]
    fn the_sandbox_flag_never_takes_a_command_as_its_value() {
        let cli = Cli::try_parse_from(["callingbox-mcp", "--sandbox", "demo"]).unwrap();
        assert_eq!(cli.global.sandbox, Some(None));
        assert!(matches!(cli.command, Some(Command::Demo)));
        let cli =
            Cli::try_parse_from(["callingbox-mcp", "--sandbox=http://127.0.0.1:4010"]).unwrap();
        assert_eq!(cli.global.sandbox, Some(Some("http://127.0.0.1:4010".to_owned())));
    }

    #[test]
    fn the_sandbox_variable_is_never_guessed() {
        let applied = |value: &str| {
            let mut global = Global::default();
            global.apply_sandbox_variable(Some(value.to_owned())).map(|()| global.sandbox).ok()
        };
        for (value, expected) in [
            ("true", Some(Some(None))),
            ("1", Some(Some(None))),
            ("false", Some(None)),
            ("", Some(None)),
            ("http://127.0.0.1:1", Some(Some(Some("http://127.0.0.1:1".to_owned())))),
            ("yes", None),
            ("${user_config.sandbox}", None),
        ] {
            assert_eq!(applied(value), expected, "{value}");
        }
        let mut global = Global { sandbox: Some(None), ..Global::default() };
        global.apply_sandbox_variable(Some("false".to_owned())).unwrap();
        assert_eq!(global.sandbox, Some(None));
    }
}
