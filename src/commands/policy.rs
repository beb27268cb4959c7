//! `callingbox-mcp policy`: what the calling rules would say, and a file to start from.

use anyhow::Context;
use jiff::Timestamp;

use super::say;
use crate::cli::{Global, Policy, PolicyCheck};
use crate::config::{self, File, Folders};
use crate::dialing::Environment;
use crate::dialing::destination::Destination;
use crate::dialing::dispatch::{self, LedgerPlace};
use crate::dialing::limits::Usage;
use crate::dialing::order::CALL_HOLD;
use crate::dialing::policy::{Request, starter_file};
use crate::environment::variable;
use crate::install;
use crate::runtime::{self as worlds, More};
use callingbox::e164::E164;

pub(super) async fn run(
    command: &Policy,
    global: &Global,
    file: &File,
    folders: &Folders,
) -> anyhow::Result<()> {
    match command {
        Policy::Init { print: true } => say(starter_file()),
        Policy::Init { print: false } => write(file, folders),
        Policy::Check(check) => explain(check, global, file, folders).await,
    }
}

/// Writes the starter file where the rules are looked for, and never over one that is there.
fn write(file: &File, folders: &Folders) -> anyhow::Result<()> {
    let path = config::policy_path(file, folders)
        .context("there is no folder for configuration: name the file as policy_file")?;
    let taken = std::fs::symlink_metadata(&path).is_ok();
    anyhow::ensure!(!taken, "{} is left as it is: there is one already", path.display());
    install::write_new(&path, starter_file())?;
    say(format!("Wrote {}. A server reads it when it starts.\n", path.display()))
}

async fn explain(
    check: &PolicyCheck,
    global: &Global,
    file: &File,
    folders: &Folders,
) -> anyhow::Result<()> {
    let to = E164::parse(&check.number)?;
    let now = match &check.at {
        None => Timestamp::now(),
        Some(text) => text
            .parse()
            .with_context(|| format!("`{text}` is not a time such as 2026-11-22T23:00:00Z"))?,
    };
    let environment =
        if global.sandbox.is_some() { Environment::Sandbox } else { Environment::Live };
    let rules = file.dialing.rules(environment, config::policy(file, folders)?);
    let limits = rules.policy.measured_limits();
    let shared = worlds::shared(&check.state, file)?;
    let place = More { shared, ..More::default() }.ledger(file, environment, folders);
    let used = used(place, &limits, &to, now, global, file, folders).await?;
    let destination = Destination::of(&to);
    let request = Request {
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
    say(format!("{}\n{}", explained.trim_end(), note.unwrap_or_default()))
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
    place: LedgerPlace,
    limits: &crate::dialing::limits::Limits,
    to: &E164,
    now: Timestamp,
    global: &Global,
    file: &File,
    folders: &Folders,
) -> anyhow::Result<Used> {
    let unknown = |why: String| Ok(Used { unknown: Some(why), ..Used::default() });
    let environment =
        if global.sandbox.is_some() { Environment::Sandbox } else { Environment::Live };
    // Where there is no ledger yet, nothing was dialed.
    let is_there = match &place {
        LedgerPlace::File(path) => path.exists(),
        LedgerPlace::Redis(_) => true,
        LedgerPlace::Nowhere => false,
    };
    if !is_there {
        return Ok(Used::default());
    }
    let tenant = match &global.sandbox {
        None => {
            let found = config::credentials(file, &variable, folders)?;
            let Some((key, _)) = found.key else { return unknown("no API key is set".to_owned()) };
            worlds::tenant(&key, &found.base_url, None)
        }
        Some(None) => {
            return unknown(
                "each simulator inside this program begins anew; one that runs is asked with \
                 --sandbox=URL"
                    .to_owned(),
            );
        }
        Some(Some(url)) => match worlds::simulate(Some(url), global.sandbox_speed).await {
            Ok(it) => worlds::tenant(&it.key, &it.base_url, Some(&it.simulator)),
            Err(error) => return unknown(format!("{error:#}")),
        },
    };
    let ledger = dispatch::open(&place, environment).await?;
    let callee = tenant.hash(to);
    let usage = ledger.usage(tenant.id(), Some(&callee), limits, CALL_HOLD, now).await?;
    let known_destination = ledger.known_destination(tenant.id(), &callee).await?;
    Ok(Used { usage, known_destination, unknown: None })
}
