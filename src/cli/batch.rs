//! The arguments of `batch`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::http::StateArgs;

#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// Call the people of a CSV file, one call each, after one yes.
    ///
    /// The file has a header. The column `to` holds the numbers and `name` the names; every other column is given to the
    /// agent as a fact about that person and can be a placeholder in --task. Before anything rings, this shows who is
    /// called, what the first person will hear, how long it takes and what it costs. It runs until the list is done;
    /// Ctrl-C stops it, and `batch resume` continues. The exit code is 3 if people were not called.
    Run(Box<BatchRunArgs>),
    /// List the newest batches.
    List {
        #[command(flatten)]
        state: StateArgs,
    },
    /// Show how far a batch got, with the results of its calls.
    Show(BatchShowArgs),
    /// Continue an interrupted or paused batch with the people who are left.
    Resume(BatchResumeArgs),
    /// Cancel a batch: no more calls start. Calls in progress go on.
    Cancel(BatchIdArgs),
    /// Erase the numbers, names and facts of the people of a finished batch now.
    Forget(BatchIdArgs),
}

#[derive(Debug, Args)]
pub struct BatchRunArgs {
    /// The CSV file: UTF-8, with commas or semicolons.
    #[arg(value_name = "FILE")]
    pub people: PathBuf,
    /// The agent that calls, by its name or id. On the simulator, one is made if there is none.
    #[arg(long, value_name = "NAME_OR_ID")]
    pub agent: Option<String>,
    /// What the agent does on each call, with placeholders such as {name}; {{ and }} are braces. Default: the agent's
    /// own instructions.
    #[arg(long, value_name = "TEXT")]
    pub task: Option<String>,
    /// The agent's number to call from. Default: its primary number.
    #[arg(long, value_name = "NUMBER")]
    pub from: Option<String>,
    /// When the first call starts: a time of today such as 09:30, a date and time such as 2026-11-22T09:30 or
    /// 2026-11-22T08:30:00Z, or a span such as 2h. Default: now.
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// No call starts after this time. Default: four hours after the start; at most seven days ahead.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How often each person is called at most: 2 or 3. Default: 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3))]
    pub attempts: Option<u32>,
    /// The outcomes after which a person is called again.
    #[arg(
        long,
        value_name = "OUTCOMES",
        value_enum,
        value_delimiter = ',',
        default_value = "no_answer,busy",
        requires = "attempts"
    )]
    pub retry_on: Vec<RetryOn>,
    /// How long after a call the next attempt starts: 5m to 24h.
    #[arg(long, value_name = "SPAN", default_value = "30m", requires = "attempts")]
    pub retry_after: String,
    /// Start no more calls once results have this value in this field of the agent's results, such as free=true. Until
    /// then no more calls run at the same time than such results are missing.
    #[arg(long, value_name = "FIELD=VALUE")]
    pub stop_when: Option<String>,
    /// How many such results are enough.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "stop_when", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub stop_count: u32,
    /// The country in which numbers without + and a country code are dialed, such as US.
    #[arg(long, value_name = "COUNTRY")]
    pub region: Option<String>,
    /// A key of your own for this list: the same key starts one batch in 24 hours.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Call people again whom the same agent called a moment ago.
    #[arg(long)]
    pub allow_repeat: bool,
    /// Write the results to this CSV file at the end.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub yes: YesArgs,
    #[command(flatten)]
    pub state: StateArgs,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct YesArgs {
    /// For scripts: call without the typed yes. Refused where require_human is set; receipts show it.
    #[arg(long)]
    pub yes: bool,
}

/// The outcomes that --retry-on takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum RetryOn {
    NoAnswer,
    Busy,
    Voicemail,
    Failed,
}

#[derive(Debug, Args)]
pub struct BatchShowArgs {
    #[command(flatten)]
    pub batch: BatchIdArgs,
    /// Write the results to this CSV file.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BatchResumeArgs {
    #[command(flatten)]
    pub batch: BatchIdArgs,
    /// Write the results to this CSV file at the end.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub yes: YesArgs,
}

#[derive(Debug, Args)]
pub struct BatchIdArgs {
    /// The id that `batch run` printed and `batch list` lists.
    #[arg(value_name = "BATCH_ID")]
    pub id: String,
    #[command(flatten)]
    pub state: StateArgs,
}
