//! The scenarios: how a destination number decides what happens to a call. Pure: no clock, no records, no HTTP.

mod brief;
mod conversation;
#[cfg(test)]
mod conversation_tests;
mod fields;
mod file;
mod persona;
mod phrases;
mod script;
mod table;
mod timeline;

pub(crate) use brief::AgentBrief;
pub(crate) use conversation::{script_conversation, script_voicemail};
pub(crate) use file::{FileScenario, load_scenarios};
pub(crate) use script::{FieldType, Script};
pub(crate) use table::{
    Admission, Ending, SCENARIOS, Scenario, Speech, scenario_for_destination, scenario_for_digits,
};
pub(crate) use timeline::{Timeline, default_ring_millis};
