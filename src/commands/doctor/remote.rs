//! What the API says: is it there, does it take the key, is its clock ours, and could a call be
//! placed now.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Finding;
use crate::cli::{self, Global};
use crate::commands::ready_agent;
use crate::config::{self, ConfigFile, KeySource, UserFolders};
use crate::env_var::read_env_var;
use crate::mcp::reply::text::one_line;
use crate::runtime::{self, SimulatorConnection, client_config};
use callingbox::E164;
use callingbox::{
    self, AgentType, ApiClient, ApiKey, BaseUrl, ErrorKind, PageRequest, Phase, Probe, Timeouts,
};

/// A person waits for the answer.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    request: Duration::from_secs(10),
    total: Duration::from_secs(12),
};

/// From here on a clock is wrong, though nothing fails of it yet.
const SKEW_WARN: Duration = Duration::from_secs(60);

/// How old a signed webhook may be; a clock that is off by more refuses all of them.
const SKEW_FAIL: Duration = Duration::from_secs(300);

/// Stands in for a key where none is set: the refusal of it proves the way to the API and tells the
/// time.
const NO_KEY: &str = "none";

/// The checks from here on, in their order.
const NETWORK: &str = "network";
const ACCESS: &str = "access";
const CLOCK: &str = "clock";
const NUMBER: &str = "number";
const AGENT: &str = "agent";

/// Key, base URL, network, access, clock, number and agent, in this order.
pub(super) async fn api(global: &Global, file: &ConfigFile, folders: &UserFolders) -> Vec<Finding> {
    let setup = global.command_line("setup");
    match &global.sandbox {
        Some(url) => on_simulator(url.as_deref(), global.sandbox_speed, &setup).await,
        None => on_real_api(file, folders, &setup).await,
    }
}

async fn on_simulator(url: Option<&str>, speed: Option<f64>, setup: &str) -> Vec<Finding> {
    let key = Finding::ok("key", "none needed on the simulator");
    let simulated = match runtime::connect_simulator(url, speed).await {
        Ok(simulated) => simulated,
        Err(error) => {
            let fix = match url.map(runtime::parse_simulator_url) {
                Some(Err(_)) => {
                    format!("write --sandbox={}, or --sandbox alone", cli::SIMULATOR_URL)
                }
                _ => "start one with callingbox-mcp sandbox, or write --sandbox without an address"
                    .to_owned(),
            };
            let mut findings = vec![key, Finding::fail("base_url", format!("{error:#}"), fix)];
            findings.extend(unseen("no simulator answers", NETWORK));
            return findings;
        }
    };
    let SimulatorConnection { base_url, key: secret, embedded, simulator: _ } = simulated;
    let place = match embedded {
        Some(_) => "a simulator inside this program".to_owned(),
        None => format!("the simulator at {base_url}"),
    };
    let mut findings = vec![key, Finding::ok("base_url", place)];
    findings.extend(look(&client(base_url, secret), false, embedded.is_some(), setup).await);
    if let Some(sandbox) = embedded {
        // It holds nothing that could be lost.
        let _ = sandbox.shutdown().await;
    }
    findings
}

async fn on_real_api(file: &ConfigFile, folders: &UserFolders, setup: &str) -> Vec<Finding> {
    let found = match config::find_credentials(file, &read_env_var, folders) {
        Ok(found) => found,
        Err(error) => {
            let fix = "correct what is named; callingbox-mcp config shows what holds";
            let mut findings = vec![Finding::fail("key", error.to_string(), fix)];
            findings.extend(unseen("key and base URL cannot be read", "base_url"));
            return findings;
        }
    };
    let mut findings = Vec::new();
    let key = match found.key {
        Some((key, source)) => {
            findings.push(held(&source));
            Some(key)
        }
        None => {
            findings.push(Finding::fail(
                "key",
                "no API key is set, so no tool can do anything",
                format!(
                    "{setup} asks for it and keeps it; or set CALLINGBOX_API_KEY; or try everything \
                     without one: callingbox-mcp --sandbox demo"
                ),
            ));
            None
        }
    };
    findings.push(address(&found.base_url));
    let keyless = key.is_none();
    let Some(key) = key.or_else(|| ApiKey::new(NO_KEY.to_owned()).ok()) else { return findings };
    findings.extend(look(&client(found.base_url, key), keyless, false, setup).await);
    findings
}

