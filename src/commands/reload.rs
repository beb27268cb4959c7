//! Reloads files while a server or a batch runs: the calling rules and the token file, when they change and at SIGHUP. A file that cannot be read changes nothing; the log names the file and the line.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::http::auth::authenticator::StaticTokenAuth;
use crate::http::tenant::Tenants;
use crate::runtime::AccountFactory;

/// How often the files are checked for a change.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Starts the task that reloads the calling rules of these accounts, and the tokens if there are any. It runs until it
/// is aborted.
pub(super) fn spawn_reloads(
    accounts: AccountFactory,
    tokens: Option<(Arc<StaticTokenAuth>, Arc<Tenants>)>,
    mut sighup: Sighup,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let is_sighup = tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
                () = sighup.recv() => true,
            };
            let (accounts, tokens) = (accounts.clone(), tokens.clone());
            // Reading a file may block, and one thread may serve all requests.
            let reload = tokio::task::spawn_blocking(move || {
                accounts.reload_rules_if_changed(is_sighup);
                if let Some((tokens, tenants)) = tokens {
                    tokens.reload_if_changed(&tenants, is_sighup);
                }
            });
            if let Err(error) = reload.await {
                tracing::error!(%error, "reloading files failed; the settings loaded before stay in force");
            }
        }
    })
}

/// Receives SIGHUP; never by default, and on systems without it.
#[derive(Default)]
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
