//! Liveness and readiness. The server is ready if CallingBox accepts its key, the ledger can be read, the state shared
//! with other replicas can be reached, and the keys of the token issuer are known. The report is cached for a short
//! time, so that probes cause few API requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_with::skip_serializing_none;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, timeout};

use super::auth::Authenticator;
use crate::account::Account;
use crate::dialing::Environment;
use crate::dialing::ledger::Ledger;
use crate::dialing::ledger::{LedgerLocation, open_ledger};
use crate::state::SharedState;
use callingbox::ApiClient;

const REPORT_TTL: Duration = Duration::from_secs(10);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the readiness probe checks.
pub struct Health {
    account: Option<Arc<Account>>,
    place: (LedgerLocation, Environment),
    ledger: OnceCell<Arc<dyn Ledger>>,
    shared: Option<SharedState>,
    stopping: AtomicBool,
    cached: Mutex<Option<(Instant, ReadinessReport)>>,
}

/// The result of each check: `ok`, or the problem.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ReadinessReport {
    ready: bool,
    /// `None` if callers authenticate with their own keys.
    key: Option<&'static str>,
    ledger: &'static str,
    /// `None` if no state is shared with other replicas.
    state: Option<&'static str>,
    /// `None` if tokens are not issued by another server.
    issuer: Option<&'static str>,
}

impl Health {
    /// Checks the ledger, and the key of the server's own account if it has one.
    #[must_use]
    pub fn new(
        account: Option<Arc<Account>>,
        place: LedgerLocation,
        environment: Environment,
    ) -> Self {
        Self {
            account,
            place: (place, environment),
            ledger: OnceCell::new(),
            shared: None,
            stopping: AtomicBool::new(false),
            cached: Mutex::new(None),
        }
    }

    /// Also checks the state that is shared with other replicas.
    #[must_use]
    pub fn with_shared_state(mut self, shared: Option<SharedState>) -> Self {
        self.shared = shared;
        self
    }

    /// Reports the server as not ready from now on.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The response of `/readyz`: 200 or 503.
    pub async fn readiness_response(&self, authenticator: &Authenticator) -> Response {
        if self.stopping.load(Ordering::Relaxed) {
            let body = serde_json::json!({ "ready": false, "stopping": true });
            return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
        }
        // Concurrent probes wait for the lock and then use the cached report.
        let mut cached = self.cached.lock().await;
        let report = match cached.as_ref() {
            Some((created, report)) if created.elapsed() < REPORT_TTL => report.clone(),
            _ => {
                let report = self.run_checks(authenticator).await;
                *cached = Some((Instant::now(), report.clone()));
                report
            }
        };
        let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(report)).into_response()
    }

    async fn run_checks(&self, authenticator: &Authenticator) -> ReadinessReport {
        let key = async {
            let account = self.account.as_ref()?;
            Some(match account.api() {
                Err(_) => "no key is set",
                Ok(api) => check_key(api).await.map_or_else(|problem| problem, |()| "ok"),
            })
        };
        let ledger = async {
            match timeout(CHECK_TIMEOUT, self.can_read_ledger()).await {
                Ok(true) => "ok",
                _ => "cannot be read",
            }
        };
        let state = async {
            let shared = self.shared.as_ref()?;
            Some(shared.check().await.map_or("cannot be reached", |()| "ok"))
        };
        let issuer = async {
            let has_keys = timeout(CHECK_TIMEOUT, authenticator.has_issuer_keys())
                .await
                .unwrap_or(Some(false))?;
            Some(if has_keys { "ok" } else { "its keys cannot be fetched" })
        };
        let (key, ledger, state, issuer) = tokio::join!(key, ledger, state, issuer);
        let is_ok = |result: Option<&str>| result.is_none_or(|result| result == "ok");
        let ready = is_ok(key) && ledger == "ok" && is_ok(state) && is_ok(issuer);
        ReadinessReport { ready, key, ledger, state, issuer }
    }

    async fn can_read_ledger(&self) -> bool {
        let (place, environment) = &self.place;
        let opened = self.ledger.get_or_try_init(|| open_ledger(place, *environment)).await;
        let Ok(ledger) = opened else { return false };
        ledger.check_readable().await.is_ok()
    }
}

/// Checks the key with CallingBox.
///
/// # Errors
/// A short text: the key is refused, or CallingBox cannot be reached.
pub async fn check_key(api: &ApiClient) -> Result<(), &'static str> {
    match timeout(CHECK_TIMEOUT, api.check_key()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if matches!(error.status(), Some(401 | 403)) => Err(KEY_REFUSED),
        _ => Err("CallingBox cannot be reached"),
    }
}

/// The error of [`check_key`] for a refused key.
pub const KEY_REFUSED: &str = "CallingBox does not accept the key";

/// The response of `/healthz`.
pub async fn liveness_response() -> Response {
    Json(serde_json::json!({ "alive": true })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::KEY_PREFIX;
    use crate::state::testing::RedisServer;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a Redis server: set CALLINGBOX_TEST_REDIS_SERVER to the redis-server binary"]
    async fn a_probe_sends_one_command_however_many_accounts_the_ledger_has() {
        let server = RedisServer::start().await;
        let place = LedgerLocation::Redis(server.shared_state());
        let health = Health::new(None, place, Environment::Sandbox);
        assert!(health.can_read_ledger().await);
        let mut connection = server.connection();
        for account in 0..50 {
            let mut add = redis::cmd("SADD");
            add.arg(format!("{KEY_PREFIX}:tenants")).arg(account);
            let _: () = add.query_async(&mut connection).await.unwrap();
        }
        let _: () =
            redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut connection).await.unwrap();
        assert!(health.can_read_ledger().await);
        let info: String =
            redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
        let commands = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        // CONFIG RESETSTAT is counted too.
        assert!(commands.unwrap().parse::<u32>().unwrap() <= 2, "{commands:?}");
    }
}
