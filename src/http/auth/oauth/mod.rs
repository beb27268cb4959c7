//! An OAuth 2.1 resource server by the MCP authorization specification (2025-11-25 and 2026-07-28): its metadata (RFC
//! 9728), its challenges (RFC 6750), and the callers with their access tokens. It neither issues nor forwards tokens:
//! CallingBox receives the server's own key.

mod fetch;
mod keys;
mod signatures;
mod token;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use self::fetch::{HttpFetcher, Issuer, parse_safe_url};
use self::keys::IssuerKeys;
use self::token::{TokenRejection, TokenVerifier};
use super::super::answer;
use super::super::tenant::{Identity, Tenants};
use super::principal::{Principal, service_unavailable};
use super::{bearer_token, challenge_response};
use crate::account::Account;
use crate::dialing::caller::CallerName;
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::scope::OAuthScope;
use crate::mcp::registry::selection::Selection;

pub use self::fetch::{FetchError, InvalidUrl};

/// The path of the metadata, before the path of the resource (RFC 9728, section 3.1).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The operator's settings for the authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthSettings {
    /// The issuer, as tokens name it in `iss`.
    pub issuer: String,
    /// This server, as tokens name it in `aud`.
    pub resource: String,
    /// The address of the issuer's keys; by default the issuer's metadata names it.
    pub jwks_url: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    #[error("the TLS client for requests to the issuer cannot be set up: {0}")]
    Tls(String),
    #[error("the issuer's keys cannot be fetched")]
    Keys(#[from] FetchError),
}

/// Fetches the issuer's keys once and counts those that can verify tokens.
///
/// # Errors
/// An address is not safe, or the keys cannot be fetched.
pub async fn count_keys(settings: &OAuthSettings) -> Result<usize, OAuthError> {
    parse_safe_url("--oauth-resource", &settings.resource)?;
    let issuer = Issuer::new(&settings.issuer, settings.jwks_url.as_deref())?;
    let fetcher = HttpFetcher::new(&issuer).map_err(OAuthError::Tls)?;
    Ok(IssuerKeys::new(issuer, Box::new(fetcher)).fetch_keys().await?.len())
}

/// Authentication by access tokens. All of them act on one account.
pub struct OAuthResourceServer {
    resource: ProtectedResource,
    issuer: String,
    verifier: TokenVerifier,
    keys: Arc<IssuerKeys>,
    account: Arc<Account>,
    selection: Arc<Selection>,
}

/// This server, as its metadata describes it.
#[derive(Debug, Clone)]
struct ProtectedResource {
    name: String,
    url: Url,
    /// The scopes that the offered tools need.
    scopes: Vec<OAuthScope>,
}

impl ProtectedResource {
    fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    fn metadata_url(&self) -> String {
        format!("{}{WELL_KNOWN}{}", self.url.origin().ascii_serialization(), self.path())
    }

    fn scope_list(&self) -> String {
        self.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The metadata document (RFC 9728, section 2).
    fn to_metadata(&self, issuer: &str) -> Value {
        json!({
            "resource": self.name,
            "authorization_servers": [issuer],
            "scopes_supported": self.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
            "bearer_methods_supported": ["header"],
            "resource_name": "CallingBox telephone",
        })
    }
}

impl OAuthResourceServer {
    /// Authentication by the tokens of an issuer, which grant at most the tools of `selection`.
    ///
    /// # Errors
    /// An address is not safe, or the system's certificates cannot be loaded.
    pub fn new(
        settings: &OAuthSettings,
        account: Arc<Account>,
        tools: &ToolIndex,
        selection: Arc<Selection>,
    ) -> Result<Self, OAuthError> {
        let issuer = Issuer::new(&settings.issuer, settings.jwks_url.as_deref())?;
        let url = parse_safe_url("--oauth-resource", &settings.resource)?;
        let fetcher = HttpFetcher::new(&issuer).map_err(OAuthError::Tls)?;
        let keys = IssuerKeys::new(issuer, Box::new(fetcher));
        let is_used = |scope: &OAuthScope| {
            *scope == OAuthScope::CallsRead
                || tools.iter().any(|tool| selection.offers(tool) && tool.scope() == *scope)
        };
        let scopes = OAuthScope::ALL.into_iter().filter(is_used).collect();
        let verifier = TokenVerifier::new(&settings.issuer, &settings.resource, Arc::clone(&keys));
        Ok(Self {
            resource: ProtectedResource { name: settings.resource.clone(), url, scopes },
            issuer: settings.issuer.clone(),
            verifier,
            keys,
            account,
            selection,
        })
    }

