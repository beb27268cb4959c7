//! The server as a resource server of OAuth 2.1, by the MCP authorization specification (2025-11-25 and
//! 2026-07-28): its metadata (RFC 9728), its challenges (RFC 6750), and who shows which access token.
//! It gives out no tokens and passes none on: the account's key is the server's own.

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

use self::fetch::{Issuer, Network, safe_url};
use self::keys::Keys;
use self::token::{Rejected, Verifier};
use super::super::answer;
use super::super::tenant::{Identity, Tenants};
use super::visitor::{Visitor, busy};
use super::{bearer, challenged};
use crate::account::Account;
use crate::mcp::index::Index;
use crate::mcp::scope::Scope;
use crate::mcp::selection::Selection;

pub use self::fetch::{BadUrl, FetchError};

/// Where metadata is, before the path of what it is about (RFC 9728, section 3.1).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What the operator says about the authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The issuer, as tokens name it in `iss`.
    pub issuer: String,
    /// This server, as tokens name it in `aud`.
    pub resource: String,
    /// Where the issuer's keys are; without it, its metadata says so.
    pub jwks_url: Option<String>,
}

/// Why the server cannot be a resource server.
#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    /// An address cannot be used.
    #[error(transparent)]
    Url(#[from] BadUrl),
    /// There is no way to ask the issuer.
    #[error("the issuer cannot be asked: {0}")]
    Tls(String),
    /// The issuer's keys cannot be had.
    #[error("the issuer's keys cannot be fetched")]
    Keys(#[from] FetchError),
}

/// Asks the issuer once, as a door would, and says how many keys it has that tokens can be held against.
///
/// # Errors
/// An address is not safe, or the keys cannot be had.
pub async fn count_keys(settings: &Settings) -> Result<usize, OAuthError> {
    safe_url("--oauth-resource", &settings.resource)?;
    let issuer = Issuer::new(&settings.issuer, settings.jwks_url.as_deref())?;
    let network = Network::new(&issuer).map_err(OAuthError::Tls)?;
    Ok(Keys::new(issuer, Box::new(network)).fetch_keys().await?.len())
}

/// The door for callers with an access token; all have the server's account.
pub struct OAuthDoor {
    resource: Resource,
    issuer: String,
    verifier: Verifier,
    keys: Arc<Keys>,
    account: Arc<Account>,
    selection: Arc<Selection>,
}

/// This server as a protected resource.
#[derive(Debug, Clone)]
struct Resource {
    name: String,
    url: Url,
    /// The scopes that mean anything with the tools that are offered.
    scopes: Vec<Scope>,
}

impl Resource {
    fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    fn metadata_url(&self) -> String {
        format!("{}{WELL_KNOWN}{}", self.url.origin().ascii_serialization(), self.path())
    }

    fn scopes(&self) -> String {
        self.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// RFC 9728, section 2.
    fn metadata(&self, issuer: &str) -> Value {
        json!({
            "resource": self.name,
            "authorization_servers": [issuer],
            "scopes_supported": self.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
            "bearer_methods_supported": ["header"],
            "resource_name": "CallingBox telephone",
        })
    }
}

impl OAuthDoor {
    /// A door for the tokens of this issuer, all of which have this account and at most these tools.
    ///
    /// # Errors
    /// An address is not safe, or the system's certificates cannot be used.
    pub fn new(
        settings: &Settings,
        account: Arc<Account>,
        tools: &Index,
        selection: Arc<Selection>,
    ) -> Result<Self, OAuthError> {
        let issuer = Issuer::new(&settings.issuer, settings.jwks_url.as_deref())?;
        let url = safe_url("--oauth-resource", &settings.resource)?;
        let network = Network::new(&issuer).map_err(OAuthError::Tls)?;
        let keys = Keys::new(issuer, Box::new(network));
        let used = |scope: &Scope| {
            *scope == Scope::CallsRead
                || tools.iter().any(|tool| selection.offers(tool) && tool.scope() == *scope)
        };
        let scopes = Scope::ALL.into_iter().filter(used).collect();
        let verifier = Verifier::new(&settings.issuer, &settings.resource, Arc::clone(&keys));
        Ok(Self {
            resource: Resource { name: settings.resource.clone(), url, scopes },
            issuer: settings.issuer.clone(),
            verifier,
            keys,
            account,
            selection,
        })
    }

    /// Under which host clients reach the server.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.resource.url.host_str()
    }

    /// Fetches the issuer's keys before anybody needs them; what is wrong with them is in the log.
    pub async fn warm(&self) {
        self.keys.ask().await;
    }

    /// Whether tokens can be held against the issuer's keys: those of an hour ago still count.
    pub async fn knows_keys(&self) -> bool {
        self.keys.are_known().await
    }

    /// The metadata, at the root and at each path that is served, for everyone.
    pub fn routes(&self) -> Router {
        let metadata = self.resource.metadata(&self.issuer);
        let answer = move || {
            let metadata = metadata.clone();
            async move { ([(CACHE_CONTROL, "max-age=3600")], Json(metadata)).into_response() }
        };
        let mut paths = vec!["", "/mcp", "/sse"];
        let own = self.resource.path();
        // In a route braces would be a pattern.
        if !paths.contains(&own) && !own.contains(['{', '}']) {
            paths.push(own);
        }
        paths.into_iter().fold(Router::new(), |routes, path| {
            routes.route(&format!("{WELL_KNOWN}{path}"), get(answer.clone()))
        })
    }

    /// Lets a caller in.
    ///
    /// # Errors
    /// The answer that refuses them.
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        tenants: &Tenants,
    ) -> Result<Visitor, Box<Response>> {
        let Some(token) = bearer(headers) else {
            let text = "send an access token as `Authorization: Bearer …`";
            return Err(self.unauthorized(None, text));
        };
        let verified = match self.verifier.verify(token, Timestamp::now()).await {
            Ok(verified) => verified,
            Err(Rejected::Invalid(text)) => {
                return Err(self.unauthorized(Some("invalid_token"), text));
            }
            Err(Rejected::Unavailable) => {
                let text = "the issuer's keys cannot be fetched, so no token can be checked now";
                let wait = Duration::from_secs(5);
                return Err(Box::new(answer::later(StatusCode::SERVICE_UNAVAILABLE, text, wait)));
            }
        };
        let client = verified.client.as_deref();
        let identity = Identity::of(&[
            b"oauth",
            self.issuer.as_bytes(),
            verified.subject.as_bytes(),
            if client.is_some() { b"client" } else { b"" },
            client.unwrap_or_default().as_bytes(),
        ]);
        let tenant = tenants.enter(identity, &self.account, &self.selection).map_err(busy)?;
        Ok(Visitor { tenant, scopes: Some(verified.scopes), until: Some(verified.until) })
    }

    fn unauthorized(&self, error: Option<&str>, text: &str) -> Box<Response> {
        Box::new(challenged(
            StatusCode::UNAUTHORIZED,
            text,
            &self.challenge(error, text, &self.resource.scopes()),
        ))
    }

    /// Refuses a caller who lacks a scope, and names it (RFC 6750, section 3.1).
    #[must_use]
    pub fn forbidden(&self, lacking: Scope) -> Response {
        let text = format!("this needs the scope {lacking}, which the access token does not have");
        let challenge = self.challenge(Some("insufficient_scope"), &text, lacking.as_str());
        challenged(StatusCode::FORBIDDEN, &text, &challenge)
    }

    /// All parts are this program's own words, or addresses that were checked: no quotes are in them.
    fn challenge(&self, error: Option<&str>, text: &str, scopes: &str) -> String {
        let metadata = self.resource.metadata_url();
        let error = error
            .map(|error| format!("error=\"{error}\", error_description=\"{text}\", "))
            .unwrap_or_default();
        format!("Bearer {error}resource_metadata=\"{metadata}\", scope=\"{scopes}\"")
    }
}
