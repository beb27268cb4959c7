//! The arguments of `place_calls`, and the request that they make. Checks no person on the list.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::batch::list::{BatchRequest, MAX_INSTRUCTIONS};
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::ledger::{BatchId, BatchTask, Person, RetryPolicy, StopCondition};
use crate::dialing::policy::MetadataSource;
use crate::mcp::input::arguments::{
    BoundedInteger, CalleeNumber, HttpsUrl, List, Object, Text, Time,
};
use crate::mcp::reply::error::ToolError;
use crate::mcp::tool::ToolContext;
use crate::mcp::tools::calls::place::KeyText;
use callingbox::{AgentId, E164};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct PlaceCallsInput {
    /// The outbound agent that speaks.
    agent_id: Option<AgentId>,
    /// Whom to call.
    people: Option<List<PersonInput, 500>>,
    /// Task for every call; `{name}` and each `{key}` of a person's context are filled in.
    instructions: Option<Text<1, MAX_INSTRUCTIONS>>,
    /// Caller ID. Default: the agent's primary number.
    #[schemars(with = "Option<String>")]
    from_number: Option<E164>,
    /// Receives the calls' events.
    webhook_url: Option<HttpsUrl>,
    /// Call again those who were not reached.
    retry: Option<RetryInput>,
    /// Start no new call once `count` results have the value.
    stop_when: Option<StopInput>,
    /// Default: now.
    start_at: Option<Time>,
    /// No call starts later. Default: 4 hours after the start.
    end_by: Option<Time>,
    /// A key starts one batch in 24 hours.
    idempotency_key: Option<KeyText>,
    /// Call again whom this agent called within 10 minutes.
    allow_repeat: Option<bool>,
    /// With confirmation_token or resume alone.
    #[schemars(with = "Option<String>")]
    pub(super) batch_id: Option<Text<1, 100>>,
    /// After the user agreed to the preview.
    #[schemars(with = "Option<String>")]
    confirmation_token: Option<Text<1, 200>>,
    /// Go on with an interrupted or paused batch.
    resume: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct PersonInput {
    /// In E.164.
    to: CalleeNumber,
    name: Option<Text<1, 200>>,
    context: Option<Object>,
    metadata: Option<Object>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct RetryInput {
    /// In all.
    max_attempts: BoundedInteger<1, 3>,
    /// Default: 30.
    after_minutes: Option<BoundedInteger<5, 1440>>,
    /// Default: no_answer and busy.
    on: Option<Vec<RetryOutcome>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum RetryOutcome {
    NoAnswer,
    Busy,
    Voicemail,
    Failed,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct StopInput {
    /// A result field.
    field: Text<1, 100>,
    #[schemars(with = "String")]
    equals: Value,
    count: BoundedInteger<1, 500>,
}

/// What a request asks for.
pub(super) enum ListAction {
    Create(Box<BatchRequest>),
    Confirm(BatchId, String),
    Resume(BatchId, Option<String>),
}

impl PlaceCallsInput {
    /// What the arguments ask for.
    pub(super) fn into_action(self, cx: &ToolContext) -> Result<ListAction, ToolError> {
        let Self { batch_id: Some(id), confirmation_token, resume, .. } = &self else {
            return Ok(ListAction::Create(Box::new(self.into_request(cx)?)));
        };
        if self.agent_id.is_some() || self.people.is_some() {
            return Err(ToolError::invalid_argument(
                "`batch_id` names a list that was shown; give no other list with it",
            ));
        }
        let id = BatchId::parse(id.as_str())
            .map_err(|error| ToolError::invalid_argument(format!("`batch_id`: {error}")))?;
        match (confirmation_token, resume.unwrap_or(false)) {
            (token, true) => {
                Ok(ListAction::Resume(id, token.as_ref().map(|token| token.as_str().to_owned())))
            }
            (Some(token), false) => Ok(ListAction::Confirm(id, token.as_str().to_owned())),
            (None, false) => Err(ToolError::invalid_argument(
                "`batch_id` needs a `confirmation_token` to start the list, or `resume: true` to go on with it",
            )),
        }
    }

    fn into_request(self, cx: &ToolContext) -> Result<BatchRequest, ToolError> {
        let missing = |name: &str| ToolError::invalid_argument(format!("`{name}` is missing"));
        if self.confirmation_token.is_some() || self.resume.unwrap_or(false) {
            return Err(missing("batch_id"));
        }
        let agent_id = self.agent_id.ok_or_else(|| missing("agent_id"))?;
        let people = self.people.ok_or_else(|| missing("people"))?;
        let task = BatchTask {
            from_number: self.from_number,
            instructions: self.instructions.map(Text::into_string),
            webhook_url: self.webhook_url.map(HttpsUrl::into_string),
            retry: self.retry.map(RetryInput::into_policy).unwrap_or_default(),
            stop_when: self.stop_when.map(StopInput::into_condition),
            allow_repeat: self.allow_repeat.unwrap_or(false),
            metadata_source: MetadataSource::Model,
        };
        Ok(BatchRequest {
            agent_id,
            task,
            people: people.into_vec().into_iter().map(PersonInput::into_person).collect(),
            start_at: self.start_at.map(|time| time.0),
            end_by: self.end_by.map(|time| time.0),
            idempotency_key: self.idempotency_key.map(|key| key.0),
            caller: cx.caller.clone(),
        })
    }
}

impl PersonInput {
    fn into_person(self) -> (E164, Person) {
        let person = Person {
            name: self.name.map(Text::into_string),
            context: self.context.map(Object::into_map),
            metadata: self.metadata.map(Object::into_map),
        };
        (self.to.0, person)
    }
}

impl RetryInput {
    fn into_policy(self) -> RetryPolicy {
        let default = || vec![RetryOutcome::NoAnswer, RetryOutcome::Busy];
        let on = self.on.filter(|on| !on.is_empty()).unwrap_or_else(default);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        RetryPolicy {
            max_attempts: small(self.max_attempts.get()),
            after_minutes: self
                .after_minutes
                .map_or(RetryPolicy::default().after_minutes, |minutes| small(minutes.get())),
            on: on
                .into_iter()
                .map(|outcome| match outcome {
                    RetryOutcome::NoAnswer => CallOutcome::NoAnswer,
                    RetryOutcome::Busy => CallOutcome::Busy,
                    RetryOutcome::Voicemail => CallOutcome::Voicemail,
                    RetryOutcome::Failed => CallOutcome::Failed,
                })
                .collect(),
        }
    }
}

impl StopInput {
    fn into_condition(self) -> StopCondition {
        let count = u32::try_from(self.count.get()).unwrap_or(u32::MAX);
        StopCondition { field: self.field.into_string(), equals: read_value(self.equals), count }
    }
}

/// The value of a result: the schema asks for a text, in which `true` and `3` are a boolean and a number.
fn read_value(value: Value) -> Value {
    let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    parsed.filter(|parsed| parsed.is_boolean() || parsed.is_number()).unwrap_or(value)
}
