//! The public keys of the issuer, cached. However many tokens arrive and whatever keys they name, the issuer is asked
//! rarely and by one request at a time. If the issuer cannot be reached, its cached keys stay valid for an hour. Knows
//! nothing about tokens.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use callingbox::json_text::read_leniently;

use super::fetch::{DocumentFetcher, FetchError, Issuer};
use super::signatures::VerificationKey;

/// Keys of this age are fetched again.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// Keys of this age are no longer valid.
const MAX_KEY_AGE: Duration = Duration::from_secs(3_600);
/// The pause after a successful request. A token with an invented key can cause one request in this time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// The pause after a failed request.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// The limit for all requests of one refresh.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_KEYS: usize = 64;

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyLookupError {
    /// The issuer has no such key.
    Unknown,
    /// The keys of the issuer cannot be fetched.
    Unavailable,
}

pub(super) struct IssuerKeys {
    issuer: Issuer,
    fetcher: Box<dyn DocumentFetcher>,
    cache: Mutex<KeyCache>,
    refresh_lock: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct KeyCache {
    keys: Vec<VerificationKey>,
    fetched_at: Option<Instant>,
    attempted_at: Option<Instant>,
    last_attempt_failed: bool,
}

impl KeyCache {
    fn is_younger_than(&self, age: Duration) -> bool {
        self.fetched_at.is_some_and(|fetched_at| fetched_at.elapsed() < age)
    }

    fn find_key(&self, id: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        let valid = self.is_younger_than(MAX_KEY_AGE).then_some(&self.keys);
        valid?.iter().find_map(|key| key.decoding_key(id, algorithm)).cloned()
    }

    fn may_refresh(&self) -> bool {
        let pause = if self.last_attempt_failed { RETRY_INTERVAL } else { REFRESH_INTERVAL };
        self.attempted_at.is_none_or(|attempted_at| attempted_at.elapsed() >= pause)
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl IssuerKeys {
    pub(super) fn new(issuer: Issuer, fetcher: Box<dyn DocumentFetcher>) -> Arc<Self> {
        super::signatures::install_provider();
        Arc::new(Self { issuer, fetcher, cache: Mutex::default(), refresh_lock: Arc::default() })
    }

    /// The key with this id for this algorithm.
    pub(super) async fn find_key(
        self: &Arc<Self>,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, KeyLookupError> {
        let (found, refresh_is_due) = {
            let cache = self.cache.lock();
            let stale = !cache.is_younger_than(REFRESH_AFTER);
            (cache.find_key(id, algorithm), stale && cache.may_refresh())
        };
        match found {
            Some(key) => {
                if refresh_is_due {
                    let keys = Arc::clone(self);
                    tokio::spawn(async move { keys.refresh().await });
                }
                Ok(key)
            }
            None => {
                self.refresh().await;
                let cache = self.cache.lock();
                cache.find_key(id, algorithm).ok_or(match cache.is_younger_than(MAX_KEY_AGE) {
                    true => KeyLookupError::Unknown,
                    false => KeyLookupError::Unavailable,
                })
            }
        }
    }

    /// Whether there are valid keys, after a refresh if there are none yet.
    pub(super) async fn are_available(self: &Arc<Self>) -> bool {
        let available = || self.cache.lock().is_younger_than(MAX_KEY_AGE);
        if !available() {
            self.refresh().await;
        }
        available()
    }

    /// Fetches the keys, unless the last attempt is too recent. Concurrent calls wait for one attempt.
    pub(super) async fn refresh(self: &Arc<Self>) {
        let lock = Arc::clone(&self.refresh_lock).lock_owned().await;
        if !self.cache.lock().may_refresh() {
            return;
        }
        // In a task of its own, so that a caller who disconnects does not stop it for the others.
        let keys = Arc::clone(self);
        let attempt = tokio::spawn(async move {
            keys.refresh_now().await;
            drop(lock);
        });
        if let Err(error) = attempt.await {
            tracing::error!(%error, "the task that fetches the issuer's keys failed; keeping the cached keys");
        }
    }

    async fn refresh_now(&self) {
        self.cache.lock().attempted_at = Some(Instant::now());
        let fetched = self.fetch_keys().await;
        let mut cache = self.cache.lock();
        cache.attempted_at = Some(Instant::now());
        cache.last_attempt_failed = fetched.is_err();
        match fetched {
            Ok(keys) => {
                cache.keys = keys;
                cache.fetched_at = cache.attempted_at;
            }
            Err(error) => {
                let issuer = &self.issuer.name;
                tracing::warn!(issuer, %error, "the issuer's keys cannot be fetched; keeping the cached keys");
            }
        }
    }

    /// Fetches the current keys of the issuer and bypasses the cache.
    pub(super) async fn fetch_keys(&self) -> Result<Vec<VerificationKey>, FetchError> {
        tokio::time::timeout(REFRESH_TIMEOUT, self.fetch_key_set())
            .await
            .unwrap_or(Err(FetchError::TimedOut))
    }

    async fn fetch_key_set(&self) -> Result<Vec<VerificationKey>, FetchError> {
        let url = match &self.issuer.jwks_url {
            Some(url) => url.clone(),
            None => self.discover_jwks_url().await?,
        };
        let body = self.fetcher.get(&url).await?;
        let set: KeySet = read_leniently(&body).map_err(|_| FetchError::NoKeySet(url.clone()))?;
        let usable = set
            .keys
            .into_iter()
            .filter_map(|key| VerificationKey::from_jwk(&serde_json::from_value::<Jwk>(key).ok()?));
        let keys: Vec<_> = usable.take(MAX_KEYS).collect();
        if keys.is_empty() { Err(FetchError::NoKeySet(url)) } else { Ok(keys) }
    }

    async fn discover_jwks_url(&self) -> Result<Url, FetchError> {
        let mut problem = FetchError::TimedOut;
        for url in self.issuer.metadata_urls() {
            match self.fetcher.get(&url).await {
                Ok(body) => return self.issuer.parse_jwks_url(&url, &body),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }
}
