//! The API key and the signing secrets of webhooks. Neither can be printed.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::model::string_schema;

/// A CallingBox API key (`sk_…`). `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct ApiKey(SecretString);

/// Why a text is not an API key. Its messages do not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApiKey {
    /// It is only white space.
    #[error("the API key is empty")]
    Empty,
    /// It is longer than [`ApiKey::MAX_LENGTH`].
    #[error(
        "the API key is longer than 512 characters; a key begins with sk_ and is a single line"
    )]
    TooLong,
    /// It has a character that cannot be part of an HTTP header.
    #[error(
        "the API key contains a space, a line break or another character that no key has; copy it again"
    )]
    BadCharacter,
}

impl ApiKey {
    /// The longest key, in characters.
    pub const MAX_LENGTH: usize = 512;

    /// Checks a key and removes the white space around it.
    ///
    /// # Errors
    /// [`InvalidApiKey`] if the key is empty, too long, or has characters other than visible ASCII.
    pub fn new(key: impl Into<String>) -> Result<Self, InvalidApiKey> {
        let key = key.into();
        let trimmed = key.trim();
        if trimmed.is_empty() {
            return Err(InvalidApiKey::Empty);
        }
        if trimmed.len() > Self::MAX_LENGTH {
            return Err(InvalidApiKey::TooLong);
        }
        if !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidApiKey::BadCharacter);
        }
        Ok(Self(SecretString::from(trimmed)))
    }

    /// The key itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The secret that signs the deliveries of one webhook endpoint (`whsec_…`).
///
/// The API sends it once. `Debug` and `Serialize` show a placeholder; [`SigningSecret::expose`] returns the secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct SigningSecret(SecretString);

impl SigningSecret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Serialize for SigningSecret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("[hidden]")
    }
}

string_schema!(SigningSecret);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_checked_and_not_printed() {
        let (longest, too_long) = ("x".repeat(512), "x".repeat(513));
        let table = [
            ("sk_live_a", Ok("sk_live_a")),
            ("  sk_live_a\r\n", Ok("sk_live_a")),
            ("", Err(InvalidApiKey::Empty)),
            (" \n", Err(InvalidApiKey::Empty)),
            ("sk_a b", Err(InvalidApiKey::BadCharacter)),
            ("sk_a\r\nX-Evil: 1", Err(InvalidApiKey::BadCharacter)),
            ("sk_\u{7f}", Err(InvalidApiKey::BadCharacter)),
            ("sk_\0", Err(InvalidApiKey::BadCharacter)),
            ("sk_é", Err(InvalidApiKey::BadCharacter)),
            (&longest, Ok(longest.as_str())),
            (&too_long, Err(InvalidApiKey::TooLong)),
        ];
        for (text, expected) in table {
            let key = ApiKey::new(text.to_owned());
            assert_eq!(key.as_ref().map(ApiKey::expose).map_err(|error| *error), expected);
            assert!(!format!("{key:?}").contains("sk_"));
        }
    }
}
