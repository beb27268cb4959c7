//! Opens the file: its permissions, its schema, and the environment that it belongs to. Does not know records.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use crate::dialing::Environment;
use crate::dialing::ledger::{LedgerError, Result};
use crate::protected_file::{create_private, make_private};

/// Marks the file as ours (`PRAGMA application_id`): "CBxL" in ASCII.
const APPLICATION_ID: i64 = 0x4342_784c;

/// The schema of the first release.
const SCHEMA: &str = include_str!("schema-4.sql");

/// The version that this program writes.
pub(super) const VERSION: i64 = 4;

/// How long a process waits for the others.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// More than the ledger has: SQLite compiles each statement once for each connection.
const MAX_CACHED_STATEMENTS: usize = 64;
/// The pause between two attempts, where SQLite does not wait.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The ledger at a path, whichever file is there.
pub(super) struct LedgerFile {
    path: PathBuf,
    environment: Environment,
    open: Option<(Option<FileIdentity>, Connection)>,
}

impl LedgerFile {
    pub(super) fn new(path: PathBuf, environment: Environment) -> Self {
        Self { path, environment, open: None }
    }

    /// The connection to the file that is at the path now. A file that was moved away, as is advised for a damaged one,
    /// or that was removed is opened again: no other process would read what is written to the old one.
    pub(super) fn connection(&mut self) -> Result<&mut Connection> {
        // The old one must be closed before the new one is opened: they share the names of side files.
        let open = match self.open.take().filter(|(file, _)| *file == identify(&self.path)) {
            Some(open) => open,
            None => {
                let db = open(&self.path, self.environment)?;
                (identify(&self.path), db)
            }
        };
        Ok(&mut self.open.insert(open).1)
    }
}

/// Identifies a file whatever its name is: device and inode.
type FileIdentity = (u64, u64);

#[cfg(unix)]
fn identify(path: &Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Elsewhere than on Unix, an open file cannot be moved.
#[cfg(not(unix))]
fn identify(_: &Path) -> Option<FileIdentity> {
    None
}

/// Opens or creates the ledger. A ledger of an unreleased version is moved aside, and a new one begins.
fn open(path: &Path, environment: Environment) -> Result<Connection> {
    let started = Instant::now();
    loop {
        match try_open(path, environment)? {
            Opened::Ready(db) => return Ok(db),
            Opened::Moved => {}
            Opened::InUse if started.elapsed() < LOCK_TIMEOUT => {
                // Two new processes must not get in each other's way again and again.
                std::thread::sleep(
                    RETRY_PAUSE + Duration::from_millis(u64::from(std::process::id() % 50)),
                );
            }
            Opened::InUse => return Err(LedgerError::OlderInUse { path: path.to_owned() }),
        }
    }
}

enum Opened {
    Ready(Connection),
    /// A ledger of an older version was moved aside.
    Moved,
    /// Another process uses a ledger of an older version.
    InUse,
}

fn try_open(path: &Path, environment: Environment) -> Result<Opened> {
    let cannot_open = |reason: String| LedgerError::Open { path: path.to_owned(), reason };
    create_private(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::StorageFull => LedgerError::Full,
        _ => cannot_open(error.to_string()),
    })?;
    let file = identify(path);
    let mut db = Connection::open(path).map_err(|error| cannot_open(error.to_string()))?;
    db.busy_timeout(LOCK_TIMEOUT).map_err(|error| cannot_open(error.to_string()))?;
    db.set_prepared_statement_cache_capacity(MAX_CACHED_STATEMENTS);
    match prepare(&mut db, path, environment) {
        Ok(Prepared::Ready) => Ok(Opened::Ready(db)),
        Ok(Prepared::Older(version)) => move_aside(db, path, file, version)
            .map_err(|error| cannot_open(format!("it has an older layout, and {error}"))),
        Ok(Prepared::Newer(found)) => Err(LedgerError::Newer { found, supported: VERSION }),
        Ok(Prepared::Foreign) => Err(LedgerError::NotALedger { path: path.to_owned() }),
        Ok(Prepared::WrongEnvironment(found)) => {
            Err(LedgerError::WrongEnvironment { found, wanted: environment })
        }
        Err(error) => Err(match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => LedgerError::NotALedger { path: path.to_owned() },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::DiskFull) => error.into(),
            _ if is_busy(&error) => LedgerError::Locked,
            _ => cannot_open(error.to_string()),
        }),
    }
}

