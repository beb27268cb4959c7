//! A plain call of a tool: what nearly every message is, read at first sight. rmcp tries its kinds of
//! message one after the other on a copy of the text, which takes longer than all else that is done
//! to it. Whatever has another field is not plain, and is left to rmcp with whatever is to be said of it.

use rmcp::model::{
    CallToolRequest, CallToolRequestMethod, CallToolRequestParams, ClientJsonRpcMessage,
    JsonObject, JsonRpcMessage, JsonRpcVersion2_0, RequestId, RequestMetaObject,
};
use serde::Deserialize;

/// A request `tools/call` with a name, arguments and `_meta`, and nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainCall {
    #[expect(dead_code, reason = "it is held against the version when it is read")]
    jsonrpc: JsonRpcVersion2_0,
    id: RequestId,
    #[expect(dead_code, reason = "it is held against the method when it is read")]
    method: CallToolRequestMethod,
    params: Params,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    name: String,
    arguments: Option<JsonObject>,
    #[serde(rename = "_meta")]
    meta: Option<RequestMetaObject>,
}

impl PlainCall {
    /// Reads a message that is one.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        // Held against UTF-8 as a whole, which is much cheaper than each of its texts by itself.
        serde_json::from_str(str::from_utf8(message).ok()?).ok()
    }

    /// The tool that is called.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.params.name
    }

    /// What is said beside the call, if anything is.
    #[must_use]
    pub fn meta(&self) -> Option<&RequestMetaObject> {
        self.params.meta.as_ref()
    }

    /// The request as rmcp knows it, with its `_meta` apart, which rmcp keeps elsewhere by turns.
    #[must_use]
    pub fn into_request(self) -> (RequestId, CallToolRequest, Option<RequestMetaObject>) {
        let mut call = CallToolRequestParams::new(self.params.name);
        call.arguments = self.params.arguments;
        (self.id, CallToolRequest::new(call), self.params.meta)
    }

    /// The message as rmcp would have read it.
    #[must_use]
    pub fn into_message(self) -> ClientJsonRpcMessage {
        let (id, mut call, meta) = self.into_request();
        if let Some(meta) = meta {
            call.extensions.insert(meta);
        }
        JsonRpcMessage::request(call.into(), id)
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::GetMeta;

    use super::*;

    #[test]
    fn a_plain_call_is_read_as_rmcp_reads_it_and_nothing_else_is_one() {
        let meta =
            r#""_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        for (line, plain) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#.to_owned(), true),
            (
                format!(r#"{{"params":{{{meta},"arguments":{{"a":[1,null]}},"name":"x"}},"method":"tools/call","id":"7","jsonrpc":"2.0"}}"#),
                true,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":null}}"#.to_owned(), true),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","requestState":"s"}}"#.to_owned(), false),
            (r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"x"}}"#.to_owned(), false),
            (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#.to_owned(), false),
            (r#"{"jsonrpc":"1.0","id":1,"method":"tools/call","params":{"name":"x"}}"#.to_owned(), false),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"},"result":{}}"#.to_owned(), false),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","name":"y"}}"#.to_owned(), false),
        ] {
            let ours = PlainCall::read(line.as_bytes());
            assert_eq!(ours.is_some(), plain, "{line}");
            let Some(JsonRpcMessage::Request(ours)) = ours.map(PlainCall::into_message) else {
                continue;
            };
            let theirs: ClientJsonRpcMessage = serde_json::from_str(&line).unwrap();
            let JsonRpcMessage::Request(theirs) = theirs else { panic!("{line}") };
            assert_eq!(serde_json::to_value(&ours).unwrap(), serde_json::to_value(&theirs).unwrap());
            assert_eq!(ours.request.get_meta(), theirs.request.get_meta(), "{line}");
            assert_eq!(ours.id, theirs.id);
        }
    }
}
