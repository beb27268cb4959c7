//! May this number be dialed, by whom, and has it been dialed already?
//!
//! - [`destination`] knows what a number is: country, kind, time zones.
//! - [`limits`] is the arithmetic of "how many and how much": plain numbers, no clock, no storage.
//! - [`policy`] holds the user's rules and judges one call by them. Pure: it is handed the time, the
//!   destination and what has been used, and answers with a verdict.
//! - [`ledger`] remembers what was dialed, durably and before it is dialed, and is the one place where
//!   two processes agree which of them may dial.
//! - [`confirm`] decides whether a human must say yes first.
//! - [`rules`] is all of it that a process goes by, and may change while it runs; [`explain`] says it in words.
//! - [`order`] is what is to be done, and what makes two orders the same.
//! - [`dispatch`] does it, at most once; `reconcile` settles earlier ones of the same first;
//!   [`search`] looks for what may have been done.
//!
//! Nothing here knows MCP.

pub mod call_outcome;
pub mod confirm;
pub mod destination;
pub mod dispatch;
mod environment;
pub mod explain;
pub mod ledger;
pub mod limits;
pub mod order;
pub mod policy;
mod reconcile;
mod recorded_outcomes;
pub mod rules;
pub mod search;

pub use environment::Environment;

#[cfg(test)]
mod tests;
