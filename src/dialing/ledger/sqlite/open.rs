//! Opening the file: permissions, schema and its migrations, and the world that the file belongs to.
//! Knows nothing of records.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use crate::dialing::Environment;
use crate::dialing::ledger::LedgerError;

/// Marks the file as ours (`PRAGMA application_id`): "CBxL" in ASCII.
const APPLICATION_ID: i64 = 0x4342_784c;

/// One script per schema version, the first makes version 1. Never edit one that was released.
const MIGRATIONS: &[&str] = &[include_str!("schema-1.sql")];

/// How long a process waits for the others.
const BUSY: Duration = Duration::from_secs(5);

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The ledger at a path, whichever file that is.
pub(super) struct Place {
    path: PathBuf,
    environment: Environment,
    db: Option<(Option<FileIdentity>, Connection)>,
}

impl Place {
    pub(super) fn new(path: PathBuf, environment: Environment) -> Self {
        Self { path, environment, db: None }
    }

    /// The connection to the file that is there. Opened anew where the one before was moved away, as is
    /// advised for a damaged one, or removed: nobody would read what is written into that.
    pub(super) fn db(&mut self) -> Result<&mut Connection, LedgerError> {
        // SQLite wants the old one closed before the new one is opened: they share the names of side files.
        let opened = match self.db.take().filter(|(file, _)| *file == identity(&self.path)) {
            Some(opened) => opened,
            None => {
                let db = open(&self.path, self.environment)?;
                (identity(&self.path), db)
            }
        };
        Ok(&mut self.db.insert(opened).1)
    }
}

/// By what a file is known whatever its name: device and inode.
type FileIdentity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Elsewhere than on Unix an open file stays where it is.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<FileIdentity> {
    None
}

/// Opens or creates the ledger.
fn open(path: &Path, environment: Environment) -> Result<Connection, LedgerError> {
    let cannot = |reason: String| LedgerError::Open { path: path.to_owned(), reason };
    create_private(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::StorageFull => LedgerError::Full,
        _ => cannot(error.to_string()),
    })?;
    let mut db = Connection::open(path).map_err(|error| cannot(error.to_string()))?;
    db.busy_timeout(BUSY).map_err(|error| cannot(error.to_string()))?;
    match prepare(&mut db, path, environment) {
        Ok(Prepared::Ready) => Ok(db),
        Ok(Prepared::Newer(found)) => Err(LedgerError::Newer { found, supported: VERSION }),
        Ok(Prepared::Foreign) => Err(LedgerError::NotALedger { path: path.to_owned() }),
        Ok(Prepared::WrongEnvironment(found)) => {
            Err(LedgerError::WrongEnvironment { found, wanted: environment })
        }
        Err(error) => Err(match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => LedgerError::NotALedger { path: path.to_owned() },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::DiskFull) => error.into(),
            _ if is_busy(&error) => LedgerError::Locked,
            _ => cannot(error.to_string()),
        }),
    }
}

/// Whether another process stood in the way for longer than [`BUSY`].
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

enum Prepared {
    Ready,
    Newer(i64),
    Foreign,
    WrongEnvironment(Environment),
}

fn prepare(
    db: &mut Connection,
    path: &Path,
    environment: Environment,
) -> rusqlite::Result<Prepared> {
    let state = migrate(db, environment)?;
    if matches!(state, Prepared::Ready) {
        // Before SQLite makes the side files, which get the mode of this one.
        make_private(path);
        use_wal(db)?;
        // An intent must outlive a power cut, hence FULL: WAL alone syncs only at checkpoints.
        db.pragma_update(None, "synchronous", "FULL")?;
        // On macOS a disk keeps in its cache what it was told to write, unless it is told this too.
        db.pragma_update(None, "fullfsync", "ON")?;
        db.pragma_update(None, "trusted_schema", "OFF")?;
    }
    Ok(state)
}

/// Brings the schema up to date, in one transaction, of which several processes run one at a time.
fn migrate(db: &mut Connection, environment: Environment) -> rusqlite::Result<Prepared> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |pragma: &str| tx.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (version, application) = (number("user_version")?, number("application_id")?);
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || application != 0 || version != 0) {
        return Ok(Prepared::Foreign);
    }
    if version > VERSION {
        return Ok(Prepared::Newer(version));
    }
    for script in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        tx.execute_batch(script)?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
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

/// Switches to write-ahead logging. SQLite does not wait its busy time-out for this one statement when
/// several connections switch at once, so that it is tried again here, for as long at most.
fn use_wal(db: &Connection) -> rusqlite::Result<()> {
    let pause = Duration::from_millis(20);
    let mut left = BUSY;
    loop {
        match db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error) if is_busy(&error) && left > pause => {
                std::thread::sleep(pause);
                left -= pause;
            }
            done => return done,
        }
    }
}

/// Creates the file and its directory for their owner alone. What exists keeps its permissions: it may be another
/// program's file.
#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path).map(drop)
}

/// Closes a ledger to other users, if it belongs to this one.
#[cfg(unix)]
fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let is_open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if is_open
        && let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
    {
        tracing::warn!(%error, "the ledger belongs to another user, who decides who can read it");
    }
}

#[cfg(not(unix))]
fn make_private(_: &Path) {}

/// Creates the file's directory; elsewhere than on Unix the user's data directory is private already.
#[cfg(not(unix))]
fn create_private(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}
