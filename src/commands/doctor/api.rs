//! Checks the API: whether it can be reached, accepts the key and has the same time, and whether a call could be placed
//! now.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::finding::Finding;
use crate::cli;
use crate::commands::ready_agent::{describe_agent, find_ready_agent};
use crate::config::{self, KeySource, NetworkVariableError};
use crate::dialing::disclosure::{DisclosureDecision, DisclosureMode, DisclosureRules};
use crate::dialing::opt_outs::RESULT_FIELD;
use crate::env_var::read_env_var;
use crate::mcp::reply::text::one_line;
use crate::own_command::own_command;
use crate::protected_file::{can_others_read, check_writers, hide_command};
use crate::runtime::{self, SimulatorConnection, client_config};
use crate::settings::ProgramSettings;
use crate::system::Os;
use callingbox::E164;
use callingbox::{
    self, Agent, AgentType, ApiClient, ApiKey, BaseUrl, ErrorKind, PageRequest, Phase, Probe,
    Timeouts,
};

/// Short, because the user waits.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    request: Duration::from_secs(10),
    total: Duration::from_secs(12),
};

/// From here on the clock is wrong, but nothing fails yet.
const MAX_GOOD_SKEW: Duration = Duration::from_secs(60);

/// The greatest age of a signed webhook: beyond this skew, every delivery is refused.
const MAX_WEBHOOK_SKEW: Duration = Duration::from_secs(300);

/// Sent in place of a key if none is set: that the API refuses it shows that it was reached, and at what time.
const PLACEHOLDER_KEY: &str = "none";

/// The later checks, in their order.
const NETWORK: &str = "network";
const ACCESS: &str = "access";
const CLOCK: &str = "clock";
const NUMBER: &str = "number";
const AGENT: &str = "agent";
const DO_NOT_CALL: &str = "do_not_call";
const DISCLOSURE: &str = "disclosure";

/// How many agents are named.
const MAX_NAMED_AGENTS: usize = 10;

/// Checks key, base URL, network, access, clock, number and agent, in this order.
pub(super) async fn check_api(settings: &ProgramSettings) -> Vec<Finding> {
    match &settings.global.sandbox {
        Some(url) => check_simulator(url.as_deref(), settings).await,
        None => check_live_api(settings).await,
    }
}

async fn check_simulator(url: Option<&str>, settings: &ProgramSettings) -> Vec<Finding> {
    let key = Finding::ok("key", "not needed on the simulator");
    let simulated = match runtime::connect_simulator(url, &settings.global).await {
        Ok(simulated) => simulated,
        Err(error) => {
            let fix = match url.map(runtime::parse_simulator_url) {
                Some(Err(_)) => {
                    format!("write --sandbox={}, or --sandbox without a URL", cli::SIMULATOR_URL)
                }
                _ => format!(
                    "start one with {} sandbox, or write --sandbox without a URL",
                    own_command()
                ),
            };
            let unreached = Finding::fail("base_url", format!("{error:#}"), fix);
            let skipped = skip_from("no simulator was reached", NETWORK);
            return [key, unreached].into_iter().chain(skipped).collect();
        }
    };
    let SimulatorConnection { base_url, key: secret, embedded, simulator: _ } = simulated;
    let place = match embedded {
        Some(_) => "a simulator inside this program".to_owned(),
        None => format!("the simulator at {base_url}"),
    };
    let mut findings = vec![key, Finding::ok("base_url", place)];
    findings.extend(
        check_requests(&api_client(base_url, secret), false, embedded.is_some(), settings).await,
    );
    if let Some(sandbox) = embedded {
        // Its data is not needed, and an error at its end does not matter.
        let _ = sandbox.shutdown().await;
    }
    findings
}

async fn check_live_api(settings: &ProgramSettings) -> Vec<Finding> {
    let found = match settings.find_credentials() {
        Ok(found) => found,
        Err(error) => {
            let fix = format!(
                "correct the setting named here; {} config shows the settings in force",
                own_command()
            );
            let mut findings = vec![Finding::fail("key", error.to_string(), fix)];
            findings.extend(skip_from("the key or the base URL is not valid", "base_url"));
            return findings;
        }
    };
    let mut findings = Vec::new();
    let key = match found.key {
        Some((key, source)) => {
            findings.push(check_key_file(&source));
            Some(key)
        }
        None => {
            findings.push(Finding::fail(
                "key",
                "no API key is set, so no tool works",
                format!(
                    "{} asks for it and stores it; or set CALLINGBOX_API_KEY; or try everything \
                     without a key: {} --sandbox demo",
                    settings.command_line("setup"),
                    own_command()
                ),
            ));
            None
        }
    };
    findings.push(check_base_url(&found.base_url));
    if !found.base_url.is_loopback() {
        findings.extend(
            config::check_network_variables(Os::this(), &read_env_var).iter().map(check_variable),
        );
    }
    let is_key_missing = key.is_none();
    let Some(key) = key.or_else(|| ApiKey::new(PLACEHOLDER_KEY.to_owned()).ok()) else {
        return findings;
    };
    findings.extend(
        check_requests(&api_client(found.base_url, key), is_key_missing, false, settings).await,
    );
    findings
}

