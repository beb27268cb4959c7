//! Authentication by the callers' own CallingBox keys. CallingBox decides whether a key is valid: before the first request,
//! at the first request after five minutes, and whenever it refuses the key to a tool.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::super::answer;
use super::super::tenant::{Identity, Tenant, Tenants};
use super::key_checks::KeyChecks;
use super::principal::{Principal, service_unavailable};
use super::{bearer_token, unauthorized};
use crate::account::Account;
use crate::dialing::caller::CallerName;
use crate::mcp::registry::selection::Selection;
use crate::peer_address::PeerAddress;
use crate::ttl_cache::TtlCache;
use callingbox::ApiKey;

const MAX_REMEMBERED_KEYS: usize = 16_384;
const REFUSED_KEY_TTL: Duration = Duration::from_secs(60);
/// How long a key is trusted after CallingBox has accepted it.
const ACCEPTED_KEY_TTL: Duration = Duration::from_secs(300);
const REFUSED: &str = "CallingBox does not accept this key";

/// Opens the accounts of callers who authenticate with their own CallingBox keys.
#[async_trait]
pub trait AccountOpener: Send + Sync {
    /// Opens the account of this key after CallingBox has accepted it.
    async fn open_account(&self, key: ApiKey) -> Result<Arc<Account>, KeyCheckError>;

    /// Checks whether CallingBox still accepts the key of an account.
    async fn check_account(&self, account: &Account) -> Result<(), KeyCheckError>;
}

/// Why a key opens no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCheckError {
    /// CallingBox does not accept the key.
    Refused,
    /// CallingBox cannot be reached.
    Unreachable,
}

pub struct ApiKeyAuth {
    accounts: Box<dyn AccountOpener>,
    /// Keys that CallingBox accepted a short time ago.
    accepted: Mutex<TtlCache<Identity, ()>>,
    /// Keys that it refused. They are not checked again.
    refused: Mutex<TtlCache<Identity, ()>>,
    checks: KeyChecks,
}

