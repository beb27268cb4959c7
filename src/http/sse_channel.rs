//! The server's side of one HTTP+SSE session, as a transport of rmcp.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use parking_lot::Mutex;
use rmcp::model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::service::RoleServer;
use rmcp::transport::Transport;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::answer::{error_response, retry_after};
use super::body_budget::BodyBytes;
use super::cancel_on_close::{answered_request_id, cancelled_request_id};

/// How long a message may wait for the server.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one session without an answer.
const MAX_PENDING: usize = 128;

/// What a request holds until it is answered: a stream of its tenant, its body's share of the budget, and a token for which
/// a shutdown waits.
pub(super) type PendingRequest = (OwnedSemaphorePermit, BodyBytes, TaskTrackerToken);

/// The requests of a session without an answer.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingRequests(Arc<Mutex<HashMap<RequestId, PendingRequest>>>);

impl PendingRequests {
    /// Adds a request, which `acquire` gives what it holds.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) fn insert(
        &self,
        id: &RequestId,
        acquire: impl FnOnce() -> Option<PendingRequest>,
    ) -> Result<(), Box<Response>> {
        let mut requests = self.0.lock();
        if requests.contains_key(id) {
            let text = "a request with this id has no answer yet; give each request its own id";
            return Err(Box::new(error_response(StatusCode::BAD_REQUEST, text)));
        }
        if requests.len() >= MAX_PENDING {
            return Err(too_busy());
        }
        requests.insert(id.clone(), acquire().ok_or_else(too_busy)?);
        Ok(())
    }

    fn remove(&self, id: &RequestId) -> Option<PendingRequest> {
        self.0.lock().remove(id)
    }
}

pub(super) fn too_busy() -> Box<Response> {
    let text = "the session, or its account, has too many requests without an answer";
    Box::new(retry_after(StatusCode::TOO_MANY_REQUESTS, text, SEND_TIMEOUT))
}

/// The transport.
pub struct SseChannel {
    pub(super) from_client: mpsc::Receiver<ClientJsonRpcMessage>,
    pub(super) to_client: mpsc::Sender<ServerJsonRpcMessage>,
    pub(super) pending: PendingRequests,
}

impl Transport<RoleServer> for SseChannel {
    type Error = Infallible;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        let (to_client, pending) = (self.to_client.clone(), self.pending.clone());
        let answered = answered_request_id(&message).cloned();
        async move {
            let slot = to_client.reserve().await;
            // The request counts until its answer has a slot, so that a client that reads nothing cannot send more of
            // them. From then on the client may use the id again.
            let request = answered.and_then(|id| pending.remove(&id));
            match slot {
                Ok(slot) => slot.send(message),
                Err(_closed) => tracing::debug!("the client disconnected before its answer"),
            }
            drop(request);
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let message = self.from_client.recv().await?;
        if let Some(id) = cancelled_request_id(&message) {
            self.pending.remove(id);
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Infallible> {
        self.from_client.close();
        Ok(())
    }
}
