//! `list_calls`: the account's calls, filtered on our side, because the API has no filters.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mcp::input::arguments::BoundedInteger;
use crate::mcp::registry::effect::ToolEffect;
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::answer::Reply;
use crate::mcp::reply::call_report::CallSummary;
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::request::context::ToolContext;
use crate::mcp::tool::{Tool, ToolExit};
use crate::mcp::tools::shared::page_cursor;
use crate::toolset::Toolset;
use callingbox::E164;
use callingbox::{AgentId, Call, CallDirection, CallId, PageCursor, PageRequest};

pub(in crate::mcp::tools) struct ListCalls;

/// The stage of a call, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StatusFilter {
    Queued,
    Initiated,
    Ringing,
    InProgress,
    Completed,
    NoAnswer,
    Busy,
    Canceled,
    Failed,
}

impl StatusFilter {
    fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct ListCallsInput {
    /// Only calls at this stage.
    status: Option<StatusFilter>,
    /// Only calls in this direction.
    direction: Option<DirectionFilter>,
    /// Only calls of this agent.
    agent_id: Option<AgentId>,
    /// Only calls to or from this E.164 number.
    #[schemars(with = "Option<String>")]
    number: Option<E164>,
    /// Number of calls. Default: 20.
    limit: Option<BoundedInteger<1, 100>>,
    /// Return calls older than this call_id.
    starting_after: Option<CallId>,
    /// Return calls newer than this call_id.
    ending_before: Option<CallId>,
}

impl ListCallsInput {
    /// The names of the filters that were given.
    fn given_filters(&self) -> Vec<&'static str> {
        let given = [
            ("status", self.status.is_some()),
            ("direction", self.direction.is_some()),
            ("agent_id", self.agent_id.is_some()),
            ("number", self.number.is_some()),
        ];
        given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }

    fn matches_call(&self, call: &Call) -> bool {
        self.status.is_none_or(|status| call.status.as_str() == status.word())
            && self.direction.is_none_or(|direction| {
                call.direction.as_ref()
                    == Some(&match direction {
                        DirectionFilter::Inbound => CallDirection::Inbound,
                        DirectionFilter::Outbound => CallDirection::Outbound,
                    })
            })
            && self.agent_id.as_ref().is_none_or(|agent| call.agent_id.as_ref() == Some(agent))
            && self.number.as_ref().is_none_or(|number| {
                call.to_number.as_ref() == Some(number) || call.from_number.as_ref() == Some(number)
            })
    }
}

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct ListCallsOutput {
    calls: Vec<CallSummary>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<CallId>,
    /// Calls looked at to find these.
    searched: usize,
}

/// The maximum number of pages that one filtered listing reads: 1,000 calls.
const MAX_PAGES: usize = 10;

impl Tool for ListCalls {
    const NAME: ToolName = ToolName::LIST_CALLS;
    const TITLE: &'static str = "List calls";
    const DESCRIPTION: &'static str = "Lists inbound and outbound calls in short, newest first. A filter searches at most 1,000 calls per request and returns where to continue. Use it to find a call_id or to check whether a call was placed; get_call_result returns the details.";
    const TOOLSET: Toolset = Toolset::Calls;
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListCallsInput;
    type Output = ListCallsOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let mut cursor = page_cursor(
            input.starting_after.as_ref().map(|id| id.as_str().to_owned()),
            input.ending_before.as_ref().map(|id| id.as_str().to_owned()),
        )?;
        let towards_newer = matches!(cursor, Some(PageCursor::Before(_)));
        let cursor_name = if towards_newer { "ending_before" } else { "starting_after" };
        let from_start = cursor.is_none();
        let filters = input.given_filters();
        let limit = input.limit.map_or(20, |limit| usize::try_from(limit.get()).unwrap_or(100));
        let page_size = if filters.is_empty() { u8::try_from(limit).unwrap_or(100) } else { 100 };
        let api = cx.account.api()?;

        let mut found: Vec<Call> = Vec::new();
        let mut searched = 0;
        let mut has_more = true;
        let mut edge: Option<CallId> = None;
        let mut pages = 0;
        while has_more && found.len() < limit && pages < MAX_PAGES {
            let request = PageRequest { limit: Some(page_size), cursor: cursor.clone() };
            let mut page = api.list_calls(&request).await?;
            pages += 1;
            has_more = page.has_more && !page.data.is_empty();
            if towards_newer {
                // Each page begins with the newest call, but this listing goes towards newer calls.
                page.data.reverse();
            }
            let mut calls = page.data.into_iter();
            for call in calls.by_ref() {
                searched += 1;
                edge = Some(call.id.clone());
                if input.matches_call(&call) {
                    found.push(call);
                    if found.len() == limit {
                        break;
                    }
                }
            }
            has_more |= calls.next().is_some();
            cursor = edge.as_ref().map(|id| {
                let id = id.as_str().to_owned();
                if towards_newer { PageCursor::Before(id) } else { PageCursor::After(id) }
            });
        }
        if towards_newer {
            found.reverse();
        }
        let calls: Vec<CallSummary> = found.into_iter().map(CallSummary::from_call).collect();
        let next_cursor = edge.filter(|_| has_more);

        let mut text: String = calls.iter().map(|call| call.summary_line() + "\n").collect();
        if calls.is_empty() {
            text = match searched {
                0 if from_start => with_steps(
                    "There are no calls yet.",
                    &[NextStep::tool(ToolName::PLACE_CALL, "places one")],
                    &cx.tools,
                ),
                0 => format!(
                    "No more calls in this direction: the end is reached. Leave out {cursor_name} to begin with the newest."
                ),
                _ if has_more => "No call fits so far. ".to_owned(),
                _ => format!(
                    "No call fits, of {searched} looked at. Leave out {} to see more.",
                    filters.join(" or ")
                ),
            };
        }
        if let Some(next) = &next_cursor {
            let _ = write!(
                text,
                "Looked at {searched} calls; there are more: call again with {cursor_name} {next}."
            );
        }
        let simulated = calls.iter().any(CallSummary::is_simulated);
        let output = ListCallsOutput { calls, has_more, next_cursor, searched };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}
