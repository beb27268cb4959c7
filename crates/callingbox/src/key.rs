//! Secrets: the API key that is sent, and the signing secrets that come back. Neither can be printed.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::model::string_schema;

/// A CallingBox API key (`sk_…`). It is sent to the API and shown nowhere.
#[derive(Clone, Debug)]
pub struct ApiKey(SecretString);

/// Why a text is not an API key. The text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing but white space.
    #[error("the API key is empty")]
    Empty,
    /// Over [`ApiKey::MAX_LENGTH`].
    #[error("the API key is longer than 512 characters; it begins sk_ and is one line")]
    TooLong,
    /// Something that cannot stand in an HTTP header.
    #[error(
        "the API key contains a space, a line break or another character that no key has; copy it again"
    )]
    BadCharacter,
}

impl ApiKey {
    /// The longest text that is taken for a key.
    pub const MAX_LENGTH: usize = 512;

    /// Takes a key, without the white space around it.
    ///
    /// # Errors
    /// [`InvalidKey`] when it is empty, too long, or holds anything but visible ASCII.
    pub fn new(key: String) -> Result<Self, InvalidKey> {
        let trimmed = key.trim();
        if trimmed.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if trimmed.len() > Self::MAX_LENGTH {
            return Err(InvalidKey::TooLong);
        }
        if !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidKey::BadCharacter);
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
/// The API shows it once. Printing it, or writing the endpoint as JSON, shows a mask; giving it to the
/// user takes [`SigningSecret::expose`].
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct SigningSecret(SecretString);

impl SigningSecret {
    /// The secret itself, for the one answer that hands it to the user.
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
    fn takes_what_can_be_a_key() {
        let (longest, too_long) = ("x".repeat(512), "x".repeat(513));
        let table = [
            ("sk_live_a", Ok("sk_live_a")),
            ("  sk_live_a\r\n", Ok("sk_live_a")),
            ("", Err(InvalidKey::Empty)),
            (" \n", Err(InvalidKey::Empty)),
            ("sk_a b", Err(InvalidKey::BadCharacter)),
            ("sk_a\r\nX-Evil: 1", Err(InvalidKey::BadCharacter)),
            ("sk_\u{7f}", Err(InvalidKey::BadCharacter)),
            ("sk_\0", Err(InvalidKey::BadCharacter)),
            ("sk_é", Err(InvalidKey::BadCharacter)),
            (&longest, Ok(longest.as_str())),
            (&too_long, Err(InvalidKey::TooLong)),
        ];
        for (text, expected) in table {
            let key = ApiKey::new(text.to_owned());
            assert_eq!(key.as_ref().map(ApiKey::expose).map_err(|error| *error), expected);
            assert!(!format!("{key:?}").contains("sk_"));
        }
    }
}
