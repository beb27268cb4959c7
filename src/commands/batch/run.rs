//! `batch run` and `batch resume`: shows what would be called, waits for the typed yes, and runs the batch to its end.

use std::io::IsTerminal;
use std::path::Path;
use std::pin::{Pin, pin};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use super::super::output::{print, print_wrapped};
use super::super::prompt::{Prompter, Stopped};
use super::super::shutdown_signal::shutdown_signal;
use super::follow::{BatchView, follow_batch};
use super::people_file::{PeopleFile, read_people};
use super::request::{build_request, find_agent};
use super::table::{render_rows, render_table};
use super::{BatchSession, NotDone, describe_result, write_csv};
use crate::batch::list::ListProblems;
use crate::batch::prepare::{PreparedBatch, prepare, prepare_stored};
use crate::batch::preview::build_preview;
use crate::batch::report::BatchReport;
use crate::batch::{self, BatchError, StopSignals};
use crate::cli::{BatchResumeArgs, BatchRunArgs};
use crate::dialing::confirm::Confirmation;
use crate::dialing::destination::CountryCode;
use crate::dialing::ledger::{BatchId, BatchRecord, BatchState, ConfirmedBy, CreateBatchResult};

/// What the arguments of tools are called on this command line.
const FLAGS: [(&str, &str); 5] = [
    ("`people`", "the file"),
    ("`end_by`", "--until"),
    ("`start_at`", "--start"),
    ("`from_number`", "--from"),
    ("`stop_when.field`", "--stop-when"),
];

