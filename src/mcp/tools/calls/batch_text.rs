//! What the tools of batches share: errors, counts, and the table of rows. The callee's words are fenced once for the
//! whole table.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::batch::BatchError;
use crate::batch::report::{BatchReport, RowReport};
use crate::dialing::ledger::{BatchState, RowState};
use crate::mcp::registry::name::ToolName;
use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text::{FencedContent, UntrustedFence, one_line};
use crate::mcp::tools::ordering;

/// The maximum length of one cell, in characters.
const MAX_CELL_CHARS: usize = 160;

/// Maps the reason why a batch was not prepared, started or found.
pub(in crate::mcp) fn batch_error(error: BatchError) -> ToolError {
    match error {
        BatchError::List(problems) => ToolError::invalid_argument(problems.to_string()),
        BatchError::NotFound(_) => ToolError::new(ErrorCode::NotFound, error.to_string())
            .with_next([NextStep::tool(ToolName::GET_BATCH, "without batch_id lists the batches")]),
        BatchError::Dial(error) => ordering::to_tool_error(error),
        BatchError::NoKey(error) => error.into(),
        BatchError::WindowClosed(_) | BatchError::Erased(_) => {
            ToolError::new(ErrorCode::Conflict, error.to_string()).with_next([
                NextStep::tool(ToolName::GET_BATCH, "shows who was called"),
                NextStep::tool(ToolName::PLACE_CALLS, "calls the rest as a new list"),
            ])
        }
        BatchError::KeyConflict(_) | BatchError::WrongState { .. } => {
            ToolError::new(ErrorCode::Conflict, error.to_string())
                .with_next([NextStep::tool(ToolName::GET_BATCH, "shows how far it got")])
        }
    }
}

/// The state of a batch and how many rows are in which, in one sentence without its full stop.
pub(super) fn describe_counts(report: &BatchReport) -> String {
    let rows: Vec<String> = report
        .counts()
        .into_iter()
        .map(|(state, count)| format!("{count} {}", state.as_str()))
        .collect();
    let state = match (report.state, report.record.pause) {
        (BatchState::Paused, Some(pause)) => format!("paused ({})", pause.describe()),
        (state, _) => state.as_str().to_owned(),
    };
    format!("{state}; of {} people: {}", report.rows.len(), rows.join(", "))
}

/// The names of the result fields, in the order in which they first appear.
pub(super) fn result_fields(rows: &[&RowReport]) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for result in rows.iter().filter_map(|row| row.result.as_ref()?.result.as_ref()) {
        for name in result.keys() {
            if !fields.contains(name) {
                fields.push(name.clone());
            }
        }
    }
    fields
}

/// The rows as a table, one line each, inside a fence.
pub(super) fn render_table(
    report: &BatchReport,
    rows: &[&RowReport],
    fence: &UntrustedFence,
) -> String {
    let fields = result_fields(rows);
    let mut header = vec!["row", "name", "number", "state"];
    header.extend(fields.iter().map(String::as_str));
    header.push("note");
    let mut table = header.iter().map(|cell| cell_text(cell)).collect::<Vec<_>>().join(" | ");
    for row in rows {
        // Writing to a String cannot fail.
        let _ = write!(table, "\n{}", render_row(report, row, &fields));
    }
    fence.wrap_block(FencedContent::ExtractedValues, &table)
}

fn render_row(report: &BatchReport, row: &RowReport, fields: &[String]) -> String {
    let record = &row.record;
    let name = record.person.as_ref().and_then(|person| person.name.as_deref()).unwrap_or_default();
    let number = record
        .number
        .as_ref()
        .map_or_else(|| record.callee.masked.clone(), |number| number.as_str().to_owned());
    let mut cells =
        vec![record.row.to_string(), name.to_owned(), number, describe_state(report, row)];
    let result = row.result.as_ref().and_then(|result| result.result.as_ref());
    cells.extend(fields.iter().map(|field| describe_value(result, field)));
    cells.push(describe_note(row));
    cells.iter().map(|cell| cell_text(cell)).collect::<Vec<_>>().join(" | ").trim_end().to_owned()
}

/// A cell on one line, which cannot begin another cell.
fn cell_text(text: &str) -> String {
    one_line(text, MAX_CELL_CHARS).replace('|', "¦")
}

fn describe_value(result: Option<&Map<String, Value>>, field: &str) -> String {
    match result.and_then(|result| result.get(field)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The outcome of a row that is done, otherwise its state; and until when it waits.
fn describe_state(report: &BatchReport, row: &RowReport) -> String {
    let record = &row.record;
    match (record.state, record.outcome, record.due_at) {
        (RowState::Done, Some(outcome), _) => outcome.as_str().to_owned(),
        (RowState::Waiting, _, Some(due)) if due > report.now => {
            format!("waiting until {}", due.strftime("%H:%MZ"))
        }
        (state, _, _) => state.as_str().to_owned(),
    }
}

/// What needs a look: why a row is not called, the call of a result that could not be extracted, more attempts than one.
fn describe_note(row: &RowReport) -> String {
    let record = &row.record;
    let mut notes = Vec::new();
    if let Some(reason) = &record.reason {
        notes.push(reason.clone());
    }
    if record.attempts > 1 {
        notes.push(format!("{} attempts", record.attempts));
    }
    let has_failed = row.result.as_ref().is_some_and(|result| result.has_failed);
    if has_failed {
        notes.push("the result could not be extracted".to_owned());
    }
    let needs_look = has_failed
        || matches!(record.state, RowState::Unknown | RowState::Refused | RowState::Calling);
    if let Some(call) = record.call_id.as_ref().filter(|_| needs_look) {
        notes.push(format!("call_id {call}"));
    }
    notes.join("; ")
}
