//! Fetches documents of the authorization server: from safe URLs only, without redirects, within a size and a time.
//! Knows nothing about keys.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use url::Url;

use callingbox::error_ext::root_cause;
use callingbox::http_client::{is_loopback, read_body};
use callingbox::json_text::read_leniently;

const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the keys of the authorization server cannot be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("GET {url}: {problem}")]
    Failed { url: Url, problem: String },
    #[error("{url}: {problem}")]
    Metadata { url: Url, problem: &'static str },
    #[error("{0}: the key set has no signature key with a kid")]
    NoKeySet(Url),
    #[error("the requests timed out")]
    TimedOut,
}

#[async_trait]
pub(super) trait DocumentFetcher: Send + Sync {
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{flag} {text}: give an https address without a password and without a fragment (http only on this machine)"
)]
pub struct InvalidUrl {
    flag: &'static str,
    text: String,
}

/// Parses a URL: https, or http on this machine.
///
/// # Errors
/// The URL has another scheme, a user, a password or a fragment.
pub(super) fn parse_safe_url(flag: &'static str, text: &str) -> Result<Url, InvalidUrl> {
    let is_safe = |url: &Url| {
        (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    };
    // The error must not repeat a password.
    let shown = if text.contains('@') { "…" } else { text };
    let invalid = || InvalidUrl { flag, text: shown.chars().take(200).collect() };
    Url::parse(text).ok().filter(is_safe).ok_or_else(invalid)
}

/// The authorization server.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    /// Must equal the `iss` of each token.
    pub(super) name: String,
    url: Url,
    /// The address of the keys, if the operator configured it.
    pub(super) jwks_url: Option<Url>,
}

/// The part of the issuer's metadata that is used (RFC 8414, section 2).
#[derive(Deserialize)]
struct IssuerMetadata {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// The issuer of this name; without `jwks_url`, the issuer's metadata names the address of its keys.
    pub(super) fn new(name: &str, jwks_url: Option<&str>) -> Result<Self, InvalidUrl> {
        let url = parse_safe_url("--oauth-issuer", name)?;
        let jwks_url = jwks_url.map(|url| parse_safe_url("--oauth-jwks-url", url)).transpose()?;
        Ok(Self { name: name.to_owned(), url, jwks_url })
    }

    /// The possible addresses of the metadata, in the order of the MCP authorization specification: RFC 8414, then
    /// OpenID Connect Discovery with the well-known part before and after the path of the issuer.
    pub(super) fn metadata_urls(&self) -> Vec<Url> {
        const OAUTH: &str = "/.well-known/oauth-authorization-server";
        const OPENID: &str = "/.well-known/openid-configuration";
        let path = self.url.path().trim_end_matches('/');
        let mut paths = vec![format!("{OAUTH}{path}"), format!("{OPENID}{path}")];
        if !path.is_empty() {
            paths.push(format!("{path}{OPENID}"));
        }
        let with_path = |path: String| {
            let mut url = self.url.clone();
            url.set_path(&path);
            url.set_query(None);
            url
        };
        paths.into_iter().map(with_path).collect()
    }

    /// The address of the keys in the metadata that was fetched from `url`.
    pub(super) fn parse_jwks_url(&self, url: &Url, body: &[u8]) -> Result<Url, FetchError> {
        let invalid = |problem| FetchError::Metadata { url: url.clone(), problem };
        let metadata: IssuerMetadata = read_leniently(body).map_err(|_| {
            invalid("the document is not the metadata of an authorization server with a jwks_uri")
        })?;
        if metadata.issuer != self.name {
            return Err(invalid("the metadata names another issuer than --oauth-issuer"));
        }
        let jwks_url = parse_safe_url("jwks_uri", &metadata.jwks_uri).ok();
        // A remote issuer must not make this server send requests to its own machine.
        jwks_url
            .filter(|url| url.scheme() == "https" || is_loopback(&self.url))
            .ok_or_else(|| invalid("the jwks_uri is not an https address"))
    }
}

/// Fetches documents over HTTP.
pub(super) struct HttpFetcher {
    http: reqwest::Client,
}

