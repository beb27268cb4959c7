//! Bodies: requests read whole within a size and a time, and a glance at which message they are;
//! answers that hold on to something until their last byte is out.

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

/// Reads a body whole.
///
/// # Errors
/// The answer: 413 when it is too large, 408 when it comes too slowly, 400 when it breaks off.
pub async fn read(body: Body, most_bytes: usize, time: Duration) -> Result<Bytes, Box<Response>> {
    let refuse = |status, text: &str| {
        let mut response = answer::error(status, text);
        // What was not read is in the way of the next request: the connection ends, and its peer is told.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Box::new(response)
    };
    let too_large = || {
        let text = format!("the body has more than {most_bytes} bytes");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, &text)
    };
    if body.size_hint().lower() > most_bytes as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(time, Limited::new(body, most_bytes).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")),
    }
}

/// What kind of message a body is, as far as this layer needs to know.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Glance {
    /// The method, of a request or a notification.
    pub method: Option<String>,
    #[serde(deserialize_with = "object")]
    params: Option<GlanceParams>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct GlanceParams {
    name: Option<String>,
}

/// Reads parameters, which are named: a list would be read as the fields in their order.
fn object<'de, D: Deserializer<'de>>(input: D) -> Result<Option<GlanceParams>, D::Error> {
    struct Named;

    impl<'de> Visitor<'de> for Named {
        type Value = Option<GlanceParams>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            GlanceParams::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    input.deserialize_any(Named)
}

impl Glance {
    /// Looks at a body. A key that stands twice is refused: two readers could read it in two ways.
    ///
    /// # Errors
    /// The answer, 400: it is not a JSON-RPC message.
    pub fn at(body: &[u8]) -> Result<Self, Box<Response>> {
        // A list would be read as the fields in their order.
        if first(body) != Some(b'{') {
            return Err(refused(body, "it has no fields"));
        }
        serde_json::from_slice(body).map_err(|problem| refused(body, &problem.to_string()))
    }

    /// The tool that is called, if one is.
    #[must_use]
    pub fn tool(&self) -> Option<&str> {
        (self.method.as_deref() == Some("tools/call")).then_some(())?;
        self.params.as_ref()?.name.as_deref()
    }
}

/// Reads a body as a message.
///
/// # Errors
/// The answer, 400: it is none.
pub fn message(body: &[u8]) -> Result<ClientJsonRpcMessage, Box<Response>> {
    Glance::at(body)?;
    serde_json::from_slice(body).map_err(|problem| refused(body, &problem.to_string()))
}

/// The answer to a body that is no message, as JSON-RPC 2.0 has it (section 5.1).
fn refused(body: &[u8], problem: &str) -> Box<Response> {
    #[derive(Deserialize)]
    struct Asked {
        id: RequestId,
    }

    let json = str::from_utf8(body).map_err(|problem| problem.to_string()).and_then(|text| {
        serde_json::from_str::<IgnoredAny>(text).map_err(|problem| problem.to_string())
    });
    let (error, id) = match (json, first(body)) {
        (Err(problem), _) => {
            (ErrorData::parse_error(format!("the body is not JSON: {problem}"), None), None)
        }
        (Ok(_), Some(b'{')) => {
            let text = format!("not a JSON-RPC 2.0 message: {problem}");
            let asked = serde_json::from_slice::<Asked>(body);
            (ErrorData::invalid_request(text, None), asked.ok().map(|asked| asked.id))
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

fn first(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Makes an answer hold `kept` until its last byte is out or the peer is gone.
#[must_use]
pub fn hold<T: Send + Unpin + 'static, B>(response: http::Response<B>, kept: T) -> Response
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    response.map(|body| Body::new(Holding { body: Body::new(body), kept: Some(kept) }))
}

/// Ends an answer at this time, wherever it is. One that is whole already is let out: half of it, or nothing
/// under its 200, could not be understood.
#[must_use]
pub fn ending_at(response: Response, end: Instant) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let end = Box::pin(tokio::time::sleep_until(end));
    response.map(|body| Body::new(Ending { body, end }))
}

struct Ending {
    body: Body,
    end: Pin<Box<Sleep>>,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}

struct Holding<T> {
    body: Body,
    kept: Option<T>,
}

impl<T: Send + Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.kept = None;
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
    fn a_glance_sees_the_tool_and_refuses_what_can_be_read_in_two_ways() {
        let glance = |text: &str| Glance::at(text.as_bytes());
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"place_call","arguments":{"name":"x"}}}"#;
        assert_eq!(glance(call).unwrap().tool(), Some("place_call"));
        let prompt = r#"{"method":"prompts/get","params":{"name":"place_call"}}"#;
        assert_eq!(glance(prompt).unwrap().tool(), None);
        assert_eq!(glance(r#"{"id":1,"result":{}}"#).unwrap(), Glance::default());
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
            assert_eq!(glance(text).unwrap_err().status(), 400, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_can_be_made_to_end() {
        let first = futures::stream::iter([Ok::<_, std::io::Error>("first")]);
        let never = futures::stream::pending();
        let body = Body::from_stream(futures::StreamExt::chain(first, never));
        let begun = Instant::now();
        let ends = ending_at(Response::new(body), begun + Duration::from_secs(60));
        assert_eq!(ends.into_body().collect().await.unwrap().to_bytes(), "first");
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_whole_is_not_cut() {
        let end = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let whole = ending_at(Response::new(Body::from("whole")), end).into_body();
        assert_eq!(whole.size_hint().exact(), Some(5));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "whole");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_within_its_size_and_its_time() {
        let time = Duration::from_secs(5);
        assert_eq!(read(Body::from("four"), 4, time).await.unwrap(), "four");
        assert_eq!(read(Body::from("fives"), 4, time).await.unwrap_err().status(), 413);
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>("abc"), Ok("de")]);
        assert_eq!(read(Body::from_stream(chunks), 4, time).await.unwrap_err().status(), 413);
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        assert_eq!(read(Body::from_stream(never), 4, time).await.unwrap_err().status(), 408);
        let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert_eq!(read(Body::from_stream(broken), 4, time).await.unwrap_err().status(), 400);
    }
}
