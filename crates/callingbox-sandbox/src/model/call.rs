//! Calls. A stored call is its order and its timeline; its status, transcript and result are derived for the moment at
//! which they are read. Only what affects others (credit, events) happens in steps, which the engine takes when they
//! are due.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::agenda::AgendaKey;
use super::agent::{AgentConfig, VoicemailAction};
use super::billing::{MilliCents, charge_for_seconds, round_up_to_seconds};
use super::delivery::{DeliveryStatus, EventType};
use super::records::Record;
use crate::clock::Moment;
use crate::scenario::{
    AgentBrief, Ending, FileScenario, Scenario, Script, Speech, Timeline, default_ring_millis,
    script_conversation, script_voicemail,
};
use crate::seed::SeededRng;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// The part of a scenario that a call keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CallScenario {
    ending: Ending,
    speech: Speech,
    file: Option<Arc<FileScenario>>,
}

impl From<Scenario> for CallScenario {
    fn from(scenario: Scenario) -> Self {
        Self { ending: scenario.ending, speech: scenario.speech, file: None }
    }
}

impl CallScenario {
    /// The scenario of a file, after this many earlier calls to the destination.
    pub(crate) fn from_file(file: &Arc<FileScenario>, earlier: usize) -> Self {
        let ending = file.ending(earlier);
        Self { ending, speech: Speech::FromFile, file: Some(Arc::clone(file)) }
    }
}

/// What a call shows of its last event's delivery to the call's `webhook_url`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct CallWebhook {
    status: CallWebhookStatus,
    error: Option<String>,
    updated_at: Option<Moment>,
}

/// `webhook_status` of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallWebhookStatus {
    #[default]
    Pending,
    Delivered,
    Failed,
}

impl CallWebhook {
    pub(crate) fn new(status: DeliveryStatus, error: Option<String>, updated_at: Moment) -> Self {
        let status = match status {
            DeliveryStatus::Pending => CallWebhookStatus::Pending,
            DeliveryStatus::Delivered => CallWebhookStatus::Delivered,
            DeliveryStatus::Exhausted => CallWebhookStatus::Failed,
        };
        Self { status, error, updated_at: Some(updated_at) }
    }
}

/// What a call is made of, after every check.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CallOrder {
    pub(crate) direction: Direction,
    pub(crate) agent_id: Uuid,
    /// The agent's configuration when the call began.
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) to: String,
    pub(crate) from: String,
    pub(crate) instructions: Option<String>,
    pub(crate) context: Map<String, Value>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) webhook_url: Option<String>,
    pub(crate) scenario: CallScenario,
    /// Bytes of the request, which the call keeps in one form or another.
    pub(crate) bytes: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    #[serde(flatten)]
    pub(crate) order: CallOrder,
    pub(crate) webhook: CallWebhook,
    timeline: Timeline,
    steps_done: usize,
    /// Whether the credit held for the call has been released or charged.
    pub(crate) settled: bool,
    #[serde(skip)]
    pub(crate) agenda_key: Option<AgendaKey>,
}

/// A change of a call that affects others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallStep {
    Announce(EventType),
    Settle,
}

impl Record for Call {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Call {
    pub(crate) fn new(id: Uuid, created_at: Moment, seed: u64, order: CallOrder) -> Self {
        let mut call = Self {
            id,
            created_at,
            order,
            webhook: CallWebhook::default(),
            // Replaced below: it depends on the conversation, which depends on the call.
            timeline: Timeline::default(),
            steps_done: 0,
            settled: false,
            agenda_key: None,
        };
        let talk = call.to_script(seed).duration_millis();
        let ending = call.order.scenario.ending;
        call.timeline = match call.order.direction {
            Direction::Inbound => Timeline::inbound(ending, talk),
            Direction::Outbound => {
                let ring = call.order.scenario.file.as_ref().and_then(|file| file.ring_millis);
                let ring = ring.unwrap_or_else(|| default_ring_millis(ending));
                Timeline::outbound(ending, ring, talk)
            }
        };
        call
    }

