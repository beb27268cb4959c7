//! Plain calls of tools in the era without sessions (2026-07-28), handed to the handler at once.
//!
//! For each such request rmcp's transport reads the message three times and starts a service of its
//! own with four channels, which takes longer than the call. So what rmcp would take as it stands goes
//! past its transport, though not past its handling of requests; whatever else there is, and with it
//! every refusal, is rmcp's. `tests/http/plain.rs` holds the two against each other.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use rmcp::ServerHandler;
use rmcp::model::{JsonRpcMessage, ProtocolVersion, ServerJsonRpcMessage};
use rmcp::service::{Peer, RequestContext, RoleServer, Service, serve_directly};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::PROTOCOL_VERSION;
use super::handler::Answer;
use crate::plain::PlainCall;

const JSON: &str = "application/json";
/// Where a request says of which version it is; it must, and say what its client can do.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// The call, if rmcp would have nothing to say against the request, and nothing but the answer to send.
///
/// No tool of the catalogue wants its arguments in headers too (`x-mcp-header`), so for those the
/// headers of SEP-2243 are these two.
#[must_use]
pub fn read(headers: &HeaderMap, body: &[u8]) -> Option<PlainCall> {
    let version = ProtocolVersion::V_2026_07_28;
    let is = |name: &'static str, value: &str| {
        only(headers, &HeaderName::from_static(name)).is_some_and(|found| found == value)
    };
    let media = |value: &HeaderValue| value.to_str().is_ok_and(accepts_both);
    if !is(PROTOCOL_VERSION, version.as_str())
        || !is("mcp-method", "tools/call")
        || !only(headers, &ACCEPT).is_some_and(media)
        || only(headers, &CONTENT_TYPE).is_none_or(|found| found != JSON)
    {
        return None;
    }
    let call = PlainCall::read(body)?;
    let meta = call.meta()?;
    let plain = is("mcp-name", call.tool())
        && meta.get(VERSION).is_some_and(|found| found == version.as_str())
        && meta.client_capabilities().is_some()
        && meta.get_progress_token().is_none();
    plain.then_some(call)
}

/// The value of a header that stands once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether both media types are accepted, without a weight.
fn accepts_both(value: &str) -> bool {
    [JSON, "text/event-stream"]
        .iter()
        .all(|wanted| value.split(',').any(|media| media.trim() == *wanted))
}

/// Answers plain calls by one handler.
pub struct ToolCalls<H> {
    handler: Arc<H>,
    nobody: OnceLock<Peer<RoleServer>>,
    end: CancellationToken,
}

impl<H: ServerHandler + Clone> ToolCalls<H> {
    /// Calls of this handler's tools, all of which are canceled with `end`.
    pub fn new(handler: H, end: CancellationToken) -> Self {
        Self { handler: Arc::new(handler), nobody: OnceLock::new(), end }
    }

    /// Answers one call. It is canceled when nobody waits for the answer any more.
    pub async fn answer(&self, call: PlainCall, parts: Parts) -> Answer {
        let (id, request, meta) = call.into_request();
        let mut context = RequestContext::new(id.clone(), self.nobody().clone());
        context.meta = meta.unwrap_or_default();
        context.extensions.insert(parts);
        context.ct = self.end.child_token();
        let handler = Arc::clone(&self.handler);
        let cancel = context.ct.clone();
        let work = async move { handler.handle_request(request.into(), context).await };
        let answer = match (UnderWay { work: Some(work.boxed()), cancel }).await {
            Ok(result) => JsonRpcMessage::response(result, id),
            Err(error) => JsonRpcMessage::error(error, Some(id)),
        };
        written(&answer)
    }

    /// The other side of these requests: in this era nobody is asked anything but by an answer, and who
    /// did not ask for progress is not told of it.
    fn nobody(&self) -> &Peer<RoleServer> {
        self.nobody.get_or_init(|| {
            let nothing = (tokio::io::empty(), tokio::io::sink());
            serve_directly(self.handler.as_ref().clone(), nothing, None).peer().clone()
        })
    }
}

/// A call under way. Dropped before its end it is canceled, and goes on by itself until it has noted that:
/// a call is never given up half-way.
struct UnderWay<T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    cancel: CancellationToken,
}

impl<T: Send + 'static> Future for UnderWay<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // One that panics is not put back.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

/// An answer as rmcp writes it. The errors that have a status of their own are those of requests that
/// [`read`] leaves to rmcp.
fn written(answer: &ServerJsonRpcMessage) -> Answer {
    // Nearly always enough, and an allocation that grows five times is what writing costs.
    let mut body = Vec::with_capacity(2048);
    // What was read from JSON or made by serde can be written as JSON.
    if serde_json::to_writer(&mut body, answer).is_err() {
        body.clear();
    }
    let mut response = http::Response::new(Full::new(Bytes::from(body)).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mcp::catalogue::Catalogue;

    const HEADERS: [(&str, &str); 5] = [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "get_agent"),
    ];

    fn headers() -> HeaderMap {
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        HEADERS.into_iter().map(pair).collect()
    }

    fn body() -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "get_agent", "arguments": {"agent_id": "a"}, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        }})
    }

    fn is_read(headers: &HeaderMap, body: &Value) -> bool {
        read(headers, body.to_string().as_bytes()).is_some()
    }

    #[test]
    fn only_what_rmcp_would_take_as_it_stands_is_read() {
        assert!(is_read(&headers(), &body()));
        for (name, other) in [
            ("accept", "application/json"),
            ("accept", "text/event-stream"),
            ("accept", "application/json, text/event-stream;q=0"),
            // How `tests/http/plain.rs` asks rmcp the same.
            ("accept", "application/json;q=1, text/event-stream;q=1"),
            ("accept", "*/*"),
            ("content-type", "application/json; charset=utf-8"),
            ("content-type", "text/plain"),
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-protocol-version", "2027-01-01"),
            ("mcp-method", "tools/list"),
            ("mcp-name", "place_call"),
        ] {
            let (mut replaced, mut twice, mut without) = (headers(), headers(), headers());
            replaced.insert(name, HeaderValue::from_static(other));
            assert!(!is_read(&replaced, &body()), "{name}: {other}");
            twice.append(name, HeaderValue::from_static(other));
            assert!(!is_read(&twice, &body()), "{name}: {other}, too");
            without.remove(name);
            assert!(!is_read(&without, &body()), "no {name}");
        }
        let version = "/params/_meta/io.modelcontextprotocol~1protocolVersion";
        let capabilities = "/params/_meta/io.modelcontextprotocol~1clientCapabilities";
        for (place, other) in [
            ("/method", json!("prompts/get")),
            ("/id", Value::Null),
            ("/params/name", json!("place_call")),
            ("/params/_meta", Value::Null),
            (version, json!("2025-11-25")),
            (version, json!(2026)),
            (capabilities, json!("none")),
        ] {
            let mut body = body();
            *body.pointer_mut(place).unwrap() = other;
            assert!(!is_read(&headers(), &body), "{body}");
        }
        for (place, name, value) in [
            ("/params", "requestState", json!("sealed")),
            ("/params", "inputResponses", json!({})),
            ("/params/_meta", "progressToken", json!(7)),
        ] {
            let mut body = body();
            body.pointer_mut(place).unwrap()[name] = value;
            assert!(!is_read(&headers(), &body), "{body}");
        }
    }

    #[test]
    fn no_tool_wants_its_arguments_in_headers() {
        for entry in Catalogue::new().iter() {
            let schema = serde_json::to_string(&entry.definition().input_schema).unwrap();
            assert!(!schema.contains("x-mcp-header"), "{}", entry.facts.name);
        }
    }
}