    /// The host under which clients reach the server.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.resource.url.host_str()
    }

    /// Fetches the issuer's keys before the first request needs them, and logs an error if that fails.
    pub async fn prefetch_keys(&self) {
        self.keys.refresh().await;
    }

    /// Whether there are keys to verify tokens with.
    pub async fn has_issuer_keys(&self) -> bool {
        self.keys.are_available().await
    }

    /// The routes of the metadata, which needs no authentication, for the root and each path that is served.
    pub fn metadata_routes(&self) -> Router {
        let metadata = self.resource.to_metadata(&self.issuer);
        let respond = move || {
            let metadata = metadata.clone();
            async move { ([(CACHE_CONTROL, "max-age=3600")], Json(metadata)).into_response() }
        };
        let mut paths = vec!["", "/mcp", "/mcp/", "/sse"];
        let path = self.resource.path();
        // Braces in a route are a pattern.
        if !paths.contains(&path) && !path.contains(['{', '}']) {
            paths.push(path);
        }
        paths.into_iter().fold(Router::new(), |routes, path| {
            routes.route(&format!("{WELL_KNOWN}{path}"), get(respond.clone()))
        })
    }

    /// Authenticates the caller of a request.
    ///
    /// # Errors
    /// The response: 401, or 503 if the token cannot be verified now.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        tenants: &Tenants,
    ) -> Result<Principal, Box<Response>> {
        let Some(token) = bearer_token(headers) else {
            let text = "send an access token as `Authorization: Bearer …`";
            return Err(self.unauthorized(None, text));
        };
        let verified = match self.verifier.verify_token(token, Timestamp::now()).await {
            Ok(verified) => verified,
            Err(TokenRejection::Invalid(text)) => {
                return Err(self.unauthorized(Some("invalid_token"), text));
            }
            Err(TokenRejection::Unavailable) => {
                let text = "the issuer's keys cannot be fetched, so no token can be checked now";
                let wait = Duration::from_secs(5);
                return Err(Box::new(answer::retry_after(
                    StatusCode::SERVICE_UNAVAILABLE,
                    text,
                    wait,
                )));
            }
        };
        let client = verified.client.as_deref();
        let identity = Identity::from_parts(&[
            b"oauth",
            self.issuer.as_bytes(),
            verified.subject.as_bytes(),
            if client.is_some() { b"client" } else { b"" },
            client.unwrap_or_default().as_bytes(),
        ]);
        let tenant = tenants
            .get_or_create(identity, &self.account, &self.selection)
            .map_err(service_unavailable)?;
        Ok(Principal {
            tenant,
            name: CallerName::from_oauth_subject(&verified.subject),
            scopes: Some(verified.scopes),
            expires_at: Some(verified.expires_at),
        })
    }

    fn unauthorized(&self, error: Option<&str>, text: &str) -> Box<Response> {
        Box::new(challenge_response(
            StatusCode::UNAUTHORIZED,
            text,
            &self.challenge(error, text, &self.resource.scope_list()),
        ))
    }

    /// The response, 403, to a caller who lacks a scope, which it names (RFC 6750, section 3.1).
    #[must_use]
    pub fn insufficient_scope(&self, missing: OAuthScope) -> Response {
        let text = format!("this needs the scope {missing}, which the access token does not have");
        let challenge = self.challenge(Some("insufficient_scope"), &text, missing.as_str());
        challenge_response(StatusCode::FORBIDDEN, &text, &challenge)
    }

    /// The challenge. Its parts need no escaping: they are constant texts and checked URLs, without quotes.
    fn challenge(&self, error: Option<&str>, text: &str, scopes: &str) -> String {
        let metadata = self.resource.metadata_url();
        let error = error
            .map(|error| format!("error=\"{error}\", error_description=\"{text}\", "))
            .unwrap_or_default();
        format!("Bearer {error}resource_metadata=\"{metadata}\", scope=\"{scopes}\"")
    }
}
