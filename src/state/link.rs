//! One connection that heals itself, to a single server or to a cluster. Every wait in it is bounded,
//! and while the server is gone nobody waits: see [`Breaker`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::breaker::{Attempt, Breaker};
use super::place::Place;

/// The longest wait for an answer, with everything that must be done to get one.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who gave up after this did so because there was no answer, and not because nobody wanted it.
const LONG: Duration = Duration::from_millis(500);
/// How often a lost connection is made anew before a command fails.
const RETRIES: usize = 1;

/// A connection, cheap to clone. Nothing is sent before the first command.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    place: Place,
    connection: Connection,
    breaker: Breaker,
}

enum Connection {
    Single(Client, Mutex<ConnectionManager>),
    Cluster(OnceCell<ClusterConnection>),
}

impl Link {
    /// A connection to this place. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be used at all; whether the server answers is learned later.
    pub fn new(place: Place) -> RedisResult<Self> {
        let connection = if place.is_cluster() {
            Connection::Cluster(OnceCell::new())
        } else {
            let bad = || RedisError::from((ErrorKind::InvalidClientConfig, "no address"));
            let client = place.clients().next().ok_or_else(bad)??;
            let manager = manager(&client)?;
            Connection::Single(client, Mutex::new(manager))
        };
        Ok(Self(Arc::new(Inner { place, connection, breaker: Breaker::default() })))
    }

    /// The server was heard of otherwise: the next command tries at once.
    pub(super) fn heard_of(&self) {
        self.0.breaker.forget();
    }

    async fn bounded<T>(&self, work: impl AsyncFnOnce(Lines) -> RedisResult<T>) -> RedisResult<T> {
        let inner = &self.0;
        let Some(attempt) = inner.breaker.attempt() else {
            return Err((ErrorKind::Io, "it did not answer a moment ago").into());
        };
        let mut waiting = Waiting { inner, attempt: Some(attempt), since: Instant::now() };
        let work = async { work(inner.lines().await?).await };
        let result = tokio::time::timeout(PATIENCE, work)
            .await
            .map_err(|_| RedisError::from((ErrorKind::Io, "it did not answer in time")))?;
        if let Some(attempt) = waiting.attempt.take() {
            match &result {
                Err(error) if is_gone(error) => attempt.failed(),
                _ => attempt.answered(),
            }
        }
        result
    }
}

/// A command that waits for its answer.
struct Waiting<'a> {
    inner: &'a Inner,
    attempt: Option<Attempt<'a>>,
    since: Instant,
}

impl Drop for Waiting<'_> {
    /// Given up after it waited for long: a peer that hangs, or vanished without a word, would otherwise
    /// be waited for by each command.
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take()
            && self.since.elapsed() >= LONG
        {
            attempt.failed();
            self.inner.begin_anew();
        }
    }
}

/// What commands go through.
enum Lines {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Inner {
    async fn lines(&self) -> RedisResult<Lines> {
        match &self.connection {
            Connection::Single(_, manager) => {
                Ok(Lines::Single(manager.lock().unwrap_or_else(PoisonError::into_inner).clone()))
            }
            Connection::Cluster(connection) => {
                let connect = || async {
                    let client = self
                        .place
                        .cluster()
                        .connection_timeout(PATIENCE)
                        .response_timeout(PATIENCE)
                        .retries(u32::try_from(RETRIES).unwrap_or(0))
                        .build()?;
                    client.get_async_connection().await
                };
                Ok(Lines::Cluster(connection.get_or_try_init(connect).await?.clone()))
            }
        }
    }

    fn begin_anew(&self) {
        if let Connection::Single(client, current) = &self.connection
            && let Ok(fresh) = manager(client)
        {
            *current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
        .set_number_of_retries(RETRIES)
        .set_max_delay(Duration::from_millis(200));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// Whether an error says that the server is not there, and not that it refused something.
fn is_gone(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

/// What may be told of an error: its detail may repeat what was sent, and a URL its password.
pub(crate) fn told(error: &RedisError) -> String {
    let text = match error.kind() {
        _ if error.is_timeout() => "it does not answer in time",
        _ if error.is_connection_refusal() => "nothing listens there",
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => "no connection to it holds",
        ErrorKind::AuthenticationFailed => "it does not take the user or the password",
        kind => match error.code() {
            Some(code) => return format!("it answers {code}"),
            None => return format!("{kind:?}"),
        },
    };
    text.to_owned()
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.bounded(async |lines| match lines {
            Lines::Single(mut link) => link.req_packed_command(cmd).await,
            Lines::Cluster(mut link) => link.req_packed_command(cmd).await,
        }))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(self.bounded(async move |lines| match lines {
            Lines::Single(mut link) => link.req_packed_commands(pipeline, offset, count).await,
            Lines::Cluster(mut link) => link.req_packed_commands(pipeline, offset, count).await,
        }))
    }

    fn get_db(&self) -> i64 {
        match &self.0.connection {
            Connection::Single(client, _) => client.get_connection_info().redis_settings().db(),
            Connection::Cluster(_) => 0,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.0.place).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ServerErrorKind;

    use super::*;

    #[test]
    fn an_error_is_told_in_words_and_without_what_was_sent() {
        let io = |kind: io::ErrorKind| RedisError::from(io::Error::new(kind, "hunter2"));
        let refused =
            (ErrorKind::Server(ServerErrorKind::ReadOnly), "READONLY", "hunter2".to_owned());
        let login = (ErrorKind::AuthenticationFailed, "WRONGPASS", "hunter2".to_owned());
        for (error, text) in [
            (io(io::ErrorKind::TimedOut), "it does not answer in time"),
            (io(io::ErrorKind::ConnectionRefused), "nothing listens there"),
            (io(io::ErrorKind::UnexpectedEof), "no connection to it holds"),
            (RedisError::from(login), "it does not take the user or the password"),
            (RedisError::from(refused), "it answers READONLY"),
            (RedisError::from((ErrorKind::Parse, "hunter2")), "Parse"),
        ] {
            assert_eq!(told(&error), text);
        }
    }
}
