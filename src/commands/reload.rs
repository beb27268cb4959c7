//! What a running server reads again: the calling rules and the tokens at SIGHUP, and the tokens also by
//! themselves when their file has changed. What cannot be read changes nothing; the log says which file
//! and where.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::http::auth::authenticator::StaticTokenAuth;
use crate::http::tenant::Tenants;
use crate::runtime::AccountFactory;

/// How often the file of tokens is looked at.
const TOKENS_EVERY: Duration = Duration::from_secs(2);

/// Reads again what has changed, until it is aborted.
pub(super) fn watch(
    mut hangup: Hangup,
    maker: AccountFactory,
    tokens: Option<Arc<StaticTokenAuth>>,
    tenants: Arc<Tenants>,
) -> JoinHandle<()> {
    let maker = Arc::new(maker);
    tokio::spawn(async move {
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(TOKENS_EVERY) => false,
                () = hangup.recv() => true,
            };
            let (maker, tokens) = (Arc::clone(&maker), tokens.clone());
            let tenants = Arc::clone(&tenants);
            // A file may be slow, and everybody may be served by one thread.
            let look = tokio::task::spawn_blocking(move || {
                if asked {
                    read_rules(&maker);
                }
                if let Some(tokens) = tokens {
                    tokens.reload_if_changed(&tenants, asked);
                }
            });
            if let Err(error) = look.await {
                tracing::error!(%error, "reading again what has changed broke off");
            }
        }
    })
}

fn read_rules(maker: &AccountFactory) {
    match maker.reload_rules() {
        Ok(()) => tracing::info!("the calling rules were read again"),
        Err(error) => tracing::error!(%error, "the calling rules of before are kept"),
    }
}

/// Tells of each SIGHUP, where there is such a thing.
pub(super) struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

/// From now on the signal no longer ends the program.
pub(super) fn hangup() -> Hangup {
    Hangup {
        #[cfg(unix)]
        signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
    }
}

impl Hangup {
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
