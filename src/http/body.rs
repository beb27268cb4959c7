//! Request bodies, read whole within a size and a time, and a peek at which JSON-RPC message they are; response
//! bodies that keep a guard alive until they end, or that end at a deadline.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rmcp::ErrorData;
use rmcp::model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage};
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, Sleep};

use super::answer;

/// Reads a whole body.
///
/// # Errors
/// The response: 413 if the body is too large, 408 if it takes too long, 400 if it is incomplete.
pub async fn read_body(
    body: Body,
    max_bytes: usize,
    timeout: Duration,
) -> Result<Bytes, Box<Response>> {
    let refuse = |status, text: &str| {
        let mut response = answer::error_response(status, text);
        // The unread rest of the body would be taken for the next request, so the connection ends here.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Box::new(response)
    };
    let too_large = || {
        let text = format!("the body has more than {max_bytes} bytes");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, &text)
    };
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(timeout, Limited::new(body, max_bytes).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the request body was incomplete")),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the request body timed out")),
    }
}

/// The parts of a JSON-RPC message that this layer acts on.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JsonRpcPeek {
    /// The method of a request or a notification.
    pub method: Option<String>,
    #[serde(deserialize_with = "deserialize_params")]
    params: Option<PeekParams>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct PeekParams {
    name: Option<String>,
}

/// Reads named parameters. Serde would also read a list, as the fields in their order.
fn deserialize_params<'de, D: Deserializer<'de>>(input: D) -> Result<Option<PeekParams>, D::Error> {
    struct ObjectVisitor;

    impl<'de> Visitor<'de> for ObjectVisitor {
        type Value = Option<PeekParams>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            PeekParams::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    input.deserialize_any(ObjectVisitor)
}

impl JsonRpcPeek {
    /// Peeks at a body. A duplicate key is an error, because two parsers could read the message differently.
    ///
    /// # Errors
    /// The response, 400: the body is not a JSON-RPC message.
    pub fn parse(body: &[u8]) -> Result<Self, Box<Response>> {
        // Serde would read a list as the fields in their order.
        if first_byte(body) != Some(b'{') {
            return Err(invalid_message(body, "it has no fields"));
        }
        serde_json::from_slice(body).map_err(|error| invalid_message(body, &error.to_string()))
    }

    /// The name of the called tool; `None` if the message is not a tool call.
    #[must_use]
    pub fn tool_name(&self) -> Option<&str> {
        (self.method.as_deref() == Some("tools/call")).then_some(())?;
        self.params.as_ref()?.name.as_deref()
    }
}

/// Parses a body as a message.
///
/// # Errors
/// The response, 400: the body is not a JSON-RPC message.
pub fn parse_message(body: &[u8]) -> Result<ClientJsonRpcMessage, Box<Response>> {
    JsonRpcPeek::parse(body)?;
    serde_json::from_slice(body).map_err(|error| invalid_message(body, &error.to_string()))
}

/// The response to a body that is not a message (JSON-RPC 2.0, section 5.1).
fn invalid_message(body: &[u8], problem: &str) -> Box<Response> {
    #[derive(Deserialize)]
    struct WithId {
        id: RequestId,
    }

    let json = str::from_utf8(body).map_err(|error| error.to_string()).and_then(|text| {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())
    });
    let (error, id) = match (json, first_byte(body)) {
        (Err(problem), _) => {
            (ErrorData::parse_error(format!("the body is not JSON: {problem}"), None), None)
        }
        (Ok(_), Some(b'{')) => {
            let text = format!("not a JSON-RPC 2.0 message: {problem}");
            let request = serde_json::from_slice::<WithId>(body);
            (ErrorData::invalid_request(text, None), request.ok().map(|request| request.id))
        }
        (Ok(_), Some(b'[')) => {
            let text = "batches were removed in 2025-06-18: send one message a request";
            (ErrorData::invalid_request(text, None), None)
        }
        (Ok(_), _) => (ErrorData::invalid_request("a message is a JSON object", None), None),
    };
    let message = ServerJsonRpcMessage::error(error, id);
    Box::new((StatusCode::BAD_REQUEST, Json(message)).into_response())
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Keeps `guard` alive until the last byte of the response is sent or the peer is gone.
#[must_use]
pub fn with_guard<G: Send + Unpin + 'static, B>(response: http::Response<B>, guard: G) -> Response
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    response.map(|body| Body::new(GuardedBody { body, guard: Some(guard) }))
}

/// Cuts a streamed response off at `deadline`. A response that is complete is sent whole: a client could not read a
/// part of it.
#[must_use]
pub fn with_deadline(response: Response, deadline: Instant) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let deadline = Box::pin(tokio::time::sleep_until(deadline));
    response.map(|body| Body::new(DeadlineBody { body, deadline }))
}

struct DeadlineBody {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for DeadlineBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}

struct GuardedBody<B, G> {
    body: B,
    guard: Option<G>,
}

impl<B: HttpBody<Data = Bytes> + Unpin, G: Unpin> HttpBody for GuardedBody<B, G> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.guard = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
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
        assert_eq!(peek(r#"{"id":1,"result":{}}"#).unwrap(), JsonRpcPeek::default());
        for text in [
            r#"{"method":"ping","method":"tools/call","params":{"name":"place_call"}}"#,
            r#"{"method":"tools/call","params":{"name":"list_calls","name":"place_call"}}"#,
            r#"{"method":"tools/call","params":{},"params":{"name":"place_call"}}"#,
            "[]",
            r#"["tools/call",{"name":"place_call"}]"#,
            r#"{"method":"tools/call","params":["place_call"]}"#,
            "null",
            "not json",
            "",
        ] {
            assert_eq!(peek(text).unwrap_err().status(), 400, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_streamed_response_ends_at_its_deadline() {
        let first = futures::stream::iter([Ok::<_, std::io::Error>("first")]);
        let never = futures::stream::pending();
        let body = Body::from_stream(futures::StreamExt::chain(first, never));
        let started = Instant::now();
        let response = with_deadline(Response::new(body), started + Duration::from_secs(60));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "first");
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_response_is_not_cut_off() {
        let deadline = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let whole = with_deadline(Response::new(Body::from("whole")), deadline).into_body();
        assert_eq!(whole.size_hint().exact(), Some(5));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "whole");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_limited_in_size_and_time() {
        let timeout = Duration::from_secs(5);
        assert_eq!(read_body(Body::from("four"), 4, timeout).await.unwrap(), "four");
        assert_eq!(read_body(Body::from("fives"), 4, timeout).await.unwrap_err().status(), 413);
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>("abc"), Ok("de")]);
        assert_eq!(
            read_body(Body::from_stream(chunks), 4, timeout).await.unwrap_err().status(),
            413
        );
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        assert_eq!(
            read_body(Body::from_stream(never), 4, timeout).await.unwrap_err().status(),
            408
        );
        let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert_eq!(
            read_body(Body::from_stream(broken), 4, timeout).await.unwrap_err().status(),
            400
        );
    }
}