fn check_variable(problem: &NetworkVariableError) -> Finding {
    let check = match problem {
        NetworkVariableError::Proxy(_) | NetworkVariableError::SocksProxy(_) => "proxy",
        NetworkVariableError::UnreadableCertificates { .. }
        | NetworkVariableError::NotPem { .. } => "certificates",
    };
    Finding::fail(
        check,
        problem.to_string(),
        "correct the variable or unset it, as the message says",
    )
}

fn api_client(base_url: BaseUrl, key: ApiKey) -> ApiClient {
    let mut config = client_config(base_url, key);
    config.timeouts = TIMEOUTS;
    ApiClient::new(config)
}

/// Skips this check and all later ones.
fn skip_from(why: &str, from: &str) -> Vec<Finding> {
    ["base_url", NETWORK, ACCESS, CLOCK, NUMBER, AGENT]
        .into_iter()
        .skip_while(|check| *check != from)
        .map(|check| Finding::skipped(check, why))
        .collect()
}

/// Whether other users can read or change the key.
fn check_key_file(source: &KeySource) -> Finding {
    let Some(path) = source.path() else { return Finding::ok("key", format!("set in {source}")) };
    let shown = path.display();
    if let Err(problem) = check_writers(path) {
        return Finding::warn("key", format!("read from {shown}"), problem.to_string());
    }
    if can_others_read(path) {
        return Finding::warn(
            "key",
            format!("read from {shown}, which other users of this machine can read"),
            hide_command(Os::this(), path),
        );
    }
    Finding::ok("key", format!("read from {shown}"))
}

fn check_base_url(base_url: &BaseUrl) -> Finding {
    if base_url.is_https() {
        Finding::ok("base_url", base_url.to_string())
    } else if base_url.is_loopback() {
        Finding::ok("base_url", format!("{base_url}, on this machine"))
    } else {
        Finding::warn(
            "base_url",
            format!("{base_url} is not encrypted: others can read the key in transit"),
            "use a URL that begins with https://, and remove allow_insecure_base_url",
        )
    }
}

/// Checks network, access, clock, number and agent; the command `setup` makes the last two.
async fn check_requests(
    client: &ApiClient,
    is_key_missing: bool,
    is_embedded: bool,
    settings: &ProgramSettings,
) -> Vec<Finding> {
    let before = Timestamp::now();
    let begun = Instant::now();
    let Probe { result, date } = client.probe().await;
    let took = begun.elapsed();
    if let Err(error) = &result
        && let Some(problem) = find_network_problem(error)
    {
        let mut findings = vec![problem];
        findings.extend(skip_from("the API was not reached", ACCESS));
        return findings;
    }
    let network = format!("the API responded within {} ms", took.as_millis().max(1));
    let mut findings = vec![Finding::ok(NETWORK, network)];
    findings.push(match &result {
        _ if is_key_missing => Finding::skipped(ACCESS, "no key is set"),
        Ok(()) => Finding::ok(ACCESS, "the key is accepted"),
        Err(error) => describe_refusal(error),
    });
    findings.push(check_clock(date, before, took));
    if is_key_missing {
        findings.extend(skip_from("no key is set", NUMBER));
    } else if result.is_err() {
        findings.extend(skip_from("the API did not accept the key", NUMBER));
    } else {
        findings.extend(check_number_and_agent(client, is_embedded, settings).await);
    }
    findings
}

/// How to make a secure connection possible.
fn tls_fix(os: Os) -> String {
    let store = match os {
        Os::Linux => "by the package ca-certificates, or in the PEM file that SSL_CERT_FILE names",
        Os::MacOs => "in Keychain Access, which counts instead of SSL_CERT_FILE",
        Os::Windows => {
            "in the certificate store of Windows (certmgr.msc), which counts instead of SSL_CERT_FILE"
        }
    };
    format!(
        "check the date of this machine, and whether a proxy or virus scanner interrupts encrypted connections: this \
         machine must trust its certificate, {store}"
    )
}

