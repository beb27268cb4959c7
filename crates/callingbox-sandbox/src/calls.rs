//! Calls. A call in store is its order and its timeline; its state, its transcript and its result
//! are worked out for the moment at which somebody looks. Only what others must learn of (credit,
//! events) happens in steps, taken when they fall due.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::agents::{AgentType, Config, VoicemailAction};
use super::answer::{Answer, Refusal, Reply, shorten};
use super::billing;
use super::clock::Moment;
use super::conversation::{self, Brief, Script};
use super::deliveries::{self, CallHook, EventType};
use super::fields::{self, Fields, wrong};
use super::records::Record;
use super::request::Request;
use super::scenario::{self, Ending, Speech, Timeline};
use super::scenario_file::FileScenario;
use super::seed::Dice;
use super::world::{Due, Entry, Org, Scope};
use crate::e164::E164;
use crate::money::MilliCents;

/// The calls that an organization keeps; beyond them the oldest is forgotten.
const MAX_CALLS: usize = 100_000;
/// The bytes of text that the calls of an organization keep; beyond them the oldest is forgotten.
const MAX_CALL_BYTES: usize = 64 * 1024 * 1024;

/// Who started the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

/// The part of a scenario that a call carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) ending: Ending,
    pub(super) speech: Speech,
    #[serde(with = "super::state::shared_option")]
    pub(super) file: Option<Arc<FileScenario>>,
}

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) id: Uuid,
    pub(super) agent_id: Uuid,
    pub(super) direction: Direction,
    pub(super) to: String,
    pub(super) from: String,
    pub(super) created: Moment,
    pub(super) metadata: Map<String, Value>,
    pub(super) webhook_url: Option<String>,
    pub(super) hook: CallHook,
    /// The agent's configuration when the call began.
    #[serde(with = "super::state::shared")]
    config: Arc<Config>,
    instructions: Option<String>,
    context: Map<String, Value>,
    part: Part,
    timeline: Timeline,
    steps_done: usize,
    settled: bool,
    bytes: usize,
    #[serde(skip)]
    pub(super) entry: Option<Entry>,
}

/// Something that happens to a call and that others learn of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Event(EventType),
    Settle,
}

impl Record for Call {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Call {
    fn at(&self, offset: i64) -> Moment {
        self.created.after(offset)
    }

    /// The steps and when they fall due.
    fn steps(&self) -> Vec<(i64, Step)> {
        let times = &self.timeline;
        let mut steps = Vec::with_capacity(5);
        if self.direction == Direction::Outbound {
            steps.push((0, Step::Event(EventType::Queued)));
        }
        steps.push((times.ringing, Step::Event(EventType::Ringing)));
        if let Some(answered) = times.answered {
            steps.push((answered, Step::Event(EventType::Answered)));
        }
        steps.push((times.ended, Step::Settle));
        let terminal = match self.part.ending {
            Ending::Completed => EventType::Completed,
            Ending::NoAnswer | Ending::Voicemail => EventType::NoAnswer,
            Ending::Busy => EventType::Busy,
            Ending::Canceled => EventType::Canceled,
            Ending::Failed => EventType::Failed,
        };
        steps.push((times.extracted.unwrap_or(times.ended), Step::Event(terminal)));
        steps
    }

    /// When the next step falls due.
    pub(super) fn next_step(&self) -> Option<Moment> {
        self.steps().get(self.steps_done).map(|(offset, _)| self.at(*offset))
    }

    fn status(&self, now: Moment) -> &'static str {
        let passed = |offset: Option<i64>| offset.is_some_and(|offset| self.at(offset) <= now);
        let times = &self.timeline;
        if passed(Some(times.ended)) {
            match self.part.ending {
                Ending::Completed => "completed",
                Ending::NoAnswer | Ending::Voicemail => "no_answer",
                Ending::Busy => "busy",
                Ending::Canceled => "canceled",
                Ending::Failed => "failed",
            }
        } else if passed(times.answered) {
            "in_progress"
        } else if passed(Some(times.ringing)) {
            "ringing"
        } else if passed(times.initiated) {
            "initiated"
        } else {
            "queued"
        }
    }

