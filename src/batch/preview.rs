//! What a person must see before a batch starts, as data: the answer of a tool, a form and the terminal show it in their
//! own ways. Also the settings of an agent that a callee notices, which the preview of a single call shows too.

use jiff::Timestamp;
use serde_json::Value;

use super::plan::Bottleneck;
use super::prepare::{PreparedBatch, fill_in};
use crate::dialing::Environment;
use crate::dialing::destination::Destination;
use crate::dialing::ledger::{RowRecord, RowState};
use crate::dialing::webhook_hosts::shown_host;
use callingbox::shown_text::one_line;
use callingbox::{Agent, E164, OpenEnum, VoicemailAction};

/// The maximum length of each text, in characters: the maximum of the arguments.
const MAX_TEXT_CHARS: usize = 32_768;

/// One thing to know.
pub type Field = (&'static str, String);

/// What a person sees before the yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPreview {
    /// The question.
    pub title: String,
    /// What all calls have in common.
    pub fields: Vec<Field>,
    pub people: Vec<PersonLine>,
    pub refused: Vec<RefusedLine>,
}

/// A person who will be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonLine {
    pub row: u32,
    pub number: String,
    pub name: Option<String>,
    /// The time there now, such as `09:05`; empty if it is not known.
    pub local_time: String,
}

/// A person who will not be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    pub row: u32,
    pub number: String,
    pub name: Option<String>,
    pub reason: String,
}

/// The preview of a batch that is ready, in this environment.
#[must_use]
pub fn build_preview(prepared: &PreparedBatch, environment: Environment) -> BatchPreview {
    let order_suffix = environment.order_suffix();
    let now = prepared.now.dialing;
    let name = |row: &RowRecord| {
        row.person
            .as_ref()
            .and_then(|person| person.name.as_deref())
            .map(|name| one_line(name, 100))
    };
    let number = |row: &RowRecord| {
        row.number
            .as_ref()
            .map_or_else(|| row.callee.masked.clone(), |number| number.as_str().to_owned())
    };
    let people: Vec<PersonLine> = prepared
        .waiting_rows()
        .map(|row| PersonLine {
            row: row.row,
            number: number(row),
            name: name(row),
            local_time: row.number.as_ref().map_or_else(String::new, |to| local_time(to, now)),
        })
        .collect();
    let refused = prepared.rows.iter().filter(|row| row.state == RowState::Refused);
    let refused: Vec<RefusedLine> = refused
        .map(|row| RefusedLine {
            row: row.row,
            number: number(row),
            name: name(row),
            reason: row.reason.clone().unwrap_or_default(),
        })
        .collect();
    let title = match people.len() {
        1 => format!("Call 1 person{order_suffix}?"),
        count => format!("Call {count} people{order_suffix}?"),
    };
    BatchPreview { title, fields: list_fields(prepared), people, refused }
}

