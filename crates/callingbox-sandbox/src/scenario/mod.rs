//! The scenarios: how a destination number decides what happens to a call. Pure: no clock, no records, no HTTP.

mod conversation;
mod file;
mod table;
mod timeline;

pub(crate) use conversation::{
    AgentBrief, FieldType, Script, script_conversation, script_voicemail,
};
pub(crate) use file::{FileScenario, load_scenarios};
pub(crate) use table::{
    Admission, Ending, SCENARIOS, Scenario, Speech, scenario_for_destination, scenario_for_digits,
};
pub(crate) use timeline::{Timeline, default_ring_millis};
