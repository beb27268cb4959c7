//! The HTTP server: its routes, and how a reply is delivered.

mod connection;
mod limited_listener;
mod response;
mod routes;

use std::sync::Arc;

use tokio::net::TcpListener;

use self::connection::Connection;
use self::limited_listener::{LimitedListener, MAX_CONNECTIONS};
use self::routes::build_router;
use crate::simulator::Simulator;

/// Serves the API until the simulator shuts down.
pub(crate) async fn serve(listener: TcpListener, simulator: Arc<Simulator>) {
    let shutdown = simulator.shutdown.clone().cancelled_owned();
    let service = build_router(simulator).into_make_service_with_connect_info::<Connection>();
    let listener = LimitedListener::new(listener, MAX_CONNECTIONS);
    let served = axum::serve(listener, service).with_graceful_shutdown(shutdown).await;
    if let Err(error) = served {
        tracing::error!(%error, "sandbox stopped serving; clients cannot connect");
    }
}
