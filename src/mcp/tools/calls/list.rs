//! `list_calls`: the account's calls, filtered on our side, because the API has no filters.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::opt_outs::asks_not_to_be_called;
use crate::mcp::input::arguments::{BoundedInteger, List, Time};
use crate::mcp::reply::call_summary::CallSummary;
use crate::mcp::reply::text;
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName, With,
};
use crate::mcp::tools::shared::page_cursor;
use crate::mcp::waiting;
use callingbox::{AgentId, Call, CallId, E164, MilliCents, Page, PageCursor, PageRequest};

pub(in crate::mcp::tools) struct ListCalls;

/// The outcome of a call, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OutcomeFilter {
    InProgress,
    Completed,
    Voicemail,
    NoAnswer,
    Busy,
    Canceled,
    Failed,
}

impl OutcomeFilter {
    const fn outcome(self) -> CallOutcome {
        match self {
            Self::InProgress => CallOutcome::InProgress,
            Self::Completed => CallOutcome::Completed,
            Self::Voicemail => CallOutcome::Voicemail,
            Self::NoAnswer => CallOutcome::NoAnswer,
            Self::Busy => CallOutcome::Busy,
            Self::Canceled => CallOutcome::Canceled,
            Self::Failed => CallOutcome::Failed,
        }
    }
}

/// The direction of a call, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DirectionFilter {
    Inbound,
    Outbound,
}

impl DirectionFilter {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct ListCallsInput {
    /// Only calls with one of these outcomes.
    outcomes: Option<List<OutcomeFilter, 7>>,
    /// Only calls in this direction.
    direction: Option<DirectionFilter>,
    /// Only calls of this agent.
    agent_id: Option<AgentId>,
    /// Only calls to or from this E.164 number.
    #[schemars(with = "Option<String>")]
    number: Option<E164>,
    /// Only calls created at this time or later.
    since: Option<Time>,
    /// Only calls created before this time.
    until: Option<Time>,
    /// Number of calls. Default: 20.
    limit: Option<BoundedInteger<1, 100>>,
    /// Return calls older than this call_id.
    starting_after: Option<CallId>,
    /// Return calls newer than this call_id.
    ending_before: Option<CallId>,
}

impl ListCallsInput {
    fn outcomes(&self) -> Vec<CallOutcome> {
        self.outcomes.iter().flat_map(List::as_slice).map(|filter| filter.outcome()).collect()
    }

