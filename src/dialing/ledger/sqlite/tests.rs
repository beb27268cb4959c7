//! The tests of every ledger, and those of the file: another version, another program's file, permissions, and several
//! processes, some of which are killed.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::*;
use crate::dialing::caller::CallerName;
use crate::dialing::ledger::batch_conformance::{self, NAME};
use crate::dialing::ledger::conformance::{self, constraints, intent, minutes, noon};
use crate::dialing::ledger::{
    AccountRef, BatchLedger as _, DispatchState, OptOut, OptOutLedger as _, OptOutSource,
};
use callingbox::E164;

async fn open(path: &Path, environment: Environment) -> Result<SqliteLedger, LedgerError> {
    SqliteLedger::open(path, environment).await
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    conformance::test_ledger(|| async {
        Arc::new(open(&path, Environment::Live).await.unwrap()) as Arc<dyn Ledger>
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/ledger.db");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let ledger = open(&path, Environment::Live).await.unwrap();
    ledger.begin(intent(&conformance::account(), 1, "x"), constraints(noon())).await.unwrap();
    assert_eq!(mode(&directory.path().join("deep")), 0o700);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    drop(ledger);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    open(&path, Environment::Live).await.unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn the_error_for_a_damaged_record_shows_no_value_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let ledger = open(&path, Environment::Live).await.unwrap();
    let account = conformance::account();
    let callee = E164::parse("+14155550100").unwrap();
    let source = OptOutSource::Terminal;
    let entry = OptOut::new(&account, callee, source, CallerName::local(), "asked", noon());
    let hash = entry.callee.clone();
    ledger.record_opt_out(entry).await.unwrap();
    let damage = "UPDATE opt_out SET record = json_set(record, '$.reason', 14155550100)";
    Connection::open(&path).unwrap().execute(damage, ()).unwrap();
    let error = ledger.list_opt_outs_of(account.id(), &hash).await.unwrap_err();
    assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("4155550100"), "{error:?}");
}

#[tokio::test]
async fn no_file_keeps_the_people_of_a_batch_that_was_erased() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let ledger = open(&path, Environment::Live).await.unwrap();
    // Another process has the ledger open, as most of the time.
    let _other = open(&path, Environment::Live).await.unwrap();
    let files_with_the_name = || {
        let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
        let has_name = |file: &std::path::PathBuf| {
            let content = std::fs::read(file).unwrap();
            content.windows(NAME.len()).any(|bytes| bytes == NAME.as_bytes())
        };
        files.filter(has_name).count()
    };
    for forgets in [true, false] {
        let (account, id) = batch_conformance::write_ended_batch(&ledger).await;
        assert!(files_with_the_name() > 0);
        if forgets {
            assert!(ledger.forget_batch(account.id(), &id).await.unwrap());
        } else {
            ledger.erase_expired(account.id(), Timestamp::MAX).await.unwrap();
        }
        assert_eq!(files_with_the_name(), 0);
    }
}

#[tokio::test]
async fn refuses_records_that_it_cannot_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    drop(open(&path, Environment::Sandbox).await.unwrap());
    let other = open(&path, Environment::Live).await.unwrap_err();
    assert!(
        matches!(
            other,
            LedgerError::WrongEnvironment {
                found: Environment::Sandbox,
                wanted: Environment::Live
            }
        ),
        "{other}"
    );
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let newer = open(&path, Environment::Sandbox).await.unwrap_err();
    assert!(matches!(newer, LedgerError::Newer { found: 99, supported: 4 }), "{newer}");

    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let text = directory.path().join("text.db");
    std::fs::write(&text, "this is no database ".repeat(100)).unwrap();
    for path in [&foreign, &text] {
        let error = open(path, Environment::Live).await.unwrap_err();
        assert!(matches!(error, LedgerError::NotALedger { .. }), "{error}");
    }
    // A directory that cannot be made or written; a plain file in its place stops even root.
    for path in [text.join("ledger.db"), directory.path().to_owned()] {
        let error = open(&path, Environment::Live).await.unwrap_err();
        assert!(matches!(error, LedgerError::Open { .. }), "{error}");
        assert!(error.to_string().starts_with("dialing is refused: the ledger /"), "{error}");
    }
}

#[tokio::test]
async fn a_locked_ledger_says_so_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let ledger = open(&path, Environment::Live).await.unwrap();
    ledger.run(|db| Ok(db.busy_timeout(std::time::Duration::from_millis(10))?)).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let account = conformance::account();
    let asked = intent(&account, 1, "x");
    let error = ledger.begin(asked.clone(), constraints(noon())).await.unwrap_err();
    assert!(matches!(error, LedgerError::Locked), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ledger.find(account.id(), asked.dispatch_id).await.unwrap(), None);
    assert!(matches!(
        ledger.begin(asked, constraints(noon())).await.unwrap(),
        BeginResult::Begun(_)
    ));
}

