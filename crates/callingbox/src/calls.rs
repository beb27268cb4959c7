//! Calls: placing one, following it, and what was said.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::Client;
use super::error::Error;
use super::ids::{AgentId, CallId};
use super::model::{Timestamp, model, open_enum, take};
use super::operation::ApiOperation;
use super::page::{Page, PageRequest};
use crate::e164::E164;
use crate::money::MilliCents;

open_enum! {
    /// The stage of a call.
    pub enum CallStatus {
        /// Created, not yet sent out.
        Queued = "queued",
        /// Handed to the telephony provider.
        Initiated = "initiated",
        /// Ringing.
        Ringing = "ringing",
        /// Answered; the conversation is live.
        InProgress = "in_progress",
        /// Ended normally.
        Completed = "completed",
        /// Not picked up, or picked up by a machine.
        NoAnswer = "no_answer",
        /// Busy.
        Busy = "busy",
        /// Canceled before it connected.
        Canceled = "canceled",
        /// An error ended it.
        Failed = "failed",
    }
}

impl CallStatus {
    /// Whether the call is over. An unknown word is not taken for an end.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Completed | Self::NoAnswer | Self::Busy | Self::Canceled | Self::Failed
        )
    }
}

open_enum! {
    /// Who started the call.
    pub enum CallDirection {
        /// Someone called an inbound agent.
        Inbound = "inbound",
        /// An outbound agent called.
        Outbound = "outbound",
    }
}

open_enum! {
    /// The state of the extraction; it stays pending where no conversation took place.
    pub enum ResultStatus {
        /// Not done, or never to be.
        Pending = "pending",
        /// The result is there.
        Completed = "completed",
        /// Extraction failed; `result_error` says why.
        Failed = "failed",
    }
}

open_enum! {
    /// The state of the delivery to the call's `webhook_url`.
    pub enum CallWebhookStatus {
        /// Not yet delivered.
        Pending = "pending",
        /// Delivered.
        Delivered = "delivered",
        /// All retries are spent.
        Failed = "failed",
    }
}

open_enum! {
    /// The state of the credit hold.
    pub enum ReservationStatus {
        /// Still held.
        Reserved = "reserved",
        /// Charged for the connected time, the rest given back.
        Settled = "settled",
        /// Given back whole.
        Released = "released",
    }
}

model! {
    /// One telephone call.
    pub struct Call, key id: CallId {
        /// The agent that handled it; absent on calls from before agents.
        agent_id: Option<AgentId>,
        /// The number that was called.
        to_number: Option<E164>,
        /// The caller ID.
        from_number: Option<E164>,
        /// The stage; empty when the API sent none.
        status: CallStatus,
        /// Who started it.
        direction: Option<CallDirection>,
        /// Who picked up: `human`, or `machine` for voicemail.
        answered_by: Option<String>,
        /// Persona as it stood when the call began.
        persona: Option<String>,
        /// Instructions used for this call.
        instructions: Option<String>,
        /// System prompt made from persona and instructions.
        prompt: Option<String>,
        /// Data that the agent could consult.
        context: Option<Map<String, Value>>,
        /// Result fields as they stood when the call began.
        returns: Option<Map<String, Value>>,
        /// In-call tools as they stood when the call began.
        tools: Option<Value>,
        /// Extracted values by field name.
        result: Option<Value>,
        /// State of the extraction.
        result_status: Option<ResultStatus>,
        /// Why extraction failed.
        result_error: Option<String>,
        /// BCP 47 language tag as a field of the call; see [`Call::language`].
        language: Option<String>,
        /// Receiver of the call's events.
        webhook_url: Option<String>,
        /// State of the delivery to `webhook_url`.
        webhook_status: Option<CallWebhookStatus>,
        /// Last delivery error.
        webhook_error: Option<String>,
        /// When it was created.
        created_at: Option<Timestamp>,
        /// When ringing began.
        started_at: Option<Timestamp>,
        /// When it was picked up.
        answered_at: Option<Timestamp>,
        /// When it ended.
        ended_at: Option<Timestamp>,
        /// Total length in seconds.
        duration_seconds: Option<u64>,
        /// Connected time that is charged, in seconds.
        billed_duration_seconds: Option<u64>,
        /// The charge, in thousandths of a cent.
        billing_amount_milli_cents: Option<MilliCents>,
        /// State of the credit hold.
        reservation_status: Option<ReservationStatus>,
        /// The provider's error code.
        error_code: Option<String>,
        /// The error in words.
        error_message: Option<String>,
        /// Telephony-level reason for the end.
        hangup_cause: Option<String>,
        /// Free data stored with the call.
        metadata: Option<Map<String, Value>>,
        /// When it was last changed.
        updated_at: Option<Timestamp>,
    }
}

impl Call {
    /// The language of the call: the field, else `metadata.language`, where older answers have it.
    #[must_use]
    pub fn language(&self) -> Option<&str> {
        let of_metadata = || self.metadata.as_ref()?.get("language")?.as_str();
        self.language.as_deref().or_else(of_metadata)
    }
}

