//! The server's own tokens: a file of hashes that `callingbox-mcp token` writes and that the server reads again when it
//! changes. A token itself is printed once and never stored.
//!
//! A token has 256 random bits, so a plain SHA-256 is enough: slow hashes protect passwords, which can be guessed.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::super::tenant::Identity;
use crate::install::{InstallError, write_private};
use crate::own_command::own_command;
use crate::protected_file::{ChangeableByOthers, create_private};
use crate::text_file::read_text;
use crate::toml_error::describe_toml_error;
use crate::toolset::Toolset;

/// The prefix by which secret scanners and people recognize a token.
pub const PREFIX: &str = "cbmcp_";

/// How long an update waits for the updates of other processes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A token of the file: its hash and its rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticToken {
    pub name: String,
    pub hash: TokenHash,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The toolsets that the token grants, of those that the server offers; `None` grants all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolsets: Option<Vec<Toolset>>,
    /// Whether the token grants only tools that change nothing.
    #[serde(default)]
    pub read_only: bool,
}

impl StaticToken {
    /// The tenant of the token. It is another one after the rights of the token have changed.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let rights = format!("{:?} {}", self.toolsets, self.read_only);
        Identity::from_parts(&[b"token", &self.hash.0, rights.as_bytes()])
    }

    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The SHA-256 of a token; in the file `sha256:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn from_token(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        format!("sha256:{}", base16ct::lower::encode_string(&hash.0))
    }
}

impl TryFrom<String> for TokenHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        const EXPECTED: &str = "a hash is `sha256:` and 64 hexadecimal digits";
        let mut hash = [0; 32];
        let digits = text.strip_prefix("sha256:").ok_or(EXPECTED)?;
        let decoded = base16ct::mixed::decode(digits, &mut hash).map_err(|_| EXPECTED)?;
        if decoded.len() == hash.len() { Ok(Self(hash)) } else { Err(EXPECTED) }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenFile {
    /// All tokens, expired ones included.
    #[serde(rename = "token")]
    pub all: Vec<StaticToken>,
}

/// Why the token file or a name in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("the tokens in {} cannot be {action}: {error}", path.display())]
    Io { path: PathBuf, action: &'static str, error: std::io::Error },
    #[error("the tokens in {} are being changed by another command; run this again", path.display())]
    Busy { path: PathBuf },
    #[error("{}: {message}", path.display())]
    Invalid { path: PathBuf, message: String },
    #[error("there is a token `{0}` already; revoke it first or choose another name")]
    NameTaken(String),
    #[error("there is no token `{0}`; `{program} token list` shows the existing tokens", program = own_command())]
    UnknownName(String),
    #[error(
        "{0:?} is not a name for a token: a name has 1 to 64 letters, digits, `-`, `_` or `.`, and does not begin with `-`"
    )]
    InvalidName(String),
    #[error(transparent)]
    ChangeableByOthers(#[from] ChangeableByOthers),
    #[error(transparent)]
    NotWritten(#[from] InstallError),
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// The file is missing, unreadable or invalid.
    pub fn load(path: &Path) -> Result<Self, TokenFileError> {
        let text = read_text(path).map_err(|error| TokenFileError::Io {
            path: path.to_owned(),
            action: "read",
            error,
        })?;
        toml::from_str(&text).map_err(|error| TokenFileError::Invalid {
            path: path.to_owned(),
            message: describe_toml_error(&text, &error),
        })
    }

    /// Changes a file, or creates it, under a lock, so that concurrent updates of several processes are all kept.
    ///
    /// # Errors
    /// Those of `change`, and of reading and writing. The file then stays as it was.
    pub fn update<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, TokenFileError>,
    ) -> Result<T, TokenFileError> {
        let _lock = lock_file(path, LOCK_TIMEOUT)?;
        let mut tokens = Self::load_or_default(path)?;
        let output = change(&mut tokens)?;
        tokens.save(path)?;
        Ok(output)
    }

    /// Reads a file. A missing file has no tokens.
    ///
    /// # Errors
    /// The file is unreadable or invalid.
    pub fn load_or_default(path: &Path) -> Result<Self, TokenFileError> {
        if path.exists() { Self::load(path) } else { Ok(Self::default()) }
    }

    /// Writes a file atomically, readable by its owner only.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TokenFileError> {
        let text = toml::to_string(self).map_err(|error| TokenFileError::Io {
            path: path.to_owned(),
            action: "written",
            error: std::io::Error::other(error),
        })?;
        Ok(write_private(path, &text)?)
    }

    /// Creates a token and returns it. It cannot be read again later.
    ///
    /// # Errors
    /// The name is taken or invalid.
    pub fn create_token(
        &mut self,
        name: &str,
        now: Timestamp,
        expires: Option<Timestamp>,
        toolsets: Option<Vec<Toolset>>,
        read_only: bool,
    ) -> Result<String, TokenFileError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_option = name.starts_with('-');
        if name.is_empty() || is_option || name.len() > 64 || !name.chars().all(valid) {
            return Err(TokenFileError::InvalidName(name.to_owned()));
        }
        if self.all.iter().any(|token| token.name == name) {
            return Err(TokenFileError::NameTaken(name.to_owned()));
        }
        let random: [u8; 32] = rand::random();
        let token = format!("{PREFIX}{}", base16ct::lower::encode_string(&random));
        self.all.push(StaticToken {
            name: name.to_owned(),
            hash: TokenHash::from_token(&token),
            created: now,
            expires,
            toolsets,
            read_only,
        });
        Ok(token)
    }

    /// Removes a token.
    ///
    /// # Errors
    /// There is no token of this name.
    pub fn revoke_token(&mut self, name: &str) -> Result<(), TokenFileError> {
        let before = self.all.len();
        self.all.retain(|token| token.name != name);
        if self.all.len() == before {
            return Err(TokenFileError::UnknownName(name.to_owned()));
        }
        Ok(())
    }

    /// The entry of a token that is valid at this time. The duration does not depend on the token.
    #[must_use]
    pub fn find_valid(&self, token: &str, now: Timestamp) -> Option<&StaticToken> {
        let hash = TokenHash::from_token(token);
        let mut found = None;
        for token in &self.all {
            if bool::from(token.hash.0.ct_eq(&hash.0)) {
                found = Some(token);
            }
        }
        found.filter(|token| token.is_valid_at(now))
    }
}

/// Locks a file against other processes until the lock is dropped.
///
/// The lock is a SQLite database beside the file, since the file itself is replaced. SQLite's lock works on every
/// system, can be waited for, and ends with its process. The database stays empty.
fn lock_file(path: &Path, timeout: Duration) -> Result<Connection, TokenFileError> {
    let failed = |error| TokenFileError::Io { path: path.to_owned(), action: "locked", error };
    let mut lock = OsString::from(path);
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    // Created with private permissions: another user who can open the file could hold the lock.
    if !lock.exists() {
        create_private(&lock).map_err(failed)?;
    }
    let locked = Connection::open(&lock).and_then(|db| {
        db.busy_timeout(timeout)?;
        db.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(db)
    });
    locked.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => TokenFileError::Busy { path: path.to_owned() },
        _ => failed(std::io::Error::other(error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_valid_until_it_expires_or_is_revoked_and_is_never_stored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/tokens.toml");
        let (now, end) = (at("2026-11-22T08:00:00Z"), at("2026-11-23T08:00:00Z"));
        let mut tokens = TokenFile::default();
        let lasting = tokens.create_token("lasting", now, None, None, false).unwrap();
        let short = tokens
            .create_token("short", now, Some(end), Some(vec![Toolset::Numbers]), true)
            .unwrap();
        tokens.save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&lasting) && !text.contains(PREFIX), "{text}");
        let tokens = TokenFile::load(&path).unwrap();
        let found =
            |secret: &str, when| tokens.find_valid(secret, when).map(|token| token.name.as_str());
        assert_eq!(found(&lasting, now), Some("lasting"));
        assert_eq!(found(&short, now), Some("short"));
        assert_eq!(found(&short, end), None);
        assert_eq!(found("", now), None);
        assert_eq!(found(lasting.trim_start_matches(PREFIX), now), None);
        let mut less = tokens.clone();
        less.revoke_token("lasting").unwrap();
        assert!(less.find_valid(&lasting, now).is_none());
        assert_eq!(
            less.revoke_token("lasting").unwrap_err().to_string(),
            "there is no token `lasting`; `callingbox-mcp token list` shows the existing tokens"
        );
    }

    #[test]
    fn an_update_waits_for_another_one_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let other = lock_file(&path, Duration::ZERO).unwrap();
        let message = lock_file(&path, Duration::from_millis(20)).unwrap_err().to_string();
        assert!(message.ends_with("changed by another command; run this again"), "{message}");
        let soon = std::thread::spawn({
            let path = path.clone();
            move || lock_file(&path, Duration::from_secs(30)).map(drop)
        });
        std::thread::sleep(Duration::from_millis(50));
        drop(other);
        soon.join().unwrap().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        TokenFile::update(&path, |_| Ok(())).unwrap();
        for name in ["tokens.toml", "tokens.toml.lock"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn names_are_restricted_and_unique() {
        let mut tokens = TokenFile::default();
        let mut create =
            |name: &str| tokens.create_token(name, Timestamp::UNIX_EPOCH, None, None, false);
        assert!(create("ci-1").is_ok());
        assert!(matches!(create("ci-1"), Err(TokenFileError::NameTaken(_))));
        for name in ["", "-", "-x", "a b", "a\nb", "é", &"x".repeat(65)] {
            assert!(matches!(create(name), Err(TokenFileError::InvalidName(_))), "{name}");
        }
    }

    #[test]
    fn other_rights_make_another_identity() {
        let mut tokens = TokenFile::default();
        tokens.create_token("a", Timestamp::UNIX_EPOCH, None, None, false).unwrap();
        let token = tokens.all.pop().unwrap();
        let tighter = StaticToken { read_only: true, ..token.clone() };
        assert_ne!(token.identity(), tighter.identity());
        assert_eq!(token.identity(), token.clone().identity());
    }

    #[test]
    fn an_invalid_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        for (text, problem) in [
            (
                "[[token]]\nname = \"a\"\nhash = \"sha256:00\"\ncreated = \"2026-11-22T08:00:00Z\"",
                "64 hexadecimal",
            ),
            ("[[tokens]]\n", "unknown field"),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = TokenFile::load(&path).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }

    #[test]
    fn a_hash_has_hexadecimal_digits_only() {
        let hash = |digits: &str| TokenHash::try_from(format!("sha256:{digits}"));
        let good = "0a".repeat(32);
        assert_eq!(hash(&good).map(String::from), Ok(format!("sha256:{good}")));
        assert!(hash(&good.to_uppercase()).is_ok());
        for digits in ["+f".repeat(32), "0g".repeat(32), "é".repeat(32), "0a".repeat(33)] {
            assert!(hash(&digits).is_err(), "{digits}");
        }
    }
}