    /// All steps and their offsets from the call's creation.
    fn steps(&self) -> Vec<(i64, CallStep)> {
        let timeline = &self.timeline;
        let mut steps = Vec::with_capacity(5);
        if self.order.direction == Direction::Outbound {
            steps.push((0, CallStep::Announce(EventType::Queued)));
        }
        steps.push((timeline.ringing, CallStep::Announce(EventType::Ringing)));
        if let Some(answered) = timeline.answered {
            steps.push((answered, CallStep::Announce(EventType::Answered)));
        }
        steps.push((timeline.ended, CallStep::Settle));
        let last_event = match self.order.scenario.ending {
            Ending::Completed => EventType::Completed,
            Ending::NoAnswer | Ending::Voicemail => EventType::NoAnswer,
            Ending::Busy => EventType::Busy,
            Ending::Canceled => EventType::Canceled,
            Ending::Failed => EventType::Failed,
        };
        let last_offset = timeline.extracted.unwrap_or(timeline.ended);
        steps.push((last_offset, CallStep::Announce(last_event)));
        steps
    }

    pub(crate) fn next_step_at(&self) -> Option<Moment> {
        self.steps().get(self.steps_done).map(|(offset, _)| self.moment_at(*offset))
    }

    /// Counts the next step as taken and returns it.
    pub(crate) fn take_next_step(&mut self) -> Option<CallStep> {
        let (_, step) = self.steps().get(self.steps_done).copied()?;
        self.steps_done += 1;
        Some(step)
    }

    pub(crate) fn charge(&self) -> MilliCents {
        charge_for_seconds(self.billed_seconds())
    }

    /// The call at a moment, as the API shows it.
    pub(crate) fn to_json(&self, seed: u64, now: Moment) -> Value {
        let timeline = &self.timeline;
        let reached = |offset: Option<i64>| {
            offset.map(|offset| self.moment_at(offset)).filter(|moment| *moment <= now)
        };
        let ended = reached(Some(timeline.ended));
        let once_ended = |value: Value| if ended.is_some() { value } else { Value::Null };
        let (result, result_status, result_error) = self.result_at(seed, now);
        let failed = ended.is_some() && self.order.scenario.ending == Ending::Failed;
        let changes = [
            Some(0),
            timeline.initiated,
            Some(timeline.ringing),
            timeline.answered,
            Some(timeline.ended),
            timeline.extracted,
        ];
        let updated_at = changes.into_iter().filter_map(reached).max().unwrap_or(self.created_at);
        let answered_by = match self.order.scenario.ending {
            Ending::Voicemail if ended.is_some() => Some("machine"),
            _ => reached(timeline.answered).map(|_| "human"),
        };
        json!({
            "id": self.id,
            "agent_id": self.order.agent_id,
            "to_number": self.order.to,
            "from_number": self.order.from,
            "status": self.status_at(now),
            "direction": self.order.direction,
            "persona": self.order.config.persona,
            "instructions": self.order.instructions,
            "prompt": self.prompt(),
            "context": self.order.context,
            "returns": self.order.config.returns_to_json(),
            "result": result,
            "result_status": result_status,
            "result_error": result_error,
            "language": self.order.config.language,
            "webhook_url": self.order.webhook_url,
            "webhook_status": self.webhook.status,
            "webhook_error": self.webhook.error,
            "created_at": self.created_at.to_iso8601(),
            "started_at": reached(Some(timeline.ringing)).map(Moment::to_iso8601),
            "answered_at": reached(timeline.answered).map(Moment::to_iso8601),
            "ended_at": ended.map(Moment::to_iso8601),
            "duration_seconds":
                once_ended(json!(round_up_to_seconds(timeline.ended - timeline.ringing))),
            "billed_duration_seconds": once_ended(json!(self.billed_seconds())),
            "billing_amount_milli_cents": once_ended(json!(self.charge())),
            "reservation_status": match (ended.is_some(), timeline.answered.is_some()) {
                (false, _) => "reserved",
                (true, true) => "settled",
                (true, false) => "released",
            },
            "error_code": failed.then_some("carrier_failure"),
            "error_message": failed.then_some("the carrier could not complete the call"),
            "hangup_cause": once_ended(json!(self.hangup_cause())),
            "metadata": self.order.metadata,
            "updated_at": updated_at.max(self.webhook.updated_at.unwrap_or(updated_at)).to_iso8601(),
            "tools": self.order.config.tools,
            "answered_by": answered_by,
            "simulated": true,
        })
    }

