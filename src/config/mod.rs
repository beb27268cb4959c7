//! The configuration: flags beat the environment, the environment beats the file. Unknown keys in the
//! file are refused. The API key is never in it ([`credentials()`]).

mod credentials;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dialing::Environment;
use crate::dialing::confirm::ConfirmMode;
use crate::dialing::dispatch::LedgerPlace;
use crate::dialing::policy::{Policy, PolicyError, line_of};
use crate::dialing::rules::Rules;
use crate::environment::NotText;
use crate::mcp::toolset::Toolset;
use crate::suggest::{meant, quoted};
use crate::telemetry::LogFormat;

pub use self::credentials::{Credentials, KeySource, credentials};

/// The configuration file: TOML, every key optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where the API is; `CALLINGBOX_BASE_URL` beats it. Default: `https://api.callingbox.io`.
    pub base_url: Option<String>,
    /// Allow a base URL that is neither https nor on this machine.
    pub allow_insecure_base_url: Option<bool>,
    /// A file that holds the API key and nothing else.
    pub api_key_file: Option<PathBuf>,
    /// The groups of tools that are offered. Default: calls, agents, numbers.
    pub toolsets: Option<Vec<Toolset>>,
    /// Single tools that are offered.
    pub tools: Option<Vec<String>>,
    /// Tools that are never offered.
    pub exclude_tools: Option<Vec<String>>,
    /// Offer only tools that change nothing.
    pub read_only: Option<bool>,
    /// How log lines are written.
    pub log_format: Option<LogFormat>,
    /// Which log lines are written: a filter such as `warn` or `callingbox_mcp=debug`.
    pub log: Option<String>,
    /// Log the arguments of tool calls too, with numbers masked and secrets left out.
    pub log_arguments: Option<bool>,
    /// Seconds that one request to the API may take. Default: 30.
    pub request_seconds: Option<u64>,
    /// How long tools wait.
    pub wait: Wait,
    /// How often the same may be dialed, and who must say yes.
    pub dialing: Dialing,
    /// The file with the calling rules: whom, when and how much. Default: policy.toml beside this
    /// file, where there is one; `callingbox-mcp policy init` writes it.
    pub policy_file: Option<PathBuf>,
}

/// How often the same may be dialed, and who must say yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dialing {
    /// When a human is asked. Default: auto; in the sandbox: never.
    pub confirm: Option<ConfirmMode>,
    /// Only the human's own answer counts: a client that cannot ask is refused.
    pub require_human: bool,
    /// For how long the same call is answered with the first one.
    pub repeat_window_seconds: u32,
    /// Seconds that a human may think when the client is asked to ask them.
    pub thinking_seconds: u32,
    /// The file in which everything that was dialed is written down. Default: in the user's data folder.
    pub ledger: Option<PathBuf>,
}

impl Default for Dialing {
    fn default() -> Self {
        Self {
            confirm: None,
            require_human: false,
            repeat_window_seconds: 600,
            thinking_seconds: 120,
            ledger: None,
        }
    }
}

impl Dialing {
    /// How an account of this world dials.
    #[must_use]
    pub fn rules(&self, environment: Environment, policy: Policy) -> Rules {
        let (usual, policy) = match environment {
            Environment::Live => (ConfirmMode::Auto, policy),
            Environment::Sandbox => (ConfirmMode::Never, policy.in_sandbox()),
        };
        Rules {
            policy,
            confirm: self.confirm.unwrap_or(usual),
            require_human: self.require_human,
            repeat_window: SignedDuration::from_secs(self.repeat_window_seconds.into()),
            thinking_time: Duration::from_secs(self.thinking().into()),
        }
    }

    /// The same with every default of this world filled in.
    #[must_use]
    pub fn in_force(&self, environment: Environment, folders: &Folders) -> Self {
        Self {
            confirm: Some(self.rules(environment, Policy::default()).confirm),
            thinking_seconds: self.thinking(),
            ledger: match self.place(environment, folders) {
                LedgerPlace::File(path) => Some(path),
                LedgerPlace::Redis(_) | LedgerPlace::Nowhere => None,
            },
            ..self.clone()
        }
    }

    fn thinking(&self) -> u32 {
        self.thinking_seconds.clamp(1, 3_600)
    }

    /// Where the ledger of this world is. The two worlds never share one.
    #[must_use]
    pub fn place(&self, environment: Environment, folders: &Folders) -> LedgerPlace {
        match self.ledger.clone().or_else(|| folders.own_data("ledger.sqlite3")) {
            None => LedgerPlace::Nowhere,
            Some(path) => LedgerPlace::File(match environment {
                Environment::Live => path,
                Environment::Sandbox => path.with_extension("sandbox.sqlite3"),
            }),
        }
    }
}

