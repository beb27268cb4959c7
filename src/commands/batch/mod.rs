//! `callingbox-mcp batch`: calls the people of a CSV file with one agent after one typed yes, and shows, resumes, cancels
//! and erases batches.

mod follow;
mod people_file;
mod request;
mod run;
mod table;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use jiff::Timestamp;

use super::output::{print, print_wrapped};
use super::prompt::Stopped;
use super::reload::{Sighup, spawn_reloads};
use super::style::Style;
use crate::account::Account;
use crate::batch::report::{BatchReport, load_report};
use crate::batch::{self, BatchError};
use crate::cli::{BatchCommand, BatchShowArgs, SIMULATOR_URL, StateArgs};
use crate::dialing::ledger::{BatchId, BatchState, RowState};
use crate::dialing::outcome::DialError;
use crate::own_command::own_command;
use crate::runtime::{self, HttpExtras, Runtime};
use crate::settings::ProgramSettings;

use self::table::{render_rows, render_table};

/// How many batches `batch list` lists.
const MAX_LISTED: u32 = 20;

/// The list is not done: people were not called, or the batch was interrupted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotDone(String);

/// What the subcommands share.
struct BatchSession<'a> {
    account: Arc<Account>,
    settings: &'a ProgramSettings,
    style: Style,
}

pub(super) async fn run(command: &BatchCommand, settings: &ProgramSettings) -> anyhow::Result<()> {
    let (state, only_reads) = shared_arguments(command);
    ensure!(
        only_reads || !settings.selection().read_only,
        "this command calls people or changes batches, but read-only is set; remove --read-only, \
         CALLINGBOX_MCP_READ_ONLY or read_only"
    );
    ensure!(
        settings.global.sandbox != Some(None) || matches!(command, BatchCommand::Run(_)),
        "the simulator inside this program is a new one each time, so it has no batches: name one that keeps running, \
         such as --sandbox={SIMULATOR_URL}, which `{} sandbox` starts",
        own_command()
    );
    let shared = runtime::open_shared_state(state, settings)?;
    let extras = HttpExtras { shared, ..HttpExtras::default() };
    let runtime = Runtime::open_with(settings, extras, None).await?;
    let session =
        BatchSession { account: runtime.account(), settings, style: Style::from_terminal() };
    ensure!(
        session.account.api().is_ok(),
        "no CallingBox API key is set: {} stores one, and --sandbox=URL needs none",
        settings.command_line("setup")
    );
    let reloading = spawn_reloads(runtime.account_factory(), None, Sighup::default());
    let result = session.run_command(command).await;
    reloading.abort();
    let is_impatient = result.as_ref().is_err_and(|error| error.is::<Stopped>());
    if is_impatient {
        return result;
    }
    runtime.finish_dispatches().await;
    // An error of the batch matters more than one of stopping the simulator.
    let closed = runtime.close().await;
    result.and(closed)
}

fn shared_arguments(command: &BatchCommand) -> (&StateArgs, bool) {
    match command {
        BatchCommand::Run(args) => (&args.state, false),
        BatchCommand::Resume(args) => (&args.batch.state, false),
        BatchCommand::Cancel(args) | BatchCommand::Forget(args) => (&args.state, false),
        BatchCommand::Show(args) => (&args.batch.state, true),
        BatchCommand::List { state } => (state, true),
    }
}