    /// Connected time in whole seconds: what is charged.
    fn billed_seconds(&self) -> u64 {
        self.timeline
            .answered
            .map_or(0, |answered| billing::seconds(self.timeline.ended - answered))
    }

    fn charge(&self) -> MilliCents {
        billing::charge(self.billed_seconds())
    }

    fn script(&self, seed: u64) -> Script {
        let brief = Brief {
            agent_name: &self.config.name,
            persona: self.config.persona.as_deref(),
            instructions: self.instructions.as_deref(),
            context: &self.context,
            returns: &self.config.returns,
        };
        let to_a_machine = self.part.ending == Ending::Voicemail;
        let talks = match self.part.ending {
            Ending::Completed => true,
            Ending::Voicemail => self.config.voicemail_action == VoicemailAction::LeaveMessage,
            Ending::NoAnswer | Ending::Busy | Ending::Canceled | Ending::Failed => false,
        };
        if !talks {
            return Script::default();
        }
        let written = self.part.file.as_ref().and_then(|file| file.script(&brief));
        match written {
            Some(script) => script,
            None if to_a_machine => conversation::with_a_machine(&brief),
            None => {
                let dice = Dice::new(seed, &[b"conversation", self.id.as_bytes()]);
                conversation::with_a_person(self.part.speech, &brief, dice)
            }
        }
    }

    /// The result, its status and the error, as they stand.
    fn result(&self, seed: u64, now: Moment) -> (Value, &'static str, Option<&'static str>) {
        if self.timeline.extracted.is_none_or(|offset| self.at(offset) > now) {
            return (Value::Null, "pending", None);
        }
        let result = if self.config.returns.is_empty() {
            Value::Null
        } else {
            Value::Object(self.script(seed).result)
        };
        match self.part.speech {
            Speech::Unreadable => (
                result,
                "failed",
                Some("the extraction output could not be read as the schema asks"),
            ),
            _ => (result, "completed", None),
        }
    }

    fn prompt(&self) -> String {
        match (&self.config.persona, &self.instructions) {
            (Some(persona), Some(instructions)) => format!("{persona}\n\n{instructions}"),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => "You are a helpful assistant on the phone.".to_owned(),
        }
    }

    /// The call as the API shows it at a moment.
    pub(super) fn show(&self, seed: u64, now: Moment) -> Value {
        let times = &self.timeline;
        let moment = |offset: Option<i64>| offset.map(|at| self.at(at)).filter(|at| *at <= now);
        let ended = moment(Some(times.ended));
        let after = |value: Value| if ended.is_some() { value } else { Value::Null };
        let (result, result_status, result_error) = self.result(seed, now);
        let failed = ended.is_some() && self.part.ending == Ending::Failed;
        let changes = [
            Some(0),
            times.initiated,
            Some(times.ringing),
            times.answered,
            Some(times.ended),
            times.extracted,
        ];
        let updated = changes.into_iter().filter_map(moment).max().unwrap_or(self.created);
        let answered_by = match self.part.ending {
            Ending::Voicemail if ended.is_some() => Some("machine"),
            _ => moment(times.answered).map(|_| "human"),
        };
        json!({
            "id": self.id,
            "agent_id": self.agent_id,
            "to_number": self.to,
            "from_number": self.from,
            "status": self.status(now),
            "direction": self.direction,
            "persona": self.config.persona,
            "instructions": self.instructions,
            "prompt": self.prompt(),
            "context": self.context,
            "returns": self.config.show_returns(),
            "result": result,
            "result_status": result_status,
            "result_error": result_error,
            "language": self.config.language,
            "webhook_url": self.webhook_url,
            "webhook_status": self.hook.status,
            "webhook_error": self.hook.error,
            "created_at": self.created.text(),
            "started_at": moment(Some(times.ringing)).map(Moment::text),
            "answered_at": moment(times.answered).map(Moment::text),
            "ended_at": ended.map(Moment::text),
            "duration_seconds": after(json!(billing::seconds(times.ended - times.ringing))),
            "billed_duration_seconds": after(json!(self.billed_seconds())),
            "billing_amount_milli_cents": after(json!(self.charge())),
            "reservation_status": match (ended.is_some(), times.answered.is_some()) {
                (false, _) => "reserved",
                (true, true) => "settled",
                (true, false) => "released",
            },
            "error_code": failed.then_some("carrier_failure"),
            "error_message": failed.then_some("the carrier could not complete the call"),
            "hangup_cause": after(match self.part.ending {
                Ending::Completed => json!("normal_clearing"),
                Ending::NoAnswer => json!("no_answer"),
                Ending::Busy => json!("user_busy"),
                Ending::Canceled => json!("originator_cancel"),
                Ending::Failed => json!("network_out_of_order"),
                Ending::Voicemail => Value::Null,
            }),
            "metadata": self.metadata,
            "updated_at": updated.max(self.hook.updated.unwrap_or(updated)).text(),
            "tools": self.config.tools,
            "answered_by": answered_by,
            "simulated": true,
        })
    }