/// How long tools wait for a call to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wait {
    /// Seconds, when the caller names none. Below 60, at which Claude Desktop gives up.
    pub default_seconds: u64,
    /// Seconds a caller may ask for without following progress.
    pub max_seconds: u64,
}

impl Default for Wait {
    fn default() -> Self {
        Self { default_seconds: 45, max_seconds: 300 }
    }
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// A value from the environment or a file is not acceptable.
    #[error("{name}: {message}")]
    Value {
        /// Which setting, and of which file.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A variable of the environment cannot be read.
    #[error(transparent)]
    Variable(#[from] NotText),
}

/// Reads environment variables; a parameter, so that tests need not change the process's own.
pub type EnvReader<'a> = &'a dyn Fn(&str) -> Result<Option<String>, NotText>;

/// The user's folders, as the operating system has them.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// Where configuration lives, such as `~/.config`.
    pub config: Option<PathBuf>,
    /// Where data lives, such as `~/.local/share`.
    pub data: Option<PathBuf>,
    /// Where CallingBox's own command line keeps its configuration: `~/.config` on Unix, macOS
    /// included.
    pub official: Option<PathBuf>,
}

impl Folders {
    /// A file of this program's own among the configuration.
    #[must_use]
    pub fn own_config(&self, name: &str) -> Option<PathBuf> {
        own(self.config.as_deref(), name)
    }

    /// Where a key is kept for clients that have no better way.
    #[must_use]
    pub fn key_file(&self) -> Option<PathBuf> {
        self.own_config("api-key")
    }

    /// A file of this program's own among the data.
    #[must_use]
    pub fn own_data(&self, name: &str) -> Option<PathBuf> {
        own(self.data.as_deref(), name)
    }

