//! Who asked for an order, as receipts, limits, calling rules and log lines name the caller. Never a secret.

use std::fmt;

use base16ct::lower::encode_string;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use callingbox::ApiKey;

/// The most characters of a name. A longer one ends with a hash, so that two callers never share a name.
const MAX_CHARS: usize = 128;

/// The name of a caller: `local` over stdio and in the terminal, `token:NAME`, `oauth:SUBJECT`, `key:` and a short hash
/// of a CallingBox key, or `anonymous` where callers are not authenticated.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
#[schemars(inline)]
pub struct CallerName(String);

impl CallerName {
    /// The user of this machine.
    #[must_use]
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// Any client of a server that does not authenticate its callers.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// The holder of a token of this server.
    #[must_use]
    pub fn from_token_name(name: &str) -> Self {
        Self::with_prefix("token", name)
    }

    /// The subject of an OAuth token.
    #[must_use]
    pub fn from_oauth_subject(subject: &str) -> Self {
        Self::with_prefix("oauth", subject)
    }

    /// The holder of a CallingBox key: 32 bits of its hash, which cannot be used to find the key.
    #[must_use]
    pub fn from_api_key(key: &ApiKey) -> Self {
        Self::with_prefix("key", &short_hash(key.expose()))
    }

    /// A name that the ledger stored or that the user typed.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// White space and control characters become `_`: a name is one word on one line.
    fn with_prefix(prefix: &str, name: &str) -> Self {
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
        let mut word: String =
            name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(MAX_CHARS).collect();
        if word != name {
            word = format!("{word}#{}", short_hash(name));
        }
        Self(format!("{prefix}:{word}"))
    }
}

fn short_hash(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let [a, b, c, d, ..] = digest;
    encode_string(&[a, b, c, d])
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_word_distinct_and_reveal_no_key() {
        let key = ApiKey::new("sk_live_secret".to_owned()).unwrap();
        let names = [
            (CallerName::local(), "local"),
            (CallerName::from_token_name("local"), "token:local"),
            (CallerName::from_oauth_subject("auth0|17"), "oauth:auth0|17"),
            (CallerName::from_oauth_subject("a\nb"), "oauth:a_b#ddb35d34"),
            (CallerName::from_oauth_subject("a_b"), "oauth:a_b"),
        ];
        for (name, expected) in names {
            assert_eq!(name.as_str().split('#').next(), expected.split('#').next());
        }
        let long =
            |last: &str| CallerName::from_oauth_subject(&format!("{}{last}", "x".repeat(500)));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").as_str().len() < 160);
        let hash = CallerName::from_api_key(&key);
        assert!(hash.as_str().starts_with("key:") && hash.as_str().len() == 12, "{hash}");
        assert_ne!(
            hash,
            CallerName::from_api_key(&ApiKey::new("sk_live_other".to_owned()).unwrap())
        );
    }
}
