//! Reads the configuration file and the file of calling rules. An error names the file, the line and, for a
//! misspelled or misplaced key, the correct place.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{ConfigError, ConfigFile, UserFolders};
use crate::dialing::policy::{Policy, PolicyError};
use crate::protected_file::check_writers;
use crate::suggest::{correct_unknown_name, quoted_names};
use crate::text_file::read_text;
use crate::toml_error::did_you_mean;

/// The path of the configuration file, whether or not it exists: the named file, else the user's own.
#[must_use]
pub fn config_path(named: Option<&Path>, folders: &UserFolders) -> Option<PathBuf> {
    named.map(Path::to_owned).or_else(|| folders.config_file("config.toml"))
}

/// Reads the named file, else the user's own if it exists.
///
/// # Errors
/// The named file does not exist, or a file cannot be read or parsed.
pub fn load_config(named: Option<&Path>, folders: &UserFolders) -> Result<ConfigFile, ConfigError> {
    match read_file(config_path(named, folders), named.is_some())? {
        None => Ok(ConfigFile::default()),
        Some((path, text)) => {
            parse_config(&text).map_err(|message| ConfigError::Invalid { path, message })
        }
    }
}

/// The path of the calling rules, whether or not the file exists.
#[must_use]
pub fn policy_path(file: &ConfigFile, folders: &UserFolders) -> Option<PathBuf> {
    file.policy_file.clone().or_else(|| folders.config_file("policy.toml"))
}

/// Reads the calling rules; the default rules if there is no file.
///
/// # Errors
/// The file that the configuration names does not exist, or a file cannot be read or parsed.
pub fn load_policy(file: &ConfigFile, folders: &UserFolders) -> Result<Policy, ConfigError> {
    match read_file(policy_path(file, folders), file.policy_file.is_some())? {
        None => Ok(Policy::default()),
        Some((path, text)) => Policy::from_toml(&text).map_err(|error| ConfigError::Invalid {
            path,
            message: describe_policy_error(&text, error),
        }),
    }
}

/// Reads the calling rules again. A deleted file does not lift the rules it held (`had_file`): only a restart does.
///
/// # Errors
/// As [`load_policy`], and if the file no longer exists, or other users can change it.
pub fn reload_policy(
    file: &ConfigFile,
    folders: &UserFolders,
    had_file: bool,
) -> Result<Policy, ConfigError> {
    match policy_path(file, folders) {
        Some(path) if had_file && !path.exists() => {
            Err(ConfigError::Unreadable { path, reason: ErrorKind::NotFound.into() })
        }
        Some(path) => {
            check_writers(&path)?;
            load_policy(file, folders)
        }
        None => load_policy(file, folders),
    }
}

/// Reads a file; `None` if it does not exist and need not.
fn read_file(
    path: Option<PathBuf>,
    must_exist: bool,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let Some(path) = path else { return Ok(None) };
    match read_text(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => Ok(None),
        Err(reason) => Err(ConfigError::Unreadable { path, reason }),
    }
}

/// Parses the text of a configuration file.
///
/// # Errors
/// What is wrong and where, with the valid name for a misspelled key.
pub fn parse_config(text: &str) -> Result<ConfigFile, String> {
    let file: ConfigFile =
        toml::from_str(text).map_err(|error| describe_config_error(text, &error))?;
    let ledger = file.dialing.ledger.as_deref().and_then(Path::to_str).unwrap_or_default();
    if ledger.starts_with("redis") && ledger.contains("://") {
        return Err("`ledger` under [dialing] must be a file; name a Redis with `http --state` or CALLINGBOX_MCP_STATE".to_owned());
    }
    Ok(file)
}

fn describe_config_error(text: &str, error: &toml::de::Error) -> String {
    let hint = belongs_in_other_file::<Policy>(text, error.message(), "policy.toml")
        .or_else(|| correct_unknown_name(error.message()).map(did_you_mean))
        .map(|hint| format!("\n{hint}"));
    format!("{}{}", error.to_string().trim_end(), hint.unwrap_or_default())
}

fn describe_policy_error(text: &str, error: PolicyError) -> String {
    match belongs_in_other_file::<ConfigFile>(text, &error.message, "config.toml") {
        Some(hint) => format!("{}. {hint}", PolicyError { nearest: None, ..error }),
        None => error.to_string(),
    }
}

/// A hint if the unknown top-level key of this error is a valid key of the other file.
fn belongs_in_other_file<Other: DeserializeOwned>(
    text: &str,
    message: &str,
    other_file: &str,
) -> Option<String> {
    let unknown = quoted_names(message).next()?;
    let table: toml::Table = text.parse().ok()?;
    let shown = match table.get(unknown)? {
        toml::Value::Table(_) => format!("[{unknown}]"),
        toml::Value::Array(items) if items.first().is_some_and(toml::Value::is_table) => {
            format!("[[{unknown}]]")
        }
        _ => unknown.to_owned(),
    };
    // The other file may refuse the number 0 as a value, but then its error is not about an unknown key.
    let alone = toml::Table::from_iter([(unknown.to_owned(), toml::Value::Integer(0))]);
    let error = alone.try_into::<Other>().err();
    let is_known = !error.is_some_and(|error| error.message().starts_with("unknown field"));
    is_known.then(|| format!("`{shown}` belongs in {other_file}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{folders_in, write_file};
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_name() {
        for (text, nearest) in [
            ("read_onyl = true", "Did you mean `read_only`?"),
            ("[wait]\ndefault_second = 3", "Did you mean `default_seconds`?"),
            ("tolsets = []", "Did you mean `toolsets`?"),
        ] {
            let message = parse_config(text).unwrap_err();
            assert!(message.contains("unknown field"), "{message}");
            assert!(message.ends_with(nearest), "{message}");
        }
        let message = parse_config("toolsets = [\"cals\"]").unwrap_err();
        assert!(message.contains("expected one of `calls`"), "{message}");
    }

    #[test]
    fn only_a_named_file_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders_in(dir.path());
        assert_eq!(load_config(None, &folders).unwrap(), ConfigFile::default());
        let error = load_config(Some(&dir.path().join("no.toml")), &folders).unwrap_err();
        assert!(error.to_string().contains("no.toml cannot be read"), "{error}");
        write_file(&dir.path().join("callingbox-mcp/config.toml"), "read_only = true\n");
        assert_eq!(load_config(None, &folders).unwrap().read_only, Some(true));
    }

    #[test]
    fn the_calling_rules_have_a_file_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders_in(dir.path());
        let default = ConfigFile::default();
        assert_eq!(load_policy(&default, &folders).unwrap(), Policy::default());
        let policy_file = Some(dir.path().join("mine.toml"));
        let named = ConfigFile { policy_file, ..ConfigFile::default() };
        assert!(load_policy(&named, &folders).is_err());
        write_file(&dir.path().join("callingbox-mcp/policy.toml"), "mode = \"off\"\n");
        assert_ne!(load_policy(&default, &folders).unwrap(), Policy::default());
        write_file(&dir.path().join("mine.toml"), "\n[limits]\nper_huor = 3\n");
        let message = load_policy(&named, &folders).unwrap_err().to_string();
        assert!(message.contains("line 3") && message.contains("`per_hour`?"), "{message}");
    }
}
