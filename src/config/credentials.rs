//! Where the API is, and the key to it. The key is never taken from the command line and never from the
//! configuration: `CALLINGBOX_API_KEY`, `CALLINGBOX_API_KEY_FILE` (for mounted secrets), the key file that
//! `setup` and `install` write, and last the configuration that CallingBox's own command line writes.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, EnvReader, File, Folders};
use callingbox::{ApiKey, BaseUrl};

/// Where the key came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum KeySource {
    /// `CALLINGBOX_API_KEY`.
    Environment,
    /// A file that holds only the key.
    File(PathBuf),
    /// The configuration of CallingBox's own command line.
    OfficialConfig(PathBuf),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("CALLINGBOX_API_KEY"),
            Self::File(path) | Self::OfficialConfig(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where the real API is, and the key to it if one is set.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Where the API is.
    pub base_url: BaseUrl,
    /// The key and where it came from.
    pub key: Option<(ApiKey, KeySource)>,
}

/// The part of the official command line's configuration that is read.
#[derive(Debug, Default, Deserialize)]
struct Official {
    #[serde(default)]
    default: OfficialDefault,
}

#[derive(Debug, Default, Deserialize)]
struct OfficialDefault {
    api_key: Option<String>,
    base_url: Option<String>,
}

/// Finds the credentials: the environment, then the files.
///
/// # Errors
/// A key or a URL is there but cannot be used.
pub fn credentials(
    file: &File,
    env: EnvReader,
    folders: &Folders,
) -> Result<Credentials, ConfigError> {
    let official_path =
        folders.official.as_ref().map(|dir| dir.join("callingbox").join("config.toml"));
    let official = match official_path.as_deref().map(std::fs::read_to_string) {
        Some(Ok(text)) => toml::from_str::<Official>(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the configuration of CallingBox's own command line is ignored");
            Official::default()
        }),
        _ => Official::default(),
    };
    // A client that could not fill a placeholder in passes it on as it stands: nothing was set.
    let placeholder = |value: &str| value.starts_with("${") && value.ends_with('}');
    let set = |name: &str| env(name).map(|value| value.filter(|value| !placeholder(value.trim())));

    // In a file too, what is empty is not set.
    let filled = |value: &String| !value.trim().is_empty();
    let official_name =
        |key| official_path.as_ref().map(|path| format!("{key} in {}", path.display()));

    let url = if let Some(url) = set("CALLINGBOX_BASE_URL")? {
        Some((url, "CALLINGBOX_BASE_URL".to_owned()))
    } else if let Some(url) = file.base_url.clone().filter(filled) {
        Some((url, "base_url in the configuration".to_owned()))
    } else {
        official.default.base_url.filter(filled).zip(official_name("base_url"))
    };
    let allow_insecure = file.allow_insecure_base_url.unwrap_or(false);
    let base_url = match url {
        Some((url, name)) => BaseUrl::parse(&url, allow_insecure)
            .map_err(|error| ConfigError::Value { name, message: error.to_string() })?,
        None => BaseUrl::default(),
    };

    let kept = || folders.key_file().filter(|path| path.exists());
    let key_file = set("CALLINGBOX_API_KEY_FILE")?
        .map(PathBuf::from)
        .or_else(|| file.api_key_file.clone())
        .or_else(kept);
    let from_file = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => {
            // The byte order mark that some editors on Windows write first.
            let key = text.trim_start_matches('\u{feff}').to_owned();
            if filled(&key) {
                return Ok(Some((key, KeySource::File(path))));
            }
            tracing::warn!(file = %path.display(), "the key file is empty: no key is set by it");
            Ok(None)
        }
        Err(reason) => Err(ConfigError::Unreadable { path, reason }),
    };
    let found = match (set("CALLINGBOX_API_KEY")?, key_file) {
        (Some(key), _) => Some((key, KeySource::Environment)),
        (None, Some(path)) => from_file(path)?,
        (None, None) => None,
    };
    let last = || {
        let key = official.default.api_key.filter(filled);
        key.zip(official_path.clone().map(KeySource::OfficialConfig))
    };
    let key = found
        .or_else(last)
        .map(|(key, source)| match ApiKey::new(key) {
            Ok(key) => Ok((key, source)),
            Err(error) => {
                let name = match source {
                    KeySource::OfficialConfig(_) => official_name("api_key"),
                    _ => None,
                };
                let name = name.unwrap_or_else(|| source.to_string());
                Err(ConfigError::Value { name, message: error.to_string() })
            }
        })
        .transpose()?;
    Ok(Credentials { base_url, key })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{folders, write};
    use super::*;
    use crate::environment::NotText;

    fn no_env(_: &str) -> Result<Option<String>, NotText> {
        Ok(None)
    }

    #[test]
    fn the_key_is_looked_for_in_the_documented_order() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders(dir.path());
        let source = |env: EnvReader, file: &File| {
            credentials(file, env, &folders).unwrap().key.map(|(_, source)| source)
        };
        assert_eq!(source(&no_env, &File::default()), None);

        let official = dir.path().join("callingbox/config.toml");
        write(
            &official,
            "[default]\napi_key = \"sk_official\"\nbase_url = \"https://elsewhere.example/\"\n",
        );
        assert_eq!(source(&no_env, &File::default()), Some(KeySource::OfficialConfig(official)));

        let mounted = dir.path().join("key");
        write(&mounted, "sk_mounted\n");
        let file = File { api_key_file: Some(mounted.clone()), ..File::default() };
        assert_eq!(source(&no_env, &file), Some(KeySource::File(mounted)));

        let env = |name: &str| Ok((name == "CALLINGBOX_API_KEY").then(|| "sk_env".to_owned()));
        assert_eq!(source(&env, &file), Some(KeySource::Environment));
        let found = credentials(&file, &env, &folders).unwrap();
        assert_eq!(found.base_url.to_string(), "https://elsewhere.example");
        assert!(!format!("{found:?}").contains("sk_env"));
    }

    #[test]
    fn the_key_file_that_setup_writes_is_found_before_the_official_one() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders(dir.path());
        write(&dir.path().join("callingbox/config.toml"), "[default]\napi_key = \"sk_official\"\n");
        let kept = folders.key_file().unwrap();
        // As an editor on Windows writes it.
        write(&kept, "\u{feff}sk_kept\r\n");
        let (key, source) = credentials(&File::default(), &no_env, &folders).unwrap().key.unwrap();
        assert_eq!((key.expose(), source), ("sk_kept", KeySource::File(kept.clone())));
        // And one that holds nothing else.
        write(&kept, "\u{feff}\r\n");
        let (key, _) = credentials(&File::default(), &no_env, &folders).unwrap().key.unwrap();
        assert_eq!(key.expose(), "sk_official");
    }

    #[test]
    fn a_placeholder_that_a_client_left_is_no_key() {
        for left in ["${user_config.api_key}", "${env:CALLINGBOX_API_KEY}", "${input:key}\n"] {
            let env = |name: &str| Ok((name == "CALLINGBOX_API_KEY").then(|| left.to_owned()));
            let found = credentials(&File::default(), &env, &Folders::default()).unwrap();
            assert!(found.key.is_none(), "{left}");
        }
    }

    #[test]
    fn a_base_url_in_the_clear_is_refused() {
        let env = |name: &str| {
            Ok((name == "CALLINGBOX_BASE_URL").then(|| "http://api.example".to_owned()))
        };
        let error = credentials(&File::default(), &env, &Folders::default()).unwrap_err();
        assert!(error.to_string().starts_with("CALLINGBOX_BASE_URL: "), "{error}");
        assert!(error.to_string().contains("allow_insecure_base_url"), "{error}");
        let file = File { base_url: Some("http://api.example".to_owned()), ..File::default() };
        let error = credentials(&file, &no_env, &Folders::default()).unwrap_err();
        assert!(error.to_string().starts_with("base_url in the configuration: "), "{error}");
    }

    #[test]
    fn a_setting_is_named_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders(dir.path());
        let official = dir.path().join("callingbox/config.toml");
        write(&official, "[default]\napi_key = \"two words\"\n");
        let error = credentials(&File::default(), &no_env, &folders).unwrap_err().to_string();
        assert!(error.starts_with(&format!("api_key in {}: ", official.display())), "{error}");
        write(&official, "[default]\nbase_url = \"ftp://x\"\n");
        let error = credentials(&File::default(), &no_env, &folders).unwrap_err().to_string();
        assert!(error.starts_with(&format!("base_url in {}: ", official.display())), "{error}");
        let mounted = dir.path().join("key");
        write(&mounted, "two words");
        let file = File { api_key_file: Some(mounted.clone()), ..File::default() };
        let env = |name: &str| {
            Ok((name == "CALLINGBOX_BASE_URL").then(|| "https://api.callingbox.io".to_owned()))
        };
        let error = credentials(&file, &env, &folders).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", mounted.display())), "{error}");
    }

    #[test]
    fn what_is_empty_is_not_set() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders(dir.path());
        let official = dir.path().join("callingbox/config.toml");
        write(&official, "[default]\napi_key = \" \"\nbase_url = \"\"\n");
        let mounted = dir.path().join("key");
        write(&mounted, "\n");
        let file =
            File { api_key_file: Some(mounted), base_url: Some(String::new()), ..File::default() };
        let found = credentials(&file, &no_env, &folders).unwrap();
        assert!(found.key.is_none());
        assert_eq!(found.base_url, BaseUrl::default());
        write(&official, "[default]\napi_key = \"sk_official\"\n");
        let (_, source) = credentials(&file, &no_env, &folders).unwrap().key.unwrap();
        assert_eq!(source, KeySource::OfficialConfig(official));
    }
}