/// Why the API was not reached; `None` if it was.
fn find_network_problem(error: &callingbox::Error) -> Option<Finding> {
    let fix = match error.kind() {
        ErrorKind::Transport { phase, .. } => match phase {
            Phase::Dns => {
                "check that this machine is online and its DNS works, and that CALLINGBOX_BASE_URL, \
                 if set, is spelled correctly"
            }
            Phase::Connect => {
                "check that this machine is online, that no firewall blocks the connection, and that \
                 HTTPS_PROXY, if set, is correct; a server must listen at CALLINGBOX_BASE_URL"
            }
            Phase::Tls => {
                return Some(Finding::fail(NETWORK, error.kind().to_string(), tls_fix(Os::this())));
            }
            Phase::Timeout | Phase::Send | Phase::Receive => {
                "try again in a minute; if it fails again, a proxy or firewall is the likely cause"
            }
        },
        ErrorKind::Unsendable { .. } => "follow the message",
        _ => return None,
    };
    Some(Finding::fail(NETWORK, error.kind().to_string(), fix))
}

/// Why the API refused the request.
fn describe_refusal(error: &callingbox::Error) -> Finding {
    let message = error.kind().to_string();
    match error.kind() {
        ErrorKind::Unauthorized { .. } | ErrorKind::Forbidden { status: 403, .. } => Finding::fail(
            ACCESS,
            message,
            "copy the key again from CallingBox's dashboard to the place that `key` names above, or \
             create a new key there",
        ),
        ErrorKind::RateLimited { .. }
        | ErrorKind::Unavailable { .. }
        | ErrorKind::Server { .. }
        | ErrorKind::Provider { .. } => Finding::warn(
            ACCESS,
            message,
            "CallingBox is unavailable, or receives too many requests: run this again in a minute",
        ),
        _ => Finding::fail(
            ACCESS,
            message,
            "check that CALLINGBOX_BASE_URL is the URL of CallingBox's API, or unset it",
        ),
    }
}

/// Compares the clock with the API's, which is precise to the second.
fn check_clock(date: Option<Timestamp>, before: Timestamp, took: Duration) -> Finding {
    let Some(date) = date else { return Finding::skipped(CLOCK, "the API did not send the time") };
    let after = before.saturating_add(took).unwrap_or(before);
    // A time between the beginning and the end of the request shows no difference.
    let (ahead, skew) = if date < before {
        (true, before.duration_since(date))
    } else {
        (false, after.duration_since(date).min(jiff::SignedDuration::ZERO).abs())
    };
    let skew = skew.unsigned_abs();
    let fix = "set the clock automatically: timedatectl set-ntp true on Linux, Date & Time in the \
               settings elsewhere";
    let direction = if ahead { "ahead of" } else { "behind" };
    let message = format!(
        "this machine's clock is {} s {direction} the API's; beyond 300 s every webhook is refused",
        skew.as_secs()
    );
    if skew > MAX_WEBHOOK_SKEW {
        Finding::fail(CLOCK, message, fix)
    } else if skew > MAX_GOOD_SKEW {
        Finding::warn(CLOCK, message, fix)
    } else {
        Finding::ok(CLOCK, "agrees with the API's")
    }
}

/// Whether the account has a number, and an agent that can call from it.
async fn check_number_and_agent(
    client: &ApiClient,
    is_embedded: bool,
    settings: &ProgramSettings,
) -> Vec<Finding> {
    let page = PageRequest::with_limit(100);
    let (numbers, agents) =
        tokio::join!(client.list_numbers(&page), client.list_agents(Some(AgentType::Outbound)));
    let retry = "run this again in a minute";
    let (numbers, agents) = match (numbers, agents) {
        (Ok(numbers), Ok(agents)) => (numbers.data, agents.data),
        (Err(error), _) | (_, Err(error)) => {
            let message = error.kind().to_string();
            return vec![
                Finding::warn(NUMBER, &message, retry),
                Finding::warn(AGENT, message, retry),
            ];
        }
    };
    if is_embedded {
        let empty = "a simulator inside this program starts without any";
        return vec![Finding::ok(NUMBER, empty), Finding::ok(AGENT, empty)];
    }
    let setup = settings.command_line("setup");
    let number = match numbers.as_slice() {
        [] => Finding::warn(NUMBER, "the account has no number to call from", &setup),
        [first, rest @ ..] => {
            let shown = first.e164.as_ref().map_or_else(|| "one".to_owned(), E164::masked);
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Finding::ok(NUMBER, format!("{shown}{more}"))
        }
    };
    let agent = match find_ready_agent(&agents, &numbers) {
        Some((agent, number)) => {
            let from = number.e164.as_ref().map_or_else(|| "it".to_owned(), E164::masked);
            Finding::ok(AGENT, format!("{} can call from {from}", describe_agent(agent)))
        }
        None => Finding::warn(AGENT, "no outbound agent has a number to call from", setup),
    };
    let mut findings = vec![number, agent];
    findings.extend(check_do_not_call(&agents));
    findings.extend(check_disclosure(&agents, &settings.file.dialing.disclosure_rules()));
    findings
}

