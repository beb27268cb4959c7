//! The door: the ways in which callers show who they are, and what each way gives them.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::answer;
use super::super::tenant::{Identity, Tenant, Tenants};
use super::oauth::OAuthDoor;
use super::tokens::{Tokens, TokensError};
use super::visitor::{Visitor, busy};
use super::{bearer, challenged, tightened};
use crate::account::Account;
use crate::mcp::index::Index;
use crate::mcp::scope::Scope;
use crate::mcp::selection::Selection;
use callingbox::ApiKey;

/// Keys that were refused and are remembered.
const MOST_REFUSED: usize = 4_096;
/// For how long.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Keys that are tried at CallingBox at once.
const TRIED_AT_ONCE: usize = 8;

/// Opens accounts for the keys that callers bring.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// The account of this key, after CallingBox has accepted it.
    async fn open(&self, key: ApiKey) -> Result<Arc<Account>, Unopened>;
}

/// Why a key opens no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    /// CallingBox does not know it.
    Refused,
    /// Whether it does cannot be learned now.
    Unreachable,
}

/// How callers show who they are.
pub enum Door {
    /// Not at all: all are one, and have this account.
    Open(Arc<Account>),
    /// By their own CallingBox key; each key is a tenant.
    Key(KeyDoor),
    /// By a token of this server's own; all have the server's account.
    Token(Arc<TokenDoor>),
    /// By an access token of an authorization server; all have the server's account.
    OAuth(Arc<OAuthDoor>),
}

impl Door {
    /// Lets a caller in.
    ///
    /// # Errors
    /// The answer that refuses them.
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        tenants: &Tenants,
        selection: &Arc<Selection>,
    ) -> Result<Visitor, Box<Response>> {
        match self {
            Self::Open(account) => tenants
                .enter(Identity::ANYONE, account, selection)
                .map(Visitor::without_end)
                .map_err(busy),
            Self::Key(door) => {
                door.admit(headers, tenants, selection).await.map(Visitor::without_end)
            }
            Self::Token(door) => door.admit(headers, tenants),
            Self::OAuth(door) => door.admit(headers, tenants).await,
        }
    }

    /// Whether callers can be told apart now; nothing where that takes nobody but this server and
    /// CallingBox.
    pub async fn knows_issuer(&self) -> Option<bool> {
        match self {
            Self::OAuth(door) => Some(door.knows_keys().await),
            Self::Open(_) | Self::Key(_) | Self::Token(_) => None,
        }
    }

    /// Refuses a caller who lacks a scope.
    #[must_use]
    pub fn forbidden(&self, lacking: Scope) -> Response {
        match self {
            Self::OAuth(door) => door.forbidden(lacking),
            // Nothing is granted one by one there, so nobody can lack it.
            Self::Open(_) | Self::Key(_) | Self::Token(_) => {
                answer::error(StatusCode::FORBIDDEN, "this is not allowed")
            }
        }
    }
}

fn stranger(text: &str, shown: bool) -> Box<Response> {
    let challenge = match shown {
        true => "Bearer realm=\"callingbox-mcp\", error=\"invalid_token\"",
        false => "Bearer realm=\"callingbox-mcp\"",
    };
    Box::new(challenged(StatusCode::UNAUTHORIZED, text, challenge))
}

/// The door for callers with keys of their own.
pub struct KeyDoor {
    accounts: Box<dyn Accounts>,
    refused: Mutex<HashMap<Identity, Instant>>,
    trying: Semaphore,
}

impl KeyDoor {
    /// A door that opens these accounts.
    #[must_use]
    pub fn new(accounts: Box<dyn Accounts>) -> Self {
        Self { accounts, refused: Mutex::default(), trying: Semaphore::new(TRIED_AT_ONCE) }
    }

