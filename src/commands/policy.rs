//! `callingbox-mcp policy`: what the calling rules would say, and a file to start from.

use anyhow::Context;
use jiff::Timestamp;

use super::{say, world as worlds};
use crate::cli::{Global, Policy, PolicyCheck};
use crate::clients;
use crate::config::{self, File, Folders};
use crate::dialing::destination::Destination;
use crate::dialing::dispatch::{self, LedgerPlace};
use crate::dialing::ledger::World;
use crate::dialing::limits::Usage;
use crate::dialing::order::CALL_HOLD;
use crate::dialing::policy::{Request, starter_file};
use crate::e164::E164;
use crate::environment::variable;

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
    clients::write_new(&path, starter_file())?;
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
    let world = if global.sandbox.is_some() { World::Sandbox } else { World::Real };
    let rules = file.dialing.rules(world, config::policy(file, folders)?);
    let limits = rules.policy.measured_limits();
    let (usage, known_destination) = used(&limits, &to, now, world, file, folders).await?;
    let destination = Destination::of(&to);
    let request = Request {
        to: &to,
        destination: &destination,
        agent_id: &check.agent,
        now,
        usage: &usage,
        hold: CALL_HOLD,
    };
    let verdict = rules.policy.evaluate(&request);
    say(format!("{}\n", rules.explain(&request, &verdict, known_destination).trim_end()))
}

/// What the account has used of its limits, and whether it ever called this number; nothing where there is
/// no key or no ledger yet.
async fn used(
    limits: &crate::dialing::limits::Limits,
    to: &E164,
    now: Timestamp,
    world: World,
    file: &File,
    folders: &Folders,
) -> anyhow::Result<(Usage, bool)> {
    let place = file.dialing.place(world, folders);
    let exists = matches!(&place, LedgerPlace::File(path) if path.exists());
    let found = config::credentials(file, &variable, folders)?;
    let (true, World::Real, Some((key, _))) = (exists, world, found.key) else {
        return Ok((Usage::default(), false));
    };
    let tenant = worlds::tenant(&key, &found.base_url, None);
    let ledger = dispatch::open(&place, world).await?;
    let callee = tenant.hash(to);
    let usage = ledger.usage(tenant.id(), Some(&callee), limits, CALL_HOLD, now).await?;
    Ok((usage, ledger.known_destination(tenant.id(), &callee).await?))
}
