//! Checks the files of this machine: the configuration, the ledger, the calling rules.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::Finding;
use super::http_server;
use crate::account::Environment;
use crate::cli::Global;
use crate::config::{self, ConfigError, ConfigFile, UserFolders};
use crate::dialing::destination::{ZoneData, list_missing_zones};
use crate::dialing::ledger::LedgerError;
use crate::dialing::ledger::{LedgerLocation, open_ledger};
use crate::env_var::read_env_var;
use crate::mcp::catalogue::Catalogue;
use crate::own_command::own_command;
use crate::protected_file::check_writers;
use crate::settings::ProgramSettings;
use crate::system::{Os, SystemFolders};
use crate::telemetry;

pub(super) const LEDGER: &str = "ledger";

/// Longer than the ledger itself waits for other processes.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the configuration as a server does; fails if no server would start with it.
pub(super) fn check_configuration(
    global: &mut Global,
    folders: UserFolders,
) -> Result<(Finding, ProgramSettings), Finding> {
    const CHECK: &str = "configuration";
    let unusable = |error: &dyn Display, fix: &str| {
        let message = format!("no server starts, and nothing else was checked: {error}");
        Finding::fail(CHECK, message, fix)
    };
    let variable = read_env_var("CALLINGBOX_MCP_SANDBOX").map_err(anyhow::Error::from);
    variable.and_then(|value| Ok(global.apply_sandbox_variable(value)?)).map_err(|error| {
        Finding::fail(
            CHECK,
            error.to_string(),
            "set CALLINGBOX_MCP_SANDBOX to true or false, or to the address of a simulator",
        )
    })?;
    let file = config::load_config(global.config.as_deref(), &folders).map_err(|error| {
        let schema = format!(
            "correct that line, or move the file away: the program works without a file ({} config --schema prints the \
             valid keys)",
            own_command()
        );
        let fix = match &error {
            ConfigError::Unreadable { reason, .. } if reason.kind() == ErrorKind::NotFound => {
                "the file does not exist: correct the path in --config or CALLINGBOX_MCP_CONFIG, or remove \
                 it: the program works without a file"
            }
            ConfigError::Unreadable { .. } => {
                "make the file readable for you, or move it away: the program works without a file"
            }
            _ => &schema,
        };
        unusable(&error, fix)
    })?;
    let settings = ProgramSettings { global: global.clone(), file, folders };
    settings.selection().check(Catalogue::new().index()).map_err(|error| {
        unusable(&error, "correct the name in the flag, the variable or the file")
    })?;
    settings.log_filter().map_or(Ok(()), telemetry::check_filter).map_err(|error| {
        unusable(&error, "correct `log` in the file, --log or CALLINGBOX_MCP_LOG")
    })?;
    let finding = match settings.config_path() {
        Some(path) if path.exists() => check_rule_file(CHECK, &path),
        Some(path) => {
            Finding::ok(CHECK, format!("default settings; {} does not exist", path.display()))
        }
        None => Finding::warn(
            CHECK,
            "the user has no home folder, so no configuration file is read",
            format!(
                "set {}, or name the files: --config, CALLINGBOX_API_KEY_FILE, and ledger under [dialing] in \
                 the configuration",
                Os::this().home_variable()
            ),
        ),
    };
    Ok((finding, settings))
}

/// Whether only this user can change a file that decides who may be called.
fn check_rule_file(check: &str, path: &Path) -> Finding {
    let message = format!("read from {}", path.display());
    match check_writers(path) {
        Ok(()) => Finding::ok(check, message),
        Err(problem) => Finding::warn(check, message, problem.to_string()),
    }
}

/// Whether the API key is set only in this terminal's environment. A server that a client starts then has no key,
/// unless the client's entry sets one.
pub(super) fn is_key_set_here_only(settings: &ProgramSettings) -> bool {
    let ProgramSettings { file, folders, .. } = settings;
    let without_key_variables = |name: &str| match name.starts_with("CALLINGBOX_API_KEY") {
        true => Ok(None),
        false => read_env_var(name),
    };
    let has_key =
        |env| config::find_credentials(file, env, folders).is_ok_and(|found| found.key.is_some());
    has_key(&read_env_var) && !has_key(&without_key_variables)
}

/// Whether the ledger can be written; without it, nothing is dialed.
pub(super) async fn check_ledger(place: &LedgerLocation, environment: Environment) -> Finding {
    let shown = match place {
        LedgerLocation::File(path) => path.display().to_string(),
        LedgerLocation::Redis(_) => "the Redis server".to_owned(),
        LedgerLocation::Unavailable => {
            return Finding::fail(
                LEDGER,
                "nothing can be dialed: the user has no home folder for the ledger",
                format!(
                    "set {}, or name a file as ledger under [dialing] in the configuration",
                    Os::this().home_variable()
                ),
            );
        }
    };
    match tokio::time::timeout(LEDGER_TIMEOUT, open_ledger(place, environment)).await {
        Ok(Ok(_)) => {
            let kind = if environment == Environment::Live { "live" } else { "simulated" };
            Finding::ok(LEDGER, format!("{shown} can be written, for {kind} calls"))
        }
        Ok(Err(error)) => Finding::fail(LEDGER, error.to_string(), ledger_fix(place, Some(&error))),
        Err(_) => {
            let message = format!("{shown} did not open within 10 s");
            Finding::fail(LEDGER, message, ledger_fix(place, None))
        }
    }
}

