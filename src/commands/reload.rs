//! Reloads files while the server runs: the calling rules and the token file at SIGHUP, and the token file also when it
//! changes. A file that cannot be read changes nothing; the log names the file and the line.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::http::auth::authenticator::StaticTokenAuth;
use crate::http::tenant::Tenants;
use crate::runtime::AccountFactory;

/// How often the token file is checked for a change.
const TOKEN_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Starts the task that reloads; it runs until it is aborted.
pub(super) fn spawn_reloads(
    mut sighup: Sighup,
    accounts: AccountFactory,
    tokens: Option<Arc<StaticTokenAuth>>,
    tenants: Arc<Tenants>,
) -> JoinHandle<()> {
    let accounts = Arc::new(accounts);
    tokio::spawn(async move {
        loop {
            let is_sighup = tokio::select! {
                () = tokio::time::sleep(TOKEN_CHECK_INTERVAL) => false,
                () = sighup.recv() => true,
            };
            let (accounts, tokens) = (Arc::clone(&accounts), tokens.clone());
            let tenants = Arc::clone(&tenants);
            // Reading a file may block, and one thread may serve all requests.
            let reload = tokio::task::spawn_blocking(move || {
                if is_sighup {
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
