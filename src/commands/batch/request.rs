//! The request that the arguments of `batch run` make: times, retries, the condition to stop, and the agent by its name.
//! Knows nothing of how a batch runs.

use anyhow::{Context, bail, ensure};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::Value;

use super::super::ready_agent::{find_ready_agent, make_ready_agent};
use super::people_file::parse_number;
use crate::account::Account;
use crate::batch::list::BatchRequest;
use crate::cli::{BatchRunArgs, RetryOn};
use crate::dialing::call_outcome::CallOutcome;
use crate::dialing::caller::CallerName;
use crate::dialing::destination::CountryCode;
use crate::dialing::ledger::{BatchTask, IdempotencyKey, Person, RetryPolicy, StopCondition};
use crate::dialing::policy::MetadataSource;
use crate::own_command::own_command;
use crate::suggest::UnknownName;
use callingbox::{Agent, AgentType, E164, PageRequest};

const MIN_RETRY_MINUTES: i64 = 5;
const MAX_RETRY_MINUTES: i64 = 24 * 60;

pub(super) fn build_request(
    args: &BatchRunArgs,
    agent: &Agent,
    people: Vec<(E164, Person)>,
    region: Option<CountryCode>,
    now: Timestamp,
    zone: &TimeZone,
) -> anyhow::Result<BatchRequest> {
    let time = |name: &'static str, text: &Option<String>| {
        text.as_deref().map(|text| parse_time(text, now, zone).context(name)).transpose()
    };
    let from = args.from.as_deref().map(|text| parse_number(text, region));
    let from = from.transpose().map_err(anyhow::Error::msg).context("--from")?;
    let key = args.idempotency_key.as_deref().map(IdempotencyKey::parse);
    Ok(BatchRequest {
        agent_id: agent.id.clone(),
        task: BatchTask {
            from_number: from.map(|(number, _)| number),
            instructions: args.task.clone(),
            webhook_url: None,
            retry: retry_policy(args).context("--retry-after")?,
            stop_when: stop_condition(args, agent).context("--stop-when")?,
            allow_repeat: args.allow_repeat,
            metadata_source: MetadataSource::File,
        },
        people,
        start_at: time("--start", &args.start)?,
        end_by: time("--until", &args.until)?,
        idempotency_key: key.transpose().context("--idempotency-key")?,
        caller: CallerName::local(),
    })
}

fn retry_policy(args: &BatchRunArgs) -> anyhow::Result<RetryPolicy> {
    let Some(max_attempts) = args.attempts else { return Ok(RetryPolicy::default()) };
    let after: SignedDuration = args
        .retry_after
        .parse()
        .with_context(|| format!("`{}` is not a span such as 30m or 2h", args.retry_after))?;
    let minutes = after.as_mins();
    ensure!(
        (MIN_RETRY_MINUTES..=MAX_RETRY_MINUTES).contains(&minutes),
        "the next attempt starts 5m to 24h after a call"
    );
    let on = args.retry_on.iter().map(|outcome| match outcome {
        RetryOn::NoAnswer => CallOutcome::NoAnswer,
        RetryOn::Busy => CallOutcome::Busy,
        RetryOn::Voicemail => CallOutcome::Voicemail,
        RetryOn::Failed => CallOutcome::Failed,
    });
    Ok(RetryPolicy { max_attempts, after_minutes: u32::try_from(minutes)?, on: on.collect() })
}

fn stop_condition(args: &BatchRunArgs, agent: &Agent) -> anyhow::Result<Option<StopCondition>> {
    let Some(text) = &args.stop_when else { return Ok(None) };
    let parts = text.split_once('=').map(|(field, value)| (field.trim(), value.trim()));
    let Some((field, value)) = parts.filter(|(field, _)| !field.is_empty()) else {
        bail!("write a result field and its value, such as free=true");
    };
    let kind =
        agent.returns.as_ref().and_then(|returns| returns.get(field)).and_then(Value::as_str);
    let equals = match kind {
        Some("boolean") => Value::Bool(
            value.parse().with_context(|| format!("`{field}` is true or false, not `{value}`"))?,
        ),
        Some("number") => Value::Number(
            value.parse().with_context(|| format!("`{field}` is a number, not `{value}`"))?,
        ),
        _ => Value::String(value.to_owned()),
    };
    Ok(Some(StopCondition { field: field.to_owned(), equals, count: args.stop_count }))
}