/// How to repair a ledger that does not open.
fn ledger_fix(place: &LedgerLocation, error: Option<&LedgerError>) -> String {
    let LedgerLocation::File(path) = place else { return http_server::STATE_FIX.to_owned() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| ".".to_owned(), |dir| dir.display().to_string());
    let another = "name another file as ledger under [dialing] in the configuration";
    match error {
        Some(LedgerError::NotALedger { .. } | LedgerError::Damaged(_)) => format!(
            "move {} away, with its -wal and -shm if they exist, or {another}; the new ledger does not contain \
             the earlier calls",
            path.display()
        ),
        Some(LedgerError::Full) => format!("free space on the disk of {folder}, or {another}"),
        Some(LedgerError::Newer { .. }) => "update callingbox-mcp on this machine".to_owned(),
        Some(LedgerError::WrongEnvironment { .. }) => another.to_owned(),
        Some(LedgerError::Locked) => {
            "end the program that holds the lock, and run this again".to_owned()
        }
        _ => format!("make {folder} a folder that you can write to, or {another}"),
    }
}

/// Whether the calling rules can be read; if not, no server starts.
pub(super) fn check_policy(settings: &ProgramSettings) -> Finding {
    const CHECK: &str = "policy";
    match (settings.load_policy(), settings.policy_path()) {
        (Ok(_), Some(path)) if path.exists() => check_rule_file(CHECK, &path),
        (Ok(_), _) => Finding::ok(
            CHECK,
            format!(
                "the default rules; `{} policy init` writes them to a file that you can change",
                own_command()
            ),
        ),
        (Err(error), _) => Finding::fail(
            CHECK,
            format!("no server starts: {error}"),
            format!("correct that line; {} policy init --print shows a valid file", own_command()),
        ),
    }
}

/// Whether files of this program are where no server reads them.
pub(super) fn check_stray_files(folders: &UserFolders) -> Option<Finding> {
    let files = config::find_stray_files(&SystemFolders::this()?);
    report_stray_files(&files, folders)
}

fn report_stray_files(files: &[PathBuf], folders: &UserFolders) -> Option<Finding> {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let own = folders.config.as_deref().unwrap_or(Path::new("")).display();
    let fix = format!(
        "end all clients; move the files that you need to {own}, a ledger with its -wal and -shm; delete the others"
    );
    (!files.is_empty())
        .then(|| Finding::warn("stray files", format!("no server reads {}", names.join(", ")), fix))
}

/// Whether every host may receive the words of calls.
pub(super) fn check_webhook_hosts(file: &ConfigFile) -> Finding {
    const CHECK: &str = "webhook_hosts";
    let hosts = &file.dialing.webhook_hosts;
    if hosts.is_restricted() {
        return Finding::ok(CHECK, format!("events and data of calls may be sent to {hosts}"));
    }
    Finding::warn(
        CHECK,
        "a model may have the events and data of calls sent to any host",
        "list yours as `webhook_hosts` under [dialing] in the configuration, such as [\"hooks.example.com\"]; [] allows none",
    )
}

/// Which time zone data the quiet hours follow, and whether every zone can be read.
pub(super) fn check_time_zones() -> Finding {
    report_time_zones(&list_missing_zones(), ZoneData::current())
}

fn report_time_zones(missing: &[&str], data: &ZoneData) -> Finding {
    const CHECK: &str = "time zones";
    if !missing.is_empty() {
        return Finding::fail(
            CHECK,
            format!("no quiet hours can be checked in {}", missing.join(", ")),
            "install callingbox-mcp anew; report it if that does not help",
        );
    }
    Finding::ok(
        CHECK,
        match &data.system {
            Some(system) if data.is_of_system() => {
                format!("{system}, of this machine (this program has {})", data.bundled)
            }
            Some(system) => {
                format!("{}, of this program (this machine has {system})", data.bundled)
            }
            None => format!("{}, of this program", data.bundled),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_full_disk_needs_space_and_not_another_folder() {
        let place = LedgerLocation::File("/data/ledger.sqlite3".into());
        let fix = ledger_fix(&place, Some(&LedgerError::Full));
        assert!(fix.starts_with("free space on the disk of /data, or name another file"), "{fix}");
    }

    #[test]
    fn stray_files_are_named_with_the_folder_where_they_belong() {
        let folders =
            UserFolders { config: Some("/u/.callingbox-mcp".into()), ..UserFolders::default() };
        assert!(report_stray_files(&[], &folders).is_none());
        let stray = PathBuf::from("/u/AppData/Local/callingbox-mcp/ledger.sqlite3");
        let found = report_stray_files(&[stray], &folders).unwrap();
        assert!(found.message.ends_with("reads /u/AppData/Local/callingbox-mcp/ledger.sqlite3"));
        assert!(found.fix.is_some_and(|fix| fix.contains("to /u/.callingbox-mcp, a ledger")));
    }

    #[test]
    fn a_zone_that_cannot_be_loaded_is_a_failure() {
        let found = report_time_zones(&["Asia/Kolkata", "Asia/Tokyo"], ZoneData::current());
        assert_eq!(found.level, Level::Fail);
        assert!(found.message.ends_with("in Asia/Kolkata, Asia/Tokyo"), "{}", found.message);
        assert_eq!(report_time_zones(&[], ZoneData::current()).level, Level::Ok);
    }

    #[tokio::test]
    async fn without_a_home_folder_there_is_no_ledger() {
        let found = check_ledger(&LedgerLocation::Unavailable, Environment::Live).await;
        assert_eq!((found.level, found.check.as_str()), (Level::Fail, "ledger"));
        assert!(found.message.contains("no home folder"), "{}", found.message);
        assert!(found.fix.is_some_and(|fix| fix.starts_with("set HOME")));
        let found = check_configuration(&mut Global::default(), UserFolders::default());
        let found = found.unwrap_or_else(|found| panic!("{}", found.message)).0;
        assert_eq!(found.level, Level::Warn, "{}", found.message);
    }
}