impl ApiKeyAuth {
    #[must_use]
    pub fn new(accounts: Box<dyn AccountOpener>) -> Self {
        let cache = |ttl| Mutex::new(TtlCache::new(ttl, MAX_REMEMBERED_KEYS));
        Self {
            accounts,
            accepted: cache(ACCEPTED_KEY_TTL),
            refused: cache(REFUSED_KEY_TTL),
            checks: KeyChecks::new(),
        }
    }

    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: PeerAddress,
        tenants: &Tenants,
        selection: &Arc<Selection>,
    ) -> Result<Principal, Box<Response>> {
        let hint = "send your CallingBox API key as `Authorization: Bearer sk_…`";
        let token = bearer_token(headers).ok_or_else(|| unauthorized(hint, false))?;
        let key = ApiKey::new(token.to_owned()).map_err(|_| unauthorized(hint, true))?;
        let name = CallerName::from_api_key(&key);
        let tenant = self.find_tenant(key, peer, tenants, selection).await?;
        Ok(Principal::without_expiry(tenant, name))
    }

    async fn find_tenant(
        &self,
        key: ApiKey,
        peer: PeerAddress,
        tenants: &Tenants,
        selection: &Arc<Selection>,
    ) -> Result<Arc<Tenant>, Box<Response>> {
        let identity = Identity::from_parts(&[b"key", key.expose().as_bytes()]);
        if let Some(tenant) = self.find_accepted(identity, tenants)? {
            return Ok(tenant);
        }
        let Some(_turn) = self.checks.wait_for_turn(identity, peer).await else {
            let text = "many new keys are being checked; try again";
            let wait = Duration::from_secs(1);
            return Err(Box::new(answer::retry_after(StatusCode::TOO_MANY_REQUESTS, text, wait)));
        };
        // Another request may have checked the key in the meantime.
        if let Some(tenant) = self.find_accepted(identity, tenants)? {
            return Ok(tenant);
        }
        self.check_key(key, identity, tenants, selection).await
    }

    /// The tenant of a key that was accepted a short time ago.
    fn find_accepted(
        &self,
        identity: Identity,
        tenants: &Tenants,
    ) -> Result<Option<Arc<Tenant>>, Box<Response>> {
        if self.refused.lock().get(&identity).is_some() {
            return Err(unauthorized(REFUSED, true));
        }
        let is_accepted = self.accepted.lock().get(&identity).is_some();
        let tenant = tenants.get(&identity).filter(|tenant| !tenant.account.is_key_refused());
        Ok(tenant.filter(|_| is_accepted))
    }

    async fn check_key(
        &self,
        key: ApiKey,
        identity: Identity,
        tenants: &Tenants,
        selection: &Arc<Selection>,
    ) -> Result<Arc<Tenant>, Box<Response>> {
        tenants.end_with_refused_keys();
        let checked = match tenants.get(&identity) {
            Some(tenant) => match self.accounts.check_account(&tenant.account).await {
                // Nothing can be done with the key in the meantime either.
                Ok(()) | Err(KeyCheckError::Unreachable) => Ok(Arc::clone(&tenant.account)),
                Err(KeyCheckError::Refused) => Err(KeyCheckError::Refused),
            },
            None => self.accounts.open_account(key).await,
        };
        match checked {
            Ok(account) => {
                self.accepted.lock().insert(identity, ());
                tenants.get_or_create(identity, &account, selection).map_err(service_unavailable)
            }
            Err(KeyCheckError::Refused) => {
                tenants.remove(&identity);
                self.refused.lock().insert(identity, ());
                Err(unauthorized(REFUSED, true))
            }
            Err(KeyCheckError::Unreachable) => {
                let text = "CallingBox cannot be reached to check this key";
                let wait = Duration::from_secs(5);
                Err(Box::new(answer::retry_after(StatusCode::SERVICE_UNAVAILABLE, text, wait)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use http::header::AUTHORIZATION;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::tenant::TenantLimits;
    use crate::mcp::catalogue::Catalogue;
    use crate::watch::WaitLimits;

    /// Counts checks, and answers them with `answer`.
    #[derive(Clone)]
    struct Checked(Arc<Mutex<(u32, Result<(), KeyCheckError>)>>);

    impl Checked {
        async fn check(&self) -> Result<(), KeyCheckError> {
            self.0.lock().0 += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.lock().1
        }
    }

    #[async_trait]
    impl AccountOpener for Checked {
        async fn open_account(&self, _: ApiKey) -> Result<Arc<Account>, KeyCheckError> {
            self.check().await.map(|()| Arc::new(Account::without_key(WaitLimits::default())))
        }

        async fn check_account(&self, _: &Account) -> Result<(), KeyCheckError> {
            self.check().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_checked_once_and_again_after_five_minutes() {
        let checked = Checked(Arc::new(Mutex::new((0, Ok(())))));
        let auth = ApiKeyAuth::new(Box::new(checked.clone()));
        let (limits, end) = (TenantLimits::default(), CancellationToken::new());
        let tenants = Tenants::new(Arc::new(Catalogue::new()), limits, false, end);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, "Bearer sk_a".parse().unwrap())]);
        let status = async || {
            let selection = Arc::default();
            let peer = PeerAddress::UNKNOWN;
            let result = auth.authenticate(&headers, peer, &tenants, &selection).await;
            result.map_or_else(|refused| refused.status().as_u16(), |_| 200)
        };
        assert_eq!(join_all((0..30).map(|_| status())).await, [200; 30]);
        tokio::time::advance(ACCEPTED_KEY_TTL - Duration::from_secs(1)).await;
        assert_eq!((status().await, checked.0.lock().0), (200, 1));
        tokio::time::advance(Duration::from_secs(1)).await;
        // While CallingBox cannot be reached, nothing can be done with the key either.
        checked.0.lock().1 = Err(KeyCheckError::Unreachable);
        assert_eq!((status().await, status().await, checked.0.lock().0), (200, 200, 2));
        checked.0.lock().1 = Err(KeyCheckError::Refused);
        tokio::time::advance(ACCEPTED_KEY_TTL).await;
        let tenant = Arc::clone(&tenants.all()[0]);
        assert_eq!((status().await, status().await, checked.0.lock().0), (401, 401, 3));
        assert!(tenant.end.is_cancelled() && tenants.all().is_empty());
        checked.0.lock().1 = Err(KeyCheckError::Unreachable);
        tokio::time::advance(REFUSED_KEY_TTL).await;
        assert_eq!((status().await, checked.0.lock().0), (503, 4));
    }
}
