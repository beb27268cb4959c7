//! The listening socket and its connections. Served by hand rather than by `axum::serve`, for two
//! things that it cannot do: resetting a connection on demand, and leaving no task behind.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::HeaderValue;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::routes::{Late, Reset};

/// Connections open at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 4_096;

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on demand")]
struct ResetOnDemand;

/// Accepts connections for as long as it is polled; dropping it ends them all.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, service.clone()));
            }
            // Such as too many open files: give others time to end.
            Err(error) => {
                tracing::warn!(%error, "the sandbox cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, service: TowerToHyperService<Router>) {
    // Without it an answer in two segments waits for an acknowledgment; a failure costs only time.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Wire { stream, reset: Arc::clone(&reset) });
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let service = service.clone();
        let reset = Arc::clone(&reset);
        async move {
            let Ok(mut response): Result<Response, std::convert::Infallible> =
                service.call(request).await;
            if let Some(Late(delay)) = response.extensions().get().copied() {
                tokio::time::sleep(delay).await;
            }
            if response.extensions().get::<Reset>().is_some() {
                reset.store(true, Ordering::Relaxed);
                return Err(ResetOnDemand);
            }
            response.headers_mut().insert("x-callingbox-sandbox", HeaderValue::from_static("1"));
            Ok(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(io, answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a sandbox connection ended early");
    }
}

/// A TCP stream that ends with a reset when asked to, by giving up what it has not yet sent.
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // On failure the connection is closed in the ordinary way: still without an answer.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}
