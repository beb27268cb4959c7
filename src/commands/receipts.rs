//! `callingbox-mcp receipts`: the ledger, for people and for programs. Numbers are masked in it.

use std::fmt::Write;

use anyhow::{Context, bail};
use jiff::{Span, Timestamp, Zoned};

use super::output::print;
use crate::cli::{self, Global};
use crate::config::{ConfigFile, UserFolders};
use crate::dialing::ledger::{
    DispatchRecord, DispatchState, DispatchStatus, RecordCursor, RecordFilter,
};
use crate::dialing::ledger::{LedgerLocation, open_ledger};
use crate::runtime::{self, HttpExtras};

/// What is said of an empty ledger, there or not.
const NOTHING_YET: &str = "Nothing was dialed yet.\n";

pub(super) async fn run(
    options: &cli::ReceiptsArgs,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    let environment = global.environment();
    let shared = runtime::open_shared_state(&options.state, file)?;
    let place = HttpExtras { shared, ..HttpExtras::default() }.ledger(file, environment, folders);
    let status = match &options.outcome {
        None => None,
        Some(name) => {
            let named = DispatchStatus::all().find(|status| status.name() == name);
            Some(named.with_context(|| {
                let valid: Vec<_> = DispatchStatus::all().map(DispatchStatus::name).collect();
                format!("there is no outcome `{name}`; the valid ones are {}", valid.join(", "))
            })?)
        }
    };
    let since = options.since.as_deref().map(|text| moment(text, Timestamp::now())).transpose()?;
    // Looking must not create what is not there.
    if let LedgerLocation::File(path) = &place
        && !path.exists()
    {
        return if options.json { Ok(()) } else { print(NOTHING_YET) };
    }
    let ledger = open_ledger(&place, environment).await?;
    let mut records = Vec::new();
    let mut before: Option<RecordCursor> = None;
    while records.len() < options.limit as usize {
        let left = options.limit - u32::try_from(records.len())?;
        let page = ledger
            .list_records(RecordFilter { account_id: None, since, status, before, limit: left })
            .await?;
        let Some(last) = page.last() else { break };
        before = Some(RecordCursor::from(last));
        records.extend(page);
    }
    if options.json {
        for record in &records {
            print(format!("{}\n", serde_json::to_string(record)?))?;
        }
        return Ok(());
    }
    if records.is_empty() {
        let all = since.is_none() && status.is_none() && options.limit > 0;
        return print(if all { NOTHING_YET } else { "Nothing fits.\n" });
    }
    print(table(&records))
}

/// A moment, or a span back from now.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    match text.parse::<Span>() {
        Ok(span) => {
            Ok(Zoned::new(now, jiff::tz::TimeZone::UTC).checked_sub(span.abs())?.timestamp())
        }
        Err(_) => bail!(
            "`{text}` is neither a time such as 2026-11-22T08:00:00Z nor a span such as 2h or 7d"
        ),
    }
}

fn table(records: &[DispatchRecord]) -> String {
    let mut text = format!(
        "{:<20} {:<8} {:<16} {:<11} {:<9} {:<22} {:<36} {}\n",
        "WHEN", "KIND", "TO", "OUTCOME", "COST", "RULE", "ID", "CONFIRMED BY"
    );
    for record in records {
        let cost = match &record.state {
            DispatchState::Finished { cost, .. } => {
                cost.map_or_else(|| "?".to_owned(), |cost| cost.to_string())
            }
            _ => "-".to_owned(),
        };
        let to = record.callee.as_ref().map_or("-", |callee| callee.masked.as_str());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<20} {:<8} {:<16} {:<11} {:<9} {:<22} {:<36} {}",
            record.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            record.kind.name(),
            to,
            record.state.status().name(),
            cost,
            record.rule,
            record.state.id().unwrap_or("-"),
            record.confirmed_by
        );
    }
    let unsettled = records
        .iter()
        .filter(|record| matches!(record.state, DispatchState::Intent | DispatchState::Unknown))
        .count();
    if unsettled > 0 {
        let are = if unsettled == 1 { "is" } else { "are" };
        let _ = write!(
            text,
            "\n{unsettled} of these {are} not settled (intent, unknown): no answer is known, so it may have been \
             done. The tools list_calls and list_numbers show whether it was; the next server looks for \
             calls with its first order, and asking for the very same again looks before anything is done.\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_moment_or_a_span() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (text, at) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2h", "2026-11-22T10:00:00Z"),
            ("7d", "2026-11-15T12:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap().to_string(), at);
        }
        assert!(moment("soon", now).is_err());
    }
}
