//! The list of people of a batch: what a client may ask for, and everything that is wrong with it in one error. Reads the
//! agent; knows neither the rules nor the ledger.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::template::{InvalidTemplate, Template};
use crate::dialing::caller::CallerName;
use crate::dialing::ledger::{
    AccountRef, BatchTask, Fingerprint, IdempotencyKey, Person, RetryPolicy,
};
use crate::dialing::limits::OrderKind;
use crate::dialing::order::DISPATCH_KEY;
use crate::dialing::policy::{RuleName, refuse_undialable};
use callingbox::{Agent, AgentId, AgentType, E164, OpenEnum};

/// The most people in one batch, whatever the rules say.
pub const MAX_PEOPLE: usize = 500;
/// How far ahead a batch may be planned.
pub const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long a batch may take if nothing else is said.
pub const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_hours(4);
/// The most characters of the instructions of one call, as the API takes them.
pub const MAX_INSTRUCTIONS: usize = 20_000;
/// The most bytes of names, context and metadata of all people together.
pub const MAX_PEOPLE_BYTES: usize = 400 * 1024;
/// How many rows an error names for each problem.
const MAX_NAMED_ROWS: usize = 20;

/// A batch as a client asks for it.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    pub agent_id: AgentId,
    pub task: BatchTask,
    pub people: Vec<(E164, Person)>,
    pub start_at: Option<Timestamp>,
    pub end_by: Option<Timestamp>,
    pub idempotency_key: Option<IdempotencyKey>,
    /// Who asks for it.
    pub caller: CallerName,
}

/// Everything that is wrong with a list. Nothing of it is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListProblems {
    problems: Vec<ListProblem>,
}

/// One problem, and where it is; nowhere for a problem of the whole list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListProblem {
    text: String,
    places: Vec<Place>,
}

/// Where a person is in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The index of the row.
    Row(usize),
    /// A line of the file that holds the list, from 1.
    Line(u64),
}

impl Place {
    fn number(self) -> u64 {
        match self {
            Self::Row(index) => index as u64 + 1,
            Self::Line(line) => line,
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Row(_) => "row",
            Self::Line(_) => "line",
        }
    }
}

impl ListProblems {
    /// Adds a problem of the whole list.
    pub fn add(&mut self, text: impl Into<String>) {
        self.problems.push(ListProblem { text: text.into(), places: Vec::new() });
    }

    /// Adds a problem of these rows, counted from 0.
    pub fn add_rows(&mut self, text: impl Into<String>, rows: Vec<usize>) {
        self.add_places(text, rows.into_iter().map(Place::Row).collect());
    }

    /// Adds a problem that a line of a file has, to the other lines with the same problem.
    pub fn add_line(&mut self, text: &str, line: u64) {
        match self.problems.iter_mut().find(|problem| problem.text == text) {
            Some(problem) => problem.places.push(Place::Line(line)),
            None => self.add_places(text, vec![Place::Line(line)]),
        }
    }

    fn add_places(&mut self, text: impl Into<String>, places: Vec<Place>) {
        if !places.is_empty() {
            self.problems.push(ListProblem { text: text.into(), places });
        }
    }