fn client(base_url: BaseUrl, key: ApiKey) -> ApiClient {
    let mut config = client_config(base_url, key);
    config.timeouts = TIMEOUTS;
    ApiClient::new(config)
}

/// All checks from this one on, when none of them could be made.
fn unseen(why: &str, from: &str) -> Vec<Finding> {
    ["base_url", NETWORK, ACCESS, CLOCK, NUMBER, AGENT]
        .into_iter()
        .skip_while(|check| *check != from)
        .map(|check| Finding::skipped(check, why))
        .collect()
}

/// Where the key is, and whether others can read it there.
fn held(source: &KeySource) -> Finding {
    let path = match source {
        KeySource::EnvVar => return Finding::ok("key", format!("set in {source}")),
        KeySource::KeyFile(path) | KeySource::OfficialConfig(path) => path,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o077 != 0);
        if open {
            return Finding::warn(
                "key",
                format!("read from {}, which other users of this machine may read", path.display()),
                format!("chmod 600 {}", path.display()),
            );
        }
    }
    Finding::ok("key", format!("read from {}", path.display()))
}

fn address(base_url: &BaseUrl) -> Finding {
    if base_url.is_https() {
        Finding::ok("base_url", base_url.to_string())
    } else if base_url.is_loopback() {
        Finding::ok("base_url", format!("{base_url}, on this machine"))
    } else {
        Finding::warn(
            "base_url",
            format!("{base_url} is not encrypted: the key can be read on the way"),
            "use an address that begins https://, and take allow_insecure_base_url out",
        )
    }
}

/// Network, access, clock, number and agent; `setup` is the command that makes the last two.
async fn look(client: &ApiClient, keyless: bool, fresh: bool, setup: &str) -> Vec<Finding> {
    let before = Timestamp::now();
    let begun = Instant::now();
    let Probe { result, date } = client.probe().await;
    let took = begun.elapsed();
    if let Err(error) = &result
        && let Some(broken) = unreached(error)
    {
        let mut findings = vec![broken];
        findings.extend(unseen("the API was not reached", ACCESS));
        return findings;
    }
    let network = format!("the API answered within {} ms", took.as_millis().max(1));
    let mut findings = vec![Finding::ok(NETWORK, network)];
    findings.push(match &result {
        _ if keyless => Finding::skipped(ACCESS, "no key is set"),
        Ok(()) => Finding::ok(ACCESS, "the key is accepted"),
        Err(error) => denied(error),
    });
    findings.push(clock(date, before, took));
    if keyless {
        findings.extend(unseen("no key is set", NUMBER));
    } else if result.is_err() {
        findings.extend(unseen("the key did not open the API", NUMBER));
    } else {
        findings.extend(ready(client, fresh, setup).await);
    }
    findings
}

/// Why the API was not reached, when it was not.
fn unreached(error: &callingbox::Error) -> Option<Finding> {
    let fix = match error.kind() {
        ErrorKind::Transport { phase, .. } => match phase {
            Phase::Dns => {
                "check that this machine is online and its DNS works, and that CALLINGBOX_BASE_URL, \
                 if set, is spelled right"
            }
            Phase::Connect => {
                "check that this machine is online, that no firewall stands in the way, and that \
                 HTTPS_PROXY, if set, is right; something must listen where CALLINGBOX_BASE_URL points"
            }
            Phase::Tls => {
                "check the date of this machine, and whether a proxy or virus scanner breaks \
                 encrypted connections; install ca-certificates, or set SSL_CERT_FILE"
            }
            Phase::Timeout | Phase::Send | Phase::Receive => {
                "try again in a minute; if it stays so, a proxy or firewall is likely in the way"
            }
        },
        ErrorKind::Unsendable { .. } => "do what the message says",
        _ => return None,
    };
    Some(Finding::fail(NETWORK, error.kind().to_string(), fix))
}

