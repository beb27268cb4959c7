//! The listening socket and its connections, with limits for slow peers, which `axum::serve` does not have. Knows nothing
//! about what is served.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use futures::future::{Either, ready as now};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::peer_address::PeerAddress;
use crate::telemetry::log_throttle::LogThrottle;

#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections that are open at the same time; others wait to be accepted.
    pub connections: usize,
    /// How long the headers of a request may take to arrive, and how long an idle connection is kept.
    pub header_time: Duration,
    /// How long a peer may read nothing of a response.
    pub stall_time: Duration,
    /// The most bytes of the request line and the headers of one request.
    pub header_bytes: usize,
    /// The most headers of one request.
    pub headers: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_time: Duration::from_secs(15),
            stall_time: Duration::from_secs(30),
            header_bytes: 64 * 1024,
            headers: 100,
        }
    }
}

/// Accepts connections until `stop`. Then every connection finishes its request, and the function returns when all are
/// closed. Dropping it closes them immediately.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router);
    let mut connections = JoinSet::new();
    let failures = LogThrottle::default();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = connections.join_next(), if connections.len() >= limits.connections => continue,
            accepted = listener.accept(), if connections.len() < limits.connections => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let peer = PeerAddress::from(address.ip());
                let service = service.clone();
                connections.spawn(serve_connection(stream, peer, service, limits, stop.clone()));
            }
            // Such as too many open files: wait until others are closed.
            Err(error) => {
                if let Some(left_out) = failures.count_event() {
                    tracing::warn!(%error, left_out, "a connection cannot be accepted; trying again");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    stream: TcpStream,
    peer: PeerAddress,
    service: TowerToHyperService<Router>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    // Without it a response in several small writes waits 40 ms for acknowledgments. A failure costs no more than that.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.headers);
    // The limit of hyper applies to its buffer, into which the last read may have put more.
    let bounded = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if count_head_bytes(&request) > limits.header_bytes {
            let refused = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
            Either::Left(now(Ok(refused)))
        } else {
            Either::Right(service.call(request))
        }
    });
    let mut served = pin!(
        http.serve_connection(TokioIo::new(StallGuard::new(stream, limits.stall_time)), bounded)
    );
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

/// The bytes of the request line and the headers, without white space.
fn count_head_bytes(request: &Request<Incoming>) -> usize {
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter();
    headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum::<usize>()
        + line
}

/// A stream that fails when the peer reads nothing for some time.
struct StallGuard<S> {
    stream: S,
    stall_time: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> StallGuard<S> {
    fn new(stream: S, stall_time: Duration) -> Self {
        Self { stream, stall_time, stalled: None }
    }

    fn check_stall<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let until = Instant::now() + self.stall_time;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_stall(written, context)
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.check_stall(written, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn writing_to_a_peer_that_reads_nothing_fails_after_a_while() {
        let (ours, mut peer) = duplex(1_024);
        let mut stream = StallGuard::new(ours, STALL);
        let started = Instant::now();
        let failed = stream.write_all(&[b'x'; 4_096]).await.unwrap_err();
        assert_eq!((failed.kind(), started.elapsed()), (io::ErrorKind::TimedOut, STALL));
        // What was sent before still arrives.
        peer.read_exact(&mut [0; 1_024]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_served() {
        let (ours, mut peer) = duplex(1_024);
        let mut stream = StallGuard::new(ours, STALL);
        let writing = tokio::spawn(async move { stream.write_all(&[b'x'; 64 * 1_024]).await });
        let started = Instant::now();
        for _ in 0..64 {
            tokio::time::sleep(STALL - Duration::from_secs(1)).await;
            peer.read_exact(&mut [0; 1_024]).await.unwrap();
        }
        writing.await.unwrap().unwrap();
        assert!(started.elapsed() > STALL * 60);
    }
}
