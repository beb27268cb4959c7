//! The configuration of a client: the address of the API, the key, and how long and how often to try.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use url::Url;

use crate::http_client::is_loopback;
use crate::key::ApiKey;
use crate::operation::ApiOperation;
use crate::retry::RetryPolicy;

/// The address of the API: an origin and, behind a gateway, a path before `/v1`.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why a text is not a base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBaseUrl {
    /// It is not an absolute `http` or `https` URL.
    #[error("the base URL is not a URL such as https://api.callingbox.io")]
    NotAnUrl,
    /// The key would be sent over the network unencrypted.
    #[error(
        "the base URL must begin with https://, because the API key would be sent unencrypted otherwise; http is only for this machine, or with allow_insecure_base_url = true in the configuration"
    )]
    NotHttps,
    /// It has a user name, a password, a query or a fragment.
    #[error("the base URL must not have a user name, a password, a query (?) or a fragment (#)")]
    Extras,
}

impl BaseUrl {
    /// The address of CallingBox's API.
    pub const DEFAULT: &str = "https://api.callingbox.io";

    /// Reads a base URL. `http` is only accepted for this machine, or with `allow_insecure`.
    ///
    /// # Errors
    /// [`InvalidBaseUrl`], which says what to change.
    pub fn parse(text: &str, allow_insecure: bool) -> Result<Self, InvalidBaseUrl> {
        let mut url = Url::parse(text.trim()).map_err(|_| InvalidBaseUrl::NotAnUrl)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) || allow_insecure => {}
            "http" => return Err(InvalidBaseUrl::NotHttps),
            _ => return Err(InvalidBaseUrl::NotAnUrl),
        }
        let user = !url.username().is_empty() || url.password().is_some();
        if user || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidBaseUrl::Extras);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// Whether it names this machine. Then no proxy is used.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The URL of `path` below the base. `None` if URL parsing would change the path, because the request would then
    /// reach another one.
    pub(crate) fn join(&self, path: &str) -> Option<Url> {
        let whole = format!("{}{path}", self.0.path().trim_end_matches('/'));
        let mut url = self.0.clone();
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
        f.write_str(self.0.as_str().trim_end_matches('/'))
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
    /// For finding the host, connecting, and the TLS handshake.
    pub connect: Duration,
    /// For one attempt, from connecting to the last byte of the response.
    pub request: Duration,
    /// For all attempts and the waits between them.
    pub total: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect, 30 s for an attempt (as CallingBox's Python SDK), and 45 s for all attempts.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
            total: Duration::from_secs(45),
        }
    }
}

/// An attempt at a request that has ended. It names no ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptReport {
    /// The operation.
    pub operation: ApiOperation,
    /// Which attempt it was, from 1.
    pub number: u32,
    /// The HTTP status. `None` if no response began.
    pub status: Option<u16>,
    /// How long it took.
    pub duration: Duration,
}

/// The configuration of an [`ApiClient`](crate::ApiClient).
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The address of the API.
    pub base_url: BaseUrl,
    /// The key that is sent with each request.
    pub key: ApiKey,
    /// How long requests may take.
    pub timeouts: Timeouts,
    /// When a failed request is repeated.
    pub retry: RetryPolicy,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// The largest response that is read, in bytes.
    pub max_response_bytes: usize,
    /// Returns the headers that carry the trace context of the current [`tracing`] span, such as `traceparent`. It is
    /// called within the span of each attempt, `callingbox_request`.
    pub trace_headers: Option<fn() -> HeaderMap>,
    /// Is called after each attempt, for example to count it.
    pub observe_attempt: Option<fn(&AttemptReport)>,
}

impl ClientConfig {
    /// The default for [`ClientConfig::max_response_bytes`]: 8 MiB.
    pub const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

    /// A configuration with the default timeouts and retries.
    #[must_use]
    pub fn new(base_url: BaseUrl, key: ApiKey) -> Self {
        Self {
            base_url,
            key,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            user_agent: concat!("callingbox-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_response_bytes: Self::MAX_RESPONSE_BYTES,
            trace_headers: None,
            observe_attempt: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_only_sent_encrypted() {
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
