//! A client of a simulator's control endpoints: it checks that an address is a simulator's, and simulates inbound calls.
//!
//! It sends HTTP requests to `/sandbox/…` and shares no code with the simulator itself.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dialing::clock::DialingClock;
use crate::own_command::own_command;
use callingbox::E164;
use callingbox::http_client::read_body;
use callingbox::json_text::read_leniently;
use callingbox::{ApiKey, BaseUrl, Call, redact::sanitize_text};

/// The API key that this program uses with a simulator, where each `sk_` key is an organization of its own.
pub const KEY: &str = "sk_sandbox_callingbox_mcp";

/// The largest response that is read, in bytes. A call's record has a few thousand.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// Why a request to a simulator failed.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// No server answers at the address.
    #[error("no simulator answers at {url}; `{} sandbox` starts one", own_command())]
    Unreachable {
        /// The address.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// TLS cannot be used.
    #[error("no TLS connection to the simulator can be made: {0}")]
    Tls(String),
    /// A server answers that is not a simulator.
    #[error(
        "{url} is not a callingbox-mcp simulator; --sandbox takes only the address of one, so that simulated and real calls are never confused"
    )]
    NotASimulator {
        /// The address.
        url: String,
    },
    /// The simulator rejected the request.
    #[error("the simulator rejected the request ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The simulator's message.
        message: String,
    },
    /// The response cannot be read.
    #[error("the simulator's response cannot be read: {0}")]
    Unreadable(String),
}

impl SimulatorError {
    /// Whether the request certainly had no effect: it did not arrive, or the simulator rejected it.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_connect(),
            Self::Tls(_) | Self::NotASimulator { .. } => true,
            Self::Refused { status, .. } => (400..500).contains(status),
            Self::Unreadable(_) => false,
        }
    }

    fn unreachable(url: &str, error: reqwest::Error) -> Self {
        Self::Unreachable { url: url.to_owned(), source: error.without_url() }
    }
}

/// A simulator, checked to be one.
#[derive(Debug, Clone)]
pub struct Simulator {
    base_url: BaseUrl,
    key: ApiKey,
    http: reqwest::Client,
    speed: f64,
    incarnation: String,
}

#[derive(Deserialize)]
struct SimulatorIdentity {
    simulator: String,
    #[serde(default)]
    clock: Clock,
}

#[derive(Deserialize)]
struct Organization {
    incarnation: String,
}

#[derive(Deserialize)]
struct Now {
    now: jiff::Timestamp,
}

#[derive(Default, Deserialize)]
struct Clock {
    speed: Option<f64>,
}

#[derive(Serialize)]
struct InboundCall<'a> {
    to: &'a E164,
    from: &'a E164,
    #[serde(skip_serializing_if = "Option::is_none")]
    scenario: Option<&'a str>,
}

/// The scenario that a caller's number selects, as a destination does: +1, any area code, 555, and 0100 to 0116.
fn parse_scenario(caller: &E164) -> Option<&str> {
    let digits = caller.as_str().strip_prefix("+1").filter(|rest| rest.len() == 10)?;
    digits.get(3..)?.strip_prefix("555").filter(|digits| ("0100"..="0116").contains(digits))
}

impl Simulator {
    /// Connects to the simulator at an address.
    ///
    /// # Errors
    /// No server answers there, or the server is not a simulator.
    pub async fn connect(base_url: BaseUrl, key: ApiKey) -> Result<Self, SimulatorError> {
        let url = base_url.to_string();
        let unreachable = |error| SimulatorError::unreachable(&url, error);
        let tls = callingbox::http_client::load_tls_config(base_url.is_https())
            .await
            .map_err(SimulatorError::Tls)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(Duration::from_secs(10))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(unreachable)?;
        let mut answer = http.get(format!("{url}/sandbox")).send().await.map_err(unreachable)?;
        let body = read_body(&mut answer, MAX_RESPONSE_BYTES).await.map_err(unreachable)?;
        let speed = match read_leniently::<SimulatorIdentity>(&body.unwrap_or_default()) {
            Ok(identity) if identity.simulator == "callingbox-sandbox" => identity.clock.speed,
            _ => return Err(SimulatorError::NotASimulator { url }),
        };
        // The key is sent only now, to a server that is known to be a simulator.
        let request = http.get(format!("{url}/sandbox/organization")).bearer_auth(key.expose());
        let incarnation =
            match read_response(request.send().await.map_err(unreachable)?, &key).await {
                Ok(Organization { incarnation }) => incarnation,
                // A rejected key has no organization. The API reports it.
                Err(SimulatorError::Refused { status: 401, .. }) => String::new(),
                Err(error) => return Err(error),
            };
        let speed = speed.filter(|speed| *speed > 0.0).unwrap_or(1.0);
        Ok(Self { base_url, key, http, speed, incarnation })
    }

