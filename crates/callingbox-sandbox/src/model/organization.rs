//! Organizations: everything that one API key can see.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::agent::{Agent, AgentType};
use super::billing::{CALL_HOLD, MilliCents, NUMBER_PRICE_CENTS};
use super::call::Call;
use super::delivery::Delivery;
use super::fault::{Fault, take_fault};
use super::number::Number;
use super::records::Records;
use super::webhook_endpoint::WebhookEndpoint;
use crate::clock::Moment;
use crate::seed::{derive_signing_secret, derive_uuid};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Organization {
    pub(crate) id: Uuid,
    /// Random, so that an organization that was reset can be distinguished from the one before it, although the seed
    /// gives both the same ids.
    pub(crate) incarnation: Uuid,
    pub(crate) balance: MilliCents,
    /// Credit held for calls that have not ended.
    pub(crate) held: MilliCents,
    pub(crate) agents: Records<Agent>,
    pub(crate) numbers: Records<Number>,
    pub(crate) calls: Records<Call>,
    pub(crate) endpoints: Vec<WebhookEndpoint>,
    pub(crate) deliveries: Records<Delivery>,
    /// Signs deliveries to a `webhook_url`.
    pub(crate) signing_secret: String,
    /// Destinations that have given their one-time error (0114, 0115).
    pub(crate) refused_once: HashSet<String>,
    /// Bytes of text that calls keep.
    pub(crate) call_bytes: usize,
    /// How many ids and secrets have been derived.
    derived: u64,
    #[serde(skip)]
    pub(crate) faults: Vec<Fault>,
    /// How often each endpoint, by path and method, has been requested.
    #[serde(skip)]
    pub(crate) request_counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Organization {
    pub(crate) fn new(seed: u64, id: Uuid, balance: MilliCents) -> Self {
        Self {
            id,
            incarnation: Uuid::new_v4(),
            balance,
            held: MilliCents::ZERO,
            agents: Records::default(),
            numbers: Records::default(),
            calls: Records::default(),
            endpoints: Vec::new(),
            deliveries: Records::default(),
            signing_secret: derive_signing_secret(seed, &[b"default secret", id.as_bytes()]),
            refused_once: HashSet::new(),
            call_bytes: 0,
            derived: 0,
            faults: Vec::new(),
            request_counts: BTreeMap::new(),
        }
    }

    /// Credit that no call holds.
    pub(crate) fn available_credit(&self) -> MilliCents {
        self.balance.saturating_sub(self.held)
    }

    /// Releases the hold of one call and charges the call.
    pub(crate) fn settle_call(&mut self, charge: MilliCents) {
        self.held = self.held.saturating_sub(CALL_HOLD);
        self.balance = self.balance.saturating_sub(charge);
    }

    pub(crate) fn next_id(&mut self, seed: u64) -> Uuid {
        let number = self.next_derived_number();
        derive_uuid(seed, &[b"record", self.id.as_bytes(), &number])
    }

    pub(crate) fn next_secret(&mut self, seed: u64) -> String {
        let number = self.next_derived_number();
        derive_signing_secret(seed, &[b"secret", self.id.as_bytes(), &number])
    }

    fn next_derived_number(&mut self) -> [u8; 8] {
        self.derived += 1;
        self.derived.to_be_bytes()
    }

    pub(crate) fn find_number(&self, e164: &str) -> Option<&Number> {
        self.numbers.iter().find(|number| number.e164 == e164)
    }

    /// The inbound agent of a number, of which there is at most one.
    pub(crate) fn inbound_agent(&self, number: Uuid) -> Option<&Agent> {
        self.agents
            .iter()
            .find(|agent| agent.agent_type == AgentType::Inbound && agent.numbers.contains(&number))
    }

    pub(crate) fn endpoint(&self, id: Uuid) -> Option<&WebhookEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id)
    }

    pub(crate) fn endpoint_mut(&mut self, id: Uuid) -> Option<&mut WebhookEndpoint> {
        self.endpoints.iter_mut().find(|endpoint| endpoint.id == id)
    }

    /// Counts a request and takes the first fault that matches it.
    pub(crate) fn count_request(
        &mut self,
        method: &'static str,
        route: &'static str,
        path: &str,
    ) -> Option<Fault> {
        *self.request_counts.entry((route, method)).or_default() += 1;
        take_fault(&mut self.faults, method, path)
    }

    /// A number with its agents, as the API shows it.
    pub(crate) fn number_to_json(&self, number: &Number) -> Value {
        let outbound_agents: Vec<Uuid> = self
            .agents
            .iter()
            .filter(|agent| {
                agent.agent_type == AgentType::Outbound && agent.numbers.contains(&number.id)
            })
            .map(|agent| agent.id)
            .collect();
        json!({
            "id": number.id,
            "e164": number.e164,
            "friendly_name": null,
            "country_code": "US",
            "number_type": number.number_type,
            "status": "active",
            "monthly_cost_cents": NUMBER_PRICE_CENTS,
            "purchased_at": number.purchased_at.to_iso8601(),
            "inbound_agent_id": self.inbound_agent(number.id).map(|agent| agent.id),
            "outbound_agent_ids": outbound_agents,
            "simulated": true,
        })
    }

    /// An agent with its numbers, as the API shows it.
    pub(crate) fn agent_to_json(&self, agent: &Agent) -> Value {
        let config = &agent.config;
        let numbers = agent.numbers.iter().filter_map(|id| self.numbers.get(*id));
        json!({
            "id": agent.id,
            "org_id": self.id,
            "user_id": "user_sandbox",
            "name": config.name,
            "type": agent.agent_type,
            "persona": config.persona,
            "instructions": config.instructions,
            "voice": config.voice,
            "language": config.language,
            "returns": config.returns_to_json(),
            "tools": config.tools,
            "webhook_url": config.webhook_url,
            "voicemail_action": config.voicemail_action,
            "primary_number_id": agent.primary_number,
            "archived_at": agent.archived_at.map(Moment::to_iso8601),
            "created_at": agent.created_at.to_iso8601(),
            "updated_at": agent.updated_at.to_iso8601(),
            "numbers": numbers.map(|number| self.number_to_json(number)).collect::<Vec<_>>(),
            "simulated": true,
        })
    }
}