    /// The lines spoken up to a moment, as the API shows them.
    pub(crate) fn transcript_to_json(&self, seed: u64, now: Moment) -> Value {
        let segments: Vec<Value> = match self.timeline.speech {
            Some(speech) if self.moment_at(speech) <= now => (1..)
                .zip(self.to_script(seed).lines)
                .take_while(|(_, line)| self.moment_at(speech + line.ends_at) <= now)
                .map(|(number, line)| {
                    json!({
                        "sequence_no": number,
                        "role": line.role,
                        "text": line.text,
                        "started_at": self.moment_at(speech + line.starts_at).to_iso8601(),
                        "ended_at": self.moment_at(speech + line.ends_at).to_iso8601(),
                        "duration_ms": line.ends_at - line.starts_at,
                        "source": "live",
                        "simulated": true,
                    })
                })
                .collect(),
            _ => Vec::new(),
        };
        json!({"call_id": self.id, "segments": segments, "simulated": true})
    }

    fn moment_at(&self, offset: i64) -> Moment {
        self.created_at.plus_millis(offset)
    }

    fn status_at(&self, now: Moment) -> &'static str {
        let has_passed =
            |offset: Option<i64>| offset.is_some_and(|offset| self.moment_at(offset) <= now);
        let timeline = &self.timeline;
        if has_passed(Some(timeline.ended)) {
            match self.order.scenario.ending {
                Ending::Completed => "completed",
                Ending::NoAnswer | Ending::Voicemail => "no_answer",
                Ending::Busy => "busy",
                Ending::Canceled => "canceled",
                Ending::Failed => "failed",
            }
        } else if has_passed(timeline.answered) {
            "in_progress"
        } else if has_passed(Some(timeline.ringing)) {
            "ringing"
        } else if has_passed(timeline.initiated) {
            "initiated"
        } else {
            "queued"
        }
    }

    fn hangup_cause(&self) -> Option<&'static str> {
        match self.order.scenario.ending {
            Ending::Completed => Some("normal_clearing"),
            Ending::NoAnswer => Some("no_answer"),
            Ending::Busy => Some("user_busy"),
            Ending::Canceled => Some("originator_cancel"),
            Ending::Failed => Some("network_out_of_order"),
            Ending::Voicemail => None,
        }
    }

    /// Connected time in whole seconds.
    fn billed_seconds(&self) -> u64 {
        let timeline = &self.timeline;
        timeline.answered.map_or(0, |answered| round_up_to_seconds(timeline.ended - answered))
    }

    /// What is said in the whole call, and its result.
    fn to_script(&self, seed: u64) -> Script {
        let brief = AgentBrief {
            language: self.order.config.language.as_deref(),
            persona: self.order.config.persona.as_deref(),
            instructions: self.order.instructions.as_deref(),
            context: &self.order.context,
            returns: &self.order.config.returns,
            is_inbound: self.order.direction == Direction::Inbound,
        };
        let has_speech = match self.order.scenario.ending {
            Ending::Completed => true,
            Ending::Voicemail => {
                self.order.config.voicemail_action == VoicemailAction::LeaveMessage
            }
            Ending::NoAnswer | Ending::Busy | Ending::Canceled | Ending::Failed => false,
        };
        if !has_speech {
            return Script::default();
        }
        match self.order.scenario.file.as_ref().and_then(|file| file.to_script(&brief)) {
            Some(script) => script,
            None => {
                let rng = SeededRng::new(seed, &[b"conversation", self.id.as_bytes()]);
                match self.order.scenario.ending {
                    Ending::Voicemail => script_voicemail(&brief, rng),
                    _ => script_conversation(self.order.scenario.speech, &brief, rng),
                }
            }
        }
    }

    /// The result at a moment, its status and the error of the extraction.
    fn result_at(&self, seed: u64, now: Moment) -> (Value, &'static str, Option<&'static str>) {
        if self.timeline.extracted.is_none_or(|offset| self.moment_at(offset) > now) {
            return (Value::Null, "pending", None);
        }
        let result = if self.order.config.returns.is_empty() {
            Value::Null
        } else {
            Value::Object(self.to_script(seed).result)
        };
        match self.order.scenario.speech {
            Speech::Unreadable => (
                result,
                "failed",
                Some("the extraction output could not be read as the schema asks"),
            ),
            _ => (result, "completed", None),
        }
    }

    fn prompt(&self) -> String {
        match (&self.order.config.persona, &self.order.instructions) {
            (Some(persona), Some(instructions)) => format!("{persona}\n\n{instructions}"),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => "You are a helpful assistant on the phone.".to_owned(),
        }
    }
}