    /// Asks the operating system.
    #[must_use]
    pub fn of_user() -> Self {
        directories::BaseDirs::new().map_or_else(Self::default, |base| Self {
            config: Some(base.config_dir().to_owned()),
            data: Some(base.data_local_dir().to_owned()),
            official: Some(if cfg!(windows) {
                base.config_dir().to_owned()
            } else {
                std::env::var_os("XDG_CONFIG_HOME")
                    .filter(|dir| !dir.is_empty())
                    .map_or_else(|| base.home_dir().join(".config"), PathBuf::from)
            }),
        })
    }
}

fn own(folder: Option<&Path>, name: &str) -> Option<PathBuf> {
    folder.map(|folder| folder.join("callingbox-mcp").join(name))
}

/// Where the configuration is, whether or not the file exists: the file named, else the user's own.
#[must_use]
pub fn path(named: Option<&Path>, folders: &Folders) -> Option<PathBuf> {
    named.map(Path::to_owned).or_else(|| folders.own_config("config.toml"))
}

/// Reads the file named, or the user's own if it exists, or none.
///
/// # Errors
/// The named file is missing, or a file is unreadable or has an unknown key.
pub fn load(named: Option<&Path>, folders: &Folders) -> Result<File, ConfigError> {
    let Some(path) = path(named, folders) else { return Ok(File::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(File::default());
        }
        Err(reason) => return Err(ConfigError::Unreadable { path, reason }),
    };
    parse(&text).map_err(|message| ConfigError::Invalid { path, message })
}

/// Where the calling rules are, whether or not the file exists.
#[must_use]
pub fn policy_path(file: &File, folders: &Folders) -> Option<PathBuf> {
    file.policy_file.clone().or_else(|| folders.own_config("policy.toml"))
}

/// Reads the calling rules; those shipped where there is no file.
///
/// # Errors
/// The file that the configuration names is missing, or a file cannot be read. Until it can, nothing
/// is dialed.
pub fn policy(file: &File, folders: &Folders) -> Result<Policy, ConfigError> {
    let Some(path) = policy_path(file, folders) else { return Ok(Policy::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && file.policy_file.is_none() =>
        {
            return Ok(Policy::default());
        }
        Err(reason) => return Err(ConfigError::Unreadable { path, reason }),
    };
    Policy::from_toml(&text)
        .map_err(|error| ConfigError::Invalid { path, message: explain_rules(&text, error) })
}

/// Reads the calling rules again. A file that went away since does not lift what it forbade: whoever means
/// that starts the program anew.
///
/// # Errors
/// As [`policy`], and that there is no file any more.
pub fn policy_again(
    file: &File,
    folders: &Folders,
    before: &Policy,
) -> Result<Policy, ConfigError> {
    match policy_path(file, folders) {
        Some(path) if *before != Policy::default() && !path.exists() => {
            let reason = std::io::ErrorKind::NotFound.into();
            Err(ConfigError::Unreadable { path, reason })
        }
        _ => policy(file, folders),
    }
}

/// Reads the text of a configuration file.
///
/// # Errors
/// What is wrong and where, with the nearest valid name for an unknown key.
pub fn parse(text: &str) -> Result<File, String> {
    let file: File = toml::from_str(text).map_err(|error| explain(text, &error))?;
    let ledger = file.dialing.ledger.as_deref().and_then(Path::to_str).unwrap_or_default();
    if ledger.starts_with("redis") && ledger.contains("://") {
        return Err("`ledger` under [dialing] is a file; a Redis is named by `http --state`, or by CALLINGBOX_MCP_STATE".to_owned());
    }
    Ok(file)
}

/// The message of an error in the configuration, with what to write instead.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let advice = elsewhere::<Policy>(text, error.message(), "policy.toml")
        .or_else(|| meant(error.message()).map(did_you_mean))
        .map(|advice| format!("\n{advice}"));
    format!("{}{}", error.to_string().trim_end(), advice.unwrap_or_default())
}

fn did_you_mean(name: &str) -> String {
    format!("Did you mean `{name}`?")
}

/// The same of an error in the calling rules.
fn explain_rules(text: &str, error: PolicyError) -> String {
    match elsewhere::<File>(text, &error.message, "config.toml") {
        Some(advice) => format!("{}. {advice}", PolicyError { nearest: None, ..error }),
        None => error.to_string(),
    }
}

/// The message of an error in a TOML file, on one line, for a log.
#[must_use]
pub fn explain_in_log(text: &str, error: &toml::de::Error) -> String {
    let advice = meant(error.message()).map(|name| format!(". {}", did_you_mean(name)));
    let advice = advice.unwrap_or_default();
    let message = error.message().trim().replace('\n', " ");
    format!("line {}: {message}{advice}", line_of(text, error))
}

/// That a name at the top of this file is one of the other file's.
fn elsewhere<Other: DeserializeOwned>(text: &str, message: &str, other: &str) -> Option<String> {
    let unknown = quoted(message).next()?;
    let table: toml::Table = text.parse().ok()?;
    let shown = match table.get(unknown)? {
        toml::Value::Table(_) => format!("[{unknown}]"),
        toml::Value::Array(items) if items.first().is_some_and(toml::Value::is_table) => {
            format!("[[{unknown}]]")
        }
        _ => unknown.to_owned(),
    };
    // A number is hardly what it wants there, but then it complains of something else.
    let alone = toml::Table::from_iter([(unknown.to_owned(), toml::Value::Integer(0))]);
    let refused = alone.try_into::<Other>().err();
    let known = !refused.is_some_and(|error| error.message().starts_with("unknown field"));
    known.then(|| format!("`{shown}` belongs in {other}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn folders(config: &Path) -> Folders {
        Folders { config: Some(config.to_owned()), data: None, official: Some(config.to_owned()) }
    }

    pub(super) fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        for (text, nearest) in [
            ("read_onyl = true", "Did you mean `read_only`?"),
            ("[wait]\ndefault_second = 3", "Did you mean `default_seconds`?"),
            ("tolsets = []", "Did you mean `toolsets`?"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains("unknown field"), "{message}");
            assert!(message.ends_with(nearest), "{message}");
        }
        assert!(parse("toolsets = [\"cals\"]").unwrap_err().contains("expected one of `calls`"));
    }

    #[test]
    fn a_named_file_must_exist_and_the_standard_one_need_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(None, &folders(dir.path())).unwrap(), File::default());
        let error = load(Some(&dir.path().join("no.toml")), &folders(dir.path())).unwrap_err();
        assert!(error.to_string().contains("no.toml cannot be read"), "{error}");
        write(&dir.path().join("callingbox-mcp/config.toml"), "read_only = true\n");
        assert_eq!(load(None, &folders(dir.path())).unwrap().read_only, Some(true));
    }

    #[test]
    fn the_calling_rules_have_a_file_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders(dir.path());
        assert_eq!(policy(&File::default(), &folders).unwrap(), Policy::default());
        let named = File { policy_file: Some(dir.path().join("mine.toml")), ..File::default() };
        assert!(policy(&named, &folders).is_err());
        write(&dir.path().join("callingbox-mcp/policy.toml"), "mode = \"off\"\n");
        assert_ne!(policy(&File::default(), &folders).unwrap(), Policy::default());
        write(&dir.path().join("mine.toml"), "\n[limits]\nper_huor = 3\n");
        let message = policy(&named, &folders).unwrap_err().to_string();
        assert!(message.contains("line 3") && message.contains("`per_hour`?"), "{message}");
    }
}
