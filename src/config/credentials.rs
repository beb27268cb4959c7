//! Finds the URL of the API and the API key. The key is never taken from the command line or from the configuration
//! file. Its sources, in this order: `CALLINGBOX_API_KEY`; the file named by `CALLINGBOX_API_KEY_FILE` or
//! `api_key_file`; the key file that `setup` and `install` write; the configuration of CallingBox's own command line.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, ConfigFile, EnvReader, UserFolders};
use crate::env_var::NotUtf8;
use crate::text_file::read_text;
use callingbox::{ApiKey, BaseUrl};

/// Where the API key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `CALLINGBOX_API_KEY`.
    EnvVar,
    /// A file that holds only the key.
    KeyFile(PathBuf),
    /// The configuration of CallingBox's own command line.
    OfficialConfig(PathBuf),
}

impl KeySource {
    /// The file that holds the key, if it is in one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::EnvVar => None,
            Self::KeyFile(path) | Self::OfficialConfig(path) => Some(path),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnvVar => f.write_str("CALLINGBOX_API_KEY"),
            Self::KeyFile(path) | Self::OfficialConfig(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Credentials {
    pub base_url: BaseUrl,
    /// The API key and its source; `None` if no key is set.
    pub key: Option<(ApiKey, KeySource)>,
}

/// The part of CallingBox's own configuration that this program reads.
#[derive(Debug, Default, Deserialize)]
struct OfficialConfig {
    #[serde(default)]
    default: OfficialProfile,
}

#[derive(Debug, Default, Deserialize)]
struct OfficialProfile {
    api_key: Option<String>,
    base_url: Option<String>,
}

/// # Errors
/// A key or a URL is set but not valid.
pub fn find_credentials(
    file: &ConfigFile,
    read_env: EnvReader,
    folders: &UserFolders,
) -> Result<Credentials, ConfigError> {
    let base_url = find_base_url(file, read_env, folders)?;
    let official_path = folders.official_config_file().unwrap_or_default();
    let official_key = read_official_config(&official_path).api_key;
    let official_key = official_key.map(|key| (key, KeySource::OfficialConfig(official_path)));
    let key = match find_key(file, read_env, folders)?.or(official_key) {
        None => None,
        Some((key, source)) => match ApiKey::new(key) {
            Ok(key) => Some((key, source)),
            Err(error) => {
                let name = match &source {
                    KeySource::OfficialConfig(path) => name_in_file("api_key", path),
                    other => other.to_string(),
                };
                return Err(ConfigError::Value { name, message: error.to_string() });
            }
        },
    };
    Ok(Credentials { base_url, key })
}

/// # Errors
/// A URL is set but not valid.
pub fn find_base_url(
    file: &ConfigFile,
    read_env: EnvReader,
    folders: &UserFolders,
) -> Result<BaseUrl, ConfigError> {
    let variable = read_unless_placeholder(read_env, "CALLINGBOX_BASE_URL")?;
    let variable = variable.map(|url| (url, "CALLINGBOX_BASE_URL".to_owned()));
    let in_file = || {
        let url = file.base_url.clone().filter(|url| !is_blank(url))?;
        Some((url, "base_url in the configuration".to_owned()))
    };
    let in_official_file = || {
        let path = folders.official_config_file().unwrap_or_default();
        Some((read_official_config(&path).base_url?, name_in_file("base_url", &path)))
    };
    let Some((url, name)) = variable.or_else(in_file).or_else(in_official_file) else {
        return Ok(BaseUrl::default());
    };
    BaseUrl::parse(&url, file.allow_insecure_base_url.unwrap_or(false))
        .map_err(|error| ConfigError::Value { name, message: error.to_string() })
}

/// The key of the environment or of a key file.
fn find_key(
    file: &ConfigFile,
    read_env: EnvReader,
    folders: &UserFolders,
) -> Result<Option<(String, KeySource)>, ConfigError> {
    let key_file = read_unless_placeholder(read_env, "CALLINGBOX_API_KEY_FILE")?
        .map(PathBuf::from)
        .or_else(|| file.api_key_file.clone())
        .or_else(|| folders.api_key_file().filter(|path| path.exists()));
    if let Some(key) = read_unless_placeholder(read_env, "CALLINGBOX_API_KEY")? {
        return Ok(Some((key, KeySource::EnvVar)));
    }
    let Some(path) = key_file else { return Ok(None) };
    let key = match read_text(&path) {
        Ok(key) => key,
        Err(reason) => return Err(ConfigError::Unreadable { path, reason }),
    };
    if is_blank(&key) {
        tracing::warn!(file = %path.display(), "the API key file is empty; it sets no key");
        return Ok(None);
    }
    Ok(Some((key, KeySource::KeyFile(path))))
}

fn read_official_config(path: &Path) -> OfficialProfile {
    let Ok(text) = read_text(path) else { return OfficialProfile::default() };
    let config = toml::from_str::<OfficialConfig>(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "the configuration of CallingBox's own command line is invalid; it is ignored");
        OfficialConfig::default()
    });
    let OfficialProfile { api_key, base_url } = config.default;
    OfficialProfile {
        api_key: api_key.filter(|key| !is_blank(key)),
        base_url: base_url.filter(|url| !is_blank(url)),
    }
}