    async fn admit(
        &self,
        headers: &HeaderMap,
        tenants: &Tenants,
        selection: &Arc<Selection>,
    ) -> Result<Arc<Tenant>, Box<Response>> {
        let wanted = "send your CallingBox API key as `Authorization: Bearer sk_…`";
        let shown = bearer(headers).ok_or_else(|| stranger(wanted, false))?;
        let key = ApiKey::new(shown.to_owned()).map_err(|_| stranger(wanted, true))?;
        let identity = Identity::of(&[b"key", key.expose().as_bytes()]);
        if let Some(tenant) = tenants.get(&identity) {
            return Ok(tenant);
        }
        if self.was_refused(&identity) {
            return Err(stranger("CallingBox does not accept this key", true));
        }
        let Ok(_trying) = self.trying.try_acquire() else {
            let text = "many new keys are being checked; try again";
            let wait = Duration::from_secs(1);
            return Err(Box::new(answer::later(StatusCode::TOO_MANY_REQUESTS, text, wait)));
        };
        match self.accounts.open(key).await {
            Ok(account) => tenants.enter(identity, &account, selection).map_err(busy),
            Err(Unopened::Refused) => {
                self.remember(identity);
                Err(stranger("CallingBox does not accept this key", true))
            }
            Err(Unopened::Unreachable) => {
                let text = "CallingBox cannot be reached to check this key";
                let wait = Duration::from_secs(5);
                Err(Box::new(answer::later(StatusCode::SERVICE_UNAVAILABLE, text, wait)))
            }
        }
    }

    fn was_refused(&self, identity: &Identity) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(identity).is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }

    fn remember(&self, identity: Identity) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= MOST_REFUSED {
            refused.retain(|_, at| at.elapsed() < REFUSED_FOR);
        }
        if refused.len() < MOST_REFUSED {
            refused.insert(identity, Instant::now());
        }
    }
}

/// The door for callers with a token of this server's own.
pub struct TokenDoor {
    path: PathBuf,
    account: Arc<Account>,
    tools: Index,
    selection: Arc<Selection>,
    tokens: Mutex<(Tokens, Option<SystemTime>)>,
}

impl TokenDoor {
    /// A door for the tokens in this file, all of which have this account and at most these tools.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(
        path: PathBuf,
        account: Arc<Account>,
        tools: Index,
        selection: Arc<Selection>,
    ) -> Result<Self, TokensError> {
        let changed = changed(&path);
        let tokens = Mutex::new((Tokens::load(&path)?, changed));
        Ok(Self { path, account, tools, selection, tokens })
    }

    fn admit(&self, headers: &HeaderMap, tenants: &Tenants) -> Result<Visitor, Box<Response>> {
        let wanted = "send a token of this server as `Authorization: Bearer cbmcp_…`";
        let shown = bearer(headers).ok_or_else(|| stranger(wanted, false))?;
        let token = {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.0.find(shown, Timestamp::now()).cloned()
        };
        let token =
            token.ok_or_else(|| stranger("this token is unknown, expired or revoked", true))?;
        let toolsets = token.toolsets.as_deref();
        let selection = tightened(&self.selection, &self.tools, toolsets, token.read_only);
        let tenant =
            tenants.enter(token.identity(), &self.account, &Arc::new(selection)).map_err(busy)?;
        Ok(Visitor { tenant, scopes: None, until: token.expires })
    }

    /// Reads the file again, if it has changed or if `anyhow`, and ends the sessions of tokens that no
    /// longer count. A file that cannot be read changes nothing: the tokens of before still count, and
    /// the log says so. Waits for the file.
    pub fn look(&self, tenants: &Tenants, anyhow: bool) {
        self.reload(anyhow);
        self.send_away(tenants);
    }

    fn reload(&self, anyhow: bool) {
        let changed = changed(&self.path);
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).1;
        if changed == known && !anyhow {
            return;
        }
        let loaded = Tokens::load(&self.path);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.1 = changed;
        match loaded {
            Ok(loaded) => {
                tracing::info!(tokens = loaded.all.len(), "the tokens were read again");
                tokens.0 = loaded;
            }
            Err(error) => tracing::error!(%error, "the tokens of before are kept"),
        }
    }

    fn send_away(&self, tenants: &Tenants) {
        let now = Timestamp::now();
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let valid: HashSet<Identity> = tokens
            .0
            .all
            .iter()
            .filter(|token| token.is_valid_at(now))
            .map(super::tokens::Token::identity)
            .collect();
        drop(tokens);
        tenants.retain(|identity| valid.contains(identity));
    }
}

fn changed(path: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}
