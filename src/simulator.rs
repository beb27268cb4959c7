//! The controls of a simulator, seen from the outside: what `simulate_inbound_call` needs, and the
//! check that what answers at an address really is one.
//!
//! It speaks HTTP to `/sandbox/…` and shares no code with the simulator itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{ApiKey, BaseUrl, Call};
use crate::e164::E164;

/// The key that this program uses on a simulator. Every `sk_` key is an organization of its own
/// there.
pub const KEY: &str = "sk_sandbox_callingbox_mcp";

/// Why a simulator did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// Nothing answers there.
    #[error("no simulator answers at {url}: {source}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Something answers, but not a simulator.
    #[error(
        "{url} is not a callingbox-mcp simulator; --sandbox takes only the address of one, so that simulated and real calls are never confused"
    )]
    NotASimulator {
        /// Where.
        url: String,
    },
    /// It refused.
    #[error("the simulator refused ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// Its answer cannot be read.
    #[error("the simulator's answer cannot be read: {0}")]
    Unreadable(String),
}

/// The way to one simulator's controls.
#[derive(Debug, Clone)]
pub struct Simulator {
    base_url: BaseUrl,
    key: ApiKey,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Identity {
    simulator: String,
}

#[derive(Serialize)]
struct InboundCall<'a> {
    to: &'a E164,
    from: &'a E164,
    #[serde(skip_serializing_if = "Option::is_none")]
    scenario: Option<&'a str>,
}

/// The scenario that a caller's number chooses, as a destination does: +1, any area code, 555, and
/// 0100 to 0115.
fn scenario_of(caller: &E164) -> Option<&str> {
    let digits = caller.as_str().strip_prefix("+1").filter(|rest| rest.len() == 10)?;
    digits.get(3..)?.strip_prefix("555").filter(|digits| ("0100"..="0115").contains(digits))
}

impl Simulator {
    /// The simulator at this address, checked to be one.
    ///
    /// # Errors
    /// Nothing answers there, or not a simulator.
    pub async fn connect(base_url: BaseUrl, key: ApiKey) -> Result<Self, SimulatorError> {
        let url = base_url.to_string();
        let unreachable = |source| SimulatorError::Unreachable { url: url.clone(), source };
        // reqwest asks for one even where all is plain http; one that is there already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(unreachable)?;
        let answer = http.get(format!("{url}/sandbox")).send().await.map_err(unreachable)?;
        let body = answer.bytes().await.map_err(unreachable)?;
        match serde_json::from_slice::<Identity>(&body) {
            Ok(identity) if identity.simulator == "callingbox-mcp" => {
                Ok(Self { base_url, key, http })
            }
            _ => Err(SimulatorError::NotASimulator { url }),
        }
    }

    /// Makes a caller ring one of the account's numbers; the caller's digits choose the scenario.
    ///
    /// # Errors
    /// The simulator refuses: the number is not owned, or no inbound agent answers it.
    pub async fn ring(&self, to: &E164, from: &E164) -> Result<Call, SimulatorError> {
        let url = self.base_url.to_string();
        let unreachable = |source| SimulatorError::Unreachable { url: url.clone(), source };
        let body = serde_json::to_vec(&InboundCall { to, from, scenario: scenario_of(from) })
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
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(unreachable)?;
        if status >= 300 {
            let message = serde_json::from_slice::<Value>(&body)
                .ok()
                .and_then(|body| body.get("error").and_then(Value::as_str).map(str::to_owned))
                .unwrap_or_default();
            return Err(SimulatorError::Refused { status, message });
        }
        serde_json::from_slice(&body).map_err(|error| SimulatorError::Unreadable(error.to_string()))
    }
}