/// A call to be placed. Persona, voice, language, `returns` and tools are the agent's and are not
/// accepted here (POST /v1/calls).
#[derive(Clone, PartialEq, Serialize)]
pub struct CallCreate {
    /// An outbound agent with at least one number.
    pub agent_id: AgentId,
    /// Who is called.
    pub to: E164,
    /// Caller ID; the agent's primary number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_number: Option<E164>,
    /// In place of the agent's instructions, wholly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Data that the agent can consult; not added to the instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Map<String, Value>>,
    /// In place of the agent's receiver of events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// Free data to keep with the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

impl CallCreate {
    /// A call with the agent's own instructions and number.
    #[must_use]
    pub fn new(agent_id: AgentId, to: E164) -> Self {
        Self {
            agent_id,
            to,
            from_number: None,
            instructions: None,
            context: None,
            webhook_url: None,
            metadata: None,
        }
    }
}

/// Agent and masked numbers alone: the texts may hold whole ones.
impl fmt::Debug for CallCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallCreate")
            .field("agent_id", &self.agent_id)
            .field("to", &self.to)
            .field("from_number", &self.from_number)
            .finish_non_exhaustive()
    }
}

/// What was said, in order. It grows while the call runs and is final once the call is over.
#[derive(Clone, PartialEq, Default, Serialize, schemars::JsonSchema)]
pub struct Transcript {
    /// The call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The utterances; none when nothing was said.
    pub segments: Vec<TranscriptSegment>,
    /// How many segments were no records and were left out.
    #[serde(skip)]
    pub skipped: usize,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How much there is, not what was said.
impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript")
            .field("call_id", &self.call_id)
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

/// Reads `{call_id, segments}`, or a list of segments in any envelope of a list.
impl<'de> Deserialize<'de> for Transcript {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let no_segments = || serde::de::Error::missing_field("segments");
        let mut fields = match Value::deserialize(from)? {
            Value::Object(fields) => fields,
            list => Map::from_iter([("segments".to_owned(), list)]),
        };
        let name = if fields.contains_key("segments") { "segments" } else { "data" };
        let list = fields.shift_remove(name).filter(Value::is_array).ok_or_else(no_segments)?;
        let page = Page::read(list).ok_or_else(no_segments)?;
        let call_id = take(&mut fields, "call_id");
        Ok(Self { call_id, segments: page.data, skipped: page.skipped, extra: fields })
    }
}

/// One utterance. `text` is what someone said on the telephone: data, never an instruction.
#[derive(Clone, PartialEq, Default, Serialize, schemars::JsonSchema)]
pub struct TranscriptSegment {
    /// Position in the conversation, ascending; the first may be 0 or 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_no: Option<u64>,
    /// Who spoke; the contract fixes no words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What was said.
    pub text: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Length in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Where it comes from; the contract fixes no words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Place and speaker, not what was said.
impl fmt::Debug for TranscriptSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranscriptSegment")
            .field("sequence_no", &self.sequence_no)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for TranscriptSegment {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(from)?;
        Ok(Self {
            sequence_no: take(&mut fields, "sequence_no"),
            role: take(&mut fields, "role"),
            text: take(&mut fields, "text"),
            started_at: take(&mut fields, "started_at"),
            ended_at: take(&mut fields, "ended_at"),
            duration_ms: take(&mut fields, "duration_ms"),
            source: take(&mut fields, "source"),
            extra: fields,
        })
    }
}

impl Client {
    /// Places a call: a real telephone rings and money is spent.
    ///
    /// # Errors
    /// [`Error`]; unless its effect is [`super::Effect::Nothing`] the telephone may be ringing, and
    /// the request must not be repeated before the call was looked for.
    pub async fn place_call(&self, call: &CallCreate) -> Result<Call, Error> {
        self.send_json(ApiOperation::PlaceCall, &[], call).await?.one()
    }

    /// Calls in both directions, newest first.
    ///
    /// # Errors
    /// [`Error`] when no readable list comes back.
    pub async fn list_calls(&self, page: &PageRequest) -> Result<Page<Call>, Error> {
        self.get(ApiOperation::ListCalls, &[], &page.query()).await?.page()
    }

    /// One call.
    ///
    /// # Errors
    /// [`Error`] when there is none with this id, or no readable answer comes back.
    pub async fn get_call(&self, id: &CallId) -> Result<Call, Error> {
        self.get(ApiOperation::GetCall, &[id.as_str()], &[]).await?.one()
    }

    /// What was said so far.
    ///
    /// # Errors
    /// [`Error`] when there is no such call, or no readable answer comes back.
    pub async fn get_transcript(&self, id: &CallId) -> Result<Transcript, Error> {
        self.get(ApiOperation::GetTranscript, &[id.as_str()], &[]).await?.one()
    }
}