#[tokio::test]
async fn a_full_disk_says_so_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory.path().join("ledger.db"), Environment::Live).await.unwrap();
    ledger
        .run(|db| {
            let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            Ok(db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        })
        .await
        .unwrap();
    let account = conformance::account();
    let mut ended = None;
    for number in 0..1_000 {
        let asked = intent(&account, 1, &number.to_string());
        if let Err(error) = ledger.begin(asked.clone(), constraints(noon())).await {
            ended = Some((error, asked));
            break;
        }
    }
    let (error, asked) = ended.unwrap();
    assert!(matches!(error, LedgerError::Full), "{error}");
    assert_eq!(ledger.find(account.id(), asked.dispatch_id).await.unwrap(), None);
}

#[tokio::test]
async fn the_intent_is_synced_before_begin_returns() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory.path().join("ledger.db"), Environment::Live).await.unwrap();
    let pragmas = ledger
        .run(|db| {
            let journal: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let sync: i64 = db.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            let full: i64 = db.pragma_query_value(None, "fullfsync", |row| row.get(0))?;
            Ok((journal, sync, full))
        })
        .await
        .unwrap();
    assert_eq!(pragmas, ("wal".to_owned(), 2, 1));
}

#[cfg(unix)]
#[tokio::test]
async fn a_deleted_file_is_created_again_at_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data/ledger.db");
    let ledger = open(&path, Environment::Live).await.unwrap();
    let account = conformance::account();
    let begin = async |ledger: &SqliteLedger, to| {
        ledger.begin(intent(&account, to, "x"), constraints(noon())).await.unwrap()
    };
    assert!(matches!(begin(&ledger, 1).await, BeginResult::Begun(_)));
    // As it is advised for one that is damaged; then another process begins one in its place.
    for by_another in [false, true] {
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let other = match by_another {
            true => Some(open(&path, Environment::Live).await.unwrap()),
            false => None,
        };
        assert!(matches!(begin(&ledger, 1).await, BeginResult::Begun(_)));
        let other = match other {
            Some(other) => other,
            None => open(&path, Environment::Live).await.unwrap(),
        };
        assert!(matches!(begin(&other, 1).await, BeginResult::Earlier(_)));
    }
    // Where no file can be created, none is.
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path.parent().unwrap(), "").unwrap();
    let error = ledger.begin(intent(&account, 2, "x"), constraints(noon())).await.unwrap_err();
    assert!(matches!(error, LedgerError::Open { .. }), "{error}");
}

/// Names the ledger to the child process; absent in an ordinary run.
const CHILD: &str = "CALLINGBOX_TEST_LEDGER_CHILD";

fn shared_account() -> AccountRef {
    conformance::account_of("shared by parent and child")
}

/// Not a test of its own: the work of the child process of the next test. It begins, says so, and hangs
/// until it is killed.
#[tokio::test]
async fn child_process() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let ledger = open(Path::new(&path), Environment::Live).await.unwrap();
    let answer =
        ledger.begin(intent(&shared_account(), 1, "same"), constraints(noon())).await.unwrap();
    println!("{}", if matches!(answer, BeginResult::Begun(_)) { "BEGUN" } else { "NOT BEGUN" });
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_processes_one_dials_and_when_it_is_killed_another_takes_over() {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt, BufReader};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let mut children = Vec::new();
    for _ in 0..3 {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dialing::ledger::sqlite::tests::child_process", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        children.push(child);
    }
    let mut begun = 0;
    for child in &mut children {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("the child says what it did");
            if line.ends_with("BEGUN") {
                begun += u32::from(!line.contains("NOT"));
                break;
            }
        }
        child.kill().await.unwrap();
    }
    assert_eq!(begun, 1);

    let ledger = open(&path, Environment::Live).await.unwrap();
    let account = shared_account();
    let later = noon() + minutes(2);
    let answer = ledger.begin(intent(&account, 1, "same"), constraints(later)).await.unwrap();
    let BeginResult::Earlier(EarlierDispatch::Unresolved(record)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((record.state.clone(), record.generation), (DispatchState::Intent, 1));
    let taken = ledger
        .take_over(account.id(), record.dispatch_id, later, later + minutes(2))
        .await
        .unwrap();
    assert_eq!(taken.map(|record| record.generation), Some(2));
}
