//! `callingbox-mcp policy`: explains the calling rules for a number, and writes a file of rules to start from.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::output::print;
use crate::cli::{PolicyCheckArgs, PolicyCommand};
use crate::dialing::caller::CallerName;
use crate::dialing::destination::{Destination, parse_callee};
use crate::dialing::ledger::{LedgerLocation, OptOut, open_ledger};
use crate::dialing::limits::{CallLimits, Usage};
use crate::dialing::opt_outs::refuse_call;
use crate::dialing::order::CALL_HOLD;
use crate::dialing::organization::{UnknownAccount, find_account};
use crate::dialing::policy::{MetadataSource, PolicyInput, starter_file};
use crate::install;
use crate::runtime;
use crate::settings::ProgramSettings;
use callingbox::{ApiClient, E164};

pub(super) async fn run(command: &PolicyCommand, settings: &ProgramSettings) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Init { print: true } => print(starter_file()),
        PolicyCommand::Init { print: false } => write_starter_file(settings),
        PolicyCommand::Check(check) => explain_number(check, settings).await,
    }
}

/// Writes the starter file to the path of the calling rules; never overwrites a file.
fn write_starter_file(settings: &ProgramSettings) -> anyhow::Result<()> {
    let path = settings.policy_path().context(
        "the user has no configuration folder; name a file as policy_file in the configuration",
    )?;
    let exists = std::fs::symlink_metadata(&path).is_ok();
    anyhow::ensure!(!exists, "{} already exists; it was not changed", path.display());
    install::write_new(&path, starter_file())?;
    print(format!(
        "Wrote {}. A server over HTTP reads it when it changes, and every server when it starts.\n",
        path.display()
    ))
}

async fn explain_number(check: &PolicyCheckArgs, settings: &ProgramSettings) -> anyhow::Result<()> {
    let to = parse_callee(&check.number)?;
    let parse = |text: &String| {
        let not_a_time = || format!("`{text}` is not a timestamp such as 2026-11-22T23:00:00Z");
        text.parse::<Timestamp>().with_context(not_a_time)
    };
    let at = check.at.as_ref().map(parse).transpose()?;
    let rules = settings.file.dialing_rules(settings.environment(), settings.load_policy()?);
    let limits = rules.policy.measured_limits();
    let shared = runtime::open_shared_state(&check.state, settings)?;
    let place = runtime::ledger_location(settings, shared);
    let caller = CallerName::from_text(&check.caller);
    let used = load_used_limits(place, &limits, &caller, &to, at, settings).await?;
    let destination = Destination::from_number(&to);
    let metadata = parse_metadata(&check.metadata)?;
    let request = PolicyInput {
        to: &to,
        destination: &destination,
        agent_id: &check.agent,
        caller: &caller,
        is_batch: false,
        metadata: Some(&metadata),
        metadata_source: MetadataSource::Model,
        now: used.now,
        usage: &used.usage,
        hold: CALL_HOLD,
    };
    let decision = match &used.opt_out {
        Some(entry) => refuse_call(entry).into(),
        None => rules.policy.evaluate(&request),
    };
    let explained = rules.explain(&request, &decision, used.known_destination);
    let note = used.unknown.map(|why| {
        format!("note       the usage of the limits is unknown, so it is not counted: {why}\n")
    });
    print(format!("{}\n{}", explained.trim_end(), note.unwrap_or_default()))
}

fn parse_metadata(pairs: &[String]) -> anyhow::Result<Map<String, Value>> {
    let parse = |pair: &String| {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("`{pair}` is not a key and a value such as consent=TEXT"))?;
        Ok((key.to_owned(), Value::from(value)))
    };
    pairs.iter().map(parse).collect()
}

/// How much of the limits is used, as far as it is known.
#[derive(Default)]
struct UsedLimits {
    /// The time for which the number is checked.
    now: Timestamp,
    usage: Usage,
    /// Whether the number was called before.
    known_destination: bool,
    /// The entry of the do-not-call list.
    opt_out: Option<OptOut>,
    /// Why the usage is unknown; it then counts as none.
    unknown: Option<String>,
}

/// Reads the usage from the ledger of the account that would call, at a time or at the account's present time.
async fn load_used_limits(
    place: LedgerLocation,
    limits: &CallLimits,
    caller: &CallerName,
    to: &E164,
    at: Option<Timestamp>,
    settings: &ProgramSettings,
) -> anyhow::Result<UsedLimits> {
    let now = at.unwrap_or_else(Timestamp::now);
    let used = |unknown| UsedLimits { now, unknown, ..UsedLimits::default() };
    let unknown = |why: String| Ok(used(Some(why)));
    // Without a ledger, nothing was dialed.
    let exists = match &place {
        LedgerLocation::File(path) => path.exists(),
        LedgerLocation::Redis(_) => true,
        LedgerLocation::Unavailable => false,
    };
    if !exists {
        return Ok(used(None));
    }
    let (key, base_url, simulator) = match &settings.global.sandbox {
        None => {
            let found = settings.find_credentials()?;
            let Some((key, _)) = found.key else { return unknown("no API key is set".to_owned()) };
            (key, found.base_url, None)
        }
        Some(None) => {
            return unknown(
                "each run has a new simulator inside this program; name a running one with \
                 --sandbox=URL"
                    .to_owned(),
            );
        }
        Some(Some(url)) => match runtime::connect_simulator(Some(url), &settings.global).await {
            Ok(found) => (found.key, found.base_url, Some(found.simulator)),
            Err(error) => return unknown(format!("{error:#}")),
        },
    };
    let now = match (at, &simulator) {
        (None, Some(simulator)) => simulator.read_clock().await?,
        _ => now,
    };
    let ledger = open_ledger(&place, settings.environment()).await?;
    let key_ref = runtime::key_ref(&key, &base_url, simulator.as_ref());
    let api = ApiClient::new(runtime::client_config(base_url, key));
    let account = match find_account(ledger.as_ref(), &api, &key_ref, None).await {
        Ok(account) => account,
        // An organization without an agent has called nobody.
        Err(UnknownAccount::NoAgent) => return Ok(used(None)),
        Err(UnknownAccount::Ledger(error)) => return Err(error.into()),
        Err(UnknownAccount::Api(error)) => return unknown(error.to_string()),
    };
    let callee = account.hash(to);
    let usage =
        ledger.measure_usage(account.id(), caller, Some(&callee), limits, CALL_HOLD, now).await?;
    let known_destination = ledger.is_known_destination(account.id(), &callee).await?;
    let opt_out = ledger.find_opt_out(account.id(), &callee, now).await?;
    Ok(UsedLimits { now, usage, known_destination, opt_out, unknown: None })
}
