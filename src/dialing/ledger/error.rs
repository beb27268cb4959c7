//! Why the ledger cannot be used. Each message says that dialing is refused: a call that cannot be recorded is not
//! placed.

use std::path::PathBuf;

use super::ids::DispatchId;
use crate::dialing::Environment;
use crate::dialing::clock::UnreadableClock;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened or created.
    #[error(
        "dialing is refused: the ledger {} cannot be opened: {reason}. Make its directory writable \
         or name another file in the configuration", path.display()
    )]
    Open { path: PathBuf, reason: String },
    /// The server cannot be reached, or did not answer in time.
    #[error("dialing is refused: the ledger's Redis server cannot be used: {0}")]
    Server(String),
    /// A newer version of this program wrote the ledger.
    #[error(
        "dialing is refused: the ledger has schema version {found}, this program supports versions up to \
         {supported}. Update callingbox-mcp on this machine"
    )]
    Newer { found: i64, supported: i64 },
    /// The file has the schema of an unreleased version and cannot be moved aside now.
    #[error(
        "dialing is refused: the ledger {} has the layout of an older version, and another process still uses it. End \
         the older callingbox-mcp processes and try again", path.display()
    )]
    OlderInUse { path: PathBuf },
    /// The file is something other than a ledger.
    #[error("dialing is refused: {} is not a ledger of callingbox-mcp", path.display())]
    NotALedger { path: PathBuf },
    /// The ledger belongs to the other environment.
    #[error(
        "dialing is refused: this ledger holds {found} calls and cannot be used for {wanted} calls; \
         name another ledger in the configuration"
    )]
    WrongEnvironment { found: Environment, wanted: Environment },
    /// Another process held the lock for too long.
    #[error(
        "dialing is refused: another process has locked the ledger; nothing was written. Try again"
    )]
    Locked,
    #[error(
        "dialing is refused: the ledger cannot be written: its disk is full. Free some disk space"
    )]
    Full,
    /// Reading or writing failed.
    #[error("dialing is refused: the ledger cannot be read or written: {0}")]
    Storage(String),
    /// The ledger holds a value that it cannot hold, or its file is corrupt.
    #[error("dialing is refused: the ledger is damaged: {0}")]
    Damaged(String),
    /// There is no time to record.
    #[error("dialing is refused: {0}")]
    Clock(#[from] UnreadableClock),
    #[error("the ledger has no dispatch {0}")]
    NoSuchDispatch(DispatchId),
    /// The dispatch is recorded as placed under another id.
    #[error(
        "dispatch {dispatch} is recorded as {recorded} and now reported as {reported}: it may have \
         been placed twice"
    )]
    PlacedTwice { dispatch: DispatchId, recorded: String, reported: String },
}