/// Whether another process held a lock for longer than [`LOCK_TIMEOUT`].
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Moves a ledger of an older version aside while no other process uses it.
///
/// Leaving WAL mode succeeds only for the last connection, and writes the side files back into the main one. The
/// exclusive lock is then on the main file itself: another process that has it open waits for the lock, and sees by
/// the identity of the file that it was moved.
fn move_aside(
    db: Connection,
    path: &Path,
    file: Option<FileIdentity>,
    version: i64,
) -> Result<Opened, String> {
    match db
        .pragma_update_and_check(None, "journal_mode", "DELETE", |mode| mode.get::<_, String>(0))
    {
        Ok(mode) if mode == "delete" => {}
        Ok(_) => return Ok(Opened::InUse),
        Err(error) if is_busy(&error) => return Ok(Opened::InUse),
        Err(error) => return Err(error.to_string()),
    }
    match db.execute_batch("BEGIN EXCLUSIVE") {
        Ok(()) => {}
        Err(error) if is_busy(&error) => return Ok(Opened::InUse),
        Err(error) => return Err(error.to_string()),
    }
    if identify(path) != file {
        return Ok(Opened::Moved);
    }
    let aside = free_name(path, version);
    // Elsewhere than on Unix, an open file cannot be moved.
    let lock = cfg!(unix).then_some(db);
    std::fs::rename(path, &aside)
        .map_err(|error| format!("it cannot be moved to {}: {error}", aside.display()))?;
    drop(lock);
    tracing::warn!(
        from = %path.display(),
        to = %aside.display(),
        "the ledger has the layout of an unreleased version; it was moved aside and a new ledger begins, which does not \
         know the calls in the old one"
    );
    Ok(Opened::Moved)
}

/// The first free name of the form `ledger.sqlite3.schema-1`, `ledger.sqlite3.schema-1.2`, …
fn free_name(path: &Path, version: i64) -> PathBuf {
    let name = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".schema-{version}{suffix}"));
        PathBuf::from(name)
    };
    let numbered = (2..1_000).map(|number| name(format!(".{number}")));
    let mut names = std::iter::once(name(String::new())).chain(numbered);
    names
        .find(|name| std::fs::symlink_metadata(name).is_err())
        .unwrap_or_else(|| name(".last".to_owned()))
}

enum Prepared {
    Ready,
    Older(i64),
    Newer(i64),
    Foreign,
    WrongEnvironment(Environment),
}

fn prepare(
    db: &mut Connection,
    path: &Path,
    environment: Environment,
) -> rusqlite::Result<Prepared> {
    let state = create_schema(db, environment)?;
    if matches!(state, Prepared::Ready) {
        // Before SQLite makes the side files, which get the mode of this one.
        make_private(path);
        use_wal(db)?;
        // An intent must outlive a power cut, hence FULL: WAL alone syncs only at checkpoints.
        db.pragma_update(None, "synchronous", "FULL")?;
        // On macOS, a disk otherwise keeps written data in its cache.
        db.pragma_update(None, "fullfsync", "ON")?;
        db.pragma_update(None, "trusted_schema", "OFF")?;
        // Who was called must not remain in unused pages after it was erased.
        db.pragma_update(None, "secure_delete", "ON")?;
    }
    Ok(state)
}

/// Creates the schema if the file is empty, in one transaction, which several processes run one at a time.
fn create_schema(db: &mut Connection, environment: Environment) -> rusqlite::Result<Prepared> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |pragma: &str| tx.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (version, application) = (number("user_version")?, number("application_id")?);
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || application != 0 || version != 0) {
        return Ok(Prepared::Foreign);
    }
    match version {
        0 => {
            tx.execute_batch(SCHEMA)?;
            tx.pragma_update(None, "user_version", VERSION)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        VERSION => {}
        older if older < VERSION => return Ok(Prepared::Older(older)),
        newer => return Ok(Prepared::Newer(newer)),
    }
    tx.execute(
        "INSERT OR IGNORE INTO meta (name, value) VALUES ('environment', ?1), ('secret', ?2)",
        params![environment.as_str(), rand::random::<[u8; 32]>()],
    )?;
    let found: Option<String> = tx
        .query_row("SELECT value FROM meta WHERE name = 'environment'", (), |row| row.get(0))
        .optional()?;
    if found.as_deref() != Some(environment.as_str()) {
        let other =
            if environment == Environment::Live { Environment::Sandbox } else { Environment::Live };
        return Ok(Prepared::WrongEnvironment(other));
    }
    tx.commit()?;
    Ok(Prepared::Ready)
}

/// Switches to write-ahead logging. SQLite does not apply its busy time-out to this statement if several connections
/// switch concurrently, so it is repeated here for as long.
fn use_wal(db: &Connection) -> rusqlite::Result<()> {
    let mut remaining = LOCK_TIMEOUT;
    loop {
        match db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error) if is_busy(&error) && remaining > RETRY_PAUSE => {
                std::thread::sleep(RETRY_PAUSE);
                remaining -= RETRY_PAUSE;
            }
            result => return result,
        }
    }
}
