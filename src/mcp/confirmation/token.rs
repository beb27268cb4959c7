//! Confirmation tokens: a client or a model returns them, so that the server needs no memory of its questions. They
//! are signed by HMAC (rmcp's [`RequestStateCodec`]), expire, and are bound to a text. This module does not know what
//! the text means, nor whether a token was used before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rmcp::model::{RequestStateCodec, RequestStateError, SealOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The content of a token.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenClaims {
    /// The question.
    pub id: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The token has expired.
    #[error("it expired after five minutes")]
    Expired,
    /// The token belongs to another request or server, or was modified.
    #[error(
        "the confirmation token does not match this request: arguments, agent or price changed, or another server issued it"
    )]
    Mismatch,
    /// The text is not a token.
    #[error("it is not a confirmation token of this server")]
    NotAToken,
    /// The token's content cannot be read.
    #[error("it cannot be read")]
    Unreadable,
    /// The token was used before.
    #[error("it was used before, or has expired")]
    Used,
}

/// Issues and verifies tokens with one key.
pub struct ConfirmationTokens(RequestStateCodec);

impl ConfirmationTokens {
    /// Tokens signed with this key.
    ///
    /// # Errors
    /// The key is too short.
    pub fn new(key: Vec<u8>) -> Result<Self, RequestStateError> {
        RequestStateCodec::try_new(key).map(Self)
    }

    /// Issues a token that is bound to this text, and returns when it expires.
    ///
    /// # Errors
    /// Never, as long as a text and a time can be written as JSON.
    pub fn issue(
        &self,
        bound: &str,
        lifetime: Duration,
    ) -> Result<(String, Timestamp), serde_json::Error> {
        let until = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::ZERO);
        let expires_at = Timestamp::now().checked_add(until).unwrap_or(Timestamp::MAX);
        let sealed = TokenClaims { id: Uuid::new_v4().simple().to_string(), expires_at };
        let payload = serde_json::to_vec(&sealed)?;
        let options = SealOptions::new().associated_data(bound.as_bytes()).ttl(lifetime);
        Ok((self.0.seal_with(&payload, &options), expires_at))
    }

    /// Verifies a token that is bound to this text.
    ///
    /// # Errors
    /// The token is not accepted.
    pub fn verify(&self, bound: &str, seal: &str) -> Result<TokenClaims, InvalidToken> {
        let payload = self.0.open_with(seal, bound.as_bytes()).map_err(|error| match error {
            RequestStateError::Expired => InvalidToken::Expired,
            RequestStateError::IntegrityCheckFailed => InvalidToken::Mismatch,
            _ => InvalidToken::NotAToken,
        })?;
        serde_json::from_slice(&payload).map_err(|_| InvalidToken::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(300);

    fn seals(key: [u8; 32]) -> ConfirmationTokens {
        ConfirmationTokens::new(key.to_vec()).unwrap()
    }

    #[test]
    fn a_seal_expires() {
        let seals = seals([7; 32]);
        let (seal, _) = seals.issue("Token|a|b", LIFETIME).unwrap();
        assert!(seals.verify("Token|a|b", &seal).is_ok());
        let (seal, _) = seals.issue("Token|a|b", Duration::ZERO).unwrap();
        // The codec reads the clock itself, at the latest now: the next millisecond is waited for.
        let sealed = Timestamp::now().as_millisecond();
        while Timestamp::now().as_millisecond() <= sealed {
            std::thread::yield_now();
        }
        let void = seals.verify("Token|a|b", &seal).unwrap_err();
        assert_eq!(void, InvalidToken::Expired);
    }

    proptest! {
        #[test]
        fn a_seal_opens_for_what_it_was_made_for_and_for_nothing_else(
            key: [u8; 32],
            other_key: [u8; 32],
            bound in "(Token|State)[|][a-z]{1,8}[|][a-z]{1,8}",
            other in "(Token|State)[|][a-z]{1,8}[|][a-z]{1,8}",
            at: prop::sample::Index,
            with in "[A-Za-z0-9_.=-]",
            cut: prop::sample::Index,
        ) {
            let seals = seals(key);
            let (mut seal, expires_at) = seals.issue(&bound, LIFETIME).unwrap();
            let opened = seals.verify(&bound, &seal).unwrap();
            prop_assert_eq!(opened.expires_at, expires_at);
            prop_assert_eq!(seals.verify(&other, &seal).is_ok(), other == bound);
            let others = ConfirmationTokens::new(other_key.to_vec()).unwrap();
            prop_assert_eq!(others.verify(&bound, &seal).is_ok(), other_key == key);

            let at = at.index(seal.len());
            let mut forged = seal.clone();
            forged.replace_range(at..=at, &with);
            prop_assert_eq!(seals.verify(&bound, &forged).is_ok(), forged == seal);
            let longer = seal.clone() + &with;
            seal.truncate(cut.index(seal.len()));
            prop_assert!(seals.verify(&bound, &seal).is_err());
            prop_assert!(seals.verify(&bound, &longer).is_err());
        }

        #[test]
        fn any_flipped_bit_of_a_seal_voids_it(key: [u8; 32], at: prop::sample::Index, bit in 0..8_u8) {
            let seals = seals(key);
            let (seal, _) = seals.issue("Token|a|b", LIFETIME).unwrap();
            let mut bytes = seal.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(flipped) = String::from_utf8(bytes) {
                prop_assert!(seals.verify("Token|a|b", &flipped).is_err(), "{}", flipped);
            }
        }

        #[test]
        fn no_text_is_a_seal_by_chance(text in ".{0,200}") {
            let seals = seals([7; 32]);
            prop_assert!(seals.verify("Token|a|b", &text).is_err());
        }
    }
}