impl BatchSession<'_> {
    pub(super) async fn run(&self, args: &BatchRunArgs) -> anyhow::Result<()> {
        let mut shutdown = pin!(shutdown_signal()?);
        let prepared = unless_ended(shutdown.as_mut(), self.prepare(args)).await?;
        self.create(&prepared.batch).await?;
        let id = &prepared.batch.record.batch_id;
        let asked = unless_ended(
            shutdown.as_mut(),
            self.ask(&prepared.batch, args.yes.yes, &prepared.note),
        );
        let confirmed_by = match asked.await {
            Ok(confirmed_by) => confirmed_by,
            Err(error) => {
                // Nobody confirms the list any more.
                batch::cancel(&self.account, id).await?;
                return Err(error);
            }
        };
        let stop = self.stop_signals();
        let draining = stop.draining.clone();
        batch::start(&self.account, &prepared.batch, confirmed_by, stop).await?;
        print(format!("Started as {id}.\n"))?;
        self.follow(&prepared.batch, shutdown, &draining, args.csv.as_deref()).await
    }

    pub(super) async fn resume(&self, args: &BatchResumeArgs) -> anyhow::Result<()> {
        let mut shutdown = pin!(shutdown_signal()?);
        check_folder(args.csv.as_deref())?;
        let id = super::parse_id(&args.batch.id)?;
        let (_, record, rows) = batch::find(&self.account, &id).await?;
        let state = record.state_at(Timestamp::now());
        if !matches!(state, BatchState::Interrupted | BatchState::Paused) {
            return Err(BatchError::WrongState { batch_id: id, state }.into());
        }
        let prepared = prepare_stored(&self.account, record, rows).await?;
        let confirmed_by =
            unless_ended(shutdown.as_mut(), self.ask(&prepared, args.yes.yes, "")).await?;
        let stop = self.stop_signals();
        let draining = stop.draining.clone();
        batch::resume(&self.account, &prepared, confirmed_by, stop).await?;
        print(format!("Resumed {id}.\n"))?;
        self.follow(&prepared, shutdown, &draining, args.csv.as_deref()).await
    }

    fn stop_signals(&self) -> StopSignals {
        StopSignals { draining: CancellationToken::new(), revoked: CancellationToken::new() }
    }

    async fn prepare(&self, args: &BatchRunArgs) -> anyhow::Result<PreparedList> {
        check_folder(args.csv.as_deref())?;
        let region =
            args.region.as_deref().map(CountryCode::parse).transpose().context("--region")?;
        let file = read_people(&args.people, region).await?;
        let PeopleFile { people, lines, mut problems, completed } = file;
        // The account answers first: without it nothing else matters.
        let agent = find_agent(&self.account, args.agent.as_deref()).await?;
        let now = self.account.dialer()?.now().await?.dialing;
        let request = build_request(args, &agent, people, region, now, &TimeZone::system())?;
        let prepared = match prepare(&self.account, request).await {
            Err(BatchError::List(other)) => {
                problems.append_at_lines(other, &lines);
                None
            }
            prepared => Some(prepared?),
        };
        match prepared {
            Some(batch) if problems.is_empty() => {
                let note = match (completed, region) {
                    (0, _) | (_, None) => String::new(),
                    (1, Some(region)) => format!("1 number was completed as one of {region}.\n"),
                    (count, Some(region)) => {
                        format!("{count} numbers were completed as those of {region}.\n")
                    }
                };
                Ok(PreparedList { batch, note })
            }
            _ => bail!("{}: {}", args.people.display(), describe_problems(&problems)),
        }
    }

    /// Writes the list into the ledger. A list that was called a moment ago is not called again.
    async fn create(&self, prepared: &PreparedBatch) -> anyhow::Result<()> {
        for _ in 0..2 {
            match batch::create(&self.account, prepared).await? {
                CreateBatchResult::Created => return Ok(()),
                CreateBatchResult::KeyConflict(other) => {
                    return Err(BatchError::KeyConflict(other.batch_id).into());
                }
                // It was shown before and not confirmed. This list takes its place.
                CreateBatchResult::Duplicate(asked) if asked.state == BatchState::Asked => {
                    batch::cancel(&self.account, &asked.batch_id).await?;
                }
                CreateBatchResult::Duplicate(started) => {
                    bail!("{}", self.describe_duplicate(&started))
                }
            }
        }
        bail!("another program is asking about the same list; run this again in a minute")
    }

    fn describe_duplicate(&self, started: &BatchRecord) -> String {
        let id = &started.batch_id;
        format!(
            "the same list was started at {} as {id}; nobody was called now. {} shows it, and --allow-repeat calls \
             everybody again",
            started.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            self.settings.command_line(&format!("batch show {id}"))
        )
    }

    /// Shows the list that a yes covers, and waits for the yes.
    async fn ask(
        &self,
        prepared: &PreparedBatch,
        yes: bool,
        note: &str,
    ) -> anyhow::Result<ConfirmedBy> {
        let rules = self.account.dialer()?.rules();
        if let Confirmation::Refuse(refusal) = prepared.confirmation(&self.account, true) {
            bail!("{}", refusal.describe_for_person());
        }
        let preview = build_preview(prepared, self.account.environment());
        let width = preview.fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in &preview.fields {
            print_wrapped(format!("{:<width$}  {value}\n", format!("{name}:"), width = width + 1))?;
        }
        print_wrapped(self.describe_local_window(&prepared.record, width))?;
        let cells = |row: u32, name: &Option<String>, number: &str, last: &str| {
            let name = name.clone().unwrap_or_default();
            vec![row.to_string(), name, number.to_owned(), last.to_owned()]
        };
        let people = preview.people.iter();
        let people: Vec<_> =
            people.map(|it| cells(it.row, &it.name, &it.number, &it.local_time)).collect();
        let header = ["row", "name", "number", "time there"];
        print(format!("\n{}{note}", render_table(self.style, &header, &people)))?;
        if !preview.refused.is_empty() {
            let refused = preview.refused.iter();
            let refused: Vec<_> =
                refused.map(|it| cells(it.row, &it.name, &it.number, &it.reason)).collect();
            let header = ["row", "name", "number", "not called, because"];
            print(format!("\n{}", render_table(self.style, &header, &refused)))?;
        }
        print("\n")?;
        let count = preview.people.len();
        if count == 0 {
            return Err(
                NotDone("nobody on the list may be called; nobody was called".to_owned()).into()
            );
        }
        if yes {
            ensure!(
                !rules.require_human,
                "require_human is set under [dialing], so the yes must be typed; nobody was called"
            );
            return Ok(ConfirmedBy::Flag);
        }
        ensure!(
            std::io::stdin().is_terminal(),
            "the yes is typed at a terminal, and standard input is none; nobody was called"
        );
        let question = format!("{} Type {count} to start: ", preview.title);
        let answer = Prompter::new().ask_line(&question).await?;
        if answer == count.to_string() {
            Ok(ConfirmedBy::Terminal)
        } else {
            Err(Stopped::Unanswered("You did not type the number of people. Nobody was called.")
                .into())
        }
    }

    /// The window by the clock of this machine, unless that shows UTC.
    fn describe_local_window(&self, record: &BatchRecord, width: usize) -> String {
        let zone = TimeZone::system();
        if zone.to_offset(record.end_by).seconds() == 0 {
            return String::new();
        }
        let local = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z");
        let (start, end) = (local(record.start_at), local(record.end_by));
        format!("{:<width$}  {start} to {end}\n", "By this clock:", width = width + 1)
    }

    async fn follow(
        &self,
        prepared: &PreparedBatch,
        shutdown: Pin<&mut impl Future<Output = ()>>,
        draining: &CancellationToken,
        csv: Option<&Path>,
    ) -> anyhow::Result<()> {
        let id = &prepared.record.batch_id;
        let view = BatchView::new(self.style, TimeZone::system(), prepared);
        let followed = follow_batch(&self.account, id, view, shutdown, draining).await;
        if followed.as_ref().is_err_and(|error| error.is::<Stopped>()) {
            print(format!("{id} is interrupted in a minute. {}\n", self.resume_hint(id)))?;
        }
        let report = followed?;
        print(format!("\n{}\n", render_rows(self.style, &report, report.rows.iter())))?;
        print_wrapped(format!("{}\n", describe_result(&report)))?;
        if let Some(path) = csv {
            write_csv(&report, path).await.with_context(|| {
                format!(
                    "{} writes them again",
                    self.settings.command_line(&format!("batch show {id} --csv FILE"))
                )
            })?;
        }
        match self.describe_rest(&report) {
            Some(rest) => Err(NotDone(rest).into()),
            None => Ok(()),
        }
    }

    /// Why the list is not done, and what continues it; `None` if it is.
    fn describe_rest(&self, report: &BatchReport) -> Option<String> {
        let id = &report.record.batch_id;
        match report.state {
            BatchState::Interrupted | BatchState::Paused => {
                Some(format!("{id} is {}. {}", report.state.as_str(), self.resume_hint(id)))
            }
            BatchState::Running => Some(format!("another program runs {id} now")),
            _ if report.is_complete() => None,
            _ => Some("not everybody was called".to_owned()),
        }
    }

    pub(super) fn resume_hint(&self, id: &BatchId) -> String {
        if self.settings.global.sandbox == Some(None) {
            return "It cannot be resumed, because the simulator inside this program ends with it; `callingbox-mcp \
                    sandbox` starts one that keeps running."
                .to_owned();
        }
        format!("To continue: {}", self.settings.command_line(&format!("batch resume {id}")))
    }
}

/// A list that is ready, and a note about its numbers.
struct PreparedList {
    batch: PreparedBatch,
    note: String,
}

fn describe_problems(problems: &ListProblems) -> String {
    let text = problems.to_string();
    FLAGS.into_iter().fold(text, |text, (argument, flag)| text.replace(argument, flag))
}

/// Checks that the results can be written before anybody is called.
fn check_folder(csv: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = csv else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        !path.is_dir() && folder.is_none_or(Path::is_dir),
        "--csv {}: there is no such folder, or it is a folder itself",
        path.display()
    );
    Ok(())
}

/// Does this work until it is done or the process is asked to end.
async fn unless_ended<T>(
    shutdown: Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        result = work => result,
        () = shutdown => Err(Stopped::Interrupted.into()),
    }
}
