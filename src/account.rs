//! The account on whose behalf tools run: its API client, its dialer, its watchers, and its environment (live or
//! sandbox).
//!
//! An account keeps its environment for life, so that live and simulated calls are never confused and neither is
//! the fallback of the other. Knows neither MCP nor the configuration.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

pub use crate::dialing::Environment;
use crate::dialing::dialer::Dialer;
pub use crate::simulator::Simulator;
use crate::ttl_cache::TtlCache;
use crate::watch::{WaitLimits, WatchSettings, Watchers, polling_source};
use callingbox::{Agent, AgentId};

/// How long an agent's record is used for reports, which name the agent.
const AGENT_TTL: Duration = Duration::from_secs(60);
const MAX_AGENTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no CallingBox API key is set, so no request was sent to CallingBox")]
pub struct MissingApiKey;

pub struct Account {
    api_access: Option<ApiAccess>,
    simulator: Option<Simulator>,
    wait_limits: WaitLimits,
    webhook_url: Option<String>,
}

/// The parts that need an API key.
struct ApiAccess {
    client: callingbox::ApiClient,
    dialer: Arc<Dialer>,
    watchers: OnceLock<Arc<Watchers>>,
    /// Agents that were read a moment ago; `None` for one that could not be read.
    agents: Mutex<TtlCache<AgentId, Option<Arc<Agent>>>>,
}

impl Account {
    /// A live account without an API key: every tool answers how to set one.
    #[must_use]
    pub fn without_key(wait_limits: WaitLimits) -> Self {
        Self { api_access: None, simulator: None, wait_limits, webhook_url: None }
    }

    /// The account of an API key: one of the simulator, or else a live one.
    #[must_use]
    pub fn new(
        client: callingbox::ApiClient,
        dialer: Arc<Dialer>,
        simulator: Option<Simulator>,
        wait_limits: WaitLimits,
        webhook_url: Option<String>,
    ) -> Self {
        let api_access = ApiAccess {
            client,
            dialer,
            watchers: OnceLock::new(),
            agents: Mutex::new(TtlCache::new(AGENT_TTL, MAX_AGENTS)),
        };
        Self { api_access: Some(api_access), simulator, wait_limits, webhook_url }
    }

    #[must_use]
    pub fn environment(&self) -> Environment {
        match self.simulator {
            Some(_) => Environment::Sandbox,
            None => Environment::Live,
        }
    }

    /// # Errors
    /// No API key is set.
    pub fn api(&self) -> Result<&callingbox::ApiClient, MissingApiKey> {
        Ok(&self.api_access()?.client)
    }

    /// Whether CallingBox refused the key at its last request.
    #[must_use]
    pub fn is_key_refused(&self) -> bool {
        self.api().is_ok_and(callingbox::ApiClient::is_key_refused)
    }

    /// # Errors
    /// No API key is set.
    pub fn dialer(&self) -> Result<&Arc<Dialer>, MissingApiKey> {
        Ok(&self.api_access()?.dialer)
    }

    /// The watchers of live calls, started on first use.
    ///
    /// # Errors
    /// No API key is set.
    pub fn watchers(&self) -> Result<&Arc<Watchers>, MissingApiKey> {
        let access = self.api_access()?;
        Ok(access.watchers.get_or_init(|| {
            let speed = self.simulator.as_ref().map_or(1.0, Simulator::speed);
            Watchers::new(
                polling_source(&access.client),
                WatchSettings { speed, ..WatchSettings::default() },
            )
        }))
    }

    /// An agent as it was at most a minute ago, for texts that name it. `None` if it cannot be read.
    pub async fn find_agent(&self, id: &AgentId) -> Option<Arc<Agent>> {
        let access = self.api_access.as_ref()?;
        if let Some(known) = access.agents.lock().get(id) {
            return known.clone();
        }
        let found = access.client.get_agent(id).await.ok().map(Arc::new);
        access.agents.lock().insert(id.clone(), found.clone());
        found
    }

    /// Makes [`Self::find_agent`] read an agent again, because it was changed.
    pub fn forget_agents(&self) {
        if let Some(access) = &self.api_access {
            access.agents.lock().clear();
        }
    }

    /// The present time of the account's environment: the simulator has a clock of its own. `None` if it cannot be read.
    pub async fn now(&self) -> Option<Timestamp> {
        match &self.api_access {
            Some(access) => access.dialer.now().await.ok().map(|now| now.dialing),
            None => Some(Timestamp::now()),
        }
    }

    fn api_access(&self) -> Result<&ApiAccess, MissingApiKey> {
        self.api_access.as_ref().ok_or(MissingApiKey)
    }

    /// The simulator's controls; `None` for a live account.
    #[must_use]
    pub fn simulator(&self) -> Option<&Simulator> {
        self.simulator.as_ref()
    }

    /// The address of this server that receives a call's events if the caller named no other.
    #[must_use]
    pub fn webhook_url(&self) -> Option<&str> {
        self.webhook_url.as_deref()
    }

    #[must_use]
    pub fn wait_limits(&self) -> &WaitLimits {
        &self.wait_limits
    }
}
