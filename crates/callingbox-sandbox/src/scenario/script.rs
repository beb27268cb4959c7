//! A script: the lines that are spoken on a call, when they are spoken, and the result that follows from them. Knows
//! nothing of what the lines say.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The type of one field of `returns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldType {
    Boolean,
    String,
    Number,
}

impl FieldType {
    /// The types as the API writes them.
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("boolean", Self::Boolean), ("string", Self::String), ("number", Self::Number)];
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Agent,
    User,
}

/// One utterance; its times are in milliseconds from the first word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpokenLine {
    pub(crate) role: Role,
    pub(crate) text: String,
    pub(crate) starts_at: i64,
    pub(crate) ends_at: i64,
}

/// A conversation and its result.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) lines: Vec<SpokenLine>,
    /// One value for each field of `returns`.
    pub(crate) result: Map<String, Value>,
}

/// The silence between two lines, in milliseconds.
const PAUSE: i64 = 400;

impl Script {
    /// A script without lines, in which every field is null.
    pub(super) fn new(returns: &[(String, FieldType)]) -> Self {
        let mut script = Self::default();
        script.clear_result(returns);
        script
    }

    /// How long it takes in milliseconds, rounded up to a whole second.
    pub(crate) fn duration_millis(&self) -> i64 {
        let end = self.lines.last().map_or(0, |line| line.ends_at);
        (end + 999) / 1_000 * 1_000
    }

    /// Adds a line whose length follows from its words.
    pub(super) fn add_line(&mut self, role: Role, text: String) {
        let words = i64::try_from(text.split_whitespace().count()).unwrap_or(0);
        self.add_timed_line(role, text, (words * 380).clamp(800, 30_000));
    }

    pub(super) fn add_timed_line(&mut self, role: Role, text: String, millis: i64) {
        let starts_at = self.lines.last().map_or(0, |line| line.ends_at + PAUSE);
        self.lines.push(SpokenLine { role, text, starts_at, ends_at: starts_at + millis });
    }

    /// Sets every field of the result to null.
    pub(super) fn clear_result(&mut self, returns: &[(String, FieldType)]) {
        self.result = returns.iter().map(|(name, _)| (name.clone(), Value::Null)).collect();
    }
}