impl HttpFetcher {
    /// Loads the system's certificates, unless all URLs are http.
    pub(super) fn new(issuer: &Issuer) -> Result<Self, String> {
        let is_http = |url: &Url| url.scheme() == "http";
        let needs_tls = !is_http(&issuer.url) || !issuer.jwks_url.as_ref().is_none_or(is_http);
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(callingbox::http_client::tls_config(needs_tls)?)
            .user_agent(concat!("callingbox-mcp/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT);
        let builder = if is_loopback(&issuer.url) { builder.no_proxy() } else { builder };
        builder.build().map(|http| Self { http }).map_err(|error| root_cause(&error))
    }
}

#[async_trait]
impl DocumentFetcher for HttpFetcher {
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        let failed = |problem: String| FetchError::Failed { url: url.clone(), problem };
        let http_error = |error: reqwest::Error| failed(root_cause(&error));
        let request = self.http.get(url.clone()).header(http::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(http_error)?;
        if response.status() != http::StatusCode::OK {
            return Err(failed(format!("the status is {}", response.status())));
        }
        let body = read_body(&mut response, MAX_DOCUMENT_BYTES).await.map_err(http_error)?;
        body.ok_or_else(|| failed(format!("the response has more than {MAX_DOCUMENT_BYTES} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_urls_are_accepted() {
        for (text, valid) in [
            ("https://issuer.example", true),
            ("https://issuer.example/tenant/", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080/x", true),
            ("http://localhost", true),
            ("http://issuer.example", false),
            ("http://localhost.evil.example", false),
            ("https://user:pass@issuer.example", false),
            ("https://issuer.example/#x", false),
            ("file:///etc/passwd", false),
            ("issuer.example", false),
            ("", false),
        ] {
            let read = parse_safe_url("--oauth-issuer", text);
            assert_eq!(read.is_ok(), valid, "{text}");
            if let Err(error) = read {
                assert!(!error.to_string().contains("pass@"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_large_response_a_redirect_and_an_error_are_refused() {
        use axum::http::header::LOCATION;
        use axum::routing::get;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let routes = axum::Router::new()
            .route("/good", get(async || "{}"))
            .route("/large", get(async || "x".repeat(MAX_DOCUMENT_BYTES + 1)))
            .route("/moved", get(async || (http::StatusCode::FOUND, [(LOCATION, "/good")])));
        tokio::spawn(async { axum::serve(listener, routes).await });
        let fetcher = HttpFetcher::new(&Issuer::new(&base, None).unwrap()).unwrap();
        let get = async |path: &str| {
            let found = fetcher.get(&format!("{base}{path}").parse().unwrap()).await;
            found.map_err(|error| error.to_string().replace(&base, ""))
        };
        assert_eq!(get("/good").await, Ok(Bytes::from("{}")));
        assert_eq!(get("/moved").await, Err("GET /moved: the status is 302 Found".to_owned()));
        let large = format!("GET /large: the response has more than {MAX_DOCUMENT_BYTES} bytes");
        assert_eq!(get("/large").await, Err(large));
        assert_eq!(get("/none").await, Err("GET /none: the status is 404 Not Found".to_owned()));
    }

    #[test]
    fn metadata_urls_follow_the_specification() {
        let urls = |name: &str| -> Vec<String> {
            let urls = Issuer::new(name, None).unwrap().metadata_urls();
            urls.into_iter().map(String::from).collect()
        };
        assert_eq!(
            urls("https://issuer.example"),
            [
                "https://issuer.example/.well-known/oauth-authorization-server",
                "https://issuer.example/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            urls("https://issuer.example/tenant1"),
            [
                "https://issuer.example/.well-known/oauth-authorization-server/tenant1",
                "https://issuer.example/.well-known/openid-configuration/tenant1",
                "https://issuer.example/tenant1/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn metadata_of_another_issuer_or_with_an_unsafe_url_is_refused() {
        let url: Url = "https://issuer.example/x".parse().unwrap();
        let read = |issuer: &str, named: &str, jwks: &str| {
            let issuer = Issuer::new(issuer, None).unwrap();
            let body = serde_json::json!({"issuer": named, "jwks_uri": jwks}).to_string();
            issuer
                .parse_jwks_url(&url, body.as_bytes())
                .map(String::from)
                .map_err(|error| root_cause(&error))
        };
        let (ours, here) = ("https://issuer.example", "http://127.0.0.1:1");
        assert_eq!(
            read(ours, ours, "https://keys.example/k"),
            Ok("https://keys.example/k".to_owned())
        );
        assert_eq!(read(here, here, "http://127.0.0.1:2/k"), Ok("http://127.0.0.1:2/k".to_owned()));
        for (named, jwks, problem) in [
            ("https://issuer.example/", "https://keys.example/k", "another issuer"),
            ("https://ISSUER.example", "https://keys.example/k", "another issuer"),
            (ours, "http://keys.example/k", "not an https address"),
            (ours, "http://127.0.0.1:6379/", "not an https address"),
            (ours, "file:///etc/passwd", "not an https address"),
        ] {
            let error = read(ours, named, jwks).unwrap_err();
            assert!(error.contains(problem), "{named} {jwks}: {error}");
        }
        let issuer = Issuer::new(ours, None).unwrap();
        assert!(
            issuer.parse_jwks_url(&url, b"{}").is_err()
                && issuer.parse_jwks_url(&url, b"<html>").is_err()
        );
    }
}
