//! A client of the REST API of [CallingBox](https://docs.callingbox.io): AI agents that place and answer telephone calls.
//!
//! [`ApiClient`] has a method for each operation of the API: agents, calls, transcripts, telephone numbers, webhooks.
//! [`webhook_signature`] verifies the deliveries of webhooks.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use callingbox::{AgentCreate, AgentType, ApiClient, ApiKey, BaseUrl, ClientConfig};
//!
//! # // The simulator stands in for the API.
//! # let options = callingbox_sandbox::Options::default();
//! # let simulator = callingbox_sandbox::Sandbox::start("127.0.0.1:0".parse()?, options).await?;
//! let base_url = BaseUrl::default();
//! # let base_url = BaseUrl::parse(&simulator.url(), false)?;
//! let config = ClientConfig::new(base_url, ApiKey::new("sk_live_0123456789")?);
//! let client = ApiClient::new(config);
//! let agent = client.create_agent(&AgentCreate::new("Reminders", AgentType::Outbound)).await?;
//! let agents = client.list_agents(Some(AgentType::Outbound)).await?;
//! assert!(agents.data.iter().any(|listed| listed.id == agent.id));
//! # Ok(())
//! # }
//! ```
//!
//! # Failed requests
//!
//! An [`Error`] says whether anything was done ([`Effect`]) and whether the same request may be sent again
//! ([`Error::retry_is_safe`]). The client repeats idempotent requests by itself, and a POST only if it was certainly not
//! carried out: a repeated `POST /v1/calls` would ring a second telephone. All attempts together take no longer than
//! [`Timeouts::total`].
//!
//! # Records
//!
//! Records are read leniently: the sources of the API's contract disagree about many fields, so nearly all are optional,
//! and a field that is unknown or does not fit its type is kept in `extra`. Words that the API may add later are kept too,
//! in `Other`. Requests are strict: they send only fields that were set.
//!
//! # Secrets and telephone numbers
//!
//! [`ApiKey`], [`SigningSecret`] and [`E164`] do not print their values, records print only their id, and the messages in
//! errors are masked. The client logs each attempt by [`tracing`] at the level `debug`, and opens a span
//! `callingbox_request` for it; neither has a body, key, id or number.
#![warn(missing_docs)]

mod agents;
mod calls;
mod client;
mod config;
mod e164;
mod error;
pub mod error_ext;
mod error_response;
pub mod http_client;
mod ids;
pub mod json_text;
mod key;
mod lenient;
mod model;
mod money;
mod numbers;
mod operation;
mod page;
mod probe;
pub mod redact;
mod response;
mod retry;
mod send_guard;
pub mod shown_text;
mod transport;
pub mod webhook_signature;
mod webhooks;

pub use agents::{
    Agent, AgentCreate, AgentType, AgentUpdate, BuiltinTool, HttpTool, InCallTool, ReturnType,
    ReturnsSchema, ToolPolicy, VoicemailAction,
};
pub use calls::{
    Call, CallCreate, CallDirection, CallStatus, CallWebhookStatus, ReservationStatus,
    ResultStatus, Transcript, TranscriptSegment,
};
pub use client::ApiClient;
pub use config::{AttemptReport, BaseUrl, ClientConfig, InvalidBaseUrl, Timeouts};
pub use e164::{E164, InvalidE164, mask_number};
pub use error::{Effect, Error, ErrorKind, Phase};
pub use ids::{AgentId, CallId, DeliveryId, EndpointId, MAX_ID_LENGTH, NumberId};
pub use key::{ApiKey, InvalidApiKey, SigningSecret};
pub use model::{Change, OpenEnum, Timestamp};
pub use money::{InvalidDollars, MilliCents};
pub use numbers::{AvailableNumber, NumberSearch, NumberType, PhoneNumber};
pub use operation::{ApiOperation, Method};
pub use page::{Page, PageCursor, PageRequest};
pub use probe::Probe;
pub use retry::RetryPolicy;
pub use send_guard::SendGuard;
pub use transport::ServerTime;
pub use webhooks::{
    DeliveryFilter, DeliveryStatus, EndpointStatus, EventSubscription, WebhookCreate,
    WebhookDelivery, WebhookEndpoint, WebhookUpdate,
};

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
