//! The identifiers in the ledger: account, fingerprint of an order, dispatch id, idempotency key, hash of a destination.
//!
//! None of them reveals an API key or a phone number.

use std::fmt;
use std::str::FromStr;

use base16ct::lower::encode_string;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::dialing::limits::OrderKind;
use callingbox::E164;

/// An account: one API key at one base URL.
///
/// Holds a secret that is derived from the key and never stored, with which destinations are hashed. Without the key,
/// a reader of the ledger cannot compare all numbers with the hashes.
#[derive(Clone)]
pub struct AccountRef {
    id: AccountId,
    destination_key: [u8; 32],
}

impl AccountRef {
    #[must_use]
    pub fn new(api_key: &[u8], base_url: &str) -> Self {
        let base_url = base_url.as_bytes();
        let id = compute_hmac(api_key, &[b"callingbox-mcp account 1", base_url]);
        let destination_key = compute_hmac(api_key, &[b"callingbox-mcp destinations 1", base_url]);
        Self { id: AccountId(encode_string(&id[..16])), destination_key }
    }

    #[must_use]
    pub fn id(&self) -> &AccountId {
        &self.id
    }

    /// The hash by which calls to this number are counted.
    #[must_use]
    pub fn hash(&self, number: &E164) -> DestinationHash {
        let hash = compute_hmac(&self.destination_key, &[number.as_str().as_bytes()]);
        DestinationHash(encode_string(&hash[..16]))
    }
}

impl fmt::Debug for AccountRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountRef({})", self.id.0)
    }
}

/// Identifies an account in the ledger: 32 hexadecimal digits that do not reveal the API key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub(super) String);

impl AccountId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The hash of a destination within one account. Equal numbers have equal hashes, and without the API key no hash
/// reveals its number.
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
    pub fn new(account: &AccountId, kind: OrderKind, arguments: &Value) -> Self {
        let mut canonical = String::new();
        match arguments {
            Value::Object(arguments) => {
                let present = arguments.iter().filter(|(_, value)| !value.is_null());
                write_object(present, &mut canonical);
            }
            other => write_value(other, &mut canonical),
        }
        let mut hash = Sha256::new();
        for part in ["callingbox-mcp request 1", account.as_str(), kind.as_str(), &canonical] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(encode_string(&hash.finalize()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
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

    fn account() -> AccountRef {
        AccountRef::new(b"a key", "https://api.example")
    }

    fn fingerprint(arguments: &Value) -> Fingerprint {
        Fingerprint::new(account().id(), OrderKind::Call, arguments)
    }

    #[test]
    fn an_account_id_depends_on_key_and_base_url_and_reveals_neither() {
        let number = E164::parse("+14155550100").unwrap();
        let (a, same) = (account(), account());
        let other_key = AccountRef::new(b"b key", "https://api.example");
        let other_url = AccountRef::new(b"a key", "https://api.other");
        assert_eq!((a.id(), a.hash(&number)), (same.id(), same.hash(&number)));
        for other in [other_key, other_url] {
            assert_ne!(a.id(), other.id());
            assert_ne!(a.hash(&number), other.hash(&number));
        }
        assert_ne!(a.hash(&number), a.hash(&E164::parse("+14155550101").unwrap()));
        assert_eq!(a.id().as_str().len(), 32);
        assert_eq!(format!("{a:?}"), format!("AccountRef({})", a.id().as_str()));
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
        assert_ne!(
            fingerprint(&base),
            Fingerprint::new(account().id(), OrderKind::Purchase, &base)
        );
        let other_account = AccountRef::new(b"b key", "https://api.example");
        assert_ne!(
            fingerprint(&base),
            Fingerprint::new(other_account.id(), OrderKind::Call, &base)
        );
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
