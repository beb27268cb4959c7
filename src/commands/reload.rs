//! Reloads files while the server runs: the calling rules and the token file, when they change and at SIGHUP. A file that cannot be read changes nothing; the log names the file and the line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::config::{self, ConfigFile, UserFolders};
use crate::http::auth::authenticator::StaticTokenAuth;
use crate::http::tenant::Tenants;
use crate::runtime::AccountFactory;

/// How often the files are checked for a change.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The file of the calling rules, and its time and size when it was last read.
pub(super) struct RuleFile {
    path: Option<PathBuf>,
    seen: Option<(SystemTime, u64)>,
}

impl RuleFile {
    /// Call it before the rules are read, so that no change is missed.
    pub(super) fn new(file: &ConfigFile, folders: &UserFolders) -> Self {
        let mut rules = Self { path: config::policy_path(file, folders), seen: None };
        rules.check_change();
        rules
    }

    /// Whether the file has changed since the last check.
    fn check_change(&mut self) -> bool {
        let metadata = self.path.as_ref().and_then(|path| std::fs::metadata(path).ok());
        let now = metadata.and_then(|file| Some((file.modified().ok()?, file.len())));
        std::mem::replace(&mut self.seen, now) != now
    }
}

/// Starts the task that reloads; it runs until it is aborted.
pub(super) fn spawn_reloads(
    mut sighup: Sighup,
    rules: RuleFile,
    accounts: AccountFactory,
    tokens: Option<Arc<StaticTokenAuth>>,
    tenants: Arc<Tenants>,
) -> JoinHandle<()> {
    let accounts = Arc::new(accounts);
    let rules = Arc::new(Mutex::new(rules));
    tokio::spawn(async move {
        loop {
            let is_sighup = tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
                () = sighup.recv() => true,
            };
            let (accounts, tokens) = (Arc::clone(&accounts), tokens.clone());
            let (rules, tenants) = (Arc::clone(&rules), Arc::clone(&tenants));
            // Reading a file may block, and one thread may serve all requests.
            let reload = tokio::task::spawn_blocking(move || {
                if rules.lock().check_change() || is_sighup {
                    reload_rules(&accounts);
                }
                if let Some(tokens) = tokens {
                    tokens.reload_if_changed(&tenants, is_sighup);
                }
            });
            if let Err(error) = reload.await {
                tracing::error!(%error, "reloading files failed; the settings loaded before stay in force");
            }
        }
    })
}

fn reload_rules(accounts: &AccountFactory) {
    match accounts.reload_rules() {
        Ok(()) => tracing::info!("calling rules reloaded"),
        Err(error) => {
            tracing::error!(%error, "calling rules not reloaded; the rules loaded before stay in force");
        }
    }
}

/// Receives SIGHUP; never, on systems without it.
pub(super) struct Sighup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Sighup {
    /// From now on, SIGHUP no longer ends the program.
    pub(super) fn listen() -> Self {
        Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
