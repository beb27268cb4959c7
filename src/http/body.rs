//! Request bodies, read whole within a size, a time and a budget; response bodies that keep a guard alive until they end,
//! or that end at a deadline.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use rmcp::model::ServerJsonRpcMessage;
use tokio::time::{Instant, sleep_until};

use super::answer;
use super::body_budget::{BodyBudget, BodyBudgetExceeded, BodyBytes};
use crate::json_rpc::{self, InvalidMessage, JsonRpcPeek};

/// The limits of one request body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    pub max_bytes: usize,
    /// How long the body may take to arrive.
    pub timeout: Duration,
}

/// Reads a whole body. Its bytes count in the budget as they arrive.
///
/// # Errors
/// The response: 413 if the body is too large, 408 if it takes too long, 400 if it is incomplete, 503 if the budget is used
/// up.
pub async fn read_body(
    body: Body,
    limits: BodyLimits,
    budget: &BodyBudget,
) -> Result<(Bytes, BodyBytes), Box<Response>> {
    let read = tokio::time::timeout(limits.timeout, read_frames(body, limits.max_bytes, budget));
    read.await
        .unwrap_or_else(|_| Err(refuse(StatusCode::REQUEST_TIMEOUT, "the request body timed out")))
}

async fn read_frames(
    mut body: Body,
    max_bytes: usize,
    budget: &BodyBudget,
) -> Result<(Bytes, BodyBytes), Box<Response>> {
    let too_large = || {
        let text = format!("the body has more than {max_bytes} bytes");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, &text)
    };
    let incomplete = |_| refuse(StatusCode::BAD_REQUEST, "the request body was incomplete");
    let no_room = |exceeded: BodyBudgetExceeded| {
        let (status, wait) = (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1));
        close_connection(answer::retry_after(status, &exceeded.to_string(), wait))
    };
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    let (mut read, mut held) = (BytesMut::new(), BodyBytes::default());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(incomplete)?.into_data() else { continue };
        if data.len() > max_bytes - read.len() {
            return Err(too_large());
        }
        budget.extend(&mut held, data.len()).map_err(no_room)?;
        read.extend_from_slice(&data);
    }
    Ok((read.freeze(), held))
}

fn refuse(status: StatusCode, text: &str) -> Box<Response> {
    close_connection(answer::error_response(status, text))
}

/// The unread rest of a body would be taken for the next request, so the connection ends with this response.
fn close_connection(mut response: Response) -> Box<Response> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Box::new(response)
}

/// The message as rmcp reads it, and its kind.
///
/// # Errors
/// The response, 400: it is not a message.
pub fn prepare_message(body: &Bytes) -> Result<(JsonRpcPeek, Bytes), Box<Response>> {
    let (peek, prepared) = json_rpc::prepare(body).map_err(invalid_message)?;
    let prepared = match prepared {
        Cow::Owned(rewritten) => Bytes::from(rewritten),
        Cow::Borrowed(text) => body.slice_ref(text),
    };
    Ok((peek, prepared))
}

/// The response, 400, to a body that is not a message.
#[expect(clippy::boxed_local, reason = "it is the error of a reader, which is boxed for its size")]
pub fn invalid_message(invalid: Box<InvalidMessage>) -> Box<Response> {
    let message = ServerJsonRpcMessage::error(invalid.error, invalid.id);
    Box::new((StatusCode::BAD_REQUEST, Json(message)).into_response())
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
    let until_deadline = |body: Body| body.into_data_stream().take_until(sleep_until(deadline));
    response.map(|body| Body::from_stream(until_deadline(body)))
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
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_streamed_response_ends_at_its_deadline() {
        let first = futures::stream::iter([Ok::<_, std::io::Error>("first")]);
        let never = futures::stream::pending();
        let body = Body::from_stream(first.chain(never));
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
    async fn a_body_is_limited_in_size_and_time_and_by_the_budget() {
        let budget = BodyBudget::new(6, Arc::new(Semaphore::new(100)));
        let read = async |body: Body| {
            let limits = BodyLimits { max_bytes: 4, timeout: Duration::from_secs(5) };
            let read = read_body(body, limits, &budget).await;
            read.map_err(|response| response.status().as_u16())
        };
        let refused = async |body: Body| read(body).await.unwrap_err();
        let (four, held) = read(Body::from("four")).await.unwrap();
        assert_eq!(four, "four");
        assert_eq!(refused(Body::from("four")).await, 503, "two bytes are left");
        drop(held);
        assert_eq!(refused(Body::from("fives")).await, 413);
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>("abc"), Ok("de")]);
        assert_eq!(refused(Body::from_stream(chunks)).await, 413);
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        assert_eq!(refused(Body::from_stream(never)).await, 408);
        let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert_eq!(refused(Body::from_stream(broken)).await, 400);
        // Whatever was refused holds no bytes.
        assert!(read(Body::from("four")).await.is_ok());
    }
}
