//! The account on whose behalf tools run, and the world it belongs to.
//!
//! Real calls and simulated ones are never confused and neither is the fallback of the other: an
//! account is of one world from its making to its end. Everything a tool needs is handed in here;
//! there are no globals.

use std::sync::{Arc, OnceLock};

use crate::config::Wait;
pub use crate::dialing::Environment;
use crate::dialing::dispatch::Dialer;
use crate::simulator::Simulator;
use crate::watch::{Settings, Watchers, source_of};

/// No key is set, so nothing can be asked of CallingBox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no CallingBox API key is set, so nothing was asked of CallingBox")]
pub struct NoKey;

/// One account.
pub struct Account {
    environment: Environment,
    reach: Option<Reach>,
    simulator: Option<Simulator>,
    wait: Wait,
    webhook_url: Option<String>,
}

/// What takes a key.
struct Reach {
    api: callingbox::Client,
    dialer: Arc<Dialer>,
    watchers: OnceLock<Arc<Watchers>>,
}

impl Reach {
    fn new(api: callingbox::Client, dialer: Arc<Dialer>) -> Self {
        Self { api, dialer, watchers: OnceLock::new() }
    }
}

impl Account {
    /// A real account; without API and dialer there is no key, and every tool says how to set one.
    #[must_use]
    pub fn real(reach: Option<(callingbox::Client, Arc<Dialer>)>, wait: Wait) -> Self {
        let reach = reach.map(|(api, dialer)| Reach::new(api, dialer));
        Self { environment: Environment::Live, reach, simulator: None, wait, webhook_url: None }
    }

    /// An account of the simulator.
    #[must_use]
    pub fn sandbox(
        api: callingbox::Client,
        dialer: Arc<Dialer>,
        simulator: Simulator,
        wait: Wait,
    ) -> Self {
        let reach = Some(Reach::new(api, dialer));
        Self {
            environment: Environment::Sandbox,
            reach,
            simulator: Some(simulator),
            wait,
            webhook_url: None,
        }
    }

    /// The world it belongs to.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// The API.
    ///
    /// # Errors
    /// No key is set.
    pub fn api(&self) -> Result<&callingbox::Client, NoKey> {
        Ok(&self.reach()?.api)
    }

    /// Who dials, at most once.
    ///
    /// # Errors
    /// No key is set.
    pub fn dialer(&self) -> Result<&Arc<Dialer>, NoKey> {
        Ok(&self.reach()?.dialer)
    }

    /// Who follows live calls. Begins with the first call that anybody waits for.
    ///
    /// # Errors
    /// No key is set.
    pub fn watchers(&self) -> Result<&Arc<Watchers>, NoKey> {
        let reach = self.reach()?;
        Ok(reach.watchers.get_or_init(|| {
            let speed = self.simulator.as_ref().map_or(1.0, Simulator::speed);
            Watchers::new(source_of(&reach.api), Settings { speed, ..Settings::default() })
        }))
    }

    fn reach(&self) -> Result<&Reach, NoKey> {
        self.reach.as_ref().ok_or(NoKey)
    }

    /// The simulator's own controls, in the sandbox.
    #[must_use]
    pub fn simulator(&self) -> Option<&Simulator> {
        self.simulator.as_ref()
    }

    /// The same account, with an address of this server for the events of its calls.
    #[must_use]
    pub fn with_webhook_url(mut self, url: Option<String>) -> Self {
        self.webhook_url = url;
        self
    }

    /// Where the events of a call go whose caller named no address.
    #[must_use]
    pub fn webhook_url(&self) -> Option<&str> {
        self.webhook_url.as_deref()
    }

    /// How long tools wait.
    #[must_use]
    pub fn wait(&self) -> &Wait {
        &self.wait
    }
}
