//! `callingbox-mcp receipts`: prints the ledger, as a table or as JSON. The ledger holds masked numbers only.

use std::fmt::Write;

use anyhow::{Context, bail};
use jiff::{Span, Timestamp, Zoned};

use super::output::print;
use crate::cli;
use crate::dialing::caller::CallerName;
use crate::dialing::ledger::{DispatchRecord, DispatchState, RecordCursor, RecordFilter};
use crate::dialing::ledger::{LedgerLocation, open_ledger};
use crate::runtime;
use crate::settings::ProgramSettings;

const EMPTY_LEDGER: &str = "Nothing has been dialed yet.\n";

pub(super) async fn run(
    args: &cli::ReceiptsArgs,
    settings: &ProgramSettings,
) -> anyhow::Result<()> {
    let shared = runtime::open_shared_state(&args.state, settings)?;
    let place = runtime::ledger_location(settings, shared);
    let status = match &args.outcome {
        None => None,
        Some(name) => {
            let named = DispatchState::words().find(|word| word == name);
            Some(named.with_context(|| {
                let valid: Vec<_> = DispatchState::words().collect();
                format!("there is no outcome `{name}`; the valid outcomes are {}", valid.join(", "))
            })?)
        }
    };
    let since =
        args.since.as_deref().map(|text| parse_since(text, Timestamp::now())).transpose()?;
    let caller = args.caller.as_deref().map(CallerName::from_text);
    let batch_id = args.batch.as_deref().map(super::batch::parse_id).transpose()?;
    // Reading must not create a ledger.
    if let LedgerLocation::File(path) = &place
        && !path.exists()
    {
        return if args.json { Ok(()) } else { print(EMPTY_LEDGER) };
    }
    let ledger = open_ledger(&place, settings.environment()).await?;
    let mut records = Vec::new();
    let mut before: Option<RecordCursor> = None;
    while records.len() < args.limit as usize {
        let remaining = args.limit - u32::try_from(records.len())?;
        let page = ledger
            .list_records(RecordFilter {
                batch_id: batch_id.clone(),
                account_id: None,
                since,
                status,
                caller: caller.clone(),
                before,
                limit: remaining,
            })
            .await?;
        let Some(last) = page.last() else { break };
        before = Some(RecordCursor::from(last));
        records.extend(page);
    }
    if args.json {
        for record in &records {
            print(format!("{}\n", serde_json::to_string(record)?))?;
        }
        return Ok(());
    }
    if records.is_empty() {
        let is_unfiltered = since.is_none()
            && status.is_none()
            && caller.is_none()
            && batch_id.is_none()
            && args.limit > 0;
        return print(if is_unfiltered { EMPTY_LEDGER } else { "No entry matches.\n" });
    }
    print(receipt_table(&records))
}

/// Parses a timestamp, or a span before now.
fn parse_since(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    match text.parse::<Span>() {
        Ok(span) => {
            Ok(Zoned::new(now, jiff::tz::TimeZone::UTC).checked_sub(span.abs())?.timestamp())
        }
        Err(_) => bail!(
            "`{text}` is neither a timestamp such as 2026-11-22T08:00:00Z nor a span such as 2h or 7d"
        ),
    }
}

fn receipt_table(records: &[DispatchRecord]) -> String {
    let callers = records.iter().map(|record| record.caller.as_str().chars().count());
    let width = callers.chain(["CALLER".len()]).max().unwrap_or_default();
    let mut text = format!(
        "{:<20} {:<8} {:<16} {:<11} {:<9} {:<22} {:<36} {:<width$} {}\n",
        "WHEN", "KIND", "TO", "OUTCOME", "COST", "RULE", "ID", "CALLER", "CONFIRMED BY"
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
            "{:<20} {:<8} {:<16} {:<11} {:<9} {:<22} {:<36} {:<width$} {}",
            record.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            record.kind.as_str(),
            to,
            record.state.as_str(),
            cost,
            record.rule,
            record.state.id().unwrap_or("-"),
            record.caller.as_str(),
            record.confirmed_by
        );
    }
    let unresolved = records
        .iter()
        .filter(|record| {
            matches!(record.state, DispatchState::Intent | DispatchState::Unknown { .. })
        })
        .count();
    if unresolved > 0 {
        let entries = if unresolved == 1 { "entry is" } else { "entries are" };
        let _ = write!(
            text,
            "\n{unresolved} {entries} unresolved (intent, unknown): no response arrived, so the call may have been placed or \
             the number bought. The tools list_calls and list_numbers show whether it was. The next server searches \
             for such calls before its first order, and repeating the same request searches before it does anything.\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_timestamp_or_a_span() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2h", "2026-11-22T10:00:00Z"),
            ("7d", "2026-11-15T12:00:00Z"),
        ] {
            assert_eq!(parse_since(text, now).unwrap().to_string(), expected);
        }
        assert!(parse_since("soon", now).is_err());
    }
}
