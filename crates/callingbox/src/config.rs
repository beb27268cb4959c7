//! What a client needs to know: where the API is, who asks, and how long to wait.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use url::Url;

use super::key::ApiKey;
use super::retry::RetryPolicy;
use crate::http_client::is_loopback;

/// Where the API is: an origin and, behind a gateway, a path before `/v1`.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    url: Url,
    loopback: bool,
}

/// Why a text cannot be the base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBaseUrl {
    /// Not an absolute http or https URL.
    #[error("the base URL is not an address such as https://api.callingbox.io")]
    NotAnUrl,
    /// The key would cross the network in the clear.
    #[error(
        "the base URL must begin with https://, or the API key would be readable on the way; http is taken for this machine only, or where the configuration says allow_insecure_base_url = true"
    )]
    NotHttps,
    /// A user, query or fragment part.
    #[error("the base URL must not carry a user name, password, ? or #")]
    Extras,
}

impl BaseUrl {
    /// The address of the real API.
    pub const DEFAULT: &str = "https://api.callingbox.io";

    /// Reads a base URL. Plain http is taken for loopback hosts, and elsewhere only with
    /// `allow_insecure`.
    ///
    /// # Errors
    /// [`InvalidBaseUrl`] with what to change.
    pub fn parse(text: &str, allow_insecure: bool) -> Result<Self, InvalidBaseUrl> {
        let mut url = Url::parse(text.trim()).map_err(|_| InvalidBaseUrl::NotAnUrl)?;
        let loopback = is_loopback(&url);
        match url.scheme() {
            "https" => {}
            "http" if loopback || allow_insecure => {}
            "http" => return Err(InvalidBaseUrl::NotHttps),
            _ => return Err(InvalidBaseUrl::NotAnUrl),
        }
        let user = !url.username().is_empty() || url.password().is_some();
        if user || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidBaseUrl::Extras);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self { url, loopback })
    }

    /// Whether it is this machine, where no proxy is used.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The address of `path` below the base, or nothing when reading it as a URL would change the
    /// path: what was meant is then not what would be asked for.
    pub(super) fn join(&self, path: &str) -> Option<Url> {
        let whole = format!("{}{path}", self.url.path().trim_end_matches('/'));
        let mut url = self.url.clone();
        url.set_path(&whole);
        (url.path() == whole).then_some(url)
    }
}

impl Default for BaseUrl {
    #[expect(clippy::expect_used, reason = "the text is a constant, and a test parses it")]
    fn default() -> Self {
        Self::parse(Self::DEFAULT, false).expect("the default base URL is well formed")
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({self})")
    }
}

/// How long each part of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Finding the host, connecting and the TLS handshake.
    pub connect: Duration,
    /// One attempt, from connecting to the last byte of the answer.
    pub request: Duration,
    /// All attempts and the waits between them.
    pub total: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect; 30 s for one attempt, as CallingBox's own SDK; 45 s in all, below the 60 s
    /// at which AI clients give up.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
            total: Duration::from_secs(45),
        }
    }
}

/// Everything a [`super::Client`] is made from.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where the API is.
    pub base_url: BaseUrl,
    /// Who asks.
    pub key: ApiKey,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// When to ask again.
    pub retry: RetryPolicy,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// The largest answer that is read, in bytes.
    pub max_response_bytes: usize,
    /// Makes the headers that carry the trace context of the current [`tracing`] span, such as `traceparent`. It is
    /// called within the span of each request.
    pub trace_headers: Option<fn() -> HeaderMap>,
}

impl ClientConfig {
    /// The largest answer that is read by default: 8 MiB.
    pub const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

    /// A configuration with the usual waits and retries.
    #[must_use]
    pub fn new(base_url: BaseUrl, key: ApiKey) -> Self {
        Self {
            base_url,
            key,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            user_agent: concat!("callingbox-mcp/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_response_bytes: Self::MAX_RESPONSE_BYTES,
            trace_headers: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_travels_encrypted_or_not_at_all() {
        use InvalidBaseUrl::{Extras, NotAnUrl, NotHttps};
        let table = [
            // text, read, read when insecure is allowed
            ("https://api.callingbox.io", Ok("https://api.callingbox.io"), true),
            (" https://api.callingbox.io/ ", Ok("https://api.callingbox.io"), true),
            ("https://x.example:8443/a/b//", Ok("https://x.example:8443/a/b"), true),
            ("HTTPS://API.example", Ok("https://api.example"), true),
            ("http://127.0.0.1:4010", Ok("http://127.0.0.1:4010"), true),
            ("http://127.9.9.9", Ok("http://127.9.9.9"), true),
            ("http://[::1]:4010/", Ok("http://[::1]:4010"), true),
            ("http://LOCALHOST:4010", Ok("http://localhost:4010"), true),
            ("http://api.callingbox.io", Err(NotHttps), true),
            ("http://10.0.0.1", Err(NotHttps), true),
            ("http://0.0.0.0:1", Err(NotHttps), true),
            ("http://localhost.evil.example", Err(NotHttps), true),
            ("http://127.0.0.1.evil.example", Err(NotHttps), true),
            ("https://key@api.callingbox.io", Err(Extras), false),
            ("https://u:p@api.callingbox.io", Err(Extras), false),
            ("https://api.callingbox.io/?a=b", Err(Extras), false),
            ("https://api.callingbox.io/#a", Err(Extras), false),
            ("https://127.0.0.1@evil.example", Err(Extras), false),
            ("ftp://api.callingbox.io", Err(NotAnUrl), false),
            ("file:///etc/passwd", Err(NotAnUrl), false),
            ("api.callingbox.io", Err(NotAnUrl), false),
            ("https://", Err(NotAnUrl), false),
            ("", Err(NotAnUrl), false),
        ];
        for (text, expected, insecure) in table {
            let read = BaseUrl::parse(text, false).map(|url| url.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{text}");
            assert_eq!(BaseUrl::parse(text, true).is_ok(), insecure, "{text}");
        }
        assert_eq!(BaseUrl::default().to_string(), BaseUrl::DEFAULT);
    }
}
