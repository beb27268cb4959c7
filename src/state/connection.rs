//! The connection to the Redis server or cluster. It reconnects by itself, and no command waits longer than
//! [`COMMAND_TIMEOUT`].

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::endpoint::RedisEndpoint;

/// The longest wait for a reply, a reconnection included.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);

/// The shared state cannot be used now. Contains neither the address nor anything that was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the shared state is unavailable: {0}")]
pub struct StateUnavailable(pub(super) String);

impl From<RedisError> for StateUnavailable {
    fn from(error: RedisError) -> Self {
        Self(describe_error(&error))
    }
}

/// A connection, cheap to clone. It is made when the first command is sent.
#[derive(Clone)]
pub struct RedisConnection(Connection);

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(RedisEndpoint, Arc<OnceCell<ClusterConnection>>),
}

impl RedisConnection {
    /// A connection to this endpoint. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be used. Whether the server replies is not checked.
    pub fn new(endpoint: &RedisEndpoint) -> RedisResult<Self> {
        if endpoint.is_cluster {
            return Ok(Self(Connection::Cluster(endpoint.clone(), Arc::default())));
        }
        let no_node = (ErrorKind::InvalidClientConfig, "no address");
        let node = endpoint.nodes.first().cloned().ok_or(no_node)?;
        let client = Client::open(node.set_tcp_settings(tcp_settings()))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            // A command that finds the server gone fails immediately, and the next one tries again.
            .set_number_of_retries(0);
        Ok(Self(Connection::Single(ConnectionManager::new_lazy_with_config(client, config)?)))
    }
}

async fn connect_to_cluster(endpoint: &RedisEndpoint) -> RedisResult<ClusterConnection> {
    let client = ClusterClientBuilder::new(endpoint.nodes.iter().cloned())
        .connection_timeout(COMMAND_TIMEOUT)
        .response_timeout(COMMAND_TIMEOUT)
        .tcp_settings(tcp_settings())
        .retries(1)
        .build()?;
    client.get_async_connection().await
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    // Drops the connection to a host that vanished; otherwise the kernel retransmits for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(COMMAND_TIMEOUT);
    settings
}

/// Describes an error without its detail, which may repeat what was sent, or the password of a URL.
pub(crate) fn describe_error(error: &RedisError) -> String {
    let text = match error.kind() {
        _ if error.is_timeout() => "it did not reply in time",
        _ if error.is_connection_refusal() => "the connection was refused",
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => "the connection was lost",
        ErrorKind::AuthenticationFailed => "it rejected the user name or the password",
        kind => match error.code() {
            Some(code) => return format!("it replied {code}"),
            None => return format!("{kind:?}"),
        },
    };
    text.to_owned()
}

pub(super) async fn within<T>(
    time: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let timed_out = |_| RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
    timeout(time, work).await.map_err(timed_out)?
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(within(COMMAND_TIMEOUT, async {
            match &mut self.0 {
                Connection::Single(manager) => manager.req_packed_command(cmd).await,
                Connection::Cluster(endpoint, cell) => {
                    let connection = cell.get_or_try_init(|| connect_to_cluster(endpoint)).await?;
                    connection.clone().req_packed_command(cmd).await
                }
            }
        }))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(within(COMMAND_TIMEOUT, async move {
            match &mut self.0 {
                Connection::Single(manager) => {
                    manager.req_packed_commands(pipeline, offset, count).await
                }
                Connection::Cluster(endpoint, cell) => {
                    let connection = cell.get_or_try_init(|| connect_to_cluster(endpoint)).await?;
                    connection.clone().req_packed_commands(pipeline, offset, count).await
                }
            }
        }))
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Connection::Single(manager) => manager.get_db(),
            Connection::Cluster(..) => 0,
        }
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisConnection")
    }
}

#[cfg(test)]
mod tests {
    use redis::ServerErrorKind;

    use super::*;

    #[test]
    fn an_error_is_described_without_what_was_sent() {
        let io = |kind: io::ErrorKind| RedisError::from(io::Error::new(kind, "hunter2"));
        let read_only =
            (ErrorKind::Server(ServerErrorKind::ReadOnly), "READONLY", "hunter2".to_owned());
        let wrong_password = (ErrorKind::AuthenticationFailed, "WRONGPASS", "hunter2".to_owned());
        for (error, text) in [
            (io(io::ErrorKind::TimedOut), "it did not reply in time"),
            (io(io::ErrorKind::ConnectionRefused), "the connection was refused"),
            (io(io::ErrorKind::UnexpectedEof), "the connection was lost"),
            (RedisError::from(wrong_password), "it rejected the user name or the password"),
            (RedisError::from(read_only), "it replied READONLY"),
            (RedisError::from((ErrorKind::Parse, "hunter2")), "Parse"),
        ] {
            assert_eq!(describe_error(&error), text);
        }
    }
}
