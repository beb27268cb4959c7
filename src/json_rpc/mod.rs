//! Reads one JSON-RPC message of a client, for every transport: what is kept of it, and the error for a text that is not
//! a message. rmcp defines the messages themselves.
//!
//! Three kinds of messages are rewritten before rmcp reads them. An `initialize` that leaves out what the server can do
//! without is completed; rmcp would take it for an unknown method. An object that a client wrote as an empty list, as PHP
//! does, or as JSON text becomes that object. And of `_meta`, which lives as long as its request, only the keys that are
//! read are kept: 512 KiB of JSON would become 30 MiB of memory.

mod initialize;
mod invalid;
mod meta;
mod peek;

use std::borrow::Cow;

use callingbox::json_text::strip_bom;
use rmcp::ErrorData;
use rmcp::model::{ClientJsonRpcMessage, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::meta::KnownMeta;
use self::peek::deserialize_object;

pub use self::peek::JsonRpcPeek;

/// The largest value of `_meta`, and the largest description of a client, in bytes of JSON.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// A text that is not a message, or whose parameters are invalid.
#[derive(Debug)]
pub struct InvalidMessage {
    pub error: ErrorData,
    /// The id of the request, if it can be found.
    pub id: Option<RequestId>,
    /// Whether the sender expects an answer: not for a notification (JSON-RPC 2.0, section 4.1), nor for a response, whose
    /// id is one of the server's.
    pub is_answered: bool,
}

/// A message that may be rewritten for the sake of rmcp.
#[derive(Serialize, Deserialize)]
struct KeptMessage {
    #[serde(
        default,
        deserialize_with = "deserialize_object",
        skip_serializing_if = "Option::is_none"
    )]
    params: Option<KeptParams>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Default, Serialize, Deserialize)]
struct KeptParams {
    #[serde(
        rename = "_meta",
        default,
        deserialize_with = "deserialize_object",
        skip_serializing_if = "Option::is_none"
    )]
    meta: Option<KnownMeta>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Reads a message.
///
/// # Errors
/// It is not a message, or its parameters do not fit its method.
pub fn read_message(text: &[u8]) -> Result<ClientJsonRpcMessage, Box<InvalidMessage>> {
    parse_message(&prepare(text)?.1)
}

/// Reads a message that was [prepared](prepare).
///
/// # Errors
/// It is not a message, or its parameters do not fit its method.
pub fn parse_message(prepared: &[u8]) -> Result<ClientJsonRpcMessage, Box<InvalidMessage>> {
    serde_json::from_slice(prepared).map_err(|problem| InvalidMessage::describe(prepared, &problem))
}

/// The message as rmcp reads it, and its kind.
///
/// # Errors
/// It is not a message.
pub fn prepare(text: &[u8]) -> Result<(JsonRpcPeek, Cow<'_, [u8]>), Box<InvalidMessage>> {
    let text = strip_bom(text);
    let peek = JsonRpcPeek::parse(text)?;
    if !peek.must_be_rewritten() {
        return Ok((peek, Cow::Borrowed(text)));
    }
    let invalid = |problem| InvalidMessage::describe(text, &problem);
    let mut message: KeptMessage = serde_json::from_slice(text).map_err(invalid)?;
    if peek.is_initialize() {
        let params = message.params.get_or_insert_default();
        if let Err(problem) = initialize::complete(&mut params.rest) {
            let refused = InvalidMessage::invalid_params(text, format!("initialize: {problem}"));
            // What is not even a request is described when it is parsed.
            return refused.map_or(Ok((peek, Cow::Borrowed(text))), Err);
        }
    }
    if peek.has_arguments_to_complete()
        && let Some(params) = &mut message.params
    {
        complete_arguments(&mut params.rest);
    }
    Ok((peek, Cow::Owned(serde_json::to_vec(&message).map_err(invalid)?)))
}

