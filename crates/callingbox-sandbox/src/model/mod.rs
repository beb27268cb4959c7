//! The entities of the simulated service: their fields, their rules and their JSON. Pure: no clock, no lock, no I/O,
//! no HTTP.

mod agenda;
mod agent;
mod billing;
mod call;
mod delivery;
mod fault;
mod number;
mod number_catalog;
mod organization;
mod records;
mod webhook_endpoint;

pub(crate) use agenda::{Agenda, AgendaItem};
pub(crate) use agent::{Agent, AgentConfig, AgentType, VoicemailAction};
pub(crate) use billing::{CALL_HOLD, MilliCents, NUMBER_PRICE_CENTS, calls_paused_message};
pub(crate) use call::{Call, CallOrder, CallScenario, CallStep, CallWebhook, Direction};
pub(crate) use delivery::{Delivery, DeliveryOutcome, DeliveryStatus, EventType};
pub(crate) use fault::{Fault, FaultKind};
pub(crate) use number::{Number, NumberType, is_e164};
pub(crate) use number_catalog::{NumberQuery, catalog_number_type, search_numbers};
pub(crate) use organization::Organization;
pub(crate) use records::{Record, Records};
pub(crate) use webhook_endpoint::WebhookEndpoint;