/// Names the outbound agents whose results do not say whether the person asked not to be called again.
fn check_do_not_call(agents: &[Agent]) -> Option<Finding> {
    let has_field = |agent: &Agent| {
        agent.returns.as_ref().is_some_and(|returns| returns.get(RESULT_FIELD).is_some())
    };
    let is_active = |agent: &&Agent| agent.archived_at.is_none();
    let active: Vec<&Agent> = agents.iter().filter(is_active).collect();
    let without = active.iter().filter(|agent| !has_field(agent)).take(MAX_NAMED_AGENTS);
    let without: Vec<String> = without.map(|agent| describe_agent(agent)).collect();
    match (active.is_empty(), without.is_empty()) {
        (true, _) => None,
        (false, true) => Some(Finding::ok(
            DO_NOT_CALL,
            "each outbound agent reports who asked not to be called again",
        )),
        (false, false) => Some(Finding::warn(
            DO_NOT_CALL,
            format!(
                "these outbound agents do not report who asked not to be called again: {}",
                without.join(", ")
            ),
            format!("ask your assistant to add the result field {RESULT_FIELD} (boolean) to them"),
        )),
    }
}

/// The outbound agents whose texts do not tell them to say that they are an AI; `None` if calls are not checked for it, or
/// the sentence is added to each call.
fn check_disclosure(agents: &[Agent], rules: &DisclosureRules) -> Option<Finding> {
    if !matches!(rules.mode, DisclosureMode::Remind | DisclosureMode::Require) {
        return None;
    }
    let lacking: Vec<String> = agents
        .iter()
        .filter(|agent| agent.archived_at.is_none())
        .filter(|agent| rules.decide(agent, None) != DisclosureDecision::Unchanged)
        .map(|agent| one_line(agent.name.as_deref().unwrap_or(agent.id.as_str()), 80))
        .collect();
    if lacking.is_empty() {
        return None;
    }
    let more = lacking.len().saturating_sub(MAX_NAMED_AGENTS);
    let mut names = lacking.into_iter().take(MAX_NAMED_AGENTS).collect::<Vec<_>>().join(", ");
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    Some(Finding::warn(
        DISCLOSURE,
        format!("not told to say at the beginning of a call that they are an AI: {names}"),
        "set disclosure = \"add\" under [dialing], or add to their instructions: At the beginning of the call, say that you \
         are an AI assistant.",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn advice_on_certificates_is_that_of_the_system() {
        for (os, word, other) in [
            (Os::Linux, "ca-certificates", "certmgr"),
            (Os::MacOs, "Keychain", "ca-certificates"),
            (Os::Windows, "certmgr.msc", "ca-certificates"),
        ] {
            let fix = tls_fix(os);
            assert!(fix.contains(word) && !fix.contains(other), "{fix}");
        }
    }

    #[test]
    fn the_level_depends_on_the_skew_in_either_direction() {
        let before: Timestamp = "2026-11-22T08:00:00.7Z".parse().unwrap();
        for (date, level) in [
            ("2026-11-22T08:00:00Z", Level::Ok),
            ("2026-11-22T08:00:02Z", Level::Ok),
            ("2026-11-22T07:59:00.7Z", Level::Ok),
            ("2026-11-22T07:58:59Z", Level::Warn),
            ("2026-11-22T08:01:03Z", Level::Warn),
            ("2026-11-22T07:55:00.7Z", Level::Warn),
            ("2026-11-22T07:54:59Z", Level::Fail),
            ("2026-11-22T08:05:05Z", Level::Fail),
        ] {
            let found = check_clock(Some(date.parse().unwrap()), before, Duration::from_secs(2));
            assert_eq!(found.level, level, "{date}: {}", found.message);
        }
    }
}
