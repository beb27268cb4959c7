//! Confirmation tokens: a client or a model returns them, so that the server needs no memory of its questions. They
//! are short enough for a model to copy, expire, and are bound to everything that they stand for by HMAC-SHA-256. This
//! module does not know whether a token was used before.

use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq;

use crate::dialing::ledger::compute_hmac;

/// How long a token is valid.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// A token is 24 bytes in hexadecimal: when it expires, a random number, and the code that protects both.
const EXPIRY_BYTES: usize = 4;
const NONCE_BYTES: usize = 6;
const CODE_BYTES: usize = 14;
const CLAIM_BYTES: usize = EXPIRY_BYTES + NONCE_BYTES;

/// The purpose of a token. A request state does not imply a yes, so it must not be accepted as a confirmation token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPurpose {
    /// The model returns it after its user agreed to the preview.
    Confirmation,
    /// The client returns it with the human's answer.
    RequestState,
    /// The call card returns it with the human's answer.
    Card,
}

/// What a token is bound to: it is accepted for exactly this.
#[derive(Debug, Clone, Copy)]
pub struct TokenBinding<'a> {
    pub purpose: TokenPurpose,
    pub account: &'a str,
    /// The authenticated caller; empty over stdio.
    pub caller: &'a str,
    /// The MCP session; empty where there is none.
    pub session: &'a str,
    /// The tool whose arguments these are.
    pub tool: &'a str,
    /// The fingerprint of the arguments.
    pub arguments: &'a str,
    /// What the human was shown, and what else their yes covers.
    pub shown: &'a str,
}

impl TokenBinding<'_> {
    /// Destructures without `..`: a new field becomes part of the binding.
    fn parts(&self) -> [&str; 7] {
        let Self { purpose, account, caller, session, tool, arguments, shown } = *self;
        let purpose = match purpose {
            TokenPurpose::Confirmation => "confirmation",
            TokenPurpose::RequestState => "request state",
            TokenPurpose::Card => "card",
        };
        [purpose, account, caller, session, tool, arguments, shown]
    }
}

/// The id of a token, which is no secret.
#[must_use]
pub fn token_id(token: &str) -> &str {
    token.get(..CLAIM_BYTES * 2).unwrap_or_default()
}

/// What a token says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// Identifies the token, so that it is accepted only once.
    pub id: String,
    pub expires_at: Timestamp,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("it expired after 15 minutes")]
    Expired,
    #[error(
        "the confirmation token does not match this request: arguments, agent, price, caller or session changed, or another server issued it"
    )]
    Mismatch,
    #[error("it is not a confirmation token of this server: copy it exactly")]
    NotAToken,
    #[error("it was used before, or has expired")]
    Used,
}

/// Issues and verifies tokens with one key, which all servers of a ledger share.
pub struct ConfirmationTokens {
    key: [u8; 32],
}

