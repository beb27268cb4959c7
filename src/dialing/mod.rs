//! May this number be dialed, by whom, and has it been dialed already?
//!
//! - [`destination`] knows what a number is: country, kind, time zones.
//! - [`limits`] is the arithmetic of "how many and how much": plain numbers, no clock, no storage.
//! - [`ledger`] remembers what was dialed, durably and before it is dialed, and is the one place where
//!   two processes agree which of them may dial.
//!
//! Nothing here knows MCP or HTTP.

pub mod destination;
pub mod ledger;
pub mod limits;