    /// Adds the problems of the people that a file holds, whose rows are at these lines of it.
    pub fn append_at_lines(&mut self, other: Self, lines: &[u64]) {
        let find_line = |place: Place| match place {
            Place::Row(index) => lines.get(index).map_or(place, |line| Place::Line(*line)),
            Place::Line(_) => place,
        };
        self.problems.extend(other.problems.into_iter().map(|problem| ListProblem {
            places: problem.places.into_iter().map(find_line).collect(),
            ..problem
        }));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// # Errors
    /// There is a problem.
    pub(super) fn into_result(self) -> Result<(), Self> {
        if self.problems.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for ListProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The list has errors, and nobody was called:")?;
        for ListProblem { text, places } in &self.problems {
            write!(f, "\n- {text}")?;
            let Some(noun) = places.first().map(|place| place.noun()) else { continue };
            let plural = if places.len() == 1 { "" } else { "s" };
            let named: Vec<String> = places
                .iter()
                .take(MAX_NAMED_ROWS)
                .map(|place| place.number().to_string())
                .collect();
            write!(f, ": {noun}{plural} {}", named.join(", "))?;
            if places.len() > named.len() {
                write!(f, " and {} more", places.len() - named.len())?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ListProblems {}

/// The window in which a batch starts calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start_at: Timestamp,
    pub end_by: Timestamp,
}

impl Window {
    /// The window that a request asks for; its errors are added to the problems.
    pub(super) fn from_request(
        request: &BatchRequest,
        now: Timestamp,
        problems: &mut ListProblems,
    ) -> Self {
        let add = |at: Timestamp, duration| at.checked_add(duration).unwrap_or(Timestamp::MAX);
        let start_at = request.start_at.map_or(now, |start| start.max(now));
        let end_by = request.end_by.unwrap_or_else(|| add(start_at, DEFAULT_WINDOW));
        if end_by <= start_at {
            let (start, end) = (format_time(start_at), format_time(end_by));
            problems.add(format!("`end_by` ({end}) is not after the start ({start})"));
        }
        if end_by > add(now, MAX_AHEAD) {
            problems.add("`end_by` is more than seven days ahead");
        }
        Self { start_at, end_by }
    }
}

/// A time to the second in UTC.
pub(super) fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Checks a list, and returns the instructions of each row.
pub(super) fn check_list(
    request: &BatchRequest,
    agent: &Agent,
    max_people: Option<u32>,
    problems: &mut ListProblems,
) -> Vec<Option<String>> {
    let people = &request.people;
    let max = max_people.map_or(MAX_PEOPLE, |max| MAX_PEOPLE.min(max as usize));
    match people.len() {
        0 => problems.add("`people` is empty"),
        size if size > max => {
            problems.add(format!("it has {size} people, and a batch may have {max}"));
        }
        _ => {}
    }
    let bytes = |person: &Person| serde_json::to_vec(person).map_or(0, |json| json.len());
    if people.iter().map(|(_, person)| bytes(person)).sum::<usize>() > MAX_PEOPLE_BYTES {
        let limit = MAX_PEOPLE_BYTES / 1024;
        problems.add(format!("names, context and metadata are larger than {limit} KiB"));
    }
    check_numbers(people, problems);
    check_agent(request, agent, problems);
    check_retry(&request.task.retry, problems);
    check_stop_condition(request, agent, problems);
    let reserved = |person: &Person| {
        person.metadata.as_ref().is_some_and(|metadata| metadata.contains_key(DISPATCH_KEY))
    };
    let rows = rows_where(people, |_, person| reserved(person));
    problems.add_rows(format!("`metadata.{DISPATCH_KEY}` is reserved"), rows);
    fill_instructions(request, problems)
}

fn rows_where(people: &[(E164, Person)], test: impl Fn(&E164, &Person) -> bool) -> Vec<usize> {
    let rows = people.iter().enumerate();
    rows.filter(|(_, (to, person))| test(to, person)).map(|(row, _)| row).collect()
}

/// Numbers that no telephone has, numbers in another than the canonical form, and numbers that appear twice. A number that
/// is never dialed stays in the list and is refused as a row.
fn check_numbers(people: &[(E164, Person)], problems: &mut ListProblems) {
    let rule = |to: &E164| refuse_undialable(to).map(|refusal| refusal.rule);
    let rows = rows_where(people, |to, _| rule(to) == Some(RuleName::Impossible));
    problems.add_rows("no telephone can have this number", rows);
    let rows = rows_where(people, |to, _| rule(to) == Some(RuleName::NotCanonical));
    problems.add_rows("the number has a national prefix after the country code", rows);
    let mut seen = HashSet::new();
    let rows = people.iter().enumerate().filter(|(_, (to, _))| !seen.insert(to));
    problems.add_rows("the number appears twice", rows.map(|(row, _)| row).collect());
}

fn check_agent(request: &BatchRequest, agent: &Agent, problems: &mut ListProblems) {
    if agent.archived_at.is_some() {
        problems.add("the agent is archived");
    }
    if agent.r#type == Some(OpenEnum::Known(AgentType::Inbound)) {
        problems.add("the agent answers calls (type inbound); an outbound agent places them");
    }
    let numbers: Vec<&E164> =
        agent.numbers.iter().flatten().filter_map(|number| number.e164.as_ref()).collect();
    match &request.task.from_number {
        None if numbers.is_empty() => problems.add("the agent has no number to call from"),
        Some(from) if agent.numbers.is_some() && !numbers.contains(&from) => {
            problems.add("`from_number` is not a number of the agent");
        }
        _ => {}
    }
}

fn check_retry(retry: &RetryPolicy, problems: &mut ListProblems) {
    if retry.max_attempts > 1 && retry.on.is_empty() {
        problems.add("`retry.on` names no outcome");
    }
}

fn check_stop_condition(request: &BatchRequest, agent: &Agent, problems: &mut ListProblems) {
    let Some(stop) = &request.task.stop_when else { return };
    let fields = agent.returns.as_ref().and_then(Value::as_object);
    if !fields.is_some_and(|fields| fields.contains_key(&stop.field)) {
        let names: Vec<&str> =
            fields.into_iter().flat_map(|f| f.keys()).map(String::as_str).collect();
        let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        problems.add(format!("`stop_when.field` is not a result field of the agent; it has {has}"));
    }
}

/// The instructions of each row, filled in.
fn fill_instructions(request: &BatchRequest, problems: &mut ListProblems) -> Vec<Option<String>> {
    let Some(instructions) = &request.task.instructions else {
        return vec![None; request.people.len()];
    };
    let template = match Template::parse(instructions) {
        Ok(template) => template,
        Err(
            error
            @ (InvalidTemplate::Unclosed | InvalidTemplate::Unopened | InvalidTemplate::Empty),
        ) => {
            problems.add(error.to_string());
            return vec![None; request.people.len()];
        }
    };
    let mut missing: Vec<(String, Vec<usize>)> = Vec::new();
    let mut too_long = Vec::new();
    let mut filled = Vec::with_capacity(request.people.len());
    for (row, (_, person)) in request.people.iter().enumerate() {
        match template.fill(person.name.as_deref(), person.context.as_ref()) {
            Ok(text) => {
                if text.chars().count() > MAX_INSTRUCTIONS {
                    too_long.push(row);
                }
                filled.push(Some(text));
            }
            Err(keys) => {
                for key in keys {
                    match missing.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, rows)) => rows.push(row),
                        None => missing.push((key, vec![row])),
                    }
                }
                filled.push(None);
            }
        }
    }
    for (key, rows) in missing {
        let key = callingbox::shown_text::one_line(&key, 60);
        problems.add_rows(format!("there is no value for `{{{key}}}`"), rows);
    }
    let limit = format!("the instructions are longer than {MAX_INSTRUCTIONS} characters");
    problems.add_rows(limit, too_long);
    filled
}

/// Identifies a list whatever the order of its people.
pub(super) fn list_fingerprint(request: &BatchRequest, account: &AccountRef) -> Fingerprint {
    let BatchRequest {
        agent_id,
        task:
            BatchTask {
                from_number,
                instructions,
                webhook_url,
                retry,
                stop_when,
                allow_repeat: _,
                metadata_source: _,
            },
        people,
        start_at: _,
        end_by: _,
        idempotency_key: _,
        caller: _,
    } = request;
    let people: HashMap<&str, Value> = people
        .iter()
        .map(|(to, Person { name, context, metadata })| {
            (to.as_str(), json!([name, context, metadata]))
        })
        .collect();
    let list = json!({
        "agent_id": agent_id.as_str(),
        "from_number": from_number.as_ref().map(E164::as_str),
        "instructions": instructions,
        "webhook_url": webhook_url,
        "retry": retry,
        "stop_when": stop_when,
        "people": people,
    });
    Fingerprint::new(account, OrderKind::Call, &json!({"batch": list}))
}
