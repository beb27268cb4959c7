//! Agents: reusable configurations of calls, and the numbers attached to them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::records::Record;
use crate::clock::Moment;
use crate::scenario::FieldType;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AgentType {
    Inbound,
    Outbound,
}

impl AgentType {
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("inbound", Self::Inbound), ("outbound", Self::Outbound)];
}

/// What an outbound call does when a machine picks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VoicemailAction {
    Hangup,
    LeaveMessage,
}

impl VoicemailAction {
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("hangup", Self::Hangup), ("leave_message", Self::LeaveMessage)];
}

/// What a call copies from its agent when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AgentConfig {
    pub(crate) name: String,
    pub(crate) persona: Option<String>,
    pub(crate) instructions: Option<String>,
    pub(crate) voice: Option<String>,
    pub(crate) language: Option<String>,
    pub(crate) returns: Vec<(String, FieldType)>,
    pub(crate) tools: Vec<Value>,
    pub(crate) webhook_url: Option<String>,
    pub(crate) voicemail_action: VoicemailAction,
}

impl AgentConfig {
    /// `returns` as the API shows it.
    pub(crate) fn returns_to_json(&self) -> Value {
        self.returns.iter().map(|(name, kind)| (name.clone(), json!(kind))).collect()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) id: Uuid,
    pub(crate) agent_type: AgentType,
    pub(crate) config: Arc<AgentConfig>,
    /// In the order in which they were attached.
    pub(crate) numbers: Vec<Uuid>,
    pub(crate) primary_number: Option<Uuid>,
    pub(crate) archived_at: Option<Moment>,
    pub(crate) created_at: Moment,
    pub(crate) updated_at: Moment,
}

impl Record for Agent {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Agent {
    /// Attaches a number, which becomes the primary one if the agent has none.
    pub(crate) fn attach_number(&mut self, number: Uuid) {
        if !self.numbers.contains(&number) {
            self.numbers.push(number);
        }
        self.primary_number.get_or_insert(number);
    }

    /// Detaches a number; the oldest attached one replaces a primary number. Returns whether it was attached.
    pub(crate) fn detach_number(&mut self, number: Uuid) -> bool {
        let Some(index) = self.numbers.iter().position(|attached| *attached == number) else {
            return false;
        };
        self.numbers.remove(index);
        if self.primary_number == Some(number) {
            self.primary_number = self.numbers.first().copied();
        }
        true
    }

    /// Archives the agent and frees its numbers; archiving it again changes nothing.
    pub(crate) fn archive(&mut self, now: Moment) {
        if self.archived_at.is_none() {
            self.archived_at = Some(now);
            self.updated_at = now;
            self.numbers.clear();
            self.primary_number = None;
        }
    }
}
