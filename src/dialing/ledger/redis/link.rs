//! One connection that heals itself, to a single server or to a cluster. Every wait in it is bounded.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, Pipeline, RedisFuture, Value};

use crate::dialing::ledger::LedgerError;

/// The longest wait for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a lost connection is made anew before a command fails.
const RETRIES: usize = 2;

/// A connection, cheap to clone.
#[derive(Clone)]
pub(super) enum Link {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Link {
    pub(super) async fn open(url: &str) -> Result<Self, LedgerError> {
        let cluster =
            url.strip_prefix("redis-cluster://").map(|rest| format!("redis://{rest}")).or_else(
                || url.strip_prefix("rediss-cluster://").map(|rest| format!("rediss://{rest}")),
            );
        if let Some(url) = cluster {
            let client = ClusterClient::builder(vec![url])
                .connection_timeout(PATIENCE)
                .response_timeout(PATIENCE)
                .retries(u32::try_from(RETRIES).unwrap_or(0))
                .build()?;
            return Ok(Self::Cluster(client.get_async_connection().await?));
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(RETRIES)
            .set_max_delay(PATIENCE);
        Ok(Self::Single(Client::open(url)?.get_connection_manager_with_config(config).await?))
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(link) => link.req_packed_command(cmd),
            Self::Cluster(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(link) => link.req_packed_commands(pipeline, offset, count),
            Self::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}
