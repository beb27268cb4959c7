//! The configuration. A flag overrides the environment variable, and the variable overrides the file; an unknown
//! key in the file is an error. The API key is never part of the file ([`find_credentials`]). Knows neither MCP nor
//! accounts nor the command line.

mod credentials;
mod folders;
mod load;
mod network;

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dialing::Environment;
use crate::dialing::confirm::ConfirmMode;
use crate::dialing::disclosure::{DisclosureMode, DisclosureRules};
use crate::dialing::ledger::LedgerLocation;
use crate::dialing::policy::Policy;
use crate::dialing::rules::{CardIsHuman, DialingRules};
use crate::dialing::webhook_hosts::WebhookHosts;
use crate::env_var::NotUtf8;
use crate::protected_file::ChangeableByOthers;
use crate::telemetry::LogFormat;
use crate::toolset::Toolset;
use crate::watch::WaitLimits;

pub use self::credentials::{Credentials, KeySource, find_base_url, find_credentials};
pub use self::folders::{UserFolders, find_stray_files};
pub use self::load::{
    config_path, load_config, load_policy, parse_config, policy_path, reload_policy,
};
pub use self::network::{NetworkVariableError, check_network_variables};

/// How many days the people of a finished batch are kept by default.
const DEFAULT_KEEP_PEOPLE_DAYS: u32 = 30;

/// The configuration file: TOML, every key optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// The URL of the API; `CALLINGBOX_BASE_URL` overrides it. Default: `https://api.callingbox.io`.
    pub base_url: Option<String>,
    /// Allow a base URL that is neither https nor on this machine.
    pub allow_insecure_base_url: Option<bool>,
    /// A file that holds the API key and nothing else.
    pub api_key_file: Option<PathBuf>,
    /// The groups of tools to offer. Default: calls, agents, numbers.
    pub toolsets: Option<Vec<Toolset>>,
    /// Single tools to offer.
    pub tools: Option<Vec<String>>,
    /// Tools that are never offered.
    pub exclude_tools: Option<Vec<String>>,
    /// Offer only tools that change nothing.
    pub read_only: Option<bool>,
    /// Offer the call card, which clients show in the conversation. Default: true.
    pub ui: Option<bool>,
    /// The format of log lines.
    pub log_format: Option<LogFormat>,
    /// The log lines to write: a filter such as `warn` or `callingbox_mcp=debug`.
    pub log: Option<String>,
    /// Log the arguments of tool calls too, with numbers masked and secrets removed.
    pub log_arguments: Option<bool>,
    /// Seconds that one request to the API may take. Default: 30.
    pub request_timeout_seconds: Option<u64>,
    /// How long tools wait for a call to end.
    pub wait: WaitLimits,
    /// When calls and purchases need confirmation, and when they count as repeated.
    pub dialing: DialingConfig,
    /// How long the ledger keeps what identifies people.
    pub ledger: LedgerConfig,
    /// The file with the calling rules: who may be called, when, how often and at what cost. Default: policy.toml
    /// beside this file, if it exists; `callingbox-mcp policy init` writes it.
    pub policy_file: Option<PathBuf>,
}

/// When calls and purchases need confirmation, and when they count as repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DialingConfig {
    /// When the user is asked for confirmation. Default: auto; in the sandbox: never.
    pub confirm: Option<ConfirmMode>,
    /// The first call to a number, every purchase and what a rule marks `ask` need the user's own answer. A client that
    /// cannot ask its user is refused.
    pub require_human: bool,
    /// A new outbound agent also reports whether the person asked not to be called again (`do_not_call`).
    pub ask_do_not_call: bool,
    /// Whether an answer in the call card counts as the user's own answer: in known clients, always, or never. Default:
    /// known_hosts; over HTTP: never.
    pub card_is_human: Option<CardIsHuman>,
    /// Seconds during which a repeated call is answered with the first one.
    pub repeat_window_seconds: u32,
    /// Seconds that the user has to answer a question for confirmation.
    pub confirm_timeout_seconds: u32,
    /// The hosts to which events and data of calls may be sent: by the `webhook_url` of calls and agents, the in-call tools
    /// of agents, and webhook endpoints. `*.example.com` allows all hosts below example.com.
    pub webhook_hosts: WebhookHosts,
    /// What happens to a call whose texts do not tell the agent to say at the beginning that it is an AI: the answer says
    /// so, the call is refused, the sentence is added to its instructions, or nothing.
    pub disclosure: DisclosureMode,
    /// In whose name agents call: the sentence that `disclosure = "add"` adds names it. Empty: no name.
    pub on_behalf_of: String,
    /// The file that records everything that was dialed or bought. Default: in the user's data folder.
    pub ledger: Option<PathBuf>,
    /// Apply the quiet hours in the sandbox too, by the simulator's clock.
    pub sandbox_quiet_hours: bool,
}

