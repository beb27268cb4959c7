//! Which form of response a client accepts (RFC 9110, section 12.5.1), and the answer in that form. rmcp answers a client
//! only if it names both forms, so one that names less gets the answer of rmcp in its own form.

use std::convert::Infallible;

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::answer::error_response;

const JSON: &str = "application/json";
pub const EVENT_STREAM: &str = "text/event-stream";

/// The forms of a response that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseForm {
    JsonOrStream,
    /// One JSON message. The server cannot ask such a client anything, nor report progress to it.
    Json,
    Stream,
}

impl ResponseForm {
    /// What the headers of a request accept.
    ///
    /// # Errors
    /// The response, 406: neither form.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Box<Response>> {
        match (accepts(headers, JSON), accepts(headers, EVENT_STREAM)) {
            (true, true) => Ok(Self::JsonOrStream),
            (true, false) => Ok(Self::Json),
            (false, true) => Ok(Self::Stream),
            (false, false) => {
                let text = "accept application/json or text/event-stream, or best both";
                Err(Box::new(error_response(StatusCode::NOT_ACCEPTABLE, text)))
            }
        }
    }

    /// Names both forms, as rmcp wants it.
    pub fn accept_both(headers: &mut HeaderMap) {
        const BOTH: &str = "application/json, text/event-stream";
        headers.insert(ACCEPT, HeaderValue::from_static(BOTH));
    }

    /// An answer of rmcp in this form. A refusal stays as it is.
    pub async fn convert<B>(self, response: http::Response<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let is = |form: &str| {
            let found = response.headers().get(CONTENT_TYPE).and_then(|found| found.to_str().ok());
            response.status() == StatusCode::OK
                && found.is_some_and(|found| found.starts_with(form))
        };
        match self {
            Self::Json if is(EVENT_STREAM) => into_json(response).await,
            Self::Stream if is(JSON) => into_stream(response).await,
            _ => response.map(Body::new),
        }
    }
}

/// Whether a media type is accepted. Of all ranges that match it, the most specific one counts.
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let group = media_type.split('/').next().unwrap_or_default();
    let mut best = None;
    let mut has_ranges = false;
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            has_ranges |= !name.is_empty();
            let specificity = match name.strip_suffix("/*") {
                Some("*") => 1,
                Some(range) if range == group => 2,
                _ if name == media_type => 3,
                _ => continue,
            };
            let weight = parts.find_map(|part| {
                let (name, value) = part.split_once('=')?;
                name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())?
            });
            best = best.max(Some((specificity, weight != Some(0.0))));
        }
    }
    // Without the header, everything is accepted.
    best.map_or(!has_ranges, |(_, is_accepted)| is_accepted)
}

/// The answer at the end of a stream as one JSON message.
async fn into_json<B>(response: http::Response<B>) -> Response
where
    B: HttpBody<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let (mut parts, mut body) = response.into_parts();
    let mut received = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(Ok(data)) = frame.map(http_body::Frame::into_data) else { continue };
        received.extend_from_slice(&data);
        while let Some(end) = received.windows(2).position(|end| end == b"\n\n") {
            let event = received.split_to(end + 2);
            if let Some(message) = answer_in(&event) {
                parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
                return Response::from_parts(parts, Body::from(message));
            }
        }
    }
    let text = "the session ended before the request was answered";
    error_response(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// The message of an event, if it answers a request.
fn answer_in(event: &[u8]) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct ResponseMessage {
        method: Option<IgnoredAny>,
        result: Option<IgnoredAny>,
        error: Option<IgnoredAny>,
    }

    let lines = event.split(|byte| *byte == b'\n');
    let data: Vec<&[u8]> = lines.filter_map(|line| line.strip_prefix(b"data:")).collect();
    let data = data.join(&b'\n');
    let answer: ResponseMessage = serde_json::from_slice(&data).ok()?;
    let is_answer = answer.method.is_none() && (answer.result.is_some() || answer.error.is_some());
    is_answer.then(|| Bytes::copy_from_slice(data.trim_ascii()))
}

/// A JSON message as a stream of one event.
async fn into_stream<B>(response: http::Response<B>) -> Response
where
    B: HttpBody<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let (mut parts, body) = response.into_parts();
    let Ok(message) = body.collect().await;
    let event = [b"data: ", &*message.to_bytes(), b"\n\n"].concat();
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    parts.headers.remove(CONTENT_LENGTH);
    (parts, Body::from(event)).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[test]
    fn the_most_specific_range_decides() {
        use ResponseForm::{Json, JsonOrStream, Stream};
        for (values, expected) in [
            (&[][..], Some(JsonOrStream)),
            (&[""], Some(JsonOrStream)),
            (&["*/*"], Some(JsonOrStream)),
            (&["application/json, text/event-stream"], Some(JsonOrStream)),
            (&["application/json", "text/event-stream"], Some(JsonOrStream)),
            (&["application/*, text/*;q=0.1"], Some(JsonOrStream)),
            (&["APPLICATION/JSON; charset=utf-8"], Some(Json)),
            (&["application/*"], Some(Json)),
            (&["*/*, text/event-stream;q=0"], Some(Json)),
            (&["text/event-stream ; q=0.0 , */* ; q=0.5"], Some(Json)),
            (&["text/event-stream"], Some(Stream)),
            (&["text/*, text/html;q=0"], Some(Stream)),
            (&["application/json;q=0, */*;q=0.1"], Some(Stream)),
            (&["text/html"], None),
            (&["*/*;q=0"], None),
            (&["application/json;q=0"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            assert_eq!(ResponseForm::from_headers(&headers).ok(), expected, "{values:?}");
        }
    }

    async fn converted(
        form: ResponseForm,
        content_type: &str,
        body: &'static str,
    ) -> (u16, String) {
        let response = http::Response::builder().header(CONTENT_TYPE, content_type);
        let converted = form.convert(response.body(Full::from(body)).unwrap()).await;
        let found = converted.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = converted.status().as_u16();
        let body = converted.into_body().collect().await.unwrap().to_bytes();
        (status, format!("{found}: {}", str::from_utf8(&body).unwrap()))
    }

    #[tokio::test]
    async fn an_answer_is_converted_to_the_form_that_is_accepted() {
        let stream = ": ping\n\ndata: {\"method\":\"notifications/progress\"}\n\nid: 1\ndata: {\"id\":1,\ndata: \"result\":{}}\n\ndata: {\"id\":2,\"result\":{}}\n\n";
        let json = "{\"id\":1,\"result\":{}}";
        use ResponseForm::{Json, JsonOrStream, Stream};
        for (form, content_type, body, expected) in [
            (Json, EVENT_STREAM, stream, (200, "application/json: {\"id\":1,\n \"result\":{}}")),
            (Json, JSON, json, (200, "application/json: {\"id\":1,\"result\":{}}")),
            (Stream, JSON, json, (200, "text/event-stream: data: {\"id\":1,\"result\":{}}\n\n")),
            (JsonOrStream, JSON, json, (200, "application/json: {\"id\":1,\"result\":{}}")),
        ] {
            let (status, text) = converted(form, content_type, body).await;
            assert_eq!((status, text.as_str()), expected, "{form:?} {content_type}");
        }
        let (status, text) = converted(Json, EVENT_STREAM, ": ping\n\n").await;
        assert!(status == 500 && text.contains("before the request was answered"), "{text}");
    }
}
