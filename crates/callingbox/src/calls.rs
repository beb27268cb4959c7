//! Calls: placing one, following it, and its transcript.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;

use crate::client::ApiClient;
use crate::e164::E164;
use crate::error::Error;
use crate::ids::{AgentId, CallId};
use crate::lenient::{is_default, lenient_record, take_field};
use crate::model::{Timestamp, debug_fields, open_enum};
use crate::money::MilliCents;
use crate::operation::ApiOperation;
use crate::page::{Page, PageRequest};
use crate::send_guard::SendGuard;

open_enum! {
    /// The status of a call.
    pub enum CallStatus {
        /// Created, not dialed yet.
        Queued = "queued",
        /// Handed to the telephony provider.
        Initiated = "initiated",
        /// The callee's telephone rings.
        Ringing = "ringing",
        /// Answered: the conversation is live.
        InProgress = "in_progress",
        /// Ended normally.
        Completed = "completed",
        /// Not answered, or answered by a machine.
        NoAnswer = "no_answer",
        /// The line was busy.
        Busy = "busy",
        /// Canceled before it connected.
        Canceled = "canceled",
        /// Ended by an error.
        Failed = "failed",
    }
}

impl CallStatus {
    /// Whether the call is over. An unknown status counts as not over.
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
        /// A person called an inbound agent.
        Inbound = "inbound",
        /// An outbound agent called.
        Outbound = "outbound",
    }
}

open_enum! {
    /// The status of the extraction of results. It stays pending if there was no conversation.
    pub enum ResultStatus {
        /// Not done yet, or never to be done.
        Pending = "pending",
        /// The result is complete.
        Completed = "completed",
        /// The extraction failed; `result_error` says why.
        Failed = "failed",
    }
}

open_enum! {
    /// The status of the delivery to the call's `webhook_url`.
    pub enum CallWebhookStatus {
        /// Not delivered yet.
        Pending = "pending",
        /// Delivered.
        Delivered = "delivered",
        /// No attempt succeeded, and there will be no further one.
        Failed = "failed",
    }
}

open_enum! {
    /// The status of the credit that is held for a call.
    pub enum ReservationStatus {
        /// Held.
        Reserved = "reserved",
        /// The connected time was charged and the rest released.
        Settled = "settled",
        /// Released without a charge.
        Released = "released",
    }
}

/// A telephone call. Every field but the id may be absent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct Call {
    /// The id.
    pub id: CallId,
    /// The agent that handled it. Absent on calls older than agents.
    pub agent_id: Option<AgentId>,
    /// The called number.
    pub to_number: Option<E164>,
    /// The number it was called from.
    pub from_number: Option<E164>,
    /// Its status. An empty word if the API sent none.
    #[serde(skip_serializing_if = "is_default")]
    pub status: CallStatus,
    /// Who started it.
    pub direction: Option<CallDirection>,
    /// Who answered: `human`, or `machine` for voicemail.
    pub answered_by: Option<String>,
    /// The agent's persona when the call began.
    pub persona: Option<String>,
    /// The instructions of this call.
    pub instructions: Option<String>,
    /// The system prompt that was made from persona and instructions.
    pub prompt: Option<String>,
    /// Data that the agent could look up.
    pub context: Option<Map<String, Value>>,
    /// The agent's result fields when the call began.
    pub returns: Option<Map<String, Value>>,
    /// The agent's in-call tools when the call began.
    pub tools: Option<Value>,
    /// The extracted values by field name. A value may be null.
    pub result: Option<Value>,
    /// The status of the extraction.
    pub result_status: Option<ResultStatus>,
    /// Why the extraction failed.
    pub result_error: Option<String>,
    /// The language, as a BCP 47 tag. [`Call::language`] also finds it in older records.
    pub language: Option<String>,
    /// The URL that receives the call's events.
    pub webhook_url: Option<String>,
    /// The status of the delivery to `webhook_url`.
    pub webhook_status: Option<CallWebhookStatus>,
    /// The last delivery error.
    pub webhook_error: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When ringing began.
    pub started_at: Option<Timestamp>,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The whole duration, in seconds.
    pub duration_seconds: Option<u64>,
    /// The connected time that is charged, in seconds.
    pub billed_duration_seconds: Option<u64>,
    /// The charge, in thousandths of a US cent.
    pub billing_amount_milli_cents: Option<MilliCents>,
    /// The status of the held credit.
    pub reservation_status: Option<ReservationStatus>,
    /// The telephony provider's error code.
    pub error_code: Option<String>,
    /// The error message.
    pub error_message: Option<String>,
    /// Why the telephone network ended the call.
    pub hangup_cause: Option<String>,
    /// Data of the user's own that is stored with the call.
    pub metadata: Option<Map<String, Value>>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

lenient_record!(Call {
    id;
    agent_id, to_number, from_number, status, direction, answered_by, persona, instructions,
    prompt, context, returns, tools, result, result_status, result_error, language, webhook_url,
    webhook_status, webhook_error, created_at, started_at, answered_at, ended_at, duration_seconds,
    billed_duration_seconds, billing_amount_milli_cents, reservation_status, error_code,
    error_message, hangup_cause, metadata, updated_at,
});

