//! News of calls, from verified webhook deliveries at this replica or at another: they wake the waits for the call at
//! every replica. A message that is lost costs nothing but time, because every wait also polls.

use std::sync::Arc;

use async_trait::async_trait;
use callingbox::{Call, CallId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::tenant::Tenants;
use crate::account::Account;
use crate::state::{SharedState, StateNamespace};
use crate::webhook::CallEventHandler;

/// The most bytes of a call's record in a message. Without the record, the other replicas read the call themselves.
const MAX_RECORD_BYTES: usize = 256 * 1024;

/// Wakes the waits for a call, at this replica and at the others.
pub struct CallEvents {
    /// The server's own account. Without it callers have accounts of their own, and their waits only look again:
    /// a caller that has the server's signing secret must not put words into the calls of others.
    own_account: Option<Arc<Account>>,
    tenants: Arc<Tenants>,
    shared: Option<SharedState>,
    /// Identifies this replica's own messages, which it ignores.
    replica: Uuid,
}

/// A message to the other replicas.
#[derive(Serialize, Deserialize)]
struct CallMessage {
    from: Uuid,
    /// The account of the call, if it is the server's own.
    account: Option<StateNamespace>,
    call_id: CallId,
    /// The record of the call, if the account is the server's own and the record is not too large.
    call: Option<Value>,
}

impl CallEvents {
    #[must_use]
    pub fn new(
        own_account: Option<Arc<Account>>,
        tenants: Arc<Tenants>,
        shared: Option<SharedState>,
    ) -> Self {
        Self { own_account, tenants, shared, replica: Uuid::new_v4() }
    }

    /// Handles the messages of other replicas until it is dropped.
    pub async fn receive(self: Arc<Self>) {
        if let Some(shared) = self.shared.clone() {
            shared.subscribe(|message| self.handle_message(message)).await;
        }
    }

    fn handle_message(&self, message: &[u8]) {
        let Ok(message) = serde_json::from_slice::<CallMessage>(message) else {
            tracing::warn!("a message from another replica is malformed; ignored");
            return;
        };
        if message.from != self.replica && message.account == self.own_namespace() {
            let call = message.call.and_then(|call| serde_json::from_value::<Call>(call).ok());
            let call = call.filter(|call| call.id == message.call_id);
            self.wake_waits(&message.call_id, call);
        }
    }

    fn wake_waits(&self, call_id: &CallId, call: Option<Call>) {
        let wake = |account: &Account, call| {
            if let Ok(watchers) = account.watchers() {
                watchers.record_event(call_id, call);
            }
        };
        match &self.own_account {
            Some(account) => wake(account, call),
            None => self.tenants.all().iter().for_each(|tenant| wake(&tenant.account, None)),
        }
    }

    async fn publish(&self, shared: &SharedState, call_id: &CallId, call: Option<&Call>) {
        let published = match self.write_message(call_id, call) {
            Ok(message) => shared.publish(&message).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = published {
            tracing::warn!(error, "other replicas were not notified of a call; their waits poll");
        }
    }

    fn write_message(&self, call_id: &CallId, call: Option<&Call>) -> serde_json::Result<Vec<u8>> {
        let account = self.own_namespace();
        let call = call.filter(|_| account.is_some()).map(serde_json::to_value).transpose()?;
        let mut message =
            CallMessage { from: self.replica, account, call_id: call_id.clone(), call };
        let text = serde_json::to_vec(&message)?;
        if text.len() <= MAX_RECORD_BYTES {
            return Ok(text);
        }
        message.call = None;
        serde_json::to_vec(&message)
    }

    fn own_namespace(&self) -> Option<StateNamespace> {
        let account = self.own_account.as_deref()?;
        let name = account.dialer().map(|dialer| dialer.key().tag(&["namespace"]));
        Some(StateNamespace::new(&[b"account", name.unwrap_or_default().as_bytes()]))
    }
}

#[async_trait]
impl CallEventHandler for CallEvents {
    async fn handle_event(&self, call_id: CallId, call: Option<Call>) {
        self.wake_waits(&call_id, call.clone());
        if let Some(shared) = &self.shared {
            self.publish(shared, &call_id, call.as_ref()).await;
        }
        let dialer = self.own_account.as_ref().and_then(|account| account.dialer().ok());
        if let (Some(call), Some(dialer)) = (call, dialer) {
            dialer.record_call_end(&call).await;
        }
    }
}
