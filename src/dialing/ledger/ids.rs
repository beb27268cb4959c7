//! The identifiers in the ledger: account, fingerprint of an order, dispatch id, idempotency key, hash of a destination.
//!
//! None of them reveals an API key or a phone number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use base16ct::lower::encode_string;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::{Host, Url};
use uuid::Uuid;

use crate::dialing::limits::OrderKind;
use callingbox::{ApiKey, BaseUrl, E164};

/// The random key of a ledger, generated once and shared by all processes that open it. Every hash in the ledger depends
/// on it, so a hash cannot be compared with all numbers without the ledger itself.
#[derive(Clone, PartialEq, Eq)]
pub struct LedgerSecret([u8; 32]);

impl LedgerSecret {
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn hash(&self, purpose: &str, parts: &[&str]) -> String {
        let parts: Vec<&[u8]> =
            [purpose].iter().chain(parts).map(|part: &&str| part.as_bytes()).collect();
        encode_string(&compute_hmac(&self.0, &parts)[..16])
    }
}

impl fmt::Debug for LedgerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// One API key at one API. It belongs to an account of the ledger, which is known once the key's organization is.
#[derive(Clone)]
pub struct KeyRef {
    key: ApiKey,
    /// The API, in one spelling.
    api: String,
}

impl KeyRef {
    #[must_use]
    pub fn new(key: ApiKey, base_url: &BaseUrl) -> Self {
        Self { key, api: canonical_base_url(base_url) }
    }

    /// A key of a simulator. The ledger outlives a simulator's data: an organization that starts again must not be taken
    /// for the earlier one, whose calls and numbers no longer exist.
    #[must_use]
    pub fn for_simulator(key: ApiKey, base_url: &BaseUrl, incarnation: &str) -> Self {
        Self { key, api: format!("{}#{incarnation}", canonical_base_url(base_url)) }
    }

    /// A tag of these parts that only the holder of the key can make, in 32 hexadecimal digits. Needs no ledger.
    #[must_use]
    pub fn tag(&self, parts: &[&str]) -> String {
        let parts: Vec<&[u8]> =
            [self.api.as_str()].iter().chain(parts).map(|part| part.as_bytes()).collect();
        encode_string(&compute_hmac(self.key.expose().as_bytes(), &parts)[..16])
    }

    /// Identifies the key in the ledger.
    #[must_use]
    pub fn hash(&self, secret: &LedgerSecret) -> KeyHash {
        KeyHash(secret.hash("key", &[&self.api, self.key.expose()]))
    }

    /// The account of an organization: the same for each of its keys.
    #[must_use]
    pub fn organization_account(&self, secret: &LedgerSecret, organization: &str) -> AccountRef {
        AccountRef::new(secret, AccountId(secret.hash("organization", &[&self.api, organization])))
    }

    /// The account of this key alone, for the first purchase of an organization that owns nothing yet.
    #[must_use]
    pub fn own_account(&self, secret: &LedgerSecret) -> AccountRef {
        AccountRef::new(
            secret,
            AccountId(secret.hash("key account", &[&self.api, self.key.expose()])),
        )
    }
}

impl fmt::Debug for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRef({})", self.api)
    }
}

/// The API at a base URL, in one spelling: without scheme and default port, with one name for this machine.
fn canonical_base_url(base_url: &BaseUrl) -> String {
    let text = base_url.to_string();
    let Ok(url) = Url::parse(&text) else { return text };
    let host = match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').to_ascii_lowercase(),
        Some(Host::Ipv4(address)) if address.is_unspecified() => "localhost".to_owned(),
        Some(Host::Ipv6(address)) if address.is_unspecified() => "localhost".to_owned(),
        Some(host) => host.to_string(),
        None => String::new(),
    };
    let host = if base_url.is_loopback() { "localhost".to_owned() } else { host };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{host}{port}{}", url.path().trim_end_matches('/'))
}

/// Identifies an API key in the ledger without revealing it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyHash(String);