/// Why the key does not open the API.
fn denied(error: &callingbox::Error) -> Finding {
    let message = error.kind().to_string();
    match error.kind() {
        ErrorKind::Unauthorized { .. } | ErrorKind::Refused { status: 403, .. } => Finding::fail(
            ACCESS,
            message,
            "copy the key from CallingBox's dashboard again and put it where `key` above says, or \
             make a new one there",
        ),
        ErrorKind::RateLimited { .. }
        | ErrorKind::Unavailable { .. }
        | ErrorKind::Server { .. }
        | ErrorKind::Provider { .. } => Finding::warn(
            ACCESS,
            message,
            "CallingBox itself has trouble, or is asked too often: run this again in a minute",
        ),
        _ => Finding::fail(
            ACCESS,
            message,
            "check that CALLINGBOX_BASE_URL is the address of CallingBox's API, or unset it",
        ),
    }
}

/// This machine's clock against the API's, which is told to the second.
fn clock(date: Option<Timestamp>, before: Timestamp, took: Duration) -> Finding {
    let Some(date) = date else { return Finding::skipped(CLOCK, "the API did not tell the time") };
    let after = before.saturating_add(took).unwrap_or(before);
    // Where the API's moment lies within the request there is no difference to be seen.
    let (ahead, skew) = if date < before {
        (true, before.duration_since(date))
    } else {
        (false, after.duration_since(date).min(jiff::SignedDuration::ZERO).abs())
    };
    let skew = skew.unsigned_abs();
    let fix = "let this machine set its clock by itself: timedatectl set-ntp true on Linux, Date & \
               Time in the settings elsewhere";
    let way = if ahead { "ahead of" } else { "behind" };
    let message = format!("this machine's clock is {} s {way} the API's", skew.as_secs());
    if skew > SKEW_FAIL {
        let message = format!("{message}; every webhook is refused above 300 s");
        Finding::fail(CLOCK, message, fix)
    } else if skew > SKEW_WARN {
        Finding::warn(CLOCK, format!("{message}; above 300 s webhooks are refused"), fix)
    } else {
        Finding::ok(CLOCK, "as the API's")
    }
}

/// Whether there is a number, and an agent that could call from it.
async fn ready(client: &ApiClient, fresh: bool, setup: &str) -> Vec<Finding> {
    let page = PageRequest::with_limit(100);
    let (numbers, agents) =
        tokio::join!(client.list_numbers(&page), client.list_agents(Some(AgentType::Outbound)));
    let again = "run this again in a minute";
    let (numbers, agents) = match (numbers, agents) {
        (Ok(numbers), Ok(agents)) => (numbers.data, agents.data),
        (Err(error), _) | (_, Err(error)) => {
            let message = error.kind().to_string();
            return vec![
                Finding::warn(NUMBER, &message, again),
                Finding::warn(AGENT, message, again),
            ];
        }
    };
    if fresh {
        let empty = "each simulator inside this program begins without any";
        return vec![Finding::ok(NUMBER, empty), Finding::ok(AGENT, empty)];
    }
    let number = match numbers.as_slice() {
        [] => Finding::warn(NUMBER, "the account owns no number to call from", setup),
        [first, rest @ ..] => {
            let shown = first.e164.as_ref().map_or_else(|| "one".to_owned(), E164::masked);
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Finding::ok(NUMBER, format!("{shown}{more}"))
        }
    };
    let agent = match ready_agent::ready(&agents, &numbers) {
        Some((agent, number)) => {
            let name = one_line(agent.name.as_deref().unwrap_or("unnamed"), 80);
            let from = number.e164.as_ref().map_or_else(|| "it".to_owned(), E164::masked);
            Finding::ok(AGENT, format!("{name} ({}) can call from {from}", agent.id))
        }
        None => Finding::warn(AGENT, "no outbound agent has a number to call from", setup),
    };
    vec![number, agent]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_either_way() {
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
            let found = clock(Some(date.parse().unwrap()), before, Duration::from_secs(2));
            assert_eq!(found.level, level, "{date}: {}", found.message);
        }
    }
}
