//! Progress notifications: sent only if the request has a progress token, with an increasing counter.

use std::sync::atomic::{AtomicU64, Ordering};

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext, RoleServer};

/// Sends the progress notifications of one request. The default sends none.
#[derive(Default)]
pub struct ProgressNotifier {
    to: Option<(Peer<RoleServer>, ProgressToken)>,
    steps: AtomicU64,
}

impl ProgressNotifier {
    /// The notifier of this request.
    #[must_use]
    pub fn from_request(context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        Self { to: token.map(|token| (context.peer.clone(), token)), steps: AtomicU64::new(0) }
    }

    /// Whether the client asked for progress.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.to.is_some()
    }

    /// Sends one message. A disconnected client is not an error: its request is cancelled separately.
    pub async fn report(&self, message: impl Into<String>) {
        let Some((peer, token)) = &self.to else { return };
        let step = self.steps.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        #[expect(clippy::cast_precision_loss, reason = "a count of messages stays far below 2^52")]
        let progress = ProgressNotificationParam::new(token.clone(), step as f64);
        if let Err(error) = peer.notify_progress(progress.with_message(message)).await {
            tracing::debug!(%error, "a progress notification was not taken");
        }
    }
}