impl ConfirmationTokens {
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Issues a token, and returns when it expires.
    #[must_use]
    pub fn issue(&self, binding: &TokenBinding<'_>, now: Timestamp) -> (String, Timestamp) {
        let expires_at = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
        let seconds = u32::try_from(expires_at.as_second()).unwrap_or(u32::MAX);
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let claims = [&seconds.to_be_bytes()[..], &nonce].concat();
        let token = [&claims[..], &self.compute_code(binding, &claims)].concat();
        let expires_at = Timestamp::from_second(seconds.into()).unwrap_or(expires_at);
        (base16ct::lower::encode_string(&token), expires_at)
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// The token is not accepted.
    pub fn verify(
        &self,
        binding: &TokenBinding<'_>,
        token: &str,
        now: Timestamp,
    ) -> Result<TokenClaims, InvalidToken> {
        let bytes = base16ct::lower::decode_vec(token).map_err(|_| InvalidToken::NotAToken)?;
        let (claims, code) = bytes.split_at_checked(CLAIM_BYTES).ok_or(InvalidToken::NotAToken)?;
        if code.len() != CODE_BYTES {
            return Err(InvalidToken::NotAToken);
        }
        if !bool::from(self.compute_code(binding, claims).ct_eq(code)) {
            return Err(InvalidToken::Mismatch);
        }
        let seconds = claims.first_chunk().ok_or(InvalidToken::NotAToken)?;
        let expires_at = Timestamp::from_second(u32::from_be_bytes(*seconds).into())
            .map_err(|_| InvalidToken::NotAToken)?;
        if expires_at <= now {
            return Err(InvalidToken::Expired);
        }
        Ok(TokenClaims { id: base16ct::lower::encode_string(claims), expires_at })
    }

    /// The code over each part of the binding and the claims.
    fn compute_code(&self, binding: &TokenBinding<'_>, claims: &[u8]) -> [u8; CODE_BYTES] {
        let parts = binding.parts().map(str::as_bytes);
        let code = compute_hmac(&self.key, &[&parts[..], &[claims]].concat());
        std::array::from_fn(|index| code.get(index).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BINDING: TokenBinding<'static> = TokenBinding {
        purpose: TokenPurpose::Confirmation,
        account: "account",
        caller: "",
        session: "",
        tool: "place_call",
        arguments: "fingerprint",
        shown: "Task: remind.",
    };

    fn now() -> Timestamp {
        "2026-11-02T15:00:00.5Z".parse().unwrap()
    }

    #[test]
    fn a_token_has_48_characters_and_is_valid_for_15_minutes() {
        let tokens = ConfirmationTokens::new([7; 32]);
        let (token, expires_at) = tokens.issue(&BINDING, now());
        assert_eq!(token.len(), 48);
        assert_eq!(expires_at.to_string(), "2026-11-02T15:15:00Z");
        let verify = |now: &str| tokens.verify(&BINDING, &token, now.parse().unwrap());
        assert_eq!(verify("2026-11-02T15:14:59Z").unwrap().expires_at, expires_at);
        assert_eq!(verify("2026-11-02T15:15:00Z"), Err(InvalidToken::Expired));
        let (other, _) = tokens.issue(&BINDING, now());
        assert_ne!(token, other);
    }

    #[test]
    fn a_token_is_bound_to_every_part_and_to_where_each_part_ends() {
        let tokens = ConfirmationTokens::new([7; 32]);
        let (token, _) = tokens.issue(&BINDING, now());
        let others = [
            TokenBinding { purpose: TokenPurpose::RequestState, ..BINDING },
            TokenBinding { purpose: TokenPurpose::Card, ..BINDING },
            TokenBinding { account: "another", ..BINDING },
            TokenBinding { caller: "mia", ..BINDING },
            TokenBinding { session: "s", ..BINDING },
            TokenBinding { tool: "purchase_number", ..BINDING },
            TokenBinding { arguments: "f", ..BINDING },
            TokenBinding { shown: "Task: threaten.", ..BINDING },
            TokenBinding { account: "acc", caller: "ount", ..BINDING },
        ];
        for other in others {
            let refused = tokens.verify(&other, &token, now());
            assert_eq!(refused, Err(InvalidToken::Mismatch), "{other:?}");
        }
        let elsewhere = ConfirmationTokens::new([8; 32]).verify(&BINDING, &token, now());
        assert_eq!(elsewhere, Err(InvalidToken::Mismatch));
    }

    proptest! {
        #[test]
        fn a_changed_token_is_refused(
            key: [u8; 32],
            at: prop::sample::Index,
            with in "[0-9a-fA-F ]",
            cut: prop::sample::Index,
        ) {
            let tokens = ConfirmationTokens::new(key);
            let (mut token, _) = tokens.issue(&BINDING, now());
            let at = at.index(token.len());
            let mut forged = token.clone();
            forged.replace_range(at..=at, &with);
            prop_assert_eq!(tokens.verify(&BINDING, &forged, now()).is_ok(), forged == token);
            let longer = token.clone() + &with;
            prop_assert!(tokens.verify(&BINDING, &longer, now()).is_err());
            token.truncate(cut.index(token.len()));
            prop_assert!(tokens.verify(&BINDING, &token, now()).is_err());
        }

        #[test]
        fn no_text_is_a_token_by_chance(text in ".{0,200}") {
            prop_assert!(ConfirmationTokens::new([7; 32]).verify(&BINDING, &text, now()).is_err());
        }
    }
}