/// Parses a timestamp, a local date and time, a time of today, or a span from now.
fn parse_time(text: &str, now: Timestamp, zone: &TimeZone) -> anyhow::Result<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return Ok(local.to_zoned(zone.clone())?.timestamp());
    }
    if let Ok(time) = text.parse::<Time>().or_else(|_| Time::strptime("%H:%M", text)) {
        let today = now.to_zoned(zone.clone()).date();
        let at = today.to_datetime(time).to_zoned(zone.clone())?.timestamp();
        ensure!(
            at > now,
            "{text} is over today; for another day, write the date too, such as {}T{}",
            today.tomorrow()?,
            time.strftime("%H:%M")
        );
        return Ok(at);
    }
    match text.parse::<Span>() {
        Ok(span) => Ok(now.to_zoned(zone.clone()).checked_add(span.abs())?.timestamp()),
        Err(_) => bail!(
            "`{text}` is neither a time such as 17:00, 2026-11-22T17:00 or 2026-11-22T16:00:00Z, nor a span such as 2h"
        ),
    }
}

/// The agent with this name or id. On a simulator one is made if there is none and none is named.
pub(super) async fn find_agent(account: &Account, wanted: Option<&str>) -> anyhow::Result<Agent> {
    let api = account.api()?;
    let agents = api.list_agents(Some(AgentType::Outbound)).await?.data;
    let Some(wanted) = wanted else {
        let numbers = api.list_numbers(&PageRequest::with_limit(100)).await?.data;
        return match find_ready_agent(&agents, &numbers) {
            _ if !account.environment().is_sandbox() => {
                bail!("--agent names the agent that calls: {}", list_names(&agents))
            }
            Some((agent, _)) => Ok(agent.clone()),
            None => make_ready_agent(api).await,
        };
    };
    let has_name = |agent: &&Agent| {
        agent.name.as_deref().is_some_and(|name| name.trim().eq_ignore_ascii_case(wanted.trim()))
    };
    if let Some(agent) = agents.iter().find(|agent| agent.id.as_str() == wanted) {
        return Ok(agent.clone());
    }
    let named: Vec<&Agent> =
        agents.iter().filter(|agent| agent.archived_at.is_none()).filter(has_name).collect();
    match named.as_slice() {
        [agent] => Ok((*agent).clone()),
        [] => {
            let names = agents.iter().filter_map(|agent| agent.name.clone());
            Err(UnknownName::new("outbound agent", wanted, names).into())
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|agent| agent.id.as_str()).collect();
            bail!("several agents are named `{wanted}`; choose one by its id: {}", ids.join(", "))
        }
    }
}

fn list_names(agents: &[Agent]) -> String {
    let names: Vec<&str> =
        agents.iter().filter_map(|agent| agent.name.as_deref()).take(20).collect();
    match names.as_slice() {
        [] => {
            format!("this account has none that places calls; `{} setup` makes one", own_command())
        }
        names => callingbox::shown_text::one_line(&names.join(", "), 400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_timestamp_a_local_time_or_a_span() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (text, expected) in [
            ("2026-11-22T15:00:00Z", "2026-11-22T15:00:00Z"),
            ("2026-11-22T15:00:00-05:00", "2026-11-22T20:00:00Z"),
            ("17:30", "2026-11-22T16:30:00Z"),
            ("2026-11-23T09:00", "2026-11-23T08:00:00Z"),
            ("2026-11-23 09:00", "2026-11-23T08:00:00Z"),
            ("2h", "2026-11-22T14:00:00Z"),
            ("90m", "2026-11-22T13:30:00Z"),
            ("2d", "2026-11-24T12:00:00Z"),
        ] {
            assert_eq!(parse_time(text, now, &zone).unwrap().to_string(), expected, "{text}");
        }
        let before_noon = now - SignedDuration::from_hours(10);
        let early = parse_time("7:05", before_noon, &zone).unwrap();
        assert_eq!(early.to_string(), "2026-11-22T06:05:00Z");
        let over = parse_time("12:59", now, &zone).unwrap_err().to_string();
        assert_eq!(
            over,
            "12:59 is over today; for another day, write the date too, such as 2026-11-23T12:59"
        );
        assert!(parse_time("soon", now, &zone).is_err());
    }
}