/// A variable. A client that could not fill in a placeholder passes it on literally: then nothing is set.
fn read_unless_placeholder(read_env: EnvReader, name: &str) -> Result<Option<String>, NotUtf8> {
    let is_placeholder = |value: &str| value.starts_with("${") && value.ends_with('}');
    Ok(read_env(name)?.filter(|value| !is_placeholder(value.trim())))
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn name_in_file(key: &str, path: &Path) -> String {
    format!("{key} in {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{folders_in, write_file};
    use super::*;

    fn no_env(_: &str) -> Result<Option<String>, NotUtf8> {
        Ok(None)
    }

    #[test]
    fn the_sources_of_the_key_are_searched_in_the_documented_order() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders_in(dir.path());
        let source = |env: EnvReader, file: &ConfigFile| {
            find_credentials(file, env, &folders).unwrap().key.map(|(_, source)| source)
        };
        assert_eq!(source(&no_env, &ConfigFile::default()), None);

        let official = dir.path().join("callingbox/config.toml");
        write_file(
            &official,
            "[default]\napi_key = \"sk_official\"\nbase_url = \"https://elsewhere.example/\"\n",
        );
        assert_eq!(
            source(&no_env, &ConfigFile::default()),
            Some(KeySource::OfficialConfig(official))
        );

        let mounted = dir.path().join("key");
        write_file(&mounted, "sk_mounted\n");
        let file = ConfigFile { api_key_file: Some(mounted.clone()), ..ConfigFile::default() };
        assert_eq!(source(&no_env, &file), Some(KeySource::KeyFile(mounted)));

        let env = |name: &str| Ok((name == "CALLINGBOX_API_KEY").then(|| "sk_env".to_owned()));
        assert_eq!(source(&env, &file), Some(KeySource::EnvVar));
        let found = find_credentials(&file, &env, &folders).unwrap();
        assert_eq!(found.base_url.to_string(), "https://elsewhere.example");
        assert!(!format!("{found:?}").contains("sk_env"));
    }

    #[test]
    fn the_key_file_of_setup_comes_before_the_official_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders_in(dir.path());
        write_file(
            &dir.path().join("callingbox/config.toml"),
            "[default]\napi_key = \"sk_official\"\n",
        );
        let kept = folders.api_key_file().unwrap();
        // As an editor on Windows writes it.
        write_file(&kept, "\u{feff}sk_kept\r\n");
        let (key, source) =
            find_credentials(&ConfigFile::default(), &no_env, &folders).unwrap().key.unwrap();
        assert_eq!((key.expose(), source), ("sk_kept", KeySource::KeyFile(kept.clone())));
        // A byte order mark alone is no key.
        write_file(&kept, "\u{feff}\r\n");
        let (key, _) =
            find_credentials(&ConfigFile::default(), &no_env, &folders).unwrap().key.unwrap();
        assert_eq!(key.expose(), "sk_official");
    }

    #[test]
    fn a_placeholder_left_by_a_client_is_no_key() {
        for placeholder in ["${user_config.api_key}", "${env:CALLINGBOX_API_KEY}", "${input:key}\n"]
        {
            let env =
                |name: &str| Ok((name == "CALLINGBOX_API_KEY").then(|| placeholder.to_owned()));
            let found =
                find_credentials(&ConfigFile::default(), &env, &UserFolders::default()).unwrap();
            assert!(found.key.is_none(), "{placeholder}");
        }
    }

    #[test]
    fn an_unencrypted_base_url_is_refused() {
        let env = |name: &str| {
            Ok((name == "CALLINGBOX_BASE_URL").then(|| "http://api.example".to_owned()))
        };
        let error =
            find_credentials(&ConfigFile::default(), &env, &UserFolders::default()).unwrap_err();
        assert!(error.to_string().starts_with("CALLINGBOX_BASE_URL: "), "{error}");
        assert!(error.to_string().contains("allow_insecure_base_url"), "{error}");
        let file =
            ConfigFile { base_url: Some("http://api.example".to_owned()), ..ConfigFile::default() };
        let error = find_credentials(&file, &no_env, &UserFolders::default()).unwrap_err();
        assert!(error.to_string().starts_with("base_url in the configuration: "), "{error}");
    }

    #[test]
    fn an_invalid_value_is_named_with_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders_in(dir.path());
        let official = dir.path().join("callingbox/config.toml");
        write_file(&official, "[default]\napi_key = \"two words\"\n");
        let error =
            find_credentials(&ConfigFile::default(), &no_env, &folders).unwrap_err().to_string();
        assert!(error.starts_with(&format!("api_key in {}: ", official.display())), "{error}");
        write_file(&official, "[default]\nbase_url = \"ftp://x\"\n");
        let error =
            find_credentials(&ConfigFile::default(), &no_env, &folders).unwrap_err().to_string();
        assert!(error.starts_with(&format!("base_url in {}: ", official.display())), "{error}");
        let mounted = dir.path().join("key");
        write_file(&mounted, "two words");
        let file = ConfigFile { api_key_file: Some(mounted.clone()), ..ConfigFile::default() };
        let env = |name: &str| {
            Ok((name == "CALLINGBOX_BASE_URL").then(|| "https://api.callingbox.io".to_owned()))
        };
        let error = find_credentials(&file, &env, &folders).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", mounted.display())), "{error}");
    }

    #[test]
    fn an_empty_value_counts_as_unset() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders_in(dir.path());
        let official = dir.path().join("callingbox/config.toml");
        write_file(&official, "[default]\napi_key = \" \"\nbase_url = \"\"\n");
        let mounted = dir.path().join("key");
        write_file(&mounted, "\n");
        let file = ConfigFile {
            api_key_file: Some(mounted),
            base_url: Some(String::new()),
            ..ConfigFile::default()
        };
        let found = find_credentials(&file, &no_env, &folders).unwrap();
        assert!(found.key.is_none());
        assert_eq!(found.base_url, BaseUrl::default());
        write_file(&official, "[default]\napi_key = \"sk_official\"\n");
        let (_, source) = find_credentials(&file, &no_env, &folders).unwrap().key.unwrap();
        assert_eq!(source, KeySource::OfficialConfig(official));
    }
}