impl BatchSession<'_> {
    async fn run_command(&self, command: &BatchCommand) -> anyhow::Result<()> {
        match command {
            BatchCommand::Run(args) => self.run(args).await,
            BatchCommand::Resume(args) => self.resume(args).await,
            BatchCommand::List { .. } => self.list().await,
            BatchCommand::Show(args) => self.show(args).await,
            BatchCommand::Cancel(args) => self.cancel(&parse_id(&args.id)?).await,
            BatchCommand::Forget(args) => self.forget(&parse_id(&args.id)?).await,
        }
    }

    async fn list(&self) -> anyhow::Result<()> {
        let batches = match batch::list_newest(&self.account, MAX_LISTED).await {
            // Without an agent nothing was called.
            Err(BatchError::Dial(DialError::NoAgent)) => Vec::new(),
            batches => batches?,
        };
        if batches.is_empty() {
            return print("No list was called yet.\n");
        }
        let now = Timestamp::now();
        let rows: Vec<Vec<String>> = batches
            .iter()
            .map(|(record, rows)| {
                let done = rows.iter().filter(|row| row.state == RowState::Done).count();
                vec![
                    record.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                    record.batch_id.to_string(),
                    record.state_at(now).as_str().to_owned(),
                    record.size.to_string(),
                    done.to_string(),
                    record.agent_id.clone(),
                    record.caller.to_string(),
                ]
            })
            .collect();
        let header = ["created", "batch", "state", "people", "done", "agent", "caller"];
        print(render_table(self.style, &header, &rows))
    }

    async fn show(&self, args: &BatchShowArgs) -> anyhow::Result<()> {
        let id = parse_id(&args.batch.id)?;
        let report = load_report(&self.account, &id).await?;
        print(format!("{}\n", render_rows(self.style, &report, report.rows.iter())))?;
        print_wrapped(format!("{}\n", describe_result(&report)))?;
        if matches!(report.state, BatchState::Interrupted | BatchState::Paused) {
            print(format!("{}\n", self.resume_hint(&id)))?;
        }
        match &args.csv {
            Some(path) => write_csv(&report, path).await,
            None => Ok(()),
        }
    }

    async fn cancel(&self, id: &BatchId) -> anyhow::Result<()> {
        batch::cancel(&self.account, id).await?;
        let report = load_report(&self.account, id).await?;
        print_wrapped(format!("{id} is canceled: no more calls start.\n"))?;
        for row in report.rows.iter().filter(|row| row.record.state == RowState::Calling) {
            let fate = match &row.record.call_id {
                Some(call) => format!("is in the call {call}, which nobody can end from here"),
                None => "may still ring: the request was on its way".to_owned(),
            };
            print_wrapped(format!("  {} {fate}.\n", row.number()))?;
        }
        print_wrapped(format!("{}\n", describe_result(&report)))
    }

    async fn forget(&self, id: &BatchId) -> anyhow::Result<()> {
        batch::forget(&self.account, id).await?;
        print(format!("The numbers, names and facts of the people of {id} are erased.\n"))
    }
}

pub(super) fn parse_id(text: &str) -> anyhow::Result<BatchId> {
    BatchId::parse(text).ok().with_context(|| {
        format!(
            "`{}` is not the id of a batch; `{} batch list` lists them",
            callingbox::shown_text::one_line(text, 60),
            own_command()
        )
    })
}

/// How far a batch got, in a line.
fn describe_result(report: &BatchReport) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let (done, rest): (Vec<_>, Vec<_>) =
        report.rows.iter().partition(|row| row.record.state == RowState::Done);
    for row in done.into_iter().chain(rest) {
        let word = match (row.record.state, row.record.outcome) {
            (RowState::Done, Some(outcome)) => outcome.as_str(),
            (state, _) => state.as_str(),
        };
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let parts: Vec<String> =
        counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    let people = match report.rows.len() {
        1 => "1 person".to_owned(),
        count => format!("{count} people"),
    };
    let state = match (report.state, report.record.pause) {
        (BatchState::Paused, Some(pause)) => format!("paused ({})", pause.describe()),
        (state, _) => state.as_str().to_owned(),
    };
    let id = &report.record.batch_id;
    let cost = if report.is_finished() { "Cost" } else { "Cost so far" };
    format!("{id} {state}: {people}, {}. {cost}: {}.", parts.join(", "), report.cost())
}

async fn write_csv(report: &BatchReport, path: &Path) -> anyhow::Result<()> {
    let written = tokio::fs::write(path, report.to_csv()?).await;
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    print(format!("The results are in {}.\n", path.display()))
}
