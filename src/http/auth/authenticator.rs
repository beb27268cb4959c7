//! The ways in which callers authenticate, and what each of them grants.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::super::answer;
use super::super::tenant::{Identity, Tenants};
use super::api_key::ApiKeyAuth;
use super::oauth::OAuthResourceServer;
use super::principal::{Principal, service_unavailable};
use super::tokens::{StaticToken, TokenFile, TokenFileError};
use super::{bearer_token, restrict, unauthorized};
use crate::account::Account;
use crate::dialing::caller::CallerName;
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::scope::OAuthScope;
use crate::mcp::registry::selection::Selection;
use crate::peer_address::PeerAddress;
use crate::protected_file::check_writers;
use crate::text_file::{FileStamp, read_stamp};

/// How callers authenticate.
pub enum Authenticator {
    /// Not at all. All callers share one tenant, which has this account.
    Anonymous(Arc<Account>),
    /// By their own CallingBox keys. Each key is a tenant with an account of its own.
    ApiKey(Box<ApiKeyAuth>),
    /// By tokens of this server, which has one account.
    StaticToken(Arc<StaticTokenAuth>),
    /// By access tokens of an authorization server; this server has one account.
    OAuth(Arc<OAuthResourceServer>),
}

impl Authenticator {
    /// Authenticates the caller of a request.
    ///
    /// # Errors
    /// The response: 401, or 429 or 503 if the credentials cannot be checked now.
    pub async fn authenticate(
        &self,
        head: &Parts,
        tenants: &Tenants,
        selection: &Arc<Selection>,
    ) -> Result<Principal, Box<Response>> {
        let headers = &head.headers;
        match self {
            Self::Anonymous(account) => tenants
                .get_or_create(Identity::ANYONE, account, selection)
                .map(|tenant| Principal::without_expiry(tenant, CallerName::anonymous()))
                .map_err(service_unavailable),
            Self::ApiKey(keys) => {
                let peer = PeerAddress::from_extensions(&head.extensions);
                keys.authenticate(headers, peer, tenants, selection).await
            }
            Self::StaticToken(tokens) => tokens.authenticate(headers, tenants),
            Self::OAuth(server) => server.authenticate(headers, tenants).await,
        }
    }

    /// Ends the access of callers whose credentials were refused elsewhere.
    pub fn end_refused(&self, tenants: &Tenants) {
        match self {
            Self::ApiKey(_) => tenants.end_with_refused_keys(),
            // The key is the server's own.
            Self::Anonymous(_) | Self::StaticToken(_) | Self::OAuth(_) => {}
        }
    }

    /// Whether the keys of the token issuer are known; `None` if tokens are not issued by another server.
    pub async fn has_issuer_keys(&self) -> Option<bool> {
        match self {
            Self::OAuth(server) => Some(server.has_issuer_keys().await),
            Self::Anonymous(_) | Self::ApiKey(_) | Self::StaticToken(_) => None,
        }
    }

    /// The response, 403, to a caller who lacks a scope.
    #[must_use]
    pub fn insufficient_scope(&self, missing: OAuthScope) -> Response {
        match self {
            Self::OAuth(server) => server.insufficient_scope(missing),
            // These callers have all scopes, so this response is never sent.
            Self::Anonymous(_) | Self::ApiKey(_) | Self::StaticToken(_) => {
                answer::error_response(StatusCode::FORBIDDEN, "this is not allowed")
            }
        }
    }
}

/// Authentication by the server's own tokens. All of them act on one account.
pub struct StaticTokenAuth {
    path: PathBuf,
    account: Arc<Account>,
    tools: ToolIndex,
    selection: Arc<Selection>,
    tokens: Mutex<(TokenFile, Option<FileStamp>)>,
}

impl StaticTokenAuth {
    /// Authentication by the tokens in this file, which grant at most the tools of `selection`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(
        path: PathBuf,
        account: Arc<Account>,
        tools: ToolIndex,
        selection: Arc<Selection>,
    ) -> Result<Self, TokenFileError> {
        let stamp = read_stamp(&path);
        let tokens = Mutex::new((TokenFile::load(&path)?, stamp));
        Ok(Self { path, account, tools, selection, tokens })
    }

    fn authenticate(
        &self,
        headers: &HeaderMap,
        tenants: &Tenants,
    ) -> Result<Principal, Box<Response>> {
        let hint = "send a token of this server as `Authorization: Bearer cbmcp_…`";
        let secret = bearer_token(headers).ok_or_else(|| unauthorized(hint, false))?;
        let token = self.tokens.lock().0.find_valid(secret, Timestamp::now()).cloned();
        let token =
            token.ok_or_else(|| unauthorized("this token is unknown, expired or revoked", true))?;
        let toolsets = token.toolsets.as_deref();
        let selection = restrict(&self.selection, &self.tools, toolsets, token.read_only);
        let tenant = tenants
            .get_or_create(token.identity(), &self.account, &Arc::new(selection))
            .map_err(service_unavailable)?;
        let name = CallerName::from_token_name(&token.name);
        Ok(Principal { tenant, name, scopes: None, expires_at: token.expires })
    }

    /// Reads the file again if it has changed, or in any case if `force` is set, and ends the sessions of tokens that
    /// are no longer valid. If the file cannot be read, or other users can change it, the tokens loaded before stay valid.
    /// Blocks on file access.
    pub fn reload_if_changed(&self, tenants: &Tenants, force: bool) {
        self.reload_tokens(force);
        self.remove_invalid_tenants(tenants);
    }

    fn reload_tokens(&self, force: bool) {
        let stamp = read_stamp(&self.path);
        if stamp == self.tokens.lock().1 && !force {
            return;
        }
        let checked = check_writers(&self.path).map_err(TokenFileError::from);
        let loaded = checked.and_then(|()| TokenFile::load(&self.path));
        let mut tokens = self.tokens.lock();
        tokens.1 = stamp;
        match loaded {
            Ok(loaded) => {
                tracing::info!(tokens = loaded.all.len(), "token file reloaded");
                tokens.0 = loaded;
            }
            Err(error) => {
                tracing::error!(%error, "token file unreadable; keeping the tokens loaded before");
            }
        }
    }

    fn remove_invalid_tenants(&self, tenants: &Tenants) {
        let now = Timestamp::now();
        let valid: HashSet<Identity> = {
            let tokens = self.tokens.lock();
            let valid = tokens.0.all.iter().filter(|token| token.is_valid_at(now));
            valid.map(StaticToken::identity).collect()
        };
        tenants.retain(|identity| valid.contains(identity));
    }
}
