//! Makes the webhook attempts that are due, in one task. Addresses are tried concurrently, each with one attempt at a
//! time, so that a receiver gets its events in order and a slow receiver delays no other.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls_platform_verifier::BuilderVerifierExt as _;
use sha2::Sha256;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use url::Url;

use crate::engine::{DeliveryAttempt, catch_up, prepare_attempt, record_outcome};
use crate::model::DeliveryOutcome;
use crate::simulator::Simulator;
use crate::store::{DueAttempt, SimulatorState};
use crate::webhook_url::{has_public_host, is_public_address};

const MAX_IN_FLIGHT: usize = 32;
/// Real time within which a receiver must answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes attempts until its task is aborted, which ends the attempts in flight as well.
pub(crate) async fn send_webhooks(simulator: Arc<Simulator>) {
    let client = WebhookClient::new(simulator.state().settings.allow_private_webhooks);
    let mut in_flight: JoinSet<(DueAttempt, String, DeliveryOutcome)> = JoinSet::new();
    let mut busy_urls: HashSet<String> = HashSet::new();
    loop {
        let (attempts, wait) = {
            let mut state = simulator.state();
            catch_up(&mut state);
            let attempts = take_attempts(&mut state, &mut busy_urls);
            let next_due_at = state.agenda.next_due_at();
            (attempts, next_due_at.and_then(|due_at| state.clock.real_time_until(due_at)))
        };
        for attempt in attempts {
            let client = client.clone();
            in_flight.spawn(async move {
                let outcome = client.send(&attempt).await;
                (attempt.due, attempt.url, outcome)
            });
        }
        simulator.attempts_made.notify_waiters();
        simulator.state_changed.notify_one();
        tokio::select! {
            Some(finished) = in_flight.join_next(), if !in_flight.is_empty() => {
                let mut state = simulator.state();
                state.attempts_in_flight = state.attempts_in_flight.saturating_sub(1);
                if let Ok((due, url, outcome)) = finished {
                    busy_urls.remove(&url);
                    record_outcome(&mut state, due, outcome);
                }
            }
            () = simulator.sender_wakeup.notified() => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// Takes the next due attempt of each address that is not busy.
fn take_attempts(
    state: &mut SimulatorState,
    busy_urls: &mut HashSet<String>,
) -> Vec<DeliveryAttempt> {
    let mut attempts = Vec::new();
    let mut queues = std::mem::take(&mut state.due_attempts);
    for (url, queue) in &mut queues {
        if state.attempts_in_flight >= MAX_IN_FLIGHT {
            break;
        }
        if busy_urls.contains(url) {
            continue;
        }
        while let Some(due) = queue.pop_front() {
            if let Some(attempt) = prepare_attempt(state, due) {
                busy_urls.insert(url.clone());
                state.attempts_in_flight += 1;
                attempts.push(attempt);
                break;
            }
        }
    }
    queues.retain(|_, queue| !queue.is_empty());
    state.due_attempts = queues;
    attempts
}

/// Sends signed requests. The HTTP client is built with the first request, since most sandboxes send none.
#[derive(Clone)]
struct WebhookClient {
    allow_private: bool,
    http: Arc<OnceCell<reqwest::Client>>,
}

impl WebhookClient {
    fn new(allow_private: bool) -> Self {
        Self { allow_private, http: Arc::default() }
    }

    async fn send(&self, attempt: &DeliveryAttempt) -> DeliveryOutcome {
        let http = self.http.get_or_try_init(|| build_http_client(self.allow_private)).await?;
        // The resolver never sees an address that is written in digits.
        let is_public = Url::parse(&attempt.url).is_ok_and(|url| has_public_host(&url));
        if !self.allow_private && !is_public {
            return Err("the URL resolves to a private address".to_owned());
        }
        // Receivers compare `t` with their own clock, so it is the real time of this attempt.
        let now = jiff::Timestamp::now().as_second();
        let event_type = attempt.event.as_str();
        let sent = http
            .post(&attempt.url)
            .header("content-type", "application/json")
            .header(
                "callingbox-signature",
                sign_body(&attempt.secret, now, attempt.body.as_bytes()),
            )
            .header("callingbox-event-id", attempt.due.delivery.to_string())
            .header("callingbox-event-type", event_type)
            .header("x-callingbox-event", event_type)
            .header("x-callingbox-call-id", attempt.call_id.to_string())
            .header("x-callingbox-sandbox", "1")
            .body(attempt.body.clone())
            .send()
            .await;
        match sent {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) if error.is_timeout() => Err("no answer within 10 seconds".to_owned()),
            Err(error) if error.is_connect() => Err("cannot connect".to_owned()),
            Err(_) => Err("the request failed".to_owned()),
        }
    }
}

async fn build_http_client(allow_private: bool) -> Result<reqwest::Client, String> {
    // Reads the system's certificates from disk.
    let loading = tokio::task::spawn_blocking(build_tls_config);
    let tls = loading.await.map_err(|error| error.to_string())??;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(ANSWER_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would resolve names itself and so bypass the check for private addresses.
        .no_proxy()
        .user_agent(concat!("callingbox-mcp-sandbox/", env!("CARGO_PKG_VERSION")));
    if !allow_private {
        builder = builder.dns_resolver(Arc::new(PublicResolver));
    }
    builder.build().map_err(|error| format!("no HTTP client: {error}"))
}

fn build_tls_config() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_platform_verifier()
        .map_err(|error| {
            let advice = match cfg!(any(windows, target_vendor = "apple")) {
                true => "check the certificates that this system trusts",
                false => "install ca-certificates, or set SSL_CERT_FILE",
            };
            format!("the system's trusted certificates cannot be used ({error}); {advice}")
        })?
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// Resolves names to public addresses only, so that no name leads into a private network.
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> =
                found.filter(|address| is_public_address(address.ip())).collect();
            if public.is_empty() {
                return Err("the name resolves to no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// `t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.<raw body>`. The key is the whole secret, including its `whsec_`
/// (webhook security guide).
fn sign_body(secret: &str, unix_seconds: i64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{unix_seconds}.").as_bytes());
    mac.update(body);
    format!("t={unix_seconds},v1={}", base16ct::lower::encode_string(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_equals_that_of_an_independent_implementation() {
        // printf '1776263512.{"id":"x"}' | openssl dgst -sha256 -hmac whsec_00112233445566778899aabbccddeeff
        let secret = "whsec_00112233445566778899aabbccddeeff";
        assert_eq!(
            sign_body(secret, 1_776_263_512, br#"{"id":"x"}"#),
            "t=1776263512,v1=a0720bc8ad6694c309c01d19315d09caa41762e0e3d43f469e41996306f5c2f1"
        );
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_private_addresses_is_rejected() {
        let name: Name = "localhost".parse().unwrap();
        let error = PublicResolver.resolve(name).await.map(drop).unwrap_err();
        assert_eq!(error.to_string(), "the name resolves to no public address");
    }
}
