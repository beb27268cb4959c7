//! What the tools of batches share: errors, counts, and the table of rows. The callee's words are fenced once for the
//! whole table.

use std::fmt::Write;

use crate::batch::report::{BatchReport, RowReport};
use crate::batch::row_text::result_fields;
use crate::dialing::ledger::{BatchState, RowState};
use crate::mcp::reply::text::{FencedContent, UntrustedFence, one_line};

/// The maximum length of one cell, in characters.
const MAX_CELL_CHARS: usize = 160;

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

/// The rows as a table, one line each, inside a fence.
pub(super) fn render_table(
    report: &BatchReport,
    rows: &[&RowReport],
    fence: &UntrustedFence,
) -> String {
    let fields = result_fields(rows.iter().copied());
    let mut header = vec!["row", "name", "number", "state"];
    header.extend(&fields);
    header.push("note");
    let mut table = header.iter().map(|cell| cell_text(cell)).collect::<Vec<_>>().join(" | ");
    for row in rows {
        // Writing to a String cannot fail.
        let _ = write!(table, "\n{}", render_row(report, row, &fields));
    }
    fence.wrap_block(FencedContent::ExtractedValues, &table)
}

fn render_row(report: &BatchReport, row: &RowReport, fields: &[&str]) -> String {
    let start =
        [row.record.row.to_string(), row.name().to_owned(), row.number(), row.state(report.now)];
    let values = fields.iter().map(|field| row.value(field));
    let cells = start.into_iter().chain(values).chain([describe_note(row)]);
    cells.map(|cell| cell_text(&cell)).collect::<Vec<_>>().join(" | ").trim_end().to_owned()
}

/// A cell on one line, which cannot begin another cell.
fn cell_text(text: &str) -> String {
    one_line(text, MAX_CELL_CHARS).replace('|', "¦")
}

/// What needs a look: why a row is not called, the call of a result that could not be extracted, more attempts than one.
fn describe_note(row: &RowReport) -> String {
    let record = &row.record;
    let attempts = (record.attempts > 1).then(|| format!("{} attempts", record.attempts));
    let needs_look = row.result.as_ref().is_some_and(|result| result.has_failed)
        || matches!(record.state, RowState::Unknown | RowState::Refused | RowState::Calling);
    let call = record.call_id.as_ref().filter(|_| needs_look).map(|id| format!("call_id {id}"));
    let note = Some(row.note()).filter(|note| !note.is_empty());
    note.into_iter().chain(attempts).chain(call).collect::<Vec<_>>().join("; ")
}
