//! May this number be dialed, by whom, and was it dialed already? Knows nothing of MCP.
//!
//! - [`destination`]: facts about a number: country, type, time zones.
//! - [`limits`]: the limits on calls and money as plain numbers, without clock or storage.
//! - [`policy`]: the calling rules, and the decision on one call. Pure: time, destination and usage are arguments.
//! - [`confirm`]: whether a person must confirm an order.
//! - [`disclosure`]: whether the texts of a call tell the agent to say that it is an AI.
//! - [`webhook_hosts`]: the hosts to which events and data of calls may be sent.
//! - [`rules`]: all settings by which a process dials; they may change while it runs. [`explain`] describes them.
//! - [`ledger`]: the durable record of what was dialed, written before it is dialed. Several processes share it.
//! - [`clock`]: the clock of an account, which is the simulator's in the sandbox.
//! - [`caller`]: who asked for an order. [`organization`]: which account of the ledger an API key belongs to.
//! - [`order`]: a call or a purchase, and what makes two the same. [`outcome`] and [`call_outcome`]: their results.
//! - [`dialer`]: places orders at most once, in the steps of `policy_check`, `recovery` and `dispatch`;
//!   [`attempt`] places the calls of batches; `lease` withholds a request whose dispatch another process may have taken over; [`search`] finds out whether an order was placed.

pub mod attempt;
pub mod batch_table;
pub mod call_outcome;
pub mod caller;
pub mod clock;
pub mod confirm;
pub mod destination;
pub mod dialer;
pub mod disclosure;
mod dispatch;
mod environment;
pub mod explain;
mod lease;
pub mod ledger;
pub mod limits;
pub mod opt_outs;
pub mod order;
pub mod organization;
pub mod outcome;
pub mod policy;
pub mod policy_check;
mod recorded_outcomes;
mod recovery;
pub mod rules;
pub mod search;
pub mod webhook_hosts;

pub use environment::Environment;

#[cfg(test)]
mod tests;