/// Replaces `arguments` by the object that an empty list, an empty text or a JSON text stands for. What stands for none
/// is left to rmcp, which refuses it.
fn complete_arguments(params: &mut Map<String, Value>) {
    let Some(arguments) = params.get_mut("arguments") else { return };
    let object = match arguments {
        Value::Array(items) if items.is_empty() => Some(Map::new()),
        Value::String(text) if text.trim().is_empty() => Some(Map::new()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    };
    if let Some(object) = object {
        *arguments = Value::Object(object);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rewritten(text: &str) -> Option<Value> {
        match prepare(text.as_bytes()).unwrap().1 {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(serde_json::from_slice(&text).unwrap()),
        }
    }

    #[test]
    fn an_initialize_of_the_stateless_era_is_left_to_rmcp() {
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        let message = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"_meta": meta},
        });
        assert_eq!(rewritten(&message.to_string()), None);
    }

    #[test]
    fn an_object_that_is_written_as_an_empty_list_or_as_text_is_read_as_the_object() {
        let message = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
        };
        let kept = |method: &str, params: Value| {
            Some(json!({"params": params, "jsonrpc": "2.0", "id": 1, "method": method}))
        };
        for method in ["tools/call", "prompts/get"] {
            for (arguments, object) in [
                ("[]", json!({})),
                (r#""""#, json!({})),
                (r#"" ""#, json!({})),
                (r#""{}""#, json!({})),
                (r#""{\"limit\": 1}""#, json!({"limit": 1})),
            ] {
                let text = message(method, &format!(r#"{{"name":"x","arguments":{arguments}}}"#));
                let params = json!({"name": "x", "arguments": object});
                assert_eq!(rewritten(&text), kept(method, params), "{text}");
            }
            for arguments in [r#"{"limit":1}"#, "{}", "null"] {
                let text = message(method, &format!(r#"{{"name":"x","arguments":{arguments}}}"#));
                assert_eq!(rewritten(&text), None, "{text}");
            }
            for arguments in ["[1]", r#""x""#, r#""[]""#, r#""1""#] {
                let text = message(method, &format!(r#"{{"name":"x","arguments":{arguments}}}"#));
                let original: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(rewritten(&text), Some(original), "{text}");
            }
            let text = message(method, r#"{"name":"x","_meta":[]}"#);
            assert_eq!(rewritten(&text), kept(method, json!({"name": "x"})));
        }
        let nothing = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        assert_eq!(rewritten(&message("tools/list", "[]")), Some(nothing));
        assert!(prepare(message("tools/list", "[1]").as_bytes()).is_err());
    }

    #[test]
    fn only_the_fields_of_meta_that_are_read_are_kept() {
        let junk = format!("[{}0]", "0,".repeat(250_000));
        let call = |meta: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","_meta":{meta},"arguments":{{"_meta":1.0}}}}}}"#
            )
        };
        assert_eq!(rewritten(&call(r#"{"progressToken":1,"traceparent":"a"}"#)), None);
        assert_eq!(rewritten(&call("null")), None);
        for junk in [junk.as_str(), "1", "{}"] {
            let kept = rewritten(&call(&format!(r#"{{"x":{junk},"progressToken":"p"}}"#))).unwrap();
            let params = json!({
                "name": "x", "_meta": {"progressToken": "p"}, "arguments": {"_meta": 1.0},
            });
            let expected =
                json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
            assert_eq!(kept, expected);
        }
        for (meta, problem) in [
            (junk.clone(), "expected an object"),
            (format!(r#"{{"progressToken":{junk}}}"#), "`progressToken` in `_meta` has more than"),
            (format!(r#"{{"traceparent":"{}"}}"#, "x".repeat(16 * 1024)), "`traceparent` in"),
        ] {
            let invalid = prepare(call(&meta).as_bytes()).unwrap_err();
            assert_eq!((invalid.error.code.0, invalid.id), (-32602, Some(RequestId::Number(1))));
            assert!(invalid.error.message.contains(problem), "{}", invalid.error.message);
        }
    }
}
