//! The line transport: arbitrary bytes in arbitrary chunks. A line with a readable id gets exactly one error response or
//! reaches the server as exactly one request. Any other line that is not a notification is refused exactly once.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use callingbox_mcp::stdio::LineTransport;
use proptest::prelude::*;
use rmcp::model::JsonRpcMessage;
use rmcp::transport::Transport;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::{any_json, proptest_config};

/// Input in chunks of these lengths, repeated.
struct ChunkedInput {
    bytes: io::Cursor<Vec<u8>>,
    lengths: Vec<usize>,
    at: usize,
}

impl AsyncRead for ChunkedInput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.at += 1;
        // Sometimes no data is available yet.
        if self.at.is_multiple_of(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.lengths[self.at % self.lengths.len()].min(buffer.remaining());
        let from = usize::try_from(self.bytes.position()).unwrap();
        let left = &self.bytes.get_ref()[from..];
        let taken = length.min(left.len());
        buffer.put_slice(&left[..taken]);
        self.bytes.set_position(u64::try_from(from + taken).unwrap());
        Poll::Ready(Ok(()))
    }
}

/// Output that is recorded.
#[derive(Clone, Default)]
struct RecordedOutput(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for RecordedOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How often each id occurred in a request or in an error response. `null` counts error responses without an id.
type IdCounts = BTreeMap<String, usize>;

/// Reads the input as a server does.
fn count_ids(bytes: Vec<u8>, lengths: Vec<usize>) -> IdCounts {
    let output = RecordedOutput::default();
    let input = ChunkedInput { bytes: io::Cursor::new(bytes), lengths, at: 0 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut counts = IdCounts::new();
    let mut count = |id: Value| *counts.entry(id.to_string()).or_default() += 1;
    runtime.block_on(async {
        let mut lines = LineTransport::new(input, output.clone(), CancellationToken::new());
        while let Some(message) = lines.receive().await {
            if let JsonRpcMessage::Request(request) = message {
                count(serde_json::to_value(request.id).unwrap());
            }
        }
    });
    let written = output.0.lock().unwrap();
    for line in written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let answer: Value = serde_json::from_slice(line).unwrap();
        assert_eq!((&answer["jsonrpc"], answer["error"]["code"].is_i64()), (&json!("2.0"), true));
        count(answer["id"].clone());
    }
    counts
}

/// The expected counts by the rules of JSON-RPC 2.0 (sections 4 and 5).
fn expected_ids(bytes: &[u8]) -> IdCounts {
    let mut counts = IdCounts::new();
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // Input without a final newline is not a line.
    lines.pop();
    for line in lines {
        let id = match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(object)) => {
                let id = object.get("id").cloned();
                let ends = object.contains_key("result") || object.contains_key("error");
                match (id, object.get("method")) {
                    // A response to a request that was never sent.
                    (_, None) if ends => continue,
                    (Some(id), _) if id.is_string() || whole_number(&id).is_some() => {
                        whole_number(&id).map_or(id, Value::from)
                    }
                    (None, Some(Value::String(_))) => continue,
                    _ => Value::Null,
                }
            }
            Err(_) if line.trim_ascii().is_empty() => continue,
            Err(_) => id_of_broken_request(line),
            _ => Value::Null,
        };
        *counts.entry(id.to_string()).or_default() += 1;
    }
    counts
}

/// The id of a request that is nearly JSON.
fn id_of_broken_request(line: &[u8]) -> Value {
    let repaired = callingbox::json_text::repair(line);
    let request: Value = serde_json::from_str(&repaired).unwrap_or_default();
    let ends = request.get("result").is_some() || request.get("error").is_some();
    match request.get("id") {
        Some(id) if request["method"].is_string() && !ends => {
            whole_number(id).map_or_else(|| json!(id.as_str()), Value::from)
        }
        _ => Value::Null,
    }
}

