//! The toolset `account`: what an assistant should know before it plans calls.

use std::fmt::Write;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;

use super::agents::AgentSummary;
use super::numbers::NumberSummary;
use super::shared::{NoInput, take_simulated};
use crate::account::Environment;
use crate::dialing::limits::{CallLimits, Usage};
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName,
};
use callingbox::{MilliCents, PageRequest};

/// How many agents and numbers are shown.
const MAX_SHOWN: usize = 10;

pub(super) struct GetAccount;

#[derive(Serialize, JsonSchema)]
pub(super) struct GetAccountOutput {
    /// `live` or `simulated`.
    environment: &'static str,
    /// The time now, with the zone of this server.
    now: String,
    /// The calling rules in one sentence.
    rules: String,
    #[schemars(with = "Vec<crate::mcp::input::arguments::Object>")]
    limits: Vec<LimitUsage>,
    /// Charged or held in the last 24 hours, by this server's ledger.
    spent_milli_cents: MilliCents,
    #[schemars(with = "Vec<crate::mcp::input::arguments::Object>")]
    agents: Vec<AgentSummary>,
    more_agents: usize,
    #[schemars(with = "Vec<crate::mcp::input::arguments::Object>")]
    numbers: Vec<NumberSummary>,
    more_numbers: usize,
}

/// How much of a limit is used.
#[derive(Serialize)]
struct LimitUsage {
    limit: &'static str,
    used: String,
    max: String,
}

impl Tool for GetAccount {
    const NAME: ToolName = ToolName::GET_ACCOUNT;
    const TITLE: &'static str = "Get the account";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Returns what to know before calls: whether they are live or simulated, the time now, the calling rules and what is used of each limit, and the first agents and numbers.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = NoInput;
    type Output = GetAccountOutput;

    async fn run(_: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let api = cx.account.api()?;
        let dialer = cx.account.dialer()?;
        let page = PageRequest::with_limit(100);
        let (agents, numbers, now) =
            tokio::join!(api.list_agents(None), api.list_numbers(&page), dialer.now());
        let (agents, numbers, now) = (agents?.data, numbers?.data, now?.dialing);
        let (more_agents, more_numbers) =
            (agents.len().saturating_sub(MAX_SHOWN), numbers.len().saturating_sub(MAX_SHOWN));
        let mut agents: Vec<AgentSummary> =
            agents.into_iter().take(MAX_SHOWN).map(Into::into).collect();
        let mut numbers: Vec<NumberSummary> =
            numbers.into_iter().take(MAX_SHOWN).map(Into::into).collect();
        // The environment says it once.
        take_simulated(agents.iter_mut().map(|agent| &mut agent.simulated));
        take_simulated(numbers.iter_mut().map(|number| &mut number.simulated));
        let rules = dialer.rules();
        let usage = dialer.measure_usage(&cx.caller).await?;
        let environment = match cx.account.environment() {
            Environment::Live => "live",
            Environment::Sandbox => "simulated",
        };
        let output = GetAccountOutput {
            environment,
            now: now.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z[%Q]").to_string(),
            rules: rules.summary(),
            limits: list_limits(&rules.policy.measured_limits(), &usage),
            spent_milli_cents: usage.spent,
            agents,
            more_agents,
            numbers,
            more_numbers,
        };
        let text = output.to_text();
        Ok(Reply::new(output, text))
    }
}

impl GetAccountOutput {
    fn to_text(&self) -> String {
        let calls = match self.environment {
            "live" => "Calls are live: they ring real telephones and cost money.",
            _ => "Calls are simulated.",
        };
        let mut text = format!("{calls} It is {}.\n{}\n", self.now, self.rules);
        // Writing to a String cannot fail.
        for LimitUsage { limit, used, max } in &self.limits {
            let _ = writeln!(text, "{limit}: {used} of {max} used");
        }
        let _ = writeln!(text, "Spent in the last 24 hours: {}.", self.spent_milli_cents);
        let agents: Vec<String> = self.agents.iter().map(AgentSummary::summary_line).collect();
        let numbers: Vec<String> = self.numbers.iter().map(NumberSummary::short_line).collect();
        text.push_str(&list_lines("Agents", &agents, self.more_agents));
        text.push_str(&list_lines("Numbers", &numbers, self.more_numbers));
        text.trim_end().to_owned()
    }
}

fn list_lines(title: &str, lines: &[String], more: usize) -> String {
    match (lines, more) {
        ([], _) => format!("{title}: none\n"),
        (lines, 0) => format!("{title}:\n- {}\n", lines.join("\n- ")),
        (lines, more) => format!("{title}:\n- {}\n- and {more} more\n", lines.join("\n- ")),
    }
}

/// The limits that are set and concern the whole account.
fn list_limits(limits: &CallLimits, usage: &Usage) -> Vec<LimitUsage> {
    let count = |limit, used: u32, max: Option<u32>| {
        Some(LimitUsage { limit, used: used.to_string(), max: max?.to_string() })
    };
    let money = limits.spend_per_day.map(|max| LimitUsage {
        limit: "spend per day",
        used: usage.spent.to_string(),
        max: max.to_string(),
    });
    [
        count("calls per hour", usage.hour.count, limits.per_hour),
        count("calls per day", usage.day.count, limits.per_day),
        count("calls in progress", usage.concurrent, limits.concurrent),
        count("purchases per day", usage.purchases.count, limits.purchases_per_day),
        money,
        count("this caller's calls per hour", usage.caller.hour.count, limits.per_caller.per_hour),
        count("this caller's calls per day", usage.caller.day.count, limits.per_caller.per_day),
    ]
    .into_iter()
    .flatten()
    .collect()
}
