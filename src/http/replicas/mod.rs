//! Several replicas behind one address: what they tell each other, and what each does with it.
//!
//! A session is taken up by whichever replica a request of it reaches ([`sharing`]). What must reach
//! the one replica that waits for it is passed on: a client's answer to a question, its taking back of
//! a request, a message for a stream of the HTTP+SSE transport, and the news of a call. All of it is
//! checked again where it arrives, as if it came from a client.

pub mod ids;
pub mod sharing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rmcp::model::ClientJsonRpcMessage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

pub use self::ids::{Instance, Way};
pub use self::sharing::{Sharing, asking};
use super::sse::{self, Inboxes};
use super::tenant::Tenants;
use crate::account::Account;
use crate::state::{Gone, ReplicaId, Scope, Shared, To};
use callingbox::{Call, CallId};

/// What other replicas told that waits to be worked off.
const WAITING: usize = 1_024;
/// What is worked off at once.
const AT_ONCE: usize = 64;
/// How often sessions in use are said to be so, at least.
const TOUCH_AT_LEAST: Duration = Duration::from_secs(60);
/// The most bytes of a call's record that are passed on; without it the others look for themselves.
const MOST_CALL_BYTES: usize = 256 * 1024;

/// What one replica tells others.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Told {
    /// A client answered a question.
    Answer {
        /// Whose session.
        scope: Scope,
        /// Which.
        session: String,
        /// The answer.
        message: Value,
    },
    /// A client took a request back.
    Canceled {
        /// Whose session.
        scope: Scope,
        /// Which.
        session: String,
        /// The notification.
        message: Value,
    },
    /// A session is over.
    Ended {
        /// Whose session.
        scope: Scope,
        /// Which.
        session: String,
        /// Also if it is in use.
        at_once: bool,
    },
    /// A client sent a message to a stream of the HTTP+SSE transport.
    Message {
        /// Whose session.
        scope: Scope,
        /// Which.
        session: String,
        /// The message.
        message: Value,
        /// The tools that its caller may not use.
        withheld: Vec<String>,
        /// Until when what the caller showed counts.
        until: Option<Timestamp>,
    },
    /// A verified delivery told of a call.
    Call {
        /// Of the server's own account, if it has one.
        account: Option<Scope>,
        /// Which call.
        call_id: CallId,
        /// Its record: only of the server's own account, and only if it is not too large.
        call: Option<Value>,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    from: ReplicaId,
    told: Told,
}

/// Tells all, or one. `false`: surely nobody heard it.
///
/// # Errors
/// It cannot be told now.
pub async fn tell(shared: &Shared, to: To, told: Told) -> Result<bool, Gone> {
    let envelope = Envelope { from: shared.replica(), told };
    let payload = serde_json::to_vec(&envelope).unwrap_or_default();
    shared.tell(to, &payload).await
}

/// The news of calls: makes those who wait look at once, at this replica and at the others.
pub struct News {
    /// The server's own account. Callers with accounts of their own are only told to look: whoever
    /// holds the server's secret must not put words into their calls.
    own: Option<Arc<Account>>,
    tenants: Arc<Tenants>,
}

impl News {
    /// News for the server's own account, or else for the accounts of all tenants.
    #[must_use]
    pub fn new(own: Option<Arc<Account>>, tenants: Arc<Tenants>) -> Self {
        Self { own, tenants }
    }

    /// The server's own account.
    #[must_use]
    pub fn own(&self) -> Option<&Arc<Account>> {
        self.own.as_ref()
    }

    /// Makes those who wait at this replica look at once.
    pub fn wake(&self, call_id: &CallId, call: Option<Call>) {
        let wake = |account: &Account, call| {
            if let Ok(watchers) = account.watchers() {
                watchers.wake(call_id, call);
            }
        };
        match &self.own {
            Some(own) => wake(own, call),
            None => {
                for tenant in self.tenants.all() {
                    wake(tenant.account(), None);
                }
            }
        }
    }

    /// Tells the other replicas. What they do not hear, they learn by asking.
    pub async fn spread(&self, shared: &Shared, call_id: &CallId, call: Option<&Call>) {
        let own = self.own.as_deref();
        let record = call.filter(|_| own.is_some()).and_then(|call| {
            let small = |text: &Vec<u8>| text.len() <= MOST_CALL_BYTES;
            serde_json::to_vec(call).ok().filter(small)?;
            serde_json::to_value(call).ok()
        });
        let told =
            Told::Call { account: own.map(scope_of), call_id: call_id.clone(), call: record };
        if let Err(error) = tell(shared, To::All, told).await {
            tracing::warn!(%error, "other replicas were not told of a call");
        }
    }
}