fn list_fields(prepared: &PreparedBatch) -> Vec<Field> {
    let agent = &prepared.agent;
    let task = prepared.record.task.as_ref();
    let text = |text: &str| one_line(text, MAX_TEXT_CHARS);
    let first = prepared.waiting_rows().next();
    let first_person = first.and_then(|row| row.person.as_ref());
    let instructions = task
        .zip(first_person)
        .and_then(|(task, person)| fill_in(task, person))
        .or_else(|| agent.instructions.clone());
    let sent = prepared.disclosure.decide(agent, instructions.as_deref());
    let instructions = sent.into_instructions().ok().flatten().or(instructions);
    let task_name = match task.and_then(|task| task.instructions.as_deref()) {
        Some(template) if template.contains('{') => "Task, as the first person hears it",
        _ => "Task",
    };
    let from = task.and_then(|task| task.from_number.as_ref()).map(E164::as_str);
    let events = task.and_then(|task| task.webhook_url.as_deref()).or(agent.webhook_url.as_deref());
    let facts: Vec<&str> = {
        let mut names: Vec<&str> = Vec::new();
        for person in prepared.waiting_rows().filter_map(|row| row.person.as_ref()) {
            let keys = person.context.iter().flat_map(|context| context.keys().map(String::as_str));
            for name in person.name.iter().map(|_| "name").chain(keys) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    };
    let [name, persona, language, voice, machine, results, tools] = agent_fields(agent);
    let attempts = task.filter(|task| task.retry.max_attempts > 1).map(|task| {
        let on: Vec<&str> = task.retry.on.iter().map(|outcome| outcome.as_str()).collect();
        format!(
            "up to {} for each person, {} minutes apart, after {}",
            task.retry.max_attempts,
            task.retry.after_minutes,
            on.join(", ")
        )
    });
    let stop = task.and_then(|task| task.stop_when.as_ref()).map(|stop| {
        format!(
            "no new call once {} with {} = {}; until then at most {} at the same time, so the list takes longer",
            match stop.count {
                1 => "1 result came back".to_owned(),
                count => format!("{count} results came back"),
            },
            one_line(&stop.field, 100),
            one_line(&stop.equals.to_string(), 100),
            stop.count
        )
    });
    let repeat = task.is_some_and(|task| task.allow_repeat);
    [
        ("From", from.map(str::to_owned)),
        name,
        persona,
        language,
        voice,
        machine,
        (task_name, Some(instructions.as_deref().map_or_else(|| "none given".to_owned(), text))),
        ("Saying that an AI calls", prepared.disclosure_reminder.clone()),
        ("Facts it is given", (!facts.is_empty()).then(|| text(&facts.join(", ")))),
        results,
        tools,
        ("Events go to", events.map(shown_host)),
        ("Attempts", attempts),
        ("Stop", stop),
        (
            "Repeat",
            repeat.then(|| "calls people again whom this agent called a moment ago".to_owned()),
        ),
        ("Calls start", Some(describe_window(prepared))),
        ("Duration", Some(describe_duration(prepared))),
        ("Cost", Some(describe_cost(prepared))),
        ("Asked because", (!prepared.reasons.is_empty()).then(|| prepared.reasons.join("; "))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The settings of an agent that a callee notices.
#[must_use]
pub fn agent_fields(agent: &Agent) -> [(&'static str, Option<String>); 7] {
    let text = |text: &str| one_line(text, MAX_TEXT_CHARS);
    let machine = agent.voicemail_action.as_ref().map(|action| match action {
        OpenEnum::Known(VoicemailAction::Hangup) => "the agent hangs up".to_owned(),
        OpenEnum::Known(VoicemailAction::LeaveMessage) => "the agent leaves a message".to_owned(),
        OpenEnum::Other(word) => one_line(word, 100),
    });
    [
        ("Agent", Some(one_line(agent.name.as_deref().unwrap_or("unnamed"), 100))),
        ("Persona", agent.persona.as_deref().map(text)),
        ("Language", agent.language.as_deref().map(text)),
        ("Voice", agent.voice.as_deref().map(text)),
        ("On an answering machine", machine),
        ("Result fields", agent.returns.as_ref().and_then(list_result_fields).as_deref().map(text)),
        ("In-call tools", agent.tools.as_ref().and_then(describe_tools).as_deref().map(text)),
    ]
}

fn list_result_fields(returns: &Value) -> Option<String> {
    let names: Vec<&str> = returns.as_object()?.keys().map(String::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The in-call tools by name, with the hosts to which they send what they learn.
fn describe_tools(tools: &Value) -> Option<String> {
    let describe = |tool: &Value| {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or("unnamed");
        match tool.get("url").and_then(Value::as_str) {
            Some(url) => format!("{name}, which sends data to {}", shown_host(url)),
            None => name.to_owned(),
        }
    };
    let tools: Vec<String> = tools.as_array()?.iter().map(describe).collect();
    (!tools.is_empty()).then(|| tools.join("; "))
}

fn local_time(to: &E164, now: Timestamp) -> String {
    let times = Destination::from_number(to).zones.local_times(now);
    let mut hours: Vec<&str> =
        times.iter().map(|time| time.split(" (").next().unwrap_or(time)).collect();
    hours.dedup();
    hours.join(" or ")
}

fn describe_window(prepared: &PreparedBatch) -> String {
    let record = &prepared.record;
    let end = super::list::format_time(record.end_by);
    if record.start_at <= prepared.now.dialing {
        format!("now, and until {end}")
    } else {
        format!("from {} until {end}", super::list::format_time(record.start_at))
    }
}

/// How long it takes, and who is not reached.
#[must_use]
pub fn describe_duration(prepared: &PreparedBatch) -> String {
    let plan = &prepared.plan;
    if plan.reached == 0 {
        return format!("nobody is reached in time: {}", describe_bottleneck(prepared));
    }
    let minutes =
        plan.finishes_at.duration_since(prepared.record.start_at.max(prepared.now.dialing));
    let minutes = u64::try_from(minutes.as_mins()).unwrap_or(0).max(1);
    let takes = match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("about {minutes} min"),
        (hours, 0) => format!("about {hours} h"),
        (hours, minutes) => format!("about {hours} h {minutes} min"),
    };
    match plan.unreached {
        0 => takes,
        unreached => format!(
            "{takes} for {} of {}; {unreached} will not be reached in time: {}",
            plan.reached,
            plan.reached + unreached,
            describe_bottleneck(prepared)
        ),
    }
}

fn describe_bottleneck(prepared: &PreparedBatch) -> String {
    match prepared.plan.bottleneck {
        Some(Bottleneck::Limit(limit)) => {
            format!("the limit `{limit}` of the calling rules is reached first")
        }
        Some(Bottleneck::QuietHours) => "the quiet hours begin first".to_owned(),
        Some(Bottleneck::Duration) | None => "the calls take longer than that".to_owned(),
    }
}

/// The highest and the expected cost.
#[must_use]
pub fn describe_cost(prepared: &PreparedBatch) -> String {
    format!("at most {}, usually about {}", prepared.plan.max_cost, prepared.plan.expected_cost)
}