    fn show_transcript(&self, seed: u64, now: Moment) -> Value {
        let segments: Vec<Value> = match self.timeline.speech {
            Some(speech) if self.at(speech) <= now => (1..)
                .zip(self.script(seed).lines)
                .take_while(|(_, line)| self.at(speech + line.to) <= now)
                .map(|(number, line)| {
                    json!({
                        "sequence_no": number,
                        "role": line.role,
                        "text": line.text,
                        "started_at": self.at(speech + line.from).text(),
                        "ended_at": self.at(speech + line.to).text(),
                        "duration_ms": line.to - line.from,
                        "source": "live",
                        "simulated": true,
                    })
                })
                .collect(),
            _ => Vec::new(),
        };
        json!({"call_id": self.id, "segments": segments, "simulated": true})
    }
}

/// An order for a call that has passed every check.
pub(super) struct Order {
    pub(super) direction: Direction,
    pub(super) agent_id: Uuid,
    pub(super) config: Arc<Config>,
    pub(super) to: String,
    pub(super) from: String,
    pub(super) instructions: Option<String>,
    pub(super) context: Map<String, Value>,
    pub(super) metadata: Map<String, Value>,
    pub(super) webhook_url: Option<String>,
    pub(super) part: Part,
    /// Bytes of the request, which the call keeps in one form or another.
    pub(super) bytes: usize,
}

/// Begins a call: holds the credit and puts the first step on the agenda.
///
/// # Errors
/// 402 when the credit does not cover the hold.
pub(super) fn begin(scope: &mut Scope<'_>, order: Order) -> Result<Value, Refusal> {
    let org = &mut *scope.org;
    if org.available() < billing::HOLD {
        return Err(paused(org.available()));
    }
    org.held = org.held.saturating_add(billing::HOLD);
    let mut call = Call {
        id: org.next_id(scope.settings.seed),
        agent_id: order.agent_id,
        direction: order.direction,
        to: order.to,
        from: order.from,
        created: scope.now,
        metadata: order.metadata,
        webhook_url: order.webhook_url,
        hook: CallHook::default(),
        config: order.config,
        instructions: order.instructions,
        context: order.context,
        part: order.part,
        // Replaced below: the length of the talk follows from the finished call.
        timeline: scenario::inbound(Ending::Canceled, 0),
        steps_done: 0,
        settled: false,
        bytes: order.bytes,
        entry: None,
    };
    let talk = call.script(scope.settings.seed).length();
    call.timeline = match call.direction {
        Direction::Inbound => scenario::inbound(call.part.ending, talk),
        Direction::Outbound => {
            let ring = call.part.file.as_ref().and_then(|file| file.ring_milliseconds());
            let ring = ring.unwrap_or_else(|| scenario::ring_milliseconds(call.part.ending));
            scenario::outbound(call.part.ending, ring, talk)
        }
    };
    let shown = call.show(scope.settings.seed, scope.now);
    org.call_bytes += call.bytes;
    if let Some(at) = call.next_step() {
        scope.agenda.plan(&mut call.entry, at, org.id, Due::Call(call.id));
    }
    org.calls.push(call);
    while org.calls.len() > MAX_CALLS || org.call_bytes > MAX_CALL_BYTES {
        let Some(mut oldest) = org.calls.drop_oldest() else { break };
        scope.agenda.forget(&mut oldest.entry);
        org.call_bytes = org.call_bytes.saturating_sub(oldest.bytes);
        if !oldest.settled {
            org.settle(MilliCents::ZERO);
        }
    }
    Ok(shown)
}