/// What belongs to an account, whoever uses it.
fn scope_of(account: &Account) -> Scope {
    let name = account.dialer().map(|dialer| dialer.tenant().id().as_str().to_owned());
    Scope::of(&[b"account", name.unwrap_or_default().as_bytes()])
}

/// Whose sessions are whose: of one identity, on behalf of one account.
#[must_use]
pub fn tenant_scope(identity: &[u8], account: &Account) -> Scope {
    let name = account.dialer().map(|dialer| dialer.tenant().id().as_str().to_owned());
    Scope::of(&[b"tenant", identity, name.unwrap_or_default().as_bytes()])
}

/// Hears what other replicas tell and does it.
pub struct Hearer {
    shared: Shared,
    tenants: Arc<Tenants>,
    inboxes: Arc<Inboxes>,
    news: News,
}

impl Hearer {
    /// Hears for these tenants.
    #[must_use]
    pub fn new(shared: Shared, inboxes: Arc<Inboxes>, tenants: Arc<Tenants>, news: News) -> Self {
        Self { shared, tenants, inboxes, news }
    }

    /// Hears until it is dropped.
    pub async fn run(self) {
        let (inbox, mut waiting) = mpsc::channel(WAITING);
        let listen = self.shared.clone().listen(inbox);
        let hearer = Arc::new(self);
        let work = async {
            let places = Arc::new(Semaphore::new(AT_ONCE));
            while let Some(payload) = waiting.recv().await {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let hearer = Arc::clone(&hearer);
                tokio::spawn(async move {
                    hearer.hear(&payload).await;
                    drop(place);
                });
            }
        };
        tokio::join!(listen, work, hearer.keep_in_use());
    }

    /// A session may be in use for longer than one without a message is kept: by a long wait.
    async fn keep_in_use(&self) {
        loop {
            let tenants = self.tenants.all();
            let sharing = tenants.iter().filter_map(|tenant| tenant.sessions().sharing());
            let pause = sharing.map(|sharing| sharing.touch_every()).min();
            drop(tenants);
            tokio::time::sleep(pause.unwrap_or(TOUCH_AT_LEAST).min(TOUCH_AT_LEAST)).await;
            for tenant in self.tenants.all() {
                let Some(sharing) = tenant.sessions().sharing() else { continue };
                for session in tenant.sessions().in_use() {
                    sharing.touch(&session).await;
                }
            }
        }
    }

    async fn hear(&self, payload: &Bytes) {
        let told = match serde_json::from_slice::<Envelope>(payload) {
            // What it told itself it has done, but for sessions that had to make room.
            Ok(Envelope { from, told })
                if from == self.shared.replica() && !matches!(told, Told::Ended { .. }) =>
            {
                return;
            }
            Ok(envelope) => envelope.told,
            Err(_) => {
                tracing::warn!("something that was told by a replica cannot be read");
                return;
            }
        };
        match told {
            Told::Answer { scope, session, message } => {
                if let (Some(tenant), Some(message)) =
                    (self.tenants.of_scope(&scope), read(message))
                {
                    tenant.sessions().take_answer(&session.as_str().into(), message).await;
                }
            }
            Told::Canceled { scope, session, message } => {
                if let (Some(tenant), Some(message)) =
                    (self.tenants.of_scope(&scope), read(message))
                {
                    tenant.sessions().take_cancel(&session.as_str().into(), message).await;
                }
            }
            Told::Ended { scope, session, at_once } => {
                if let Some(tenant) = self.tenants.of_scope(&scope) {
                    tenant.sessions().end_elsewhere(&session.as_str().into(), at_once).await;
                }
            }
            Told::Message { scope, session, message, withheld, until } => {
                let (Some(tenant), Some(message)) = (self.tenants.of_scope(&scope), read(message))
                else {
                    return;
                };
                let Some(used) = tenant.sessions().enter(&session) else { return };
                used.keep_until(until);
                let caller = self.tenants.caller(&tenant, &used, &withheld);
                let taken = sse::deliver(&self.inboxes, &tenant, &session, message, caller).await;
                if !taken.is_some_and(|response| response.status().is_success()) {
                    tracing::warn!("a message from another replica found no place");
                }
            }
            Told::Call { account, call_id, call } => {
                if account != self.news.own().map(|own| scope_of(own)) {
                    return;
                }
                let call = call.and_then(|call| serde_json::from_value::<Call>(call).ok());
                self.news.wake(&call_id, call.filter(|call| call.id == call_id));
            }
        }
    }
}

fn read(message: Value) -> Option<ClientJsonRpcMessage> {
    serde_json::from_value(message).ok()
}
