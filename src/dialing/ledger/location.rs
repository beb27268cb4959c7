//! Where the ledger is, and how to open it there.

use std::path::PathBuf;
use std::sync::Arc;

use super::redis::RedisLedger;
use super::sqlite::SqliteLedger;
use super::{Ledger, LedgerError, Result};
use crate::dialing::Environment;
use crate::state::{self, SharedState};

/// Where the ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerLocation {
    /// An SQLite file that the processes of one machine share.
    File(PathBuf),
    /// A Redis server that several machines share.
    Redis(SharedState),
    /// The user has no data directory, and the configuration names no file.
    Unavailable,
}

/// Opens the ledger.
///
/// # Errors
/// The ledger cannot be opened, or belongs to the other environment.
pub async fn open_ledger(
    location: &LedgerLocation,
    environment: Environment,
) -> Result<Arc<dyn Ledger>> {
    Ok(match location {
        LedgerLocation::File(path) => Arc::new(SqliteLedger::open(path, environment).await?),
        LedgerLocation::Redis(shared) => {
            Arc::new(RedisLedger::open(shared.connection(), state::KEY_PREFIX, environment).await?)
        }
        LedgerLocation::Unavailable => {
            return Err(LedgerError::Open {
                path: PathBuf::new(),
                reason: "there is no data directory (HOME is not set)".to_owned(),
            });
        }
    })
}
