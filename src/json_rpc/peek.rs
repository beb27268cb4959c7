//! A peek at a message: its method, its tool, and whether it must be rewritten. Nothing else of it is held in memory.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use rmcp::model::{ConstString, InitializeResultMethod, ReadResourceRequestMethod};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::InvalidMessage;
use super::meta::KnownMeta;

/// The parts of a message that transports act on.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JsonRpcPeek {
    /// The method of a request or a notification.
    pub method: Option<String>,
    params: PeekObject<PeekParams>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PeekParams {
    name: Option<String>,
    uri: TextOrOther,
    #[serde(rename = "_meta")]
    meta: PeekObject<KnownMeta>,
    arguments: ArgumentsForm,
}

/// An object of a message.
#[derive(Debug, Default, PartialEq)]
enum PeekObject<T> {
    /// It is missing or null.
    #[default]
    Absent,
    /// An empty list, as PHP writes an empty object.
    EmptyList,
    Object(T),
}

impl<T> PeekObject<T> {
    fn object(&self) -> Option<&T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Absent | Self::EmptyList => None,
        }
    }
}

/// How the arguments of a tool or prompt are written.
#[derive(Debug, PartialEq)]
enum ArgumentsForm {
    /// As rmcp reads or refuses them.
    Plain {
        /// The tool that they name.
        tool: TextOrOther,
    },
    /// As a list or a text, which may stand for an object.
    ListOrText,
}

impl Default for ArgumentsForm {
    fn default() -> Self {
        Self::Plain { tool: TextOrOther::default() }
    }
}

/// A text. What is none is left to the parser of the whole message.
#[derive(Debug, Default, PartialEq)]
struct TextOrOther(Option<String>);

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
        self.params.object()?.name.as_deref()
    }

    /// The tool whose order a call of `confirm_call` confirms.
    #[must_use]
    pub fn confirmed_tool(&self) -> Option<&str> {
        match &self.params.object()?.arguments {
            ArgumentsForm::Plain { tool } => tool.0.as_deref(),
            ArgumentsForm::ListOrText => None,
        }
    }

    /// The address of a resource that is read; `None` if the message reads none.
    #[must_use]
    pub fn resource_uri(&self) -> Option<&str> {
        (self.method.as_deref() == Some(ReadResourceRequestMethod::VALUE)).then_some(())?;
        self.params.object()?.uri.0.as_deref()
    }

    /// Whether it opens a session. In the stateless era, whose requests name their version in `_meta`, the method does not
    /// exist, and rmcp refuses it.
    pub(super) fn is_initialize(&self) -> bool {
        let meta = self.params.object().and_then(|params| params.meta.object());
        self.method.as_deref() == Some(InitializeResultMethod::VALUE)
            && !meta.is_some_and(KnownMeta::names_version)
    }

    /// Whether the arguments of a tool or prompt are written as a list or a text.
    pub(super) fn has_arguments_to_complete(&self) -> bool {
        matches!(self.method.as_deref(), Some("tools/call" | "prompts/get"))
            && self
                .params
                .object()
                .is_some_and(|params| params.arguments == ArgumentsForm::ListOrText)
    }

    /// Whether the message must be rewritten, for whatever method.
    pub(super) fn must_be_rewritten(&self) -> bool {
        let has_list = self.params == PeekObject::EmptyList
            || self.params.object().is_some_and(|params| params.meta == PeekObject::EmptyList);
        let meta = self.params.object().and_then(|params| params.meta.object());
        has_list
            || meta.is_some_and(|meta| meta.has_unknown_keys)
            || self.is_initialize()
            || self.has_arguments_to_complete()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PeekObject<T> {
    /// Reads an object, null or an empty list. Serde would also read a list as the fields in their order.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = PeekObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(PeekObject::Absent)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                match list.next_element::<IgnoredAny>()? {
                    None => Ok(PeekObject::EmptyList),
                    Some(_) => Err(A::Error::invalid_type(Unexpected::Seq, &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(PeekObject::Object)
            }
        }

        input.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// Reads an object; null and an empty list count as absent.
pub(super) fn deserialize_object<'de, T, D>(input: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(match PeekObject::deserialize(input)? {
        PeekObject::Object(object) => Some(object),
        PeekObject::Absent | PeekObject::EmptyList => None,
    })
}

impl<'de> Deserialize<'de> for ArgumentsForm {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct FormVisitor;

        impl<'de> Visitor<'de> for FormVisitor {
            type Value = ArgumentsForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(ArgumentsForm::default())
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(ArgumentsForm::ListOrText)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(ArgumentsForm::ListOrText)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tool = None;
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    if key != "tool" {
                        map.next_value::<IgnoredAny>()?;
                    } else if tool.replace(map.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field("tool"));
                    }
                }
                Ok(ArgumentsForm::Plain { tool: tool.unwrap_or_default() })
            }
        }

        input.deserialize_any(FormVisitor)
    }
}

impl<'de> Deserialize<'de> for TextOrOther {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = TextOrOther;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(TextOrOther(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(TextOrOther(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(TextOrOther(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(TextOrOther(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(TextOrOther(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOrOther(Some(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(TextOrOther(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(TextOrOther(None))
            }
        }

        input.deserialize_any(TextVisitor)
    }
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
        let read = r#"{"method":"resources/read","params":{"uri":"ui://x"}}"#;
        assert_eq!(peek(read).unwrap().resource_uri(), Some("ui://x"));
        let confirm = r#"{"method":"tools/call","params":{"name":"confirm_call","arguments":{"a":1,"tool":"place_call"}}}"#;
        assert_eq!(peek(confirm).unwrap().confirmed_tool(), Some("place_call"));
        for other in ["7", "-7", "0.5", "true", "null", "[[1], 2]", r#"{"tool": "x"}"#, "{}"] {
            let params = format!(r#"{{"uri":{other},"arguments":{{"tool":{other}}}}}"#);
            let text = format!(r#"{{"method":"resources/read","params":{params}}}"#);
            let peek = peek(&text).unwrap();
            assert_eq!((peek.resource_uri(), peek.confirmed_tool()), (None, None), "{other}");
        }
        assert_eq!(peek(r#"{"id":1,"result":{}}"#).unwrap(), JsonRpcPeek::default());
        for text in [
            r#"{"method":"ping","method":"tools/call","params":{"name":"place_call"}}"#,
            r#"{"method":"tools/call","params":{"name":"list_calls","name":"place_call"}}"#,
            r#"{"method":"tools/call","params":{"arguments":{"tool":"a","tool":"b"}}}"#,
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