impl KeyHash {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An account of the ledger, and the secret by which its numbers and orders are hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountRef {
    id: AccountId,
    secret: LedgerSecret,
}

impl AccountRef {
    #[must_use]
    pub fn new(secret: &LedgerSecret, id: AccountId) -> Self {
        Self { id, secret: secret.clone() }
    }

    #[must_use]
    pub fn id(&self) -> &AccountId {
        &self.id
    }

    /// Whether the account is one of the ledger with this secret.
    #[must_use]
    pub fn is_in_ledger(&self, secret: &LedgerSecret) -> bool {
        self.secret == *secret
    }

    /// The hash by which calls to this number are counted.
    #[must_use]
    pub fn hash(&self, number: &E164) -> DestinationHash {
        DestinationHash(self.secret.hash("destination", &[self.id.as_str(), number.as_str()]))
    }
}

impl fmt::Debug for AccountRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountRef({})", self.id.0)
    }
}

/// Identifies an account in the ledger: 32 hexadecimal digits that reveal neither the organization nor a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub(super) String);

impl AccountId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The hash of a destination within one account. Equal numbers have equal hashes, and without the ledger's secret no
/// hash reveals its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DestinationHash(pub(super) String);

impl DestinationHash {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identifies one attempt to place an order: a UUID version 7, which the call carries in its `metadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DispatchId(Uuid);

impl DispatchId {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a new identifier is not a default value")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for DispatchId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

/// Letters and digits that are not mistaken for one another (Crockford's Base32, in lower case).
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_PREFIX: &str = "batch_";
/// Sixty random bits: an account would need a billion batches for one collision.
const ID_CHARACTERS: usize = 12;

/// Identifies a batch: `batch_` and 12 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct BatchId(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a batch id: it begins with `batch_` and is in the answer of place_calls")]
pub struct InvalidBatchId;

impl BatchId {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a new identifier is not a default value")]
    pub fn new() -> Self {
        let random: u64 = rand::random();
        let character = |index: usize| {
            let bits = (random >> (index * 5)) & 31;
            let letter = usize::try_from(bits).ok().and_then(|bits| ID_ALPHABET.get(bits));
            letter.copied().map_or('0', char::from)
        };
        Self(ID_PREFIX.chars().chain((0..ID_CHARACTERS).map(character)).collect())
    }

    /// # Errors
    /// The text is not a batch id.
    pub fn parse(text: &str) -> Result<Self, InvalidBatchId> {
        let is_valid = text.strip_prefix(ID_PREFIX).is_some_and(|rest| {
            rest.len() == ID_CHARACTERS && rest.bytes().all(|byte| ID_ALPHABET.contains(&byte))
        });
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidBatchId)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BatchId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Identifies an order within an account: identical orders have equal fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub(super) String);

impl Fingerprint {
    /// The fingerprint of an order with these arguments.
    ///
    /// The order of keys does not matter at any depth, nor whether a number is written `1` or `1.0`. An argument that
    /// is `null` counts as absent.
    #[must_use]
    pub fn new(account: &AccountRef, kind: OrderKind, arguments: &Value) -> Self {
        let mut canonical = String::new();
        match arguments {
            Value::Object(arguments) => {
                let present = arguments.iter().filter(|(_, value)| !value.is_null());
                write_object(present, &mut canonical);
            }
            other => write_value(other, &mut canonical),
        }
        let parts = [account.id.as_str(), kind.as_str(), &canonical];
        Self(account.secret.hash("request", &parts))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A short hash of each argument of an order, from which it can be said what differs between two orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArgumentHashes(BTreeMap<String, String>);

impl ArgumentHashes {
    /// An argument that is `null` counts as absent.
    #[must_use]
    pub fn new(account: &AccountRef, arguments: &Map<String, Value>) -> Self {
        let hash = |(name, value): (&String, &Value)| {
            let mut canonical = String::new();
            write_value(value, &mut canonical);
            let hash = account.secret.hash("argument", &[account.id.as_str(), name, &canonical]);
            (name.clone(), hash.chars().take(16).collect())
        };
        Self(arguments.iter().filter(|(_, value)| !value.is_null()).map(hash).collect())
    }

    /// The names of the arguments that differ from those of another order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

/// Writes JSON with sorted keys, without spaces, and with one spelling for each number. The JSON parser bounds the
/// depth of `value`.
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => write_object(members.iter(), out),
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_value(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(number) => out.push_str(&canonical_number(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

fn write_object<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    let mut members: Vec<_> = members.collect();
    members.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (name, value) in members {
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        write_value(value, out);
        out.push(',');
    }
    out.push('}');
}

fn canonical_number(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
            // "{:.0}" keeps the sign of a negative zero, which equals zero.
            format!("{:.0}", if float == 0.0 { 0.0 } else { float })
        }
        _ => number.to_string(),
    }
}

/// The client's own identifier of a request: 1 to 255 visible ASCII characters, as in the IETF draft
/// `idempotency-key-header` and the APIs that follow it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct IdempotencyKey(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 visible ASCII characters, without spaces")]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// # Errors
    /// The text is empty, too long, or contains spaces or non-ASCII characters.
    pub fn parse(text: &str) -> Result<Self, InvalidIdempotencyKey> {
        let is_valid =
            (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidIdempotencyKey) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for IdempotencyKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// HMAC-SHA-256 over parts that are separated by their lengths.
pub(crate) fn compute_hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // The constructor for a key of one block cannot fail. HMAC accepts any key and pads its hash to one block.
    let mut block = [0_u8; 64];
    block.iter_mut().zip(Sha256::digest(key)).for_each(|(to, from)| *to = from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const SECRET: LedgerSecret = LedgerSecret::new([7; 32]);

    fn key_ref(key: &str, base_url: &str) -> KeyRef {
        let base_url = BaseUrl::parse(base_url, true).unwrap();
        KeyRef::new(ApiKey::new(key.to_owned()).unwrap(), &base_url)
    }

    fn account_of(organization: &str) -> AccountRef {
        key_ref("sk_a", "https://api.example").organization_account(&SECRET, organization)
    }

    fn account() -> AccountRef {
        account_of("org_1")
    }

    fn fingerprint(arguments: &Value) -> Fingerprint {
        Fingerprint::new(&account(), OrderKind::Call, arguments)
    }

    #[test]
    fn an_organization_has_one_account_whatever_key_is_used() {
        let a = account();
        let other_key = key_ref("sk_b", "https://api.example");
        assert_eq!(a, other_key.organization_account(&SECRET, "org_1"));
        let other_secret = LedgerSecret::new([8; 32]);
        let number = E164::parse("+14155550100").unwrap();
        for other in [
            account_of("org_2"),
            key_ref("sk_a", "https://api.other").organization_account(&SECRET, "org_1"),
            other_key.organization_account(&other_secret, "org_1"),
            other_key.own_account(&SECRET),
        ] {
            assert_ne!(a.id(), other.id());
            assert_ne!(a.hash(&number), other.hash(&number));
        }
        assert_ne!(a.hash(&number), a.hash(&E164::parse("+14155550101").unwrap()));
        assert_eq!(a.id().as_str().len(), 32);
        assert_eq!(format!("{a:?}"), format!("AccountRef({})", a.id().as_str()));
        assert_eq!(format!("{other_key:?}"), "KeyRef(api.example)");
        assert_ne!(other_key.hash(&SECRET), key_ref("sk_a", "https://api.example").hash(&SECRET));
    }

    #[test]
    fn every_spelling_of_a_base_url_is_the_same_api() {
        for (same, spellings) in [
            (
                "api.example",
                &[
                    "https://api.example",
                    "https://API.Example/",
                    "https://api.example:443",
                    "http://api.example:80/",
                    "https://api.example.",
                    "http://api.example//",
                ][..],
            ),
            (
                "localhost:4010",
                &[
                    "http://localhost:4010",
                    "http://127.0.0.1:4010/",
                    "http://[::1]:4010",
                    "http://LOCALHOST:4010",
                    "http://127.0.0.2:4010",
                    "http://0.0.0.0:4010",
                ][..],
            ),
            ("localhost:4011", &["http://127.0.0.1:4011"][..]),
            ("api.example/eu", &["https://api.example/eu", "https://api.example/eu/"][..]),
            ("api.example:8443", &["https://api.example:8443"][..]),
        ] {
            for spelling in spellings {
                let base_url = BaseUrl::parse(spelling, true).unwrap();
                assert_eq!(canonical_base_url(&base_url), same, "{spelling}");
            }
        }
    }

    #[test]
    fn the_arguments_that_differ_are_named() {
        let hashes =
            |arguments: Value| ArgumentHashes::new(&account(), arguments.as_object().unwrap());
        let first = hashes(json!({"to": "+1", "instructions": "a", "context": null}));
        assert_eq!(first.differences(&first.clone()), [""; 0]);
        let second = hashes(json!({"to": "+1", "instructions": "b", "from_number": "+2"}));
        assert_eq!(first.differences(&second), ["from_number", "instructions"]);
    }

    #[test]
    fn every_argument_changes_the_fingerprint() {
        let base = json!({"agent_id": "a", "to": "+1", "context": {"n": 1, "list": [1, 2]}});
        for same in [
            json!({"context": {"list": [1, 2], "n": 1.0}, "to": "+1", "agent_id": "a"}),
            json!({"agent_id": "a", "to": "+1", "from_number": null, "context": {"n": 1, "list": [1, 2]}}),
        ] {
            assert_eq!(fingerprint(&base), fingerprint(&same));
        }
        for other in [
            json!({"agent_id": "b", "to": "+1", "context": {"n": 1, "list": [1, 2]}}),
            json!({"agent_id": "a", "to": "+1", "context": {"n": "1", "list": [1, 2]}}),
            json!({"agent_id": "a", "to": "+1", "context": {"n": 1, "list": [2, 1]}}),
            json!({"agent_id": "a", "to": "+1", "context": {"n": 1, "list": [[1], 2]}}),
            json!({"agent_id": "a", "to": "+1", "context": {"n": 1, "list": [1, 2], "x": null}}),
            json!({"agent_id": "a", "to": "+1"}),
        ] {
            assert_ne!(fingerprint(&base), fingerprint(&other), "{other}");
        }
        assert_ne!(fingerprint(&base), Fingerprint::new(&account(), OrderKind::Purchase, &base));
        let other_account = Fingerprint::new(&account_of("org_2"), OrderKind::Call, &base);
        assert_ne!(fingerprint(&base), other_account);
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        for valid in ["k", "order-7/2026:retry", &"x".repeat(255)] {
            assert_eq!(
                IdempotencyKey::parse(valid).map(|k| k.as_str().to_owned()),
                Ok(valid.into())
            );
        }
        for invalid in ["", "a b", "tab\t", "é", "\u{7f}", &"x".repeat(256)] {
            assert_eq!(IdempotencyKey::parse(invalid), Err(InvalidIdempotencyKey), "{invalid:?}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e12..1e12_f64).prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c]{1,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same value with every object's keys in reverse order.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                Value::Object(members.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect())
            }
            Value::Array(items) => items.iter().map(reversed).collect(),
            other => other.clone(),
        }
    }

    /// Whether two values are equal as JSON, in which `1` equals `1.0`.
    fn is_same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => canonical_number(a) == canonical_number(b),
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(k, v)| b.get(k).is_some_and(|other| is_same(v, other)))
            }
            _ => a == b,
        }
    }

    proptest! {
        #[test]
        fn the_order_of_keys_does_not_matter(value in json_value()) {
            let value = json!({"context": value, "to": "+1"});
            prop_assert_eq!(fingerprint(&value), fingerprint(&reversed(&value)));
        }

        #[test]
        fn different_values_have_different_fingerprints(a in json_value(), b in json_value()) {
            let (a, b) = (json!([a]), json!([b]));
            prop_assert_eq!(fingerprint(&a) == fingerprint(&b), is_same(&a, &b));
        }
    }
}
