//! Shows a batch while this process runs it: on a terminal a table that fills, under a bar with the expected end;
//! elsewhere one line for each person who is done.

use std::pin::{Pin, pin};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use super::super::output::print;
use super::super::prompt::Stopped;
use super::super::status_line::{StatusGuard, StatusLine};
use super::super::style::Style;
use super::table::render_rows;
use crate::account::Account;
use crate::batch::prepare::PreparedBatch;
use crate::batch::report::{BatchReport, RowReport, load_report};
use crate::dialing::ledger::{BatchId, PauseReason, RowState};

/// How many people the table shows while calls run.
const MAX_LIVE_ROWS: usize = 15;
/// How often the bar is drawn again while nothing happens.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);
const STOPPING: &str = "Stopping: no new call starts, and what is on its way is recorded. Ctrl-C again ends the program immediately.";

/// Follows a batch until this process runs it no more, and returns its last report. The first signal to end stops the
/// batch.
///
/// # Errors
/// [`Stopped::Interrupted`] if the user typed Ctrl-C once more; the batch cannot be read.
pub(super) async fn follow_batch(
    account: &Account,
    id: &BatchId,
    mut view: BatchView,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
    draining: &CancellationToken,
) -> anyhow::Result<BatchReport> {
    let mut second_signal = pin!(tokio::signal::ctrl_c());
    let mut changes = account.dialer()?.batches().changes(id);
    while let Some(receiver) = &mut changes {
        let report = load_report(account, id).await?;
        view.show(&report)?;
        tokio::select! {
            changed = receiver.changed() => if changed.is_err() { break },
            () = shutdown.as_mut(), if !draining.is_cancelled() => {
                draining.cancel();
                // Listens from now on, also while the batch is read.
                let _ = futures::poll!(second_signal.as_mut());
                view.line.print(format!("{STOPPING}\n"))?;
            }
            _ = second_signal.as_mut(), if draining.is_cancelled() => {
                return Err(Stopped::Interrupted.into());
            }
        }
    }
    let report = load_report(account, id).await?;
    view.show(&report)?;
    Ok(report)
}

/// What is shown of a batch that runs.
pub(super) struct BatchView {
    style: Style,
    line: StatusLine,
    _shown: StatusGuard,
    zone: TimeZone,
    started_at: Timestamp,
    /// When the batch is expected to end, as it was planned.
    planned_end: Timestamp,
    /// The positions of the people who are done, in the order in which they were.
    closed: Vec<usize>,
    pause: Option<PauseReason>,
}

impl BatchView {
    /// Of a batch that starts now, or goes on.
    pub(super) fn new(style: Style, zone: TimeZone, prepared: &PreparedBatch) -> Self {
        let rows = prepared.rows.iter().enumerate();
        let closed = rows.filter(|(_, row)| !row.state.is_open()).map(|(index, _)| index).collect();
        let template = "{bar:30} {pos} of {len} · {elapsed}{msg}";
        let line = StatusLine::with_template(style, template, REDRAW_INTERVAL);
        if let Some(bar) = &line.bar {
            bar.set_length(prepared.rows.len() as u64);
        }
        let _shown = line.show("");
        let started_at = prepared.record.start_at.max(prepared.now.dialing);
        let planned_end = prepared.plan.finishes_at;
        Self { style, line, _shown, zone, started_at, planned_end, closed, pause: None }
    }

    fn show(&mut self, report: &BatchReport) -> anyhow::Result<()> {
        let rows = report.rows.iter().enumerate();
        let newly: Vec<usize> = rows
            .filter(|(index, row)| !row.record.state.is_open() && !self.closed.contains(index))
            .map(|(index, _)| index)
            .collect();
        self.closed.extend(&newly);
        match &self.line.bar {
            Some(bar) => {
                bar.set_position(self.closed.len() as u64);
                bar.set_message(self.describe(report));
                Ok(())
            }
            None => self.print_news(report, &newly),
        }
    }

    /// A line for each person who is done, and for each pause.
    fn print_news(&mut self, report: &BatchReport, newly: &[usize]) -> anyhow::Result<()> {
        let before = self.closed.len() - newly.len();
        for (position, row) in newly.iter().filter_map(|index| report.rows.get(*index)).enumerate()
        {
            let who = [row.name().to_owned(), row.number()];
            let who: Vec<String> = who.into_iter().filter(|part| !part.is_empty()).collect();
            let note = match row.note() {
                note if note.is_empty() => note,
                note => format!(" ({note})"),
            };
            print(format!(
                "{} of {}: {}, {}{note}\n",
                before + position + 1,
                report.rows.len(),
                callingbox::shown_text::one_line(&who.join(", "), 160),
                row.state(report.now)
            ))?;
        }
        if self.pause != report.record.pause {
            self.pause = report.record.pause;
            print(match self.pause {
                Some(pause) => format!("Paused: {}.\n", pause.describe()),
                None => "Calls start again.\n".to_owned(),
            })?;
        }
        Ok(())
    }

    /// The text behind the bar, and the table below it.
    fn describe(&self, report: &BatchReport) -> String {
        let calling =
            report.rows.iter().filter(|row| row.record.state == RowState::Calling).count();
        let end = self.expected_end(report).to_zoned(self.zone.clone()).strftime("%H:%M");
        let state = match report.record.pause {
            Some(pause) => format!("paused: {}", pause.describe()),
            None => format!("{calling} calling · expected end {end}"),
        };
        let (rows, left_out) = self.live_rows(report);
        let table = render_rows(self.style, report, rows.into_iter());
        let more = match left_out {
            0 => String::new(),
            count => format!("… and {count} more\n"),
        };
        format!(" · {state}\n{table}{more}").trim_end().to_owned()
    }

    /// The people in the order of the list; of many, those who are called now and those who were called last.
    fn live_rows<'a>(&self, report: &'a BatchReport) -> (Vec<&'a RowReport>, usize) {
        let in_state = |state| {
            let rows = report.rows.iter().enumerate();
            rows.filter(move |(_, row)| row.record.state == state).map(|(index, _)| index)
        };
        let mut shown: Vec<usize> = in_state(RowState::Calling)
            .chain(self.closed.iter().rev().copied())
            .chain(in_state(RowState::Waiting))
            .take(MAX_LIVE_ROWS)
            .collect();
        shown.sort_unstable();
        let left_out = report.rows.len() - shown.len();
        (shown.into_iter().filter_map(|index| report.rows.get(index)).collect(), left_out)
    }

    /// The planned end, or later if the calls take longer than planned.
    fn expected_end(&self, report: &BatchReport) -> Timestamp {
        let open = report.rows.iter().filter(|row| row.record.state.is_open()).count();
        let done = report.rows.iter().filter(|row| row.record.state == RowState::Done).count();
        let elapsed = report.now.duration_since(self.started_at);
        let pace = i32::try_from(done).ok().and_then(|done| elapsed.checked_div(done));
        let rest = pace.and_then(|pace| pace.checked_mul(i32::try_from(open).ok()?));
        let by_pace = rest.and_then(|rest| report.now.checked_add(rest).ok());
        by_pace.map_or(self.planned_end, |end| end.max(self.planned_end)).min(report.record.end_by)
    }
}
