//! What is on this machine: the configuration, the ledger, the calling rules.

use std::io::ErrorKind;
use std::time::Duration;

use super::{Finding, served};
use crate::account::Environment;
use crate::cli::Global;
use crate::config::{self, ConfigError, ConfigFile, UserFolders};
use crate::dialing::ledger::LedgerError;
use crate::dialing::ledger::{LedgerLocation, open_ledger};
use crate::env_var::read_env_var;
use crate::mcp::catalogue::Catalogue;
use crate::telemetry;

/// The check of the ledger.
pub(super) const LEDGER: &str = "ledger";

/// Longer than the ledger itself waits for other processes.
const LEDGER_LIMIT: Duration = Duration::from_secs(10);

/// The configuration as a server would read it, or why no server starts with it.
pub(super) fn configuration(
    global: &mut Global,
    folders: &UserFolders,
) -> Result<(Finding, ConfigFile), Finding> {
    const CHECK: &str = "configuration";
    let broken = |message: String, fix: &str| Finding::fail(CHECK, message, fix);
    let variable = read_env_var("CALLINGBOX_MCP_SANDBOX").map_err(anyhow::Error::from);
    variable.and_then(|value| Ok(global.apply_sandbox_variable(value)?)).map_err(|error| {
        broken(
            error.to_string(),
            "set CALLINGBOX_MCP_SANDBOX to true or false, or to the address of a simulator",
        )
    })?;
    let file = config::load_config(global.config.as_deref(), folders).map_err(|error| {
        let fix = match &error {
            ConfigError::Unreadable { reason, .. } if reason.kind() == ErrorKind::NotFound => {
                "there is no such file: correct its name in --config or CALLINGBOX_MCP_CONFIG, or leave \
                 it out: the program works without one"
            }
            ConfigError::Unreadable { .. } => {
                "make the file one that you can read, or move it away: the program works without one"
            }
            _ => {
                "correct that line, or move the file away: the program works without one \
                 (callingbox-mcp config --schema says what may stand in it)"
            }
        };
        broken(format!("no server starts, and nothing else was looked at: {error}"), fix)
    })?;
    global.selection(&file).check(Catalogue::new().index()).map_err(|error| {
        broken(
            format!("no server starts, and nothing else was looked at: {error}"),
            "correct the name in the flag, the variable or the file",
        )
    })?;
    global.log_filter(&file).map_or(Ok(()), telemetry::check).map_err(|error| {
        broken(
            format!("no server starts, and nothing else was looked at: {error}"),
            "correct `log` in the file, --log or CALLINGBOX_MCP_LOG",
        )
    })?;
    let message = match config::config_path(global.config.as_deref(), folders) {
        Some(path) if path.exists() => format!("read from {}", path.display()),
        Some(path) => format!("the defaults; there is no {}", path.display()),
        None => {
            return Ok((
                Finding::warn(
                    CHECK,
                    "this user has no home folder, so no file is looked for",
                    "set HOME, or name the files: --config, CALLINGBOX_API_KEY_FILE, and ledger \
                     under [dialing] in the configuration",
                ),
                file,
            ));
        }
    };
    Ok((Finding::ok(CHECK, message), file))
}

/// Whether the key is known to this terminal alone: a client that is started elsewhere has none, if
/// its entry does not give it one.
pub(super) fn key_is_only_here(file: &ConfigFile, folders: &UserFolders) -> bool {
    let elsewhere = |name: &str| match name.starts_with("CALLINGBOX_API_KEY") {
        true => Ok(None),
        false => read_env_var(name),
    };
    let found = |env| config::find_credentials(file, env, folders).is_ok_and(|it| it.key.is_some());
    found(&read_env_var) && !found(&elsewhere)
}

/// Whether what is dialed can be written down; if not, nothing is dialed.
pub(super) async fn ledger(place: &LedgerLocation, environment: Environment) -> Finding {
    let shown = match place {
        LedgerLocation::File(path) => path.display().to_string(),
        LedgerLocation::Redis(_) => "the Redis server".to_owned(),
        LedgerLocation::Unavailable => {
            return Finding::fail(
                LEDGER,
                "nothing is dialed: there is no folder to write calls down in (HOME is not set)",
                "set HOME, or name a file as ledger under [dialing] in the configuration",
            );
        }
    };
    match tokio::time::timeout(LEDGER_LIMIT, open_ledger(place, environment)).await {
        Ok(Ok(_)) => {
            let kind = if environment == Environment::Live { "real" } else { "simulated" };
            Finding::ok(LEDGER, format!("{shown} can be written, for {kind} calls"))
        }
        Ok(Err(error)) => Finding::fail(LEDGER, error.to_string(), mend(place, Some(&error))),
        Err(_) => {
            let message = format!("{shown} did not open within 10 s");
            Finding::fail(LEDGER, message, mend(place, None))
        }
    }
}

/// What mends a ledger that does not open, by what is wrong with it if that is known.
fn mend(place: &LedgerLocation, error: Option<&LedgerError>) -> String {
    let LedgerLocation::File(path) = place else { return served::STATE_FIX.to_owned() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| ".".to_owned(), |dir| dir.display().to_string());
    let another = "name another file as ledger under [dialing] in the configuration";
    match error {
        Some(LedgerError::NotALedger { .. } | LedgerError::Damaged(_)) => format!(
            "move {} away, with its -wal and -shm if they are there, or {another}; the new one knows nothing \
             of what was dialed before",
            path.display()
        ),
        Some(LedgerError::Full) => format!("make room on the disk of {folder}, or {another}"),
        Some(LedgerError::Newer { .. }) => "update callingbox-mcp on this machine".to_owned(),
        Some(LedgerError::WrongEnvironment { .. }) => another.to_owned(),
        Some(LedgerError::Locked) => "end the program that holds it, and run this again".to_owned(),
        _ => format!("make {folder} a folder that you can write in, or {another}"),
    }
}

/// Whether the calling rules can be read; if not, nothing is dialed.
pub(super) fn policy(file: &ConfigFile, folders: &UserFolders) -> Finding {
    const CHECK: &str = "policy";
    let path = config::policy_path(file, folders);
    match (config::load_policy(file, folders), path) {
        (Ok(_), Some(path)) if path.exists() => {
            Finding::ok(CHECK, format!("read from {}", path.display()))
        }
        (Ok(_), _) => Finding::ok(
            CHECK,
            "the rules as shipped; `callingbox-mcp policy init` writes them to a file to change",
        ),
        (Err(error), _) => Finding::fail(
            CHECK,
            format!("no server starts: {error}"),
            "correct that line; callingbox-mcp policy init --print shows a file that is right",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_full_disk_wants_room_and_not_another_folder() {
        let place = LedgerLocation::File("/data/ledger.sqlite3".into());
        let fix = mend(&place, Some(&LedgerError::Full));
        assert!(fix.starts_with("make room on the disk of /data, or name another file"), "{fix}");
    }

    #[tokio::test]
    async fn without_a_home_nothing_can_be_written_down() {
        let found = ledger(&LedgerLocation::Unavailable, Environment::Live).await;
        assert_eq!((found.level, found.check.as_str()), (Level::Fail, "ledger"));
        assert!(found.message.contains("HOME is not set"), "{}", found.message);
        assert!(found.fix.is_some_and(|fix| fix.starts_with("set HOME")));
        let found = configuration(&mut Global::default(), &UserFolders::default()).unwrap().0;
        assert_eq!(found.level, Level::Warn, "{}", found.message);
    }
}
