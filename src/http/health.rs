//! Whether the server lives, and whether it can do its work: the key is accepted, the ledger can be
//! read, what is shared with other replicas can be reached, and the keys of the issuer of tokens are
//! known. What was found is remembered for a short time, so that probes cost the API little.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, timeout};

use super::auth::Door;
use crate::account::Account;
use crate::dialing::Environment;
use crate::dialing::dispatch::{self, LedgerPlace};
use crate::dialing::ledger::Ledger;
use crate::state::SharedState;
use callingbox::Client;

/// How long a finding stands.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How long finding out may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is looked at.
pub struct Health {
    account: Option<Arc<Account>>,
    place: (LedgerPlace, Environment),
    ledger: OnceCell<Arc<dyn Ledger>>,
    shared: Option<SharedState>,
    stopping: AtomicBool,
    found: Mutex<Option<(Instant, Report)>>,
}

/// What was found; `ok`, or what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Report {
    ready: bool,
    /// Nothing where every caller brings their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'static str>,
    ledger: &'static str,
    /// Nothing where no state is shared with other replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Nothing where no tokens of an issuer are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'static str>,
}

impl Health {
    /// Looks at the server's own account, if it has one, and at the ledger.
    #[must_use]
    pub fn new(
        account: Option<Arc<Account>>,
        place: LedgerPlace,
        environment: Environment,
    ) -> Self {
        Self {
            account,
            place: (place, environment),
            ledger: OnceCell::new(),
            shared: None,
            stopping: AtomicBool::new(false),
            found: Mutex::new(None),
        }
    }

    /// Looks also at what is shared with other replicas.
    #[must_use]
    pub fn sharing(mut self, shared: Option<SharedState>) -> Self {
        self.shared = shared;
        self
    }

    /// From now on: not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The answer of `/readyz`: 200 or 503.
    pub async fn ready(&self, door: &Door) -> Response {
        if self.stopping.load(Ordering::Relaxed) {
            let body = serde_json::json!({ "ready": false, "stopping": true });
            return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
        }
        // Whoever asks meanwhile waits here and then finds the answer.
        let mut found = self.found.lock().await;
        let report = match found.as_ref() {
            Some((at, report)) if at.elapsed() < REMEMBERED => report.clone(),
            _ => {
                let report = self.look(door).await;
                *found = Some((Instant::now(), report.clone()));
                report
            }
        };
        let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(report)).into_response()
    }

    async fn look(&self, door: &Door) -> Report {
        let key = async {
            let account = self.account.as_ref()?;
            Some(match account.api() {
                Err(_) => "no key is set",
                Ok(api) => accepts(api).await.map_or_else(|problem| problem, |()| "ok"),
            })
        };
        let ledger = async {
            match timeout(PATIENCE, self.read_ledger()).await {
                Ok(true) => "ok",
                _ => "cannot be read",
            }
        };
        let state = async {
            let shared = self.shared.as_ref()?;
            Some(shared.check().await.map_or("cannot be reached", |()| "ok"))
        };
        let issuer = async {
            let known = timeout(PATIENCE, door.knows_issuer()).await.unwrap_or(Some(false))?;
            Some(if known { "ok" } else { "its keys cannot be fetched" })
        };
        let (key, ledger, state, issuer) = tokio::join!(key, ledger, state, issuer);
        let well = |found: Option<&str>| found.is_none_or(|found| found == "ok");
        let ready = well(key) && ledger == "ok" && well(state) && well(issuer);
        Report { ready, key, ledger, state, issuer }
    }

    async fn read_ledger(&self) -> bool {
        let (place, environment) = &self.place;
        let opened = self.ledger.get_or_try_init(|| dispatch::open(place, *environment)).await;
        let Ok(ledger) = opened else { return false };
        ledger.check().await.is_ok()
    }
}

/// Whether CallingBox accepts the key.
///
/// # Errors
/// In a few words: it does not, or cannot be asked.
pub async fn accepts(api: &Client) -> Result<(), &'static str> {
    match timeout(PATIENCE, api.check_key()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if matches!(error.status(), Some(401 | 403)) => Err(REFUSED),
        _ => Err("CallingBox cannot be reached"),
    }
}

/// What [`accepts`] says of a key that CallingBox does not know.
pub const REFUSED: &str = "CallingBox does not accept the key";

/// The answer of `/healthz`.
pub async fn alive() -> Response {
    Json(serde_json::json!({ "alive": true })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::KEY_PREFIX;
    use crate::state::testing::RedisServer;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
    async fn a_probe_asks_the_ledger_once_however_many_accounts_are_in_it() {
        let server = RedisServer::start().await;
        let place = LedgerPlace::Redis(server.shared_state());
        let health = Health::new(None, place, Environment::Sandbox);
        assert!(health.read_ledger().await);
        let mut connection = server.connection();
        for account in 0..50 {
            let mut add = redis::cmd("SADD");
            add.arg(format!("{KEY_PREFIX}:tenants")).arg(account);
            let _: () = add.query_async(&mut connection).await.unwrap();
        }
        let _: () =
            redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut connection).await.unwrap();
        assert!(health.read_ledger().await);
        let info: String =
            redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
        let asked = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        // With the resetting.
        assert!(asked.unwrap().parse::<u32>().unwrap() <= 2, "{asked:?}");
    }
}