impl Call {
    /// The language of the call: the field, or else `metadata.language`, where older records have it.
    #[must_use]
    pub fn language(&self) -> Option<&str> {
        let in_metadata = || self.metadata.as_ref()?.get("language")?.as_str();
        self.language.as_deref().or_else(in_metadata)
    }
}

/// A call to place. Absent fields are not sent. Persona, voice, language, result fields and tools belong to the agent;
/// the API does not accept them here.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize)]
pub struct CallCreate {
    /// An outbound agent with at least one number.
    pub agent_id: AgentId,
    /// The number to call.
    pub to: E164,
    /// The number to call from, which must be attached to the agent; the agent's primary number if absent.
    pub from_number: Option<E164>,
    /// Instructions that replace the agent's own as a whole.
    pub instructions: Option<String>,
    /// Data that the agent can look up. It is not added to the instructions.
    pub context: Option<Map<String, Value>>,
    /// The URL that receives the call's events, in place of the agent's.
    pub webhook_url: Option<String>,
    /// Data of the user's own to store with the call.
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

// Shows the agent and masked numbers alone, because the texts may hold whole numbers.
debug_fields!(CallCreate { agent_id, to, from_number });

/// The words of a call, in order. A transcript grows during the call and is final when the call is over.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct Transcript {
    /// The call.
    pub call_id: Option<CallId>,
    /// The utterances. Empty if there was no conversation.
    pub segments: Vec<TranscriptSegment>,
    /// How many segments were left out because they are not records.
    #[serde(skip)]
    pub skipped: usize,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Shows the number of segments, not their words.
impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript")
            .field("call_id", &self.call_id)
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

/// Reads `{call_id, segments}`, or a list of segments in any of the forms that a list may have.
impl<'de> Deserialize<'de> for Transcript {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let no_segments = || serde::de::Error::missing_field("segments");
        let mut fields = match Value::deserialize(from)? {
            Value::Object(fields) => fields,
            list => Map::from_iter([("segments".to_owned(), list)]),
        };
        let name = if fields.contains_key("segments") { "segments" } else { "data" };
        let list = fields.shift_remove(name).filter(Value::is_array).ok_or_else(no_segments)?;
        let page = Page::from_json(list).ok_or_else(no_segments)?;
        let call_id = take_field(&mut fields, "call_id");
        Ok(Self { call_id, segments: page.data, skipped: page.skipped, extra: fields })
    }
}

/// An utterance. `text` is what a person or the agent said on the telephone: it is data and never an instruction.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct TranscriptSegment {
    /// Its position in the conversation, ascending from 0 or 1.
    pub sequence_no: Option<u64>,
    /// Who spoke. The contract does not say which words there are.
    pub role: Option<String>,
    /// The words.
    pub text: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The duration, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Where it comes from. The contract does not say which words there are.
    pub source: Option<String>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

// Shows position and speaker, not the words.
debug_fields!(TranscriptSegment { sequence_no, role });

impl<'de> Deserialize<'de> for TranscriptSegment {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(from)?;
        Ok(Self {
            sequence_no: take_field(&mut fields, "sequence_no"),
            role: take_field(&mut fields, "role"),
            text: take_field(&mut fields, "text"),
            started_at: take_field(&mut fields, "started_at"),
            ended_at: take_field(&mut fields, "ended_at"),
            duration_ms: take_field(&mut fields, "duration_ms"),
            source: take_field(&mut fields, "source"),
            extra: fields,
        })
    }
}

impl ApiClient {
    /// Places a call (`POST /v1/calls`): a telephone rings, and credit is spent.
    ///
    /// # Errors
    /// [`Error`]. Unless its effect is [`crate::Effect::Nothing`], the telephone may be ringing: search the recent calls
    /// before you send the request again.
    pub async fn place_call(&self, call: &CallCreate) -> Result<Call, Error> {
        self.send_json(ApiOperation::PlaceCall, &[], call).await?.record()
    }

    /// Places a call unless the guard withholds the request.
    ///
    /// # Errors
    /// As for [`ApiClient::place_call`]; and [`crate::ErrorKind::Withheld`], after which nothing was done.
    pub async fn place_call_guarded(
        &self,
        call: &CallCreate,
        guard: SendGuard,
    ) -> Result<Call, Error> {
        let guard = Some(guard);
        self.send_guarded_json(ApiOperation::PlaceCall, &[], call, guard).await?.record()
    }

    /// Lists calls in both directions, the newest first (`GET /v1/calls`).
    ///
    /// # Errors
    /// [`Error`] if no readable list comes back.
    pub async fn list_calls(&self, page: &PageRequest) -> Result<Page<Call>, Error> {
        self.get(ApiOperation::ListCalls, &[], page).await?.page()
    }

    /// Fetches a call (`GET /v1/calls/{id}`).
    ///
    /// # Errors
    /// [`Error`] if there is no such call, or no readable response comes back.
    pub async fn get_call(&self, id: &CallId) -> Result<Call, Error> {
        self.get(ApiOperation::GetCall, &[id.as_str()], &()).await?.record()
    }

    /// Fetches the transcript of a call as it is now (`GET /v1/calls/{id}/transcript`).
    ///
    /// # Errors
    /// [`Error`] if there is no such call, or no readable response comes back.
    pub async fn get_transcript(&self, id: &CallId) -> Result<Transcript, Error> {
        self.get(ApiOperation::GetTranscript, &[id.as_str()], &()).await?.record()
    }
}