/// A whole number in any notation: 1, 1.0, 1e0.
fn whole_number(id: &Value) -> Option<i64> {
    // A float represents whole numbers exactly up to 2^53.
    let exact = |float: f64| float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
    id.as_i64().or_else(|| id.as_f64().filter(|float| exact(*float)).map(|float| float as i64))
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0..40_i64).prop_map(Value::from),
        4 => "[a-z]{1,3}".prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<i32>().prop_map(|id| Value::from(f64::from(id))),
        1 => any_json(),
    ]
}

/// A member that is valid, arbitrary, or missing.
fn member(valid: Value) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![6 => Just(Some(valid)), 1 => any_json().prop_map(Some), 1 => Just(None)]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let params = prop_oneof![
        Just(json!({"name": "list_calls", "arguments": {}})),
        Just(json!({"name": "place_call", "arguments": {"to": 5}})),
        any_json(),
    ];
    let method = prop_oneof![
        Just("tools/call"),
        Just("tools/list"),
        Just("ping"),
        Just("initialize"),
        Just("notifications/cancelled"),
        Just("no/such"),
    ];
    (
        member(json!("2.0")),
        prop::option::weighted(0.9, id()),
        prop::option::weighted(0.9, method.prop_flat_map(|name| member(json!(name)))),
        prop::option::weighted(0.7, params),
        // No request has them.
        prop::option::weighted(0.05, any_json()),
        prop::option::weighted(0.05, any_json()),
    )
        .prop_map(|(jsonrpc, id, method, params, result, error)| {
            let mut message = json!({});
            for (name, value) in [
                ("jsonrpc", jsonrpc),
                ("id", id),
                ("method", method.flatten()),
                ("params", params),
                ("result", result),
                ("error", error),
            ] {
                if let Some(value) = value {
                    message[name] = value;
                }
            }
            message.to_string().into_bytes()
        })
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => message(),
        1 => any_json().prop_map(|value| value.to_string().into_bytes()),
        // A response, which may be valid by chance.
        1 => (id(), any::<bool>(), any_json()).prop_map(|(id, good, said)| {
            let name = if good { "result" } else { "error" };
            json!({"jsonrpc": "2.0", "id": id, name: said}).to_string().into_bytes()
        }),
        2 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (1..20_usize, prop::collection::vec(message(), 0..3)).prop_map(|(at, batch)| {
            let batch = batch.join(&b","[..]);
            [&b"["[..], batch.get(at..).unwrap_or(&batch), b"]"].concat()
        }),
        // Nested deeper than any parser follows.
        1 => (1..4_000_usize, any::<bool>()).prop_map(|(depth, list)| {
            let (open, close) = if list { ("[", "]") } else { ("{\"a\":", "}") };
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{"a":{nested}}}}}"#)
                .into_bytes()
        }),
        // With one wrong byte.
        2 => (message(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, with)| {
            let at = at.index(bytes.len());
            bytes[at] = with;
            bytes
        }),
        1 => (message(), any::<prop::sample::Index>()).prop_map(|(mut bytes, at)| {
            bytes.truncate(at.index(bytes.len()));
            bytes
        }),
    ]
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn every_line_is_answered_once_in_any_chunks(
        lines in prop::collection::vec(line(), 0..12),
        ending in prop_oneof![Just(&b"\n"[..]), Just(&b"\r\n"[..])],
        unfinished in prop::collection::vec(any::<u8>(), 0..30),
        lengths in prop::collection::vec(1..300_usize, 1..6),
    ) {
        // Before the first request, all other lines are ignored.
        let opening = [br#"{"jsonrpc":"2.0","id":"opening","method":"ping"}"#, ending].concat();
        let unfinished = unfinished.into_iter().filter(|byte| *byte != b'\n');
        let bytes: Vec<u8> = opening
            .into_iter()
            .chain(lines.into_iter().flat_map(|line| [&line, ending].concat()))
            .chain(unfinished)
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        prop_assert_eq!(count_ids(bytes.clone(), lengths), expected_ids(&bytes), "{}", text);
    }
}