    /// The filters that were given, as words.
    fn describe(&self) -> Vec<String> {
        let outcomes: Vec<&str> = self.outcomes().iter().map(|outcome| outcome.as_str()).collect();
        let time = |at: Option<Time>| at.map(|at| text::format_instant(at.0));
        [
            ("outcomes", (!outcomes.is_empty()).then(|| outcomes.join(", "))),
            ("direction", self.direction.map(|direction| direction.as_str().to_owned())),
            ("agent_id", self.agent_id.as_ref().map(ToString::to_string)),
            ("number", self.number.as_ref().map(|number| number.as_str().to_owned())),
            ("since", time(self.since)),
            ("until", time(self.until)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
        .collect()
    }

    fn matches(&self, call: &Call) -> bool {
        let (created, outcomes) = (created_at(call), self.outcomes());
        (outcomes.is_empty() || outcomes.contains(&CallOutcome::from_call(call)))
            && self.direction.is_none_or(|direction| {
                call.direction.as_ref().is_some_and(|known| known.as_str() == direction.as_str())
            })
            && self.agent_id.as_ref().is_none_or(|agent| call.agent_id.as_ref() == Some(agent))
            && self.number.as_ref().is_none_or(|number| {
                call.to_number.as_ref() == Some(number) || call.from_number.as_ref() == Some(number)
            })
            && self.since.is_none_or(|since| created.is_none_or(|created| created >= since.0))
            && self.until.is_none_or(|until| created.is_none_or(|created| created < until.0))
    }

    /// Whether the calls beyond this one, in the direction of the search, are outside the given times.
    fn ends_at(&self, call: &Call, towards_newer: bool) -> bool {
        let Some(created) = created_at(call) else { return false };
        if towards_newer {
            self.until.is_some_and(|until| created >= until.0)
        } else {
            self.since.is_some_and(|since| created < since.0)
        }
    }
}

fn created_at(call: &Call) -> Option<Timestamp> {
    call.created_at.as_ref()?.instant()
}

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct ListCallsOutput {
    calls: Vec<CallSummary>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<CallId>,
    /// Calls looked at to find these.
    searched: usize,
    /// How many of the calls looked at have each outcome.
    counts: BTreeMap<&'static str, usize>,
    /// What the calls shown cost together.
    cost_milli_cents: MilliCents,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

/// The largest page of the API.
const MAX_PAGE_SIZE: u8 = 100;

/// The maximum number of pages that one filtered listing reads: 1,000 calls.
const MAX_PAGES: usize = 10;

impl Tool for ListCalls {
    const NAME: ToolName = ToolName::LIST_CALLS;
    const TITLE: &'static str = "List calls";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Lists inbound and outbound calls in short, newest first, with counts by outcome and the cost. A filter searches at most 1,000 calls per request and returns where to continue. Use it to find a call_id or to check whether a call was placed.",
        ),
        With(ToolName::GET_CALL_RESULT, "get_call_result returns the details."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListCallsInput;
    type Output = ListCallsOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let cursor = page_cursor(
            input.starting_after.as_ref().map(ToString::to_string),
            input.ending_before.as_ref().map(ToString::to_string),
        )?;
        let limit = input.limit.map_or(20, |limit| usize::try_from(limit.get()).unwrap_or(100));
        let search = CallSearch::run(cx, &input, cursor, limit).await?;
        let text = search.to_text(&input);
        let cost_milli_cents = search.total_cost();
        let CallSearch { calls, has_more, edge, searched, counts, simulated, .. } = search;
        let next_cursor = edge.filter(|_| has_more);
        let output = ListCallsOutput {
            calls,
            has_more,
            next_cursor,
            searched,
            counts,
            cost_milli_cents,
            simulated,
        };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

/// A search through the list of calls.
struct CallSearch {
    calls: Vec<CallSummary>,
    /// Whether calls in this direction were not looked at.
    has_more: bool,
    /// The last call that was looked at.
    edge: Option<CallId>,
    searched: usize,
    /// How many of the calls looked at have each outcome.
    counts: BTreeMap<&'static str, usize>,
    simulated: bool,
    towards_newer: bool,
    from_start: bool,
}

impl CallSearch {
    async fn run(
        cx: &ToolContext,
        filter: &ListCallsInput,
        mut cursor: Option<PageCursor>,
        limit: usize,
    ) -> Result<Self, ToolExit> {
        let api = cx.account.api()?;
        let mut search = Self {
            calls: Vec::new(),
            has_more: true,
            edge: None,
            searched: 0,
            counts: BTreeMap::new(),
            simulated: false,
            towards_newer: matches!(cursor, Some(PageCursor::Before(_))),
            from_start: cursor.is_none(),
        };
        let page_size = match filter.describe().is_empty() {
            true => u8::try_from(limit).unwrap_or(MAX_PAGE_SIZE),
            false => MAX_PAGE_SIZE,
        };
        let mut pages = 0;
        while search.has_more && search.calls.len() < limit && pages < MAX_PAGES {
            let request = PageRequest { limit: Some(page_size), cursor };
            let page = api.list_calls(&request).await?;
            for call in page.data.iter().filter(|call| asks_not_to_be_called(call)) {
                waiting::record_call_end(&cx.account, call).await;
            }
            pages += 1;
            search.add_page(page, filter, limit);
            cursor = search.edge.as_ref().map(|id| {
                let id = id.as_str().to_owned();
                if search.towards_newer { PageCursor::Before(id) } else { PageCursor::After(id) }
            });
        }
        if search.towards_newer {
            search.calls.reverse();
        }
        Ok(search)
    }

    /// Looks at the calls of a page, until there are enough or the rest is outside the given times.
    fn add_page(&mut self, mut page: Page<Call>, filter: &ListCallsInput, limit: usize) {
        self.has_more = page.has_more && !page.data.is_empty();
        if self.towards_newer {
            // Each page begins with the newest call, but this listing goes towards newer calls.
            page.data.reverse();
        }
        let mut calls = page.data.into_iter();
        for call in calls.by_ref() {
            if filter.ends_at(&call, self.towards_newer) {
                self.has_more = false;
                return;
            }
            self.searched += 1;
            self.edge = Some(call.id.clone());
            self.simulated |= text::is_simulated(&call.extra);
            *self.counts.entry(CallOutcome::from_call(&call).as_str()).or_default() += 1;
            if filter.matches(&call) {
                self.calls.push(call.into());
                if self.calls.len() == limit {
                    break;
                }
            }
        }
        self.has_more |= calls.next().is_some();
    }

    /// What the calls shown cost together.
    fn total_cost(&self) -> MilliCents {
        let costs = self.calls.iter().filter_map(CallSummary::cost);
        MilliCents(costs.fold(0, |total, cost| total.saturating_add(cost.0)))
    }

    fn to_text(&self, filter: &ListCallsInput) -> String {
        let filters = filter.describe();
        let filters = match filters.as_slice() {
            [] => String::new(),
            filters => format!(" Filters: {}.", filters.join("; ")),
        };
        let mut text = match (self.calls.len(), self.searched) {
            (0, 0) if self.from_start && filters.is_empty() => "There are no calls.".to_owned(),
            (0, 0) if self.from_start => format!("There are no such calls.{filters}"),
            (0, 0) => "No more calls in this direction.".to_owned(),
            (0, searched) => format!("None of the {searched} calls looked at fits.{filters}"),
            (1, searched) => format!("1 call of {searched} looked at, newest first.{filters}"),
            (count, searched) => {
                format!("{count} calls of {searched} looked at, newest first.{filters}")
            }
        };
        text.push('\n');
        for call in &self.calls {
            text.push_str(&call.summary_line());
            text.push('\n');
        }
        if !self.counts.is_empty() {
            let counts: Vec<String> =
                self.counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "Of those looked at: {}.", counts.join(", "));
        }
        if self.calls.len() > 1 {
            let _ = writeln!(text, "The calls shown cost {} together.", self.total_cost());
        }
        match self.edge.as_ref().filter(|_| self.has_more) {
            Some(next) => {
                let name = if self.towards_newer { "ending_before" } else { "starting_after" };
                let _ = write!(text, "There are more: call again with {name} {next}.");
            }
            None if self.searched > 0 => text.push_str("These are all."),
            None => {}
        }
        text.trim_end().to_owned()
    }
}
