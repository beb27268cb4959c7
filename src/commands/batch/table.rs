//! Tables of people for a terminal: aligned columns, wrapped at the terminal's width; elsewhere in full. Knows nothing of
//! how a batch runs.

use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};

use super::super::style::Style;
use crate::batch::report::{BatchReport, RowReport};
use crate::batch::row_text::result_fields;
use callingbox::shown_text::one_line;

/// The maximum length of a cell, in characters.
const MAX_CELL_CHARS: usize = 160;

/// The lines of a table whose empty columns are left out.
pub(super) fn render_table(style: Style, header: &[&str], rows: &[Vec<String>]) -> String {
    let used: Vec<usize> = (0..header.len())
        .filter(|column| rows.iter().any(|row| row.get(*column).is_some_and(|it| !it.is_empty())))
        .collect();
    let pick = |row: &dyn Fn(usize) -> String| -> Vec<String> {
        used.iter().map(|column| one_line(&row(*column), MAX_CELL_CHARS)).collect()
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if std::io::stdout().is_terminal() {
        let width = u16::try_from(textwrap::termwidth()).unwrap_or(u16::MAX);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(pick(&|column| {
        header.get(column).map_or_else(String::new, |it| (*it).to_owned())
    }));
    for row in rows {
        table.add_row(pick(&|column| row.get(column).cloned().unwrap_or_default()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut lines = table.lines();
    let first = lines.next().map(|line| style.paint("1", line.trim_end()));
    let rest = lines.map(|line| line.trim_end().to_owned());
    first.into_iter().chain(rest).map(|line| line + "\n").collect()
}

/// The rows of a report with their results.
pub(super) fn render_rows<'a>(
    style: Style,
    report: &BatchReport,
    rows: impl Iterator<Item = &'a RowReport>,
) -> String {
    let fields = result_fields(&report.rows);
    let mut header = vec!["name", "number", "state"];
    header.extend(&fields);
    header.extend(["attempts", "note"]);
    let has_repeats = report.rows.iter().any(|row| row.record.attempts > 1);
    let cells = |row: &RowReport| -> Vec<String> {
        let attempts = if has_repeats { row.record.attempts.to_string() } else { String::new() };
        [row.name().to_owned(), row.number(), row.state(report.now)]
            .into_iter()
            .chain(fields.iter().map(|field| row.value(field)))
            .chain([attempts, row.note()])
            .collect()
    };
    render_table(style, &header, &rows.map(cells).collect::<Vec<_>>())
}
