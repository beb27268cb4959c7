//! A peek at a message: its method, its tool, and whether it must be rewritten. Nothing else of it is held in memory.

use std::fmt;
use std::marker::PhantomData;

use rmcp::model::{ConstString, InitializeResultMethod};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::InvalidMessage;
use super::meta::KnownMeta;

/// The parts of a message that transports act on.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JsonRpcPeek {
    /// The method of a request or a notification.
    pub method: Option<String>,
    #[serde(deserialize_with = "deserialize_object")]
    params: Option<PeekParams>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PeekParams {
    name: Option<String>,
    #[serde(rename = "_meta", deserialize_with = "deserialize_object")]
    meta: Option<KnownMeta>,
}

impl JsonRpcPeek {
    /// Peeks at a message. A duplicate key is an error, because two parsers could read the message differently.
    ///
    /// # Errors
    /// It is not a JSON-RPC message.
    pub fn parse(text: &[u8]) -> Result<Self, Box<InvalidMessage>> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let peek = deserialize_object(&mut json).and_then(|peek| json.end().map(|()| peek));
        // `null` has no parts.
        peek.and_then(|peek| peek.ok_or_else(|| serde::de::Error::custom("it has no fields")))
            .map_err(|problem| InvalidMessage::describe(text, &problem))
    }

    /// The name of the called tool; `None` if the message is not a tool call.
    #[must_use]
    pub fn tool_name(&self) -> Option<&str> {
        (self.method.as_deref() == Some("tools/call")).then_some(())?;
        self.params.as_ref()?.name.as_deref()
    }

    /// Whether it opens a session. In the stateless era, whose requests name their version in `_meta`, the method does not
    /// exist, and rmcp refuses it.
    pub(super) fn is_initialize(&self) -> bool {
        let meta = self.params.as_ref().and_then(|params| params.meta.as_ref());
        self.method.as_deref() == Some(InitializeResultMethod::VALUE)
            && !meta.is_some_and(KnownMeta::names_version)
    }

    pub(super) fn has_unknown_meta(&self) -> bool {
        let meta = self.params.as_ref().and_then(|params| params.meta.as_ref());
        meta.is_some_and(|meta| meta.has_unknown_keys)
    }
}

/// Reads an object or null. Serde would also read a list, as the fields in their order.
pub(super) fn deserialize_object<'de, T, D>(input: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    input.deserialize_any(ObjectVisitor(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peek_finds_the_tool_and_rejects_ambiguous_messages() {
        let peek = |text: &str| JsonRpcPeek::parse(text.as_bytes());
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"place_call","arguments":{"name":"x"}}}"#;
        assert_eq!(peek(call).unwrap().tool_name(), Some("place_call"));
        let prompt = r#"{"method":"prompts/get","params":{"name":"place_call"}}"#;
        assert_eq!(peek(prompt).unwrap().tool_name(), None);
        assert_eq!(peek(r#"{"id":1,"result":{}}"#).unwrap(), JsonRpcPeek::default());
        for text in [
            r#"{"method":"ping","method":"tools/call","params":{"name":"place_call"}}"#,
            r#"{"method":"tools/call","params":{"name":"list_calls","name":"place_call"}}"#,
            r#"{"method":"tools/call","params":{},"params":{"name":"place_call"}}"#,
            "[]",
            r#"["tools/call",{"name":"place_call"}]"#,
            r#"{"method":"tools/call","params":["place_call"]}"#,
            "null",
            "{} {}",
            "not json",
            "",
        ] {
            assert!(peek(text).is_err(), "{text}");
        }
    }
}