impl Org {
    fn call(&self, text: &str) -> Result<&Call, Refusal> {
        fields::id(text)
            .and_then(|id| self.calls.get(id))
            .ok_or_else(|| Refusal::not_found("call", text))
    }
}

/// 402 with the amounts.
pub(super) fn paused(available: MilliCents) -> Refusal {
    Refusal::new(StatusCode::PAYMENT_REQUIRED, billing::paused(available))
}

/// Takes the next step of a call, at the moment it falls due.
pub(super) fn step(scope: &mut Scope<'_>, id: Uuid) {
    let Some(call) = scope.org.calls.get_mut(id) else { return };
    let Some((_, step)) = call.steps().get(call.steps_done).copied() else { return };
    call.steps_done += 1;
    if let Some(at) = call.next_step() {
        scope.agenda.plan(&mut call.entry, at, scope.org.id, Due::Call(id));
    }
    match step {
        Step::Settle => {
            call.settled = true;
            let charge = call.charge();
            scope.org.settle(charge);
        }
        Step::Event(event) => deliveries::announce(scope, id, event),
    }
}

/// GET /v1/calls
pub(super) fn list(scope: &mut Scope<'_>, request: Request) -> Answer {
    let (seed, now) = (scope.settings.seed, scope.now);
    scope.org.calls.page(request.query, |call| call.show(seed, now)).map(Reply::ok)
}

/// GET /v1/calls/{id}
pub(super) fn get(scope: &mut Scope<'_>, request: Request) -> Answer {
    let call = scope.org.call(request.id())?;
    request.query.end()?;
    Ok(Reply::ok(call.show(scope.settings.seed, scope.now)))
}

/// GET /v1/calls/{id}/transcript
pub(super) fn transcript(scope: &mut Scope<'_>, request: Request) -> Answer {
    let call = scope.org.call(request.id())?;
    request.query.end()?;
    Ok(Reply::ok(call.show_transcript(scope.settings.seed, scope.now)))
}

/// A field that holds a number in E.164 form.
pub(super) fn e164(name: &str, text: &str) -> Result<String, Refusal> {
    E164::parse(text)
        .map(|number| number.as_str().to_owned())
        .map_err(|_| wrong(name, "a number in E.164 form, such as +14155550100"))
}

/// The agent of an order, if it can place calls.
pub(super) fn outbound_agent(org: &Org, text: &str) -> Result<(Uuid, Arc<Config>), Refusal> {
    let agent = fields::id(text)
        .and_then(|id| org.agents.get(id))
        .ok_or_else(|| Refusal::not_found("agent", text))?;
    let problem = if agent.archived_at.is_some() {
        Some("is archived")
    } else if agent.kind == AgentType::Inbound {
        Some("is inbound; only an outbound agent can place calls")
    } else if agent.numbers.is_empty() {
        Some("has no number; attach one first")
    } else {
        None
    };
    match problem {
        None => Ok((agent.id, Arc::clone(&agent.config))),
        Some(problem) => Err(Refusal::bad(format!("agent {} {problem}", shorten(text)))),
    }
}

/// The caller ID of an order: the one asked for, if attached, or the agent's primary number.
pub(super) fn caller_id(org: &Org, agent: Uuid, wanted: Option<&str>) -> Result<String, Refusal> {
    let missing = || Refusal::bad("from_number is not attached to the agent");
    let agent = org.agents.get(agent).ok_or_else(missing)?;
    let number = match wanted {
        Some(wanted) => org.number_by_digits(wanted).filter(|n| agent.numbers.contains(&n.id)),
        None => agent.primary.and_then(|id| org.numbers.get(id)),
    };
    number.map(|number| number.e164.clone()).ok_or_else(missing)
}

/// The optional object of an order.
pub(super) fn object(
    fields: &mut Fields,
    name: &'static str,
) -> Result<Map<String, Value>, Refusal> {
    Ok(fields.object(name)?.unwrap_or_default())
}
