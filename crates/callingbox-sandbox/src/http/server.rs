//! Accepts connections, within a number and with a limit for the head of a request, which `axum::serve` does not have.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::routes::build_router;
use crate::simulator::Simulator;

/// The most connections that are open at the same time. Further clients wait in the system's backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// How long the head of a request may take to arrive, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the API until the simulator shuts down. With `allow_remote`, under any host name.
pub(crate) async fn serve(listener: TcpListener, simulator: Arc<Simulator>, allow_remote: bool) {
    let stop = simulator.shutdown.clone();
    serve_router(listener, build_router(simulator, allow_remote), MAX_CONNECTIONS, stop).await;
}

async fn serve_router(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = connections.join_next(), if connections.len() >= max_connections => continue,
            accepted = listener.accept(), if connections.len() < max_connections => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, service.clone(), stop.clone()));
            }
            // Such as too many open files: wait until others are closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    stop: CancellationToken,
) {
    let connection = ConnectInfo(Connection::new(&stream));
    let with_connection = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        service.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), with_connection));
    // A failed connection is the client's affair, or was asked for by a fault.
    let _ = tokio::select! {
        served = &mut served => served,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    async fn start(max_connections: usize) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "ok"));
        let stop = CancellationToken::new();
        tokio::spawn(serve_router(listener, router, max_connections, stop));
        address
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_whole_head_is_disconnected() {
        let address = start(10).await;
        let started = Instant::now();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.unwrap();
        assert!(started.elapsed() >= HEAD_TIMEOUT);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
    }

    #[tokio::test]
    async fn a_connection_above_the_limit_waits_until_another_ends() {
        let address = start(1).await;
        let [mut first, mut second] = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let mut answer = [0; 15];
        first.write_all(REQUEST).await.unwrap();
        first.read_exact(&mut answer).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        assert!(timeout(Duration::from_millis(50), second.readable()).await.is_err());
        drop(first);
        second.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}
