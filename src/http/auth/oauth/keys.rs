//! The keys of the issuer, kept for a time. However many tokens come, and whatever keys they name, the
//! issuer is asked rarely and by one request at a time; when it cannot be reached, the keys of before
//! count for a while. Knows nothing of tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::fetch::{Fetch, FetchError, Issuer};
use super::signatures::Key;

/// After this time keys are asked for anew.
const FRESH: Duration = Duration::from_secs(300);
/// For this long they count when the issuer cannot be reached.
const KEPT: Duration = Duration::from_secs(3_600);
/// How soon the issuer is asked again after it answered: so often can a made-up key cause a request.
const PAUSE: Duration = Duration::from_secs(10);
/// How soon after it did not.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How long asking may take altogether.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most keys that are taken.
const MOST_KEYS: usize = 64;

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// The issuer's keys cannot be learned now.
    Unavailable,
}

/// Where the keys are, and those of the last time.
pub(super) struct Keys {
    issuer: Issuer,
    fetch: Box<dyn Fetch>,
    cache: Mutex<Cache>,
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Cache {
    keys: Vec<Key>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failed: bool,
}

impl Cache {
    fn is_younger_than(&self, age: Duration) -> bool {
        self.fetched.is_some_and(|fetched| fetched.elapsed() < age)
    }

    fn find(&self, id: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        let kept = self.is_younger_than(KEPT).then_some(&self.keys);
        kept?.iter().find_map(|key| key.fitting(id, algorithm)).cloned()
    }

    fn may_ask(&self) -> bool {
        let pause = if self.failed { PAUSE_AFTER_FAILURE } else { PAUSE };
        self.tried.is_none_or(|tried| tried.elapsed() >= pause)
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    pub(super) fn new(issuer: Issuer, fetch: Box<dyn Fetch>) -> Arc<Self> {
        super::signatures::install();
        Arc::new(Self { issuer, fetch, cache: Mutex::default(), asking: Arc::default() })
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of this name that signs in this way.
    pub(super) async fn find(
        self: &Arc<Self>,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, NoKey> {
        let (found, due) = {
            let cache = self.cache();
            (cache.find(id, algorithm), !cache.is_younger_than(FRESH) && cache.may_ask())
        };
        match found {
            Some(key) => {
                if due {
                    // Nobody waits for it.
                    let keys = Arc::clone(self);
                    tokio::spawn(async move { keys.ask().await });
                }
                Ok(key)
            }
            None => {
                self.ask().await;
                let cache = self.cache();
                cache.find(id, algorithm).ok_or(match cache.is_younger_than(KEPT) {
                    true => NoKey::Unknown,
                    false => NoKey::Unavailable,
                })
            }
        }
    }

    /// Whether there are keys that count, if need be after asking for them.
    pub(super) async fn are_known(self: &Arc<Self>) -> bool {
        if !self.cache().is_younger_than(KEPT) {
            self.ask().await;
        }
        self.cache().is_younger_than(KEPT)
    }

    /// Asks the issuer, unless it was asked a moment ago. Whoever comes meanwhile waits here and finds
    /// that it was.
    pub(super) async fn ask(self: &Arc<Self>) {
        let one = Arc::clone(&self.asking).lock_owned().await;
        if !self.cache().may_ask() {
            return;
        }
        // A task of its own: a caller who leaves must not leave the others without an answer.
        let keys = Arc::clone(self);
        let asking = tokio::spawn(async move {
            keys.ask_now().await;
            drop(one);
        });
        if let Err(error) = asking.await {
            tracing::error!(%error, "asking for the issuer's keys broke off");
        }
    }

    async fn ask_now(&self) {
        self.cache().tried = Some(Instant::now());
        let asked = self.fetch_keys().await;
        let mut cache = self.cache();
        cache.tried = Some(Instant::now());
        cache.failed = asked.is_err();
        match asked {
            Ok(keys) => {
                cache.keys = keys;
                cache.fetched = cache.tried;
            }
            Err(error) => {
                let issuer = self.issuer.name();
                tracing::warn!(issuer, %error, "the issuer's keys cannot be fetched");
            }
        }
    }

    /// The issuer's keys as they are now, whatever was found before.
    pub(super) async fn fetch_keys(&self) -> Result<Vec<Key>, FetchError> {
        tokio::time::timeout(PATIENCE, self.fetch_at_leisure())
            .await
            .unwrap_or(Err(FetchError::Slow))
    }

    async fn fetch_at_leisure(&self) -> Result<Vec<Key>, FetchError> {
        let url = match self.issuer.jwks() {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let body = self.fetch.get(&url).await?;
        let set: KeySet =
            serde_json::from_slice(&body).map_err(|_| FetchError::NoKeySet(url.clone()))?;
        let usable = set
            .keys
            .into_iter()
            .filter_map(|key| Key::of(&serde_json::from_value::<Jwk>(key).ok()?));
        let keys: Vec<Key> = usable.take(MOST_KEYS).collect();
        if keys.is_empty() { Err(FetchError::NoKeySet(url)) } else { Ok(keys) }
    }

    /// Where the keys are, by the issuer's own word.
    async fn discover(&self) -> Result<Url, FetchError> {
        let mut problem = FetchError::Slow;
        for url in self.issuer.metadata_urls() {
            match self.fetch.get(&url).await {
                Ok(body) => return self.issuer.jwks_of(&url, &body),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }
}
