//! The server's own tokens: a file of hashes that `callingbox-mcp token` writes and the server reads
//! again when it changes. A token itself is shown once and kept nowhere.
//!
//! A token is 256 random bits, so a plain SHA-256 is enough: what makes slow hashes necessary for
//! passwords, that they can be guessed, is not true of it.

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
use crate::hex;
use crate::mcp::toolset::Toolset;

/// What every token begins with, so that it is known wherever it turns up.
pub const PREFIX: &str = "cbmcp_";

/// How long a change waits for those that other commands are making.
const PATIENCE: Duration = Duration::from_secs(10);

/// One token, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whom it was made for.
    pub name: String,
    /// `sha256:` and the hash in hexadecimal digits.
    pub hash: Hash,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Only these groups of tools, of those that the server offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolsets: Option<Vec<Toolset>>,
    /// Only tools that change nothing.
    #[serde(default)]
    pub read_only: bool,
}

impl Token {
    /// Who shows it. Another one after the token's rights were changed.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let rights = format!("{:?} {}", self.toolsets, self.read_only);
        Identity::of(&[b"token", &self.hash.0, rights.as_bytes()])
    }

    /// Whether it counts at this time.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The SHA-256 of a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        format!("sha256:{}", hex::encode(&hash.0))
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        const WANTED: &str = "a hash is `sha256:` and 64 hexadecimal digits";
        text.strip_prefix("sha256:").and_then(hex::decode).map(Self).ok_or(WANTED)
    }
}

/// The tokens of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// All of them, expired ones too.
    #[serde(rename = "token")]
    pub all: Vec<Token>,
}

/// Why the file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read or written.
    #[error("the tokens in {} cannot be {what}: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was to be done.
        what: &'static str,
        /// Why not.
        reason: std::io::Error,
    },
    /// Another command is changing it.
    #[error("the tokens in {} are being changed by another command; run this again", path.display())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// It is not what it should be.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// A name is taken already.
    #[error("there is a token `{0}` already; revoke it first or choose another name")]
    Taken(String),
    /// A name is not known.
    #[error("there is no token `{0}`; `callingbox-mcp token list` shows those there are")]
    Unknown(String),
    /// A name cannot be one.
    #[error("a token's name has 1 to 64 letters, digits, `-`, `_` or `.`")]
    Name,
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// It is missing, unreadable or not a file of tokens.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let text = std::fs::read_to_string(path).map_err(|reason| TokensError::Io {
            path: path.to_owned(),
            what: "read",
            reason,
        })?;
        toml::from_str(&text).map_err(|error| TokensError::Invalid {
            path: path.to_owned(),
            message: crate::config::explain_in_log(&text, &error),
        })
    }

    /// Changes a file, or makes it, while no other process does: what each of them did is in it.
    ///
    /// # Errors
    /// Those of `work` and of reading and writing; the file is then as it was.
    pub fn change<T>(
        path: &Path,
        work: impl FnOnce(&mut Self) -> Result<T, TokensError>,
    ) -> Result<T, TokensError> {
        let _locked = lock(path, PATIENCE)?;
        let mut tokens = Self::load_or_none(path)?;
        let done = work(&mut tokens)?;
        tokens.save(path)?;
        Ok(done)
    }

    /// Reads a file; where there is none, there are no tokens.
    ///
    /// # Errors
    /// It is unreadable or not a file of tokens.
    pub fn load_or_none(path: &Path) -> Result<Self, TokensError> {
        if path.exists() { Self::load(path) } else { Ok(Self::default()) }
    }

    /// Writes a file, whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TokensError> {
        let failed = |reason| TokensError::Io { path: path.to_owned(), what: "written", reason };
        let text = toml::to_string(self).map_err(|error| failed(std::io::Error::other(error)))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let written = write_private(&new, &text).and_then(|()| std::fs::rename(&new, path));
        written.map_err(|reason| {
            // What is left half-written is of no use; that it could not be written is told.
            let _ = std::fs::remove_file(&new);
            failed(reason)
        })
    }

    /// Makes a token and gives it out, this once.
    ///
    /// # Errors
    /// The name is taken or cannot be one.
    pub fn create(
        &mut self,
        name: &str,
        now: Timestamp,
        expires: Option<Timestamp>,
        toolsets: Option<Vec<Toolset>>,
        read_only: bool,
    ) -> Result<String, TokensError> {
        let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(sound) {
            return Err(TokensError::Name);
        }
        if self.all.iter().any(|token| token.name == name) {
            return Err(TokensError::Taken(name.to_owned()));
        }
        let random: [u8; 32] = rand::random();
        let token = format!("{PREFIX}{}", hex::encode(&random));
        self.all.push(Token {
            name: name.to_owned(),
            hash: Hash::of(&token),
            created: now,
            expires,
            toolsets,
            read_only,
        });
        Ok(token)
    }

    /// Takes a token out.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn revoke(&mut self, name: &str) -> Result<(), TokensError> {
        let before = self.all.len();
        self.all.retain(|token| token.name != name);
        if self.all.len() == before {
            return Err(TokensError::Unknown(name.to_owned()));
        }
        Ok(())
    }

    /// The one that was shown, if it counts at this time. Takes as long for every token that is shown.
    #[must_use]
    pub fn find(&self, shown: &str, now: Timestamp) -> Option<&Token> {
        let shown = Hash::of(shown);
        let mut found = None;
        for token in &self.all {
            if bool::from(token.hash.0.ct_eq(&shown.0)) {
                found = Some(token);
            }
        }
        found.filter(|token| token.is_valid_at(now))
    }
}

