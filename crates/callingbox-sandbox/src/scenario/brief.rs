//! The purpose of a call, and the facts of its context that the agent mentions.
//! Knows nothing of the dialogue.

use serde_json::{Map, Number, Value};

use super::fields::{Topic, find_purpose, find_topic, purpose_by_id};
use super::phrases::Phrases;
use super::script::FieldType;

/// Context entries beyond these are not used.
const MAX_CONTEXT_ENTRIES: usize = 50;
/// Facts longer than this are not spoken.
const MAX_FACT_CHARS: usize = 80;
const MAX_NAME_WORDS: usize = 5;

/// What the agent knows and wants.
pub(crate) struct AgentBrief<'a> {
    pub(crate) language: Option<&'a str>,
    pub(crate) persona: Option<&'a str>,
    pub(crate) instructions: Option<&'a str>,
    pub(crate) context: &'a Map<String, Value>,
    pub(crate) returns: &'a [(String, FieldType)],
    /// Whether the agent is called, rather than calling.
    pub(crate) is_inbound: bool,
}

impl<'a> AgentBrief<'a> {
    /// What the call is about, by the instructions or by the first question that says it.
    pub(super) fn find_purpose(&self, phrases: &Phrases) -> Option<&'static Topic> {
        self.instructions.and_then(find_purpose).or_else(|| {
            let mut topics: Vec<&Topic> =
                self.returns.iter().filter_map(|(name, kind)| find_topic(name, *kind)).collect();
            topics.sort_by_key(|topic| topic.rank);
            let id = topics.iter().find_map(|topic| topic.purpose.as_deref())?;
            let has_time = ["date", "time"].iter().any(|id| self.find_fact(id, phrases).is_some());
            // What two people agreed on for a certain time is an appointment.
            purpose_by_id(if id == "agreement" && has_time { "appointment" } else { id })
        })
    }

    pub(super) fn find_callee_name(&self, phrases: &Phrases) -> Option<String> {
        let (name, _) = self.find_fact("name", phrases)?;
        let is_name = !name.contains(|c: char| c.is_ascii_digit() || c == '@')
            && name.split_whitespace().count() <= MAX_NAME_WORDS;
        is_name.then_some(name)
    }

    /// The fact of the context about a topic, as it is spoken and as it is in the context.
    pub(super) fn find_fact(&self, id: &str, phrases: &Phrases) -> Option<(String, &'a Value)> {
        let is_about =
            |name: &str| find_topic(name, FieldType::String).is_some_and(|topic| topic.id == id);
        let mut entries = self.context.iter().take(MAX_CONTEXT_ENTRIES);
        entries.find_map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.trim().to_owned(),
                Value::Number(number) => phrases.with_unit(id, &spell_number(number)),
                _ => return None,
            };
            let is_speakable = (1..=MAX_FACT_CHARS).contains(&text.chars().count())
                && !text.contains(char::is_control);
            let spoken = phrases.spell_date(&text).unwrap_or(text);
            (is_speakable && is_about(name)).then_some((spoken, value))
        })
    }
}

/// A number with no decimals or with two.
fn spell_number(number: &Number) -> String {
    match number.as_f64() {
        Some(decimal) if number.is_f64() => format!("{decimal:.2}"),
        _ => number.to_string(),
    }
}
