//! Which addresses the issuer may be asked at, and asking: no redirects, a bound on size and time, and
//! https wherever it is not this machine itself. Knows nothing of keys.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use url::Url;

use callingbox::error_ext::innermost;
use callingbox::http_client::{body_up_to, is_loopback};

/// The most bytes that are read of an answer.
const MOST_BYTES: usize = 256 * 1024;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the issuer's word could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It could not be reached, or said something else.
    #[error("GET {url}: {problem}")]
    Failed {
        /// Where.
        url: Url,
        /// What happened.
        problem: String,
    },
    /// Its metadata is not what it should be.
    #[error("{url}: {problem}")]
    Metadata {
        /// Where.
        url: Url,
        /// What is wrong.
        problem: &'static str,
    },
    /// Its keys are none.
    #[error("{0}: there is no key for signatures with a kid there")]
    NoKeySet(Url),
    /// It took too long.
    #[error("it took too long")]
    Slow,
}

/// Asks for a document.
#[async_trait]
pub(super) trait Fetch: Send + Sync {
    /// The document at this address.
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError>;
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{flag} {text}: give an https address without a password and without a fragment (http only on this machine)"
)]
pub struct BadUrl {
    flag: &'static str,
    text: String,
}

/// Reads an address: https, or http on this machine.
///
/// # Errors
/// It is neither, or has a part that it must not have.
pub(super) fn safe_url(flag: &'static str, text: &str) -> Result<Url, BadUrl> {
    let sound = |url: &Url| {
        (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    };
    // What may hold a password is not repeated.
    let shown = if text.contains('@') { "…" } else { text };
    let bad = || BadUrl { flag, text: shown.chars().take(200).collect() };
    Url::parse(text).ok().filter(sound).ok_or_else(bad)
}

/// The authorization server.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    name: String,
    url: Url,
    jwks: Option<Url>,
}

/// What is read of the metadata of an issuer (RFC 8414, section 2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// The issuer with exactly this name, and its keys if their address is known.
    pub(super) fn new(name: &str, jwks: Option<&str>) -> Result<Self, BadUrl> {
        let url = safe_url("--oauth-issuer", name)?;
        let jwks = jwks.map(|jwks| safe_url("--oauth-jwks-url", jwks)).transpose()?;
        Ok(Self { name: name.to_owned(), url, jwks })
    }

    /// Its name: what `iss` must be, letter by letter.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where its keys are, if the operator said it.
    pub(super) fn jwks(&self) -> Option<&Url> {
        self.jwks.as_ref()
    }

    /// Where its metadata may be, in the order of the MCP authorization specification: RFC 8414, then
    /// OpenID Connect Discovery with the well-known part before the issuer's path and after it.
    pub(super) fn metadata_urls(&self) -> Vec<Url> {
        const OAUTH: &str = "/.well-known/oauth-authorization-server";
        const OPENID: &str = "/.well-known/openid-configuration";
        let path = self.url.path().trim_end_matches('/');
        let mut paths = vec![format!("{OAUTH}{path}"), format!("{OPENID}{path}")];
        if !path.is_empty() {
            paths.push(format!("{path}{OPENID}"));
        }
        let at = |path: String| {
            let mut url = self.url.clone();
            url.set_path(&path);
            url.set_query(None);
            url
        };
        paths.into_iter().map(at).collect()
    }

    /// Where its keys are, by its metadata.
    pub(super) fn jwks_of(&self, url: &Url, body: &[u8]) -> Result<Url, FetchError> {
        let bad = |problem| FetchError::Metadata { url: url.clone(), problem };
        let metadata: Metadata = serde_json::from_slice(body).map_err(|_| {
            bad("it is not the metadata of an authorization server with a jwks_uri")
        })?;
        if metadata.issuer != self.name {
            return Err(bad("it is of another issuer than --oauth-issuer names"));
        }
        let jwks = safe_url("jwks_uri", &metadata.jwks_uri).ok();
        // An issuer elsewhere must not send this server to its own machine.
        jwks.filter(|jwks| jwks.scheme() == "https" || is_loopback(&self.url))
            .ok_or_else(|| bad("its jwks_uri is not an https address"))
    }
}

/// Asks over the network.
pub(super) struct Network {
    http: reqwest::Client,
}

impl Network {
    /// Loads the system's certificates, unless everything is on this machine and over plain http.
    pub(super) fn new(issuer: &Issuer) -> Result<Self, String> {
        let plain = |url: &Url| url.scheme() == "http";
        let all_plain = plain(&issuer.url) && issuer.jwks.as_ref().is_none_or(plain);
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(callingbox::tls::client(!all_plain)?)
            .user_agent(concat!("callingbox-mcp/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE);
        let builder = if is_loopback(&issuer.url) { builder.no_proxy() } else { builder };
        builder.build().map(|http| Self { http }).map_err(|error| innermost(&error))
    }
}

#[async_trait]
impl Fetch for Network {
    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        let failed = |problem: String| FetchError::Failed { url: url.clone(), problem };
        let broken = |error: reqwest::Error| failed(innermost(&error));
        let request = self.http.get(url.clone()).header(http::header::ACCEPT, "application/json");
        let mut answer = request.send().await.map_err(broken)?;
        if answer.status() != http::StatusCode::OK {
            return Err(failed(format!("it answers {}", answer.status())));
        }
        let body = body_up_to(&mut answer, MOST_BYTES).await.map_err(broken)?;
        body.ok_or_else(|| failed(format!("the answer has more than {MOST_BYTES} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_asked() {
        for (text, sound) in [
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
            let read = safe_url("--oauth-issuer", text);
            assert_eq!(read.is_ok(), sound, "{text}");
            if let Err(error) = read {
                assert!(!error.to_string().contains("pass@"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_or_elsewhere_is_none() {
        use axum::http::header::LOCATION;
        use axum::routing::get;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let routes = axum::Router::new()
            .route("/good", get(async || "{}"))
            .route("/large", get(async || "x".repeat(MOST_BYTES + 1)))
            .route("/moved", get(async || (http::StatusCode::FOUND, [(LOCATION, "/good")])));
        tokio::spawn(async { axum::serve(listener, routes).await });
        let network = Network::new(&Issuer::new(&base, None).unwrap()).unwrap();
        let get = async |path: &str| {
            let found = network.get(&format!("{base}{path}").parse().unwrap()).await;
            found.map_err(|error| error.to_string().replace(&base, ""))
        };
        assert_eq!(get("/good").await, Ok(Bytes::from("{}")));
        assert_eq!(get("/moved").await, Err("GET /moved: it answers 302 Found".to_owned()));
        let large = format!("GET /large: the answer has more than {MOST_BYTES} bytes");
        assert_eq!(get("/large").await, Err(large));
        assert_eq!(get("/none").await, Err("GET /none: it answers 404 Not Found".to_owned()));
    }

    #[test]
    fn metadata_is_looked_for_where_the_specification_says() {
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
    fn metadata_of_another_issuer_or_with_an_unsafe_address_is_refused() {
        let url: Url = "https://issuer.example/x".parse().unwrap();
        let read = |issuer: &str, named: &str, jwks: &str| {
            let issuer = Issuer::new(issuer, None).unwrap();
            let body = serde_json::json!({"issuer": named, "jwks_uri": jwks}).to_string();
            issuer
                .jwks_of(&url, body.as_bytes())
                .map(String::from)
                .map_err(|error| innermost(&error))
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
        assert!(issuer.jwks_of(&url, b"{}").is_err() && issuer.jwks_of(&url, b"<html>").is_err());
    }
}