impl Default for DialingConfig {
    fn default() -> Self {
        Self {
            confirm: None,
            require_human: false,
            ask_do_not_call: true,
            card_is_human: None,
            repeat_window_seconds: 600,
            confirm_timeout_seconds: 120,
            webhook_hosts: WebhookHosts::default(),
            disclosure: DisclosureMode::default(),
            on_behalf_of: String::new(),
            ledger: None,
            sandbox_quiet_hours: false,
        }
    }
}

/// How long the ledger keeps what identifies people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// Days after the end of a batch during which numbers, names, context and metadata of its people are kept. After that
    /// only masked numbers remain.
    pub keep_people_days: u32,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { keep_people_days: DEFAULT_KEEP_PEOPLE_DAYS }
    }
}

impl LedgerConfig {
    /// The same as a duration, of at most ten years.
    #[must_use]
    pub fn keep_people(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.keep_people_days.min(3_650)) * 24)
    }
}

impl ConfigFile {
    /// The rules by which an account of this environment dials.
    #[must_use]
    pub fn dialing_rules(&self, environment: Environment, policy: Policy) -> DialingRules {
        let rules = self.dialing.rules(environment, policy);
        DialingRules { keep_people: self.ledger.keep_people(), ..rules }
    }
}

impl DialingConfig {
    fn rules(&self, environment: Environment, policy: Policy) -> DialingRules {
        let (default_confirm, policy) = match environment {
            Environment::Live => (ConfirmMode::Auto, policy),
            Environment::Sandbox => {
                (ConfirmMode::Never, policy.in_sandbox(self.sandbox_quiet_hours))
            }
        };
        DialingRules {
            policy,
            confirm: self.confirm.unwrap_or(default_confirm),
            require_human: self.require_human,
            ask_do_not_call: self.ask_do_not_call,
            card_is_human: self.card_is_human.unwrap_or(CardIsHuman::KnownHosts),
            repeat_window: SignedDuration::from_secs(self.repeat_window_seconds.into()),
            thinking_time: Duration::from_secs(self.confirm_timeout().into()),
            webhook_hosts: self.webhook_hosts.clone(),
            disclosure: self.disclosure_rules(),
            keep_people: LedgerConfig::default().keep_people(),
        }
    }

    /// What calls say about the AI that calls.
    #[must_use]
    pub fn disclosure_rules(&self) -> DisclosureRules {
        DisclosureRules { mode: self.disclosure, on_behalf_of: Some(self.on_behalf_of.clone()) }
    }

    /// The same with every default of this environment filled in.
    #[must_use]
    pub fn with_defaults(&self, environment: Environment, folders: &UserFolders) -> Self {
        Self {
            confirm: Some(self.rules(environment, Policy::default()).confirm),
            card_is_human: Some(self.rules(environment, Policy::default()).card_is_human),
            confirm_timeout_seconds: self.confirm_timeout(),
            ledger: match self.ledger_place(environment, folders) {
                LedgerLocation::File(path) => Some(path),
                LedgerLocation::Redis(_) | LedgerLocation::Unavailable => None,
            },
            ..self.clone()
        }
    }

    fn confirm_timeout(&self) -> u32 {
        self.confirm_timeout_seconds.clamp(1, 3_600)
    }

    /// The ledger file of this environment. The two environments never share one.
    #[must_use]
    pub fn ledger_place(&self, environment: Environment, folders: &UserFolders) -> LedgerLocation {
        match self.ledger.clone().or_else(|| folders.data_file("ledger.sqlite3")) {
            None => LedgerLocation::Unavailable,
            Some(path) => LedgerLocation::File(match environment {
                Environment::Live => path,
                Environment::Sandbox => path.with_extension("sandbox.sqlite3"),
            }),
        }
    }
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: std::io::Error },
    #[error("{}: {message}", path.display())]
    Invalid { path: PathBuf, message: String },
    /// A value of the environment or of a file is not valid; `name` is the setting and its file.
    #[error("{name}: {message}")]
    Value { name: String, message: String },
    #[error(transparent)]
    EnvVar(#[from] NotUtf8),
    #[error(transparent)]
    ChangeableByOthers(#[from] ChangeableByOthers),
}

/// Reads an environment variable; a parameter, so that tests need not change the process's own environment.
pub type EnvReader<'a> = &'a dyn Fn(&str) -> Result<Option<String>, NotUtf8>;

#[cfg(test)]
mod testing {
    use std::path::Path;

    use super::UserFolders;

    pub(super) fn folders_in(folder: &Path) -> UserFolders {
        UserFolders {
            config: Some(folder.join("callingbox-mcp")),
            data: None,
            official_config: Some(folder.join("callingbox")),
        }
    }

    pub(super) fn write_file(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}