/// Keeps other processes from changing a file until this is dropped.
///
/// The lock is on a file beside it, since the file itself is replaced, and it is SQLite's: held on every
/// system, waited for, and let go when its process ends in whatever way. The database stays empty.
fn lock(path: &Path, patience: Duration) -> Result<Connection, TokensError> {
    let failed = |reason| TokensError::Io { path: path.to_owned(), what: "locked", reason };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut beside = OsString::from(path);
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    // Made before SQLite makes it: who may open it could hold the lock.
    if !beside.exists() {
        write_private(&beside, "").map_err(failed)?;
    }
    let locked = Connection::open(&beside).and_then(|db| {
        db.busy_timeout(patience)?;
        db.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(db)
    });
    locked.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => TokensError::Busy { path: path.to_owned() },
        _ => failed(std::io::Error::other(error)),
    })
}

#[cfg(unix)]
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(not(unix))]
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_found_until_it_expires_or_is_revoked_and_is_kept_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/tokens.toml");
        let (now, end) = (at("2026-11-22T08:00:00Z"), at("2026-11-23T08:00:00Z"));
        let mut tokens = Tokens::default();
        let lasting = tokens.create("lasting", now, None, None, false).unwrap();
        let short =
            tokens.create("short", now, Some(end), Some(vec![Toolset::Numbers]), true).unwrap();
        tokens.save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&lasting) && !text.contains(PREFIX), "{text}");
        let tokens = Tokens::load(&path).unwrap();
        let found = |shown: &str, when| tokens.find(shown, when).map(|token| token.name.as_str());
        assert_eq!(found(&lasting, now), Some("lasting"));
        assert_eq!(found(&short, now), Some("short"));
        assert_eq!(found(&short, end), None);
        assert_eq!(found("", now), None);
        assert_eq!(found(lasting.trim_start_matches(PREFIX), now), None);
        let mut less = tokens.clone();
        less.revoke("lasting").unwrap();
        assert!(less.find(&lasting, now).is_none());
        assert_eq!(
            less.revoke("lasting").unwrap_err().to_string(),
            "there is no token `lasting`; `callingbox-mcp token list` shows those there are"
        );
    }

    #[test]
    fn a_file_that_another_is_changing_is_waited_for_but_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let other = lock(&path, Duration::ZERO).unwrap();
        let message = lock(&path, Duration::from_millis(20)).unwrap_err().to_string();
        assert!(message.ends_with("changed by another command; run this again"), "{message}");
        let soon = std::thread::spawn({
            let path = path.clone();
            move || lock(&path, Duration::from_secs(30)).map(drop)
        });
        std::thread::sleep(Duration::from_millis(50));
        drop(other);
        soon.join().unwrap().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        Tokens::change(&path, |_| Ok(())).unwrap();
        for name in ["tokens.toml", "tokens.toml.lock"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn names_are_plain_and_not_given_twice() {
        let mut tokens = Tokens::default();
        let mut create = |name: &str| tokens.create(name, Timestamp::UNIX_EPOCH, None, None, false);
        assert!(create("ci-1").is_ok());
        assert!(matches!(create("ci-1"), Err(TokensError::Taken(_))));
        for name in ["", "a b", "a\nb", "é", &"x".repeat(65)] {
            assert!(matches!(create(name), Err(TokensError::Name)), "{name}");
        }
    }

    #[test]
    fn changed_rights_make_another_identity() {
        let mut tokens = Tokens::default();
        tokens.create("a", Timestamp::UNIX_EPOCH, None, None, false).unwrap();
        let token = tokens.all.pop().unwrap();
        let tighter = Token { read_only: true, ..token.clone() };
        assert_ne!(token.identity(), tighter.identity());
        assert_eq!(token.identity(), token.clone().identity());
    }

    #[test]
    fn a_file_that_is_no_file_of_tokens_is_refused() {
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
            let message = Tokens::load(&path).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }

    #[test]
    fn a_hash_is_nothing_but_digits() {
        let hash = |digits: &str| Hash::try_from(format!("sha256:{digits}"));
        let good = "0a".repeat(32);
        assert_eq!(hash(&good).map(String::from), Ok(format!("sha256:{good}")));
        assert!(hash(&good.to_uppercase()).is_ok());
        for digits in ["+f".repeat(32), "0g".repeat(32), "é".repeat(32), "0a".repeat(33)] {
            assert!(hash(&digits).is_err(), "{digits}");
        }
    }
}
