//! May this number be dialed, by whom, and has it been dialed already?
//!
//! - [`destination`] knows what a number is: country, kind, time zones.
//! - [`limits`] is the arithmetic of "how many and how much": plain numbers, no clock, no storage.
//! - [`policy`] holds the user's rules and judges one call by them. Pure: it is handed the time, the
//!   destination and what has been used, and answers with a verdict.
//! - [`ledger`] remembers what was dialed, durably and before it is dialed, and is the one place where
//!   two processes agree which of them may dial.
//!
//! Nothing here knows MCP or HTTP.

pub mod destination;
pub mod ledger;
pub mod limits;
pub mod policy;
