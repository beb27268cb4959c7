//! Why a ledger cannot be used. Every message says that dialing is refused: a call that cannot be
//! written down is not made.

use std::path::PathBuf;

use super::ids::DispatchId;
use crate::dialing::Environment;

/// The ledger cannot be used, so nothing is dialed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened or created.
    #[error(
        "dialing is refused: the ledger {} cannot be opened: {reason}. Make its directory writable \
         or name another file in the configuration", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The server cannot be reached or did not answer in time.
    #[error("dialing is refused: the ledger's Redis server cannot be used: {0}")]
    Server(String),
    /// Written by a newer version of this program.
    #[error(
        "dialing is refused: the ledger has schema version {found}, this program knows versions up to \
         {known}. Update callingbox-mcp on this machine"
    )]
    Newer {
        /// What the ledger has.
        found: i64,
        /// What the program knows.
        known: i64,
    },
    /// Something else than a ledger.
    #[error("dialing is refused: {} is not a ledger of callingbox-mcp", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// The ledger of the other world.
    #[error(
        "dialing is refused: this ledger holds {found} calls and cannot be used for {wanted} ones; \
         the two never share a ledger"
    )]
    WrongEnvironment {
        /// Whose it is.
        found: Environment,
        /// What was asked for.
        wanted: Environment,
    },
    /// Another process holds it for longer than anybody should wait.
    #[error(
        "dialing is refused: the ledger is locked by another process; nothing was written. Try again"
    )]
    Locked,
    /// There is no room to write.
    #[error("dialing is refused: the ledger cannot be written: its disk is full. Make room there")]
    Full,
    /// Reading or writing failed.
    #[error("dialing is refused: the ledger cannot be read or written: {0}")]
    Storage(String),
    /// It holds something that it cannot hold, or is no longer whole.
    #[error("dialing is refused: the ledger is damaged: {0}")]
    Damaged(String),
    /// The dispatch is not in it.
    #[error("the ledger has no dispatch {0}")]
    NoSuchDispatch(DispatchId),
    /// The dispatch has been placed under another id.
    #[error(
        "dispatch {dispatch} is recorded as {recorded} and now reported as {reported}: it may have \
         been placed twice"
    )]
    PlacedTwice {
        /// The dispatch.
        dispatch: DispatchId,
        /// The id in the ledger.
        recorded: String,
        /// The id that was reported now.
        reported: String,
    },
}
