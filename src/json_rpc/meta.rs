//! `_meta` of a request or a notification, without what nothing reads.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::MAX_VALUE_BYTES;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// The keys that rmcp or this server reads.
const KNOWN_KEYS: [&str; 9] = [
    "progressToken",
    VERSION_KEY,
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/subscriptionId",
    "traceparent",
    "tracestate",
    "baggage",
];

/// The known keys, each with a value of a limited size.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct KnownMeta {
    values: Map<String, Value>,
    #[serde(skip)]
    pub(super) has_unknown_keys: bool,
}

impl KnownMeta {
    /// Whether it is the `_meta` of a request of the stateless era.
    pub(super) fn names_version(&self) -> bool {
        self.values.contains_key(VERSION_KEY)
    }
}

impl<'de> Deserialize<'de> for KnownMeta {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct MetaVisitor;

        impl<'de> Visitor<'de> for MetaVisitor {
            type Value = KnownMeta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KnownMeta, A::Error> {
                let mut meta = KnownMeta::default();
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    if !KNOWN_KEYS.contains(&&*key) {
                        meta.has_unknown_keys = true;
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value = map.next_value()?;
                    if is_too_large(&value) {
                        return Err(Error::custom(format_args!(
                            "`{key}` in `_meta` has more than {MAX_VALUE_BYTES} bytes"
                        )));
                    }
                    meta.values.insert(key.into_owned(), value);
                }
                Ok(meta)
            }
        }

        input.deserialize_map(MetaVisitor)
    }
}

/// Whether a value has more than [`MAX_VALUE_BYTES`].
pub(super) fn is_too_large(value: &Value) -> bool {
    value.to_string().len() > MAX_VALUE_BYTES
}