    /// Identifies the organization's state when the connection was made. It changes when the simulator is reset, or
    /// restarted without a state file, even if ids repeat.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// The speed of simulated time, as a multiple of real time. 1 if the clock is moved by hand.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The clock by which an account of this simulator dials.
    #[must_use]
    pub fn dialing_clock(&self) -> DialingClock {
        let simulator = self.clone();
        let read = move || {
            let simulator = simulator.clone();
            async move { simulator.read_clock().await.ok() }.boxed()
        };
        DialingClock::simulated(Arc::new(read), self.speed)
    }

    /// Reads the simulated time.
    ///
    /// # Errors
    /// The simulator cannot be read.
    pub async fn read_clock(&self) -> Result<jiff::Timestamp, SimulatorError> {
        let url = self.base_url.to_string();
        let response = self.http.get(format!("{url}/sandbox/clock")).send().await;
        let response = response.map_err(|error| SimulatorError::unreachable(&url, error))?;
        read_response(response, &self.key).await.map(|Now { now }| now)
    }

    /// Simulates a call from a caller to one of the account's numbers. The caller's number selects the scenario.
    ///
    /// # Errors
    /// The simulator rejects the request: the number is not owned, or no inbound agent answers it.
    pub async fn simulate_inbound_call(
        &self,
        to: &E164,
        from: &E164,
    ) -> Result<Call, SimulatorError> {
        let url = self.base_url.to_string();
        let unreachable = |error| SimulatorError::unreachable(&url, error);
        let body = serde_json::to_vec(&InboundCall { to, from, scenario: parse_scenario(from) })
            .map_err(|error| SimulatorError::Unreadable(error.to_string()))?;
        let answer = self
            .http
            .post(format!("{url}/sandbox/inbound_calls"))
            .bearer_auth(self.key.expose())
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .map_err(unreachable)?;
        read_response(answer, &self.key).await
    }
}

/// Reads the response of a control endpoint.
async fn read_response<T: DeserializeOwned>(
    mut response: reqwest::Response,
    key: &ApiKey,
) -> Result<T, SimulatorError> {
    let unreadable = |error: &dyn std::error::Error| SimulatorError::Unreadable(error.to_string());
    let status = response.status().as_u16();
    let body =
        read_body(&mut response, MAX_RESPONSE_BYTES).await.map_err(|error| unreadable(&error))?;
    let too_long =
        || SimulatorError::Unreadable(format!("it has more than {MAX_RESPONSE_BYTES} bytes"));
    let body = body.ok_or_else(too_long)?;
    if status >= 300 {
        let body = read_leniently::<Value>(&body).unwrap_or_default();
        let text = body.get("error").and_then(Value::as_str).unwrap_or_default();
        return Err(SimulatorError::Refused { status, message: sanitize_text(text, key.expose()) });
    }
    read_leniently(&body).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::Router;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn the_key_is_not_sent_to_a_server_that_is_not_a_simulator() {
        for identity in ["{}", r#"{"simulator": "another"}"#, "<html>", ""] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let shown = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&shown);
            let routes = Router::new().fallback(async move |headers: http::HeaderMap| {
                seen.fetch_or(headers.contains_key("authorization"), Ordering::Relaxed);
                identity
            });
            tokio::spawn(async { axum::serve(listener, routes).await });
            let url = BaseUrl::parse(&url, false).unwrap();
            let found = Simulator::connect(url, ApiKey::new(KEY.to_owned()).unwrap()).await;
            assert!(matches!(found, Err(SimulatorError::NotASimulator { .. })), "{found:?}");
            assert!(!shown.load(Ordering::Relaxed), "{identity}");
        }
    }

    #[tokio::test]
    async fn a_response_is_read_up_to_its_limit() {
        const IDENTITY: &str = r#"{"simulator": "callingbox-sandbox"}"#;
        let long = |text: &str| format!("{text}{}", " ".repeat(MAX_RESPONSE_BYTES));
        let organization = r#"{"incarnation": "1"}"#;
        for (identity, organization, problem) in [
            (IDENTITY.to_owned(), organization.to_owned(), None),
            (long(IDENTITY), organization.to_owned(), Some("is not a callingbox-mcp simulator")),
            (IDENTITY.to_owned(), long(organization), Some("has more than 1048576 bytes")),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let routes = Router::new()
                .route("/sandbox", get(async || identity))
                .route("/sandbox/organization", get(async || organization));
            tokio::spawn(async { axum::serve(listener, routes).await });
            let url = BaseUrl::parse(&url, false).unwrap();
            let found = Simulator::connect(url, ApiKey::new(KEY.to_owned()).unwrap()).await;
            match (found, problem) {
                (Ok(found), None) => assert_eq!(found.incarnation(), "1"),
                (Err(error), Some(problem)) => {
                    assert!(error.to_string().contains(problem), "{error}");
                }
                (found, problem) => panic!("{found:?} {problem:?}"),
            }
        }
    }
}
