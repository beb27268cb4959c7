//! Makes the webhook attempts. One task: it sleeps until something falls due or somebody wakes it.
//! Addresses are tried side by side, one address one attempt at a time, so that a receiver gets its
//! events in order and a slow one holds up nobody else.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sha2::Sha256;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use url::Url;

use super::deliveries::{self, Attempt, Outcome};
use super::world::{Ready, World};
use super::{Shared, webhook_url};
use crate::tls;

/// Attempts under way at once.
const MAX_IN_FLIGHT: usize = 32;
/// Real time that a receiver has for its answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Runs until it is dropped, which ends the attempts under way as well.
pub(super) async fn run(shared: Arc<Shared>) {
    let sender = Sender::new(shared.world().settings.allow_private_webhooks);
    let mut flights: JoinSet<(Ready, String, Outcome)> = JoinSet::new();
    let mut busy: HashSet<String> = HashSet::new();
    loop {
        let (attempts, wait) = {
            let mut world = shared.world();
            world.catch_up();
            let attempts = take(&mut world, &mut busy);
            (attempts, world.next_due().and_then(|at| world.clock.wait_for(at)))
        };
        for attempt in attempts {
            let sender = sender.clone();
            flights.spawn(async move {
                let outcome = sender.send(&attempt).await;
                (attempt.ready, attempt.url, outcome)
            });
        }
        shared.progress.notify_waiters();
        shared.touched.notify_one();
        tokio::select! {
            Some(done) = flights.join_next(), if !flights.is_empty() => {
                let mut world = shared.world();
                world.in_flight = world.in_flight.saturating_sub(1);
                if let Ok((ready, url, outcome)) = done {
                    busy.remove(&url);
                    deliveries::book(&mut world, ready, outcome);
                }
            }
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// The attempts that can be made now: the next of each address that is not busy.
fn take(world: &mut World, busy: &mut HashSet<String>) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut queues = std::mem::take(&mut world.ready);
    for (url, queue) in &mut queues {
        if world.in_flight >= MAX_IN_FLIGHT {
            break;
        }
        if busy.contains(url) {
            continue;
        }
        while let Some(ready) = queue.pop_front() {
            if let Some(attempt) = deliveries::prepare(world, ready) {
                busy.insert(url.clone());
                world.in_flight += 1;
                attempts.push(attempt);
                break;
            }
        }
    }
    queues.retain(|_, queue| !queue.is_empty());
    world.ready = queues;
    attempts
}

/// Sends signed requests. The HTTP client is made with the first of them: most sandboxes never
/// send one.
#[derive(Clone)]
struct Sender {
    allow_private: bool,
    client: Arc<OnceCell<reqwest::Client>>,
}

impl Sender {
    fn new(allow_private: bool) -> Self {
        Self { allow_private, client: Arc::default() }
    }

    async fn send(&self, attempt: &Attempt) -> Outcome {
        let client = self.client.get_or_try_init(|| client(self.allow_private)).await?;
        // An address in figures is never looked up, so it is checked here.
        let public = Url::parse(&attempt.url).is_ok_and(|url| webhook_url::is_public_host(&url));
        if !self.allow_private && !public {
            return Err("the URL resolves to a private address".to_owned());
        }
        // Receivers compare `t` with their own clock, so it is real time, renewed each time.
        let signature =
            sign(&attempt.secret, jiff::Timestamp::now().as_second(), attempt.body.as_bytes());
        let word = attempt.event.word();
        let sent = client
            .post(&attempt.url)
            .header("content-type", "application/json")
            .header("callingbox-signature", signature)
            .header("callingbox-event-id", attempt.ready.delivery.to_string())
            .header("callingbox-event-type", word)
            .header("x-callingbox-event", word)
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

async fn client(allow_private: bool) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::load(true).await?)
        .timeout(ANSWER_TIME)
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would look names up on its own, past the check for private addresses.
        .no_proxy()
        .user_agent(concat!("callingbox-mcp-sandbox/", env!("CARGO_PKG_VERSION")));
    if !allow_private {
        builder = builder.dns_resolver(Arc::new(PublicOnly));
    }
    builder.build().map_err(|error| format!("no HTTP client: {error}"))
}

/// Looks names up and keeps public addresses only, so that no name can lead inside.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> =
                found.filter(|address| webhook_url::is_public(address.ip())).collect();
            if public.is_empty() {
                return Err("the name resolves to no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// `t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.<raw body>` under the whole secret, its
/// `whsec_` included (webhook security guide).
pub(super) fn sign(secret: &str, unix_seconds: i64, body: &[u8]) -> String {
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
    fn the_signature_is_that_of_an_independent_implementation() {
        // printf '1776263512.{"id":"x"}' | openssl dgst -sha256 -hmac whsec_00112233445566778899aabbccddeeff
        assert_eq!(
            sign("whsec_00112233445566778899aabbccddeeff", 1_776_263_512, br#"{"id":"x"}"#),
            "t=1776263512,v1=a0720bc8ad6694c309c01d19315d09caa41762e0e3d43f469e41996306f5c2f1"
        );
    }

    #[tokio::test]
    async fn a_name_leads_to_no_private_address() {
        let name: Name = "localhost".parse().unwrap();
        let error = PublicOnly.resolve(name).await.map(drop).unwrap_err();
        assert_eq!(error.to_string(), "the name resolves to no public address");
    }
}
