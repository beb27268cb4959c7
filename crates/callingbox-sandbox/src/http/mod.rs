//! The HTTP server: its connections, its routes, and how a reply is delivered.

mod connection;
mod host;
mod response;
mod routes;
mod server;

pub(crate) use self::server::serve;
