//! `callingbox-mcp policy`: what the calling rules would say, and a file to start from.

use anyhow::Context;
use jiff::Timestamp;

use super::output::print;
use crate::cli::{Global, PolicyCheckArgs, PolicyCommand};
use crate::config::{self, ConfigFile, UserFolders};
use crate::dialing::destination::Destination;
use crate::dialing::ledger::{LedgerLocation, open_ledger};
use crate::dialing::limits::Usage;
use crate::dialing::order::CALL_HOLD;
use crate::dialing::policy::{PolicyInput, starter_file};
use crate::env_var::read_env_var;
use crate::install;
use crate::runtime::{self, HttpExtras};
use callingbox::E164;

pub(super) async fn run(
    command: &PolicyCommand,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Init { print: true } => print(starter_file()),
        PolicyCommand::Init { print: false } => write(file, folders),
        PolicyCommand::Check(check) => explain(check, global, file, folders).await,
    }
}

/// Writes the starter file where the rules are looked for, and never over one that is there.
fn write(file: &ConfigFile, folders: &UserFolders) -> anyhow::Result<()> {
    let path = config::policy_path(file, folders)
        .context("there is no folder for configuration: name the file as policy_file")?;
    let taken = std::fs::symlink_metadata(&path).is_ok();
    anyhow::ensure!(!taken, "{} is left as it is: there is one already", path.display());
    install::write_new(&path, starter_file())?;
    print(format!("Wrote {}. A server reads it when it starts.\n", path.display()))
}

async fn explain(
    check: &PolicyCheckArgs,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    let to = E164::parse(&check.number)?;
    let now = match &check.at {
        None => Timestamp::now(),
        Some(text) => text
            .parse()
            .with_context(|| format!("`{text}` is not a time such as 2026-11-22T23:00:00Z"))?,
    };
    let environment = global.environment();
    let rules = file.dialing.rules(environment, config::load_policy(file, folders)?);
    let limits = rules.policy.measured_limits();
    let shared = runtime::open_shared_state(&check.state, file)?;
    let place = HttpExtras { shared, ..HttpExtras::default() }.ledger(file, environment, folders);
    let used = used(place, &limits, &to, now, global, file, folders).await?;
    let destination = Destination::from_number(&to);
    let request = PolicyInput {
        to: &to,
        destination: &destination,
        agent_id: &check.agent,
        now,
        usage: &used.usage,
        hold: CALL_HOLD,
    };
    let verdict = rules.policy.evaluate(&request);
    let explained = rules.explain(&request, &verdict, used.known_destination);
    let note = used.unknown.map(|why| {
        format!("note       what is used of the limits is not known and not counted: {why}\n")
    });
    print(format!("{}\n{}", explained.trim_end(), note.unwrap_or_default()))
}

/// What is used of the limits, as far as it is known.
#[derive(Default)]
struct Used {
    usage: Usage,
    /// Whether this number was ever called.
    known_destination: bool,
    /// Why it is not known; then nothing is counted.
    unknown: Option<String>,
}

/// What has been used of the limits, by the ledger of the account that would call.
async fn used(
    place: LedgerLocation,
    limits: &crate::dialing::limits::CallLimits,
    to: &E164,
    now: Timestamp,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<Used> {
    let unknown = |why: String| Ok(Used { unknown: Some(why), ..Used::default() });
    let environment = global.environment();
    // Where there is no ledger yet, nothing was dialed.
    let is_there = match &place {
        LedgerLocation::File(path) => path.exists(),
        LedgerLocation::Redis(_) => true,
        LedgerLocation::Unavailable => false,
    };
    if !is_there {
        return Ok(Used::default());
    }
    let tenant = match &global.sandbox {
        None => {
            let found = config::find_credentials(file, &read_env_var, folders)?;
            let Some((key, _)) = found.key else { return unknown("no API key is set".to_owned()) };
            runtime::tenant(&key, &found.base_url, None)
        }
        Some(None) => {
            return unknown(
                "each simulator inside this program begins anew; one that runs is asked with \
                 --sandbox=URL"
                    .to_owned(),
            );
        }
        Some(Some(url)) => {
            match runtime::connect_simulator(Some(url), global.sandbox_speed).await {
                Ok(it) => runtime::tenant(&it.key, &it.base_url, Some(&it.simulator)),
                Err(error) => return unknown(format!("{error:#}")),
            }
        }
    };
    let ledger = open_ledger(&place, environment).await?;
    let callee = tenant.hash(to);
    let usage = ledger.measure_usage(tenant.id(), Some(&callee), limits, CALL_HOLD, now).await?;
    let known_destination = ledger.is_known_destination(tenant.id(), &callee).await?;
    Ok(Used { usage, known_destination, unknown: None })
}
