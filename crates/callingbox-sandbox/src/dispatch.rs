//! POST /v1/calls and the caller from outside: check everything, choose the scenario, begin.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Map;

use super::agents;
use super::answer::{Answer, Manner, Refusal, Reply, shorten};
use super::calls::{self, Direction, Order, Part};
use super::fields::Fields;
use super::request::Request;
use super::scenario::{self, ENDINGS, Ending, Gate, Speech};
use super::scenario_file::FileScenario;
use super::world::Scope;
use crate::money::MilliCents;

/// Destinations remembered for their one-time refusal.
const MAX_REFUSED: usize = 10_000;

impl Part {
    fn written(file: &Arc<FileScenario>) -> Self {
        Self { ending: file.ending, speech: Speech::Written, file: Some(Arc::clone(file)) }
    }

    fn built_in(scenario: scenario::Scenario) -> Self {
        Self { ending: scenario.ending, speech: scenario.speech, file: None }
    }
}

/// POST /v1/calls
pub(super) fn place(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let agent = fields.required_text("agent_id")?;
    let to = calls::e164("to", &fields.required_text("to")?)?;
    let from = match fields.text("from_number")? {
        Some(text) => Some(calls::e164("from_number", &text)?),
        None => None,
    };
    let instructions = fields.text("instructions")?;
    let context = calls::object(&mut fields, "context")?;
    let webhook_url = agents::receiver(scope.settings, fields.text("webhook_url")?)?;
    let metadata = calls::object(&mut fields, "metadata")?;
    fields.end()?;

    let (agent_id, config) = calls::outbound_agent(scope.org, &agent)?;
    let from = calls::caller_id(scope.org, agent_id, from.as_deref())?;
    let written = scope.settings.scenarios.iter().find(|file| file.matches(&to));
    let (part, gate) = match written {
        Some(file) => (Part::written(file), Gate::Open),
        None => {
            let scenario = scenario::of_destination(&to);
            (Part::built_in(scenario), scenario.gate)
        }
    };
    refuse(scope, gate, &to)?;
    let order = Order {
        direction: Direction::Outbound,
        agent_id,
        instructions: instructions.or_else(|| config.instructions.clone()),
        webhook_url: webhook_url.or_else(|| config.webhook_url.clone()),
        config,
        to,
        from,
        context,
        metadata,
        part,
        bytes: request.body.len(),
    };
    let call = calls::begin(scope, order)?;
    let manner = match gate {
        Gate::AnswerLost => Manner::Reset,
        Gate::AnswerLate => Manner::Late(scope.settings.late_answer),
        _ => Manner::Whole,
    };
    Ok(Reply { manner, ..Reply::created(call) })
}

/// The refusals that a destination asks for; nothing has been dialed when they are given.
fn refuse(scope: &mut Scope<'_>, gate: Gate, to: &str) -> Result<(), Refusal> {
    match gate {
        Gate::Open | Gate::AnswerLost | Gate::AnswerLate => Ok(()),
        Gate::ProviderRefuses => Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "the telephony provider could not place the call",
        )),
        // The balance of the dashboard guide's example, unless even less is there.
        Gate::Paused => Err(calls::paused(scope.org.available().min(MilliCents::from_cents(188)))),
        Gate::BusyOnce if first_time(scope, to) => Err(Refusal {
            retry_after: Some(1),
            ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests")
        }),
        Gate::BrokenOnce if first_time(scope, to) => {
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
        }
        Gate::BusyOnce | Gate::BrokenOnce => Ok(()),
    }
}

fn first_time(scope: &mut Scope<'_>, to: &str) -> bool {
    if scope.org.refused_once.len() >= MAX_REFUSED {
        scope.org.refused_once.clear();
    }
    scope.org.refused_once.insert(to.to_owned())
}

/// POST /sandbox/inbound_calls: a caller from outside rings an owned number.
pub(super) fn ring_in(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let to = calls::e164("to", &fields.required_text("to")?)?;
    let from = calls::e164("from", &fields.required_text("from")?)?;
    let scenario = fields.text("scenario")?;
    fields.end()?;
    let part = inbound_part(scope, scenario.as_deref().unwrap_or("0100"))?;
    let number = scope.org.number_by_digits(&to).map(|number| number.id);
    let number = number.ok_or_else(|| Refusal::not_found("number", &to))?;
    let agent = scope.org.inbound_agent(number).and_then(|id| scope.org.agents.get(id));
    let agent = agent.ok_or_else(|| {
        Refusal::conflict(format!("number {to} has no inbound agent; the call is rejected"))
    })?;
    let config = Arc::clone(&agent.config);
    let order = Order {
        direction: Direction::Inbound,
        agent_id: agent.id,
        instructions: config.instructions.clone(),
        webhook_url: config.webhook_url.clone(),
        config,
        to,
        from,
        context: Map::new(),
        metadata: Map::new(),
        part,
        bytes: request.body.len(),
    };
    calls::begin(scope, order).map(Reply::created)
}

fn inbound_part(scope: &Scope<'_>, name: &str) -> Result<Part, Refusal> {
    let files = &scope.settings.scenarios;
    if let Some(file) = files.iter().find(|file| file.name == name) {
        let fits = matches!(file.ending, Ending::Completed | Ending::Canceled | Ending::Failed);
        let word = ENDINGS.iter().find(|(_, ending)| *ending == file.ending).map(|(word, _)| *word);
        return if fits {
            Ok(Part::written(file))
        } else {
            Err(Refusal::bad(format!("an inbound call cannot end as {}", word.unwrap_or_default())))
        };
    }
    if let Some(scenario) = scenario::of_digits(name).filter(|scenario| scenario.inbound) {
        return Ok(Part::built_in(scenario));
    }
    let built_in = scenario::TABLE.iter().filter(|row| row.inbound).map(|row| row.digits);
    let names: Vec<&str> = built_in.chain(files.iter().map(|file| file.name.as_str())).collect();
    Err(Refusal::bad(format!(
        "scenario {} cannot be played by a caller; use one of {}",
        shorten(name),
        names.join(", ")
    )))
}
