//! What each endpoint does: reads the request strictly, changes the organization, and answers with JSON. Handlers know
//! nothing of sockets or of how a reply is delivered.

pub(crate) mod agents;
pub(crate) mod calls;
pub(crate) mod control;
pub(crate) mod faults;
mod fields;
mod in_call_tools;
pub(crate) mod numbers;
mod pages;
pub(crate) mod place_call;
mod reply;
mod request;
pub(crate) mod webhook_deliveries;
pub(crate) mod webhook_endpoints;

pub(crate) use fields::InputFields;
pub(crate) use reply::{ApiError, DeliveryMode, HandlerResult, Reply};
pub(crate) use request::ApiRequest;
