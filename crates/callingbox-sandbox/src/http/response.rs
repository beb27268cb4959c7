//! Turns replies into responses, and delivers them late, slowly, in part or not at all.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, header};
use serde_json::Value;

use super::connection::Connection;
use crate::handlers::{DeliveryMode, Reply};
use crate::simulator::Simulator;

/// In how many pieces a slow body is sent.
const SLOW_PIECES: usize = 10;

/// Awaits a reply and delivers it. If the simulator shuts down meanwhile, the connection closes without an answer.
pub(super) async fn deliver(
    simulator: &Simulator,
    connection: &Connection,
    reply: impl Future<Output = Reply>,
) -> Response {
    let response = async {
        let reply = reply.await;
        match reply.mode {
            DeliveryMode::Late(delay) => tokio::time::sleep(delay).await,
            DeliveryMode::Reset => {
                connection.reset_on_close();
                return close_without_answer();
            }
            DeliveryMode::Whole | DeliveryMode::Truncated | DeliveryMode::Slow(_) => {}
        }
        build_response(reply, simulator)
    };
    tokio::select! {
        biased;
        () = simulator.shutdown.cancelled() => close_without_answer(),
        response = response => response,
    }
}

/// A response with the headers of every answer. A body that is a JSON string is sent raw, so that a fault can answer
/// with something that is not JSON.
pub(super) fn build_response(reply: Reply, simulator: &Simulator) -> Response {
    let text = match reply.body {
        Value::String(raw) => raw,
        value => value.to_string(),
    };
    let bytes = Bytes::from(text);
    let length = bytes.len();
    let body = match reply.mode {
        DeliveryMode::Truncated => truncated_body(bytes),
        DeliveryMode::Slow(duration) => slow_body(bytes, duration, simulator),
        DeliveryMode::Whole | DeliveryMode::Late(_) | DeliveryMode::Reset => Body::from(bytes),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert("x-callingbox-sandbox", HeaderValue::from_static("1"));
    if let Some(seconds) = reply.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A response of which nothing is sent: when the first piece of a body is an error, hyper closes the connection before
/// it writes the headers.
fn close_without_answer() -> Response {
    Response::new(Body::from_stream(stream::iter([closed_on_demand()])))
}

fn closed_on_demand() -> io::Result<Bytes> {
    Err(io::Error::other("closed on demand"))
}

/// Half of the body, after which the connection closes.
fn truncated_body(bytes: Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    let end = stream::once(async {
        // Lets the connection send the first half before it sees the error.
        tokio::task::yield_now().await;
        closed_on_demand()
    });
    Body::from_stream(stream::iter([Ok(half)]).chain(end))
}

fn slow_body(bytes: Bytes, duration: Duration, simulator: &Simulator) -> Body {
    let length = bytes.len();
    let size = length.div_ceil(SLOW_PIECES).max(1);
    let pieces: Vec<Bytes> = (0..length)
        .step_by(size)
        .map(|from| bytes.slice(from..(from + size).min(length)))
        .collect();
    let pause = duration / SLOW_PIECES as u32;
    let pieces = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Infallible>(piece)
    });
    Body::from_stream(pieces.take_until(simulator.shutdown.clone().cancelled_owned()))
}
