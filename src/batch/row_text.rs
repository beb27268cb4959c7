//! The rows of a report as text: their cells in a table, and all of them as CSV. Does not know where they are shown.

use serde_json::{Map, Value};

use super::report::{BatchReport, RowReport};
use crate::dialing::destination::Destination;
use crate::dialing::ledger::RowState;
use jiff::Timestamp;

/// A cell that begins with one of these is a formula to a spreadsheet.
const FORMULA_STARTS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The names of the result fields of these rows, in the order in which they first appear.
pub fn result_fields<'a>(rows: impl IntoIterator<Item = &'a RowReport>) -> Vec<&'a str> {
    let mut fields: Vec<&str> = Vec::new();
    for name in rows.into_iter().filter_map(RowReport::fields).flat_map(Map::keys) {
        if !fields.contains(&name.as_str()) {
            fields.push(name);
        }
    }
    fields
}

impl BatchReport {
    /// The rows as CSV, with a header. Cells that come from outside cannot be formulas.
    ///
    /// # Errors
    /// The CSV cannot be written.
    pub fn to_csv(&self) -> Result<String, csv::Error> {
        let fields = result_fields(&self.rows);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let results = fields.iter().map(|field| format!("result.{field}"));
        let header = ["row", "to", "name", "state", "outcome"].map(str::to_owned).into_iter();
        let rest = ["attempts", "note", "call_id", "ended_at", "connected_seconds", "cost"];
        writer.write_record(header.chain(results).chain(rest.map(str::to_owned)))?;
        for row in &self.rows {
            let result = row.result.as_ref();
            let outcome = row.record.outcome.map_or("", |outcome| outcome.as_str());
            let ended_at = result.and_then(|result| result.ended_at);
            let seconds = result.and_then(|result| result.connected_seconds);
            let start = [
                row.record.row.to_string(),
                row.number(),
                row.name().to_owned(),
                row.record.state.as_str().to_owned(),
                outcome.to_owned(),
            ];
            let end = [
                row.record.attempts.to_string(),
                row.note(),
                row.record.call_id.as_ref().map_or_else(String::new, ToString::to_string),
                ended_at.map_or_else(String::new, super::list::format_time),
                seconds.map_or_else(String::new, |seconds| seconds.to_string()),
                result
                    .and_then(|result| result.cost)
                    .map_or_else(String::new, |cost| cost.to_exact_dollars()),
            ];
            let values = fields.iter().map(|field| row.value(field));
            writer.write_record(start.into_iter().chain(values).chain(end).map(escape_formula))?;
        }
        let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn escape_formula(cell: String) -> String {
    if cell.starts_with(FORMULA_STARTS) { format!("'{cell}") } else { cell }
}

impl RowReport {
    /// The name; empty if there is none or it is erased.
    #[must_use]
    pub fn name(&self) -> &str {
        self.record.person.as_ref().and_then(|person| person.name.as_deref()).unwrap_or_default()
    }

    /// The number, or its mask once it is erased.
    #[must_use]
    pub fn number(&self) -> String {
        let mask = || self.record.callee.masked.clone();
        self.record.number.as_ref().map_or_else(mask, |number| number.as_str().to_owned())
    }

    fn fields(&self) -> Option<&Map<String, Value>> {
        self.result.as_ref()?.result.as_ref()
    }

    /// The value of a result field; empty if it is not known.
    #[must_use]
    pub fn value(&self, field: &str) -> String {
        match self.fields().and_then(|fields| fields.get(field)) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The outcome of a row that is done, otherwise its state; and until when it waits.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> String {
        match (self.record.state, self.record.outcome, self.record.due_at) {
            (RowState::Done, Some(outcome), _) => outcome.as_str().to_owned(),
            (RowState::Waiting, _, Some(due)) if due > now => {
                format!("waiting until {}", self.local_time(due))
            }
            (state, ..) => state.as_str().to_owned(),
        }
    }

    /// The time by the clock of the person, if there is one such clock.
    fn local_time(&self, at: Timestamp) -> String {
        let number = self.record.number.as_ref();
        let zones = number.map(|number| Destination::from_number(number).zones);
        let times = zones.map(|zones| zones.local_times(at)).unwrap_or_default();
        match times.as_slice() {
            [time] => format!("{} there", time.split(" (").next().unwrap_or(time)),
            _ => at.strftime("%H:%M UTC").to_string(),
        }
    }

    /// Why a row is not called or waits, and whether its result is missing.
    #[must_use]
    pub fn note(&self) -> String {
        let has_failed = self.result.as_ref().is_some_and(|result| result.has_failed);
        let failure = has_failed.then(|| "the result could not be extracted".to_owned());
        let notes: Vec<String> = self.record.reason.clone().into_iter().chain(failure).collect();
        notes.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, written) in [
            ("=1+1", "'=1+1"),
            ("+14155550100", "'+14155550100"),
            ("-2", "'-2"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(escape_formula(cell.to_owned()), written);
        }
    }
}
