//! The settings with which a command runs: its global options, the configuration file and the user's folders, and what
//! follows from them together with the environment.

use std::path::PathBuf;

use crate::account::Environment;
use crate::cli::Global;
use crate::config::{self, ConfigError, ConfigFile, Credentials, UserFolders};
use crate::dialing::policy::Policy;
use crate::env_var::read_env_var;
use crate::mcp::registry::selection::Selection;
use crate::own_command::own_command;
use crate::telemetry::LogFormat;

#[derive(Clone)]
pub(crate) struct ProgramSettings {
    pub(crate) global: Global,
    pub(crate) file: ConfigFile,
    pub(crate) folders: UserFolders,
}

impl ProgramSettings {
    pub(crate) fn environment(&self) -> Environment {
        self.global.environment()
    }

    /// The log filter, if the command line, the environment or the file sets one.
    pub(crate) fn log_filter(&self) -> Option<&str> {
        self.global.log.as_deref().or(self.file.log.as_deref())
    }

    pub(crate) fn log_format(&self) -> LogFormat {
        self.global.log_format.or(self.file.log_format).unwrap_or_default()
    }

    /// Whether the arguments of tool calls are logged.
    pub(crate) fn logs_arguments(&self) -> bool {
        self.global.log_arguments.or(self.file.log_arguments).unwrap_or(false)
    }

    /// The tools that the flags, the environment and the file select.
    pub(crate) fn selection(&self) -> Selection {
        let Self { global, file, .. } = self;
        Selection {
            toolsets: global.toolsets.clone().or_else(|| file.toolsets.clone()).unwrap_or_default(),
            tools: global.tools.clone().or_else(|| file.tools.clone()).unwrap_or_default(),
            exclude_tools: global
                .exclude_tools
                .clone()
                .or_else(|| file.exclude_tools.clone())
                .unwrap_or_default(),
            // Either of them can turn read-only on; neither can turn it off again.
            read_only: global.read_only || file.read_only.unwrap_or(false),
            // The same holds for the call card.
            no_ui: global.no_ui || file.ui == Some(false),
            sandbox: global.sandbox.is_some(),
            narrowed: Vec::new(),
        }
    }

    pub(crate) fn find_credentials(&self) -> Result<Credentials, ConfigError> {
        config::find_credentials(&self.file, &read_env_var, &self.folders)
    }

    /// The path of the configuration file, whether or not it exists.
    pub(crate) fn config_path(&self) -> Option<PathBuf> {
        config::config_path(self.global.config.as_deref(), &self.folders)
    }

    /// The path of the calling rules, whether or not the file exists.
    pub(crate) fn policy_path(&self) -> Option<PathBuf> {
        config::policy_path(&self.file, &self.folders)
    }

    /// The files that decide who may be called, whether or not they exist.
    pub(crate) fn rule_files(&self) -> impl Iterator<Item = PathBuf> {
        [self.config_path(), self.policy_path()].into_iter().flatten()
    }

    pub(crate) fn load_policy(&self) -> Result<Policy, ConfigError> {
        config::load_policy(&self.file, &self.folders)
    }

    /// A command for the same environment and configuration, to show to the user.
    pub(crate) fn command_line(&self, command: &str) -> String {
        let mut line = format!("{} {command}", own_command());
        match &self.global.sandbox {
            Some(Some(url)) => line.push_str(&format!(" --sandbox={url}")),
            Some(None) => line.push_str(" --sandbox"),
            None => {}
        }
        if let Some(path) = &self.global.config {
            line.push_str(&format!(" --config={}", path.display()));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::toolset::Toolset;

    #[test]
    fn flags_override_the_file_but_neither_turns_read_only_off() {
        let file = ConfigFile {
            toolsets: Some(vec![Toolset::Webhooks]),
            read_only: Some(true),
            ..ConfigFile::default()
        };
        let cli = Cli::try_parse_from(["callingbox-mcp", "--toolsets", "calls,numbers"]).unwrap();
        let settings =
            ProgramSettings { global: cli.global, file, folders: UserFolders::default() };
        let selection = settings.selection();
        assert_eq!(selection.toolsets, [Toolset::Calls, Toolset::Numbers]);
        assert!(selection.read_only);
    }
}
