//! Which hosts a request may be for and which web pages it may come from. A web page of a stranger
//! can make a browser send requests here, and by DNS rebinding even read the answers; it can forge
//! neither `Host` nor `Origin`. Knows headers only.

use std::net::IpAddr;

use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use url::Url;

/// What is let in.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    hosts: Vec<Authority>,
    at_paths: Vec<(&'static str, Authority)>,
    origins: Vec<Url>,
    any_address: bool,
}

/// A host or an origin that cannot be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowable {
    /// Not a host.
    #[error(
        "--allowed-host {0}: give a host name such as phone.example.com, with :port or without, and no pattern"
    )]
    Host(String),
    /// Not an origin.
    #[error(
        "--allowed-origin {0}: give scheme and host such as https://app.example.com, and no path"
    )]
    Origin(String),
}

impl Allowed {
    /// Loopback, and these. A host without a port is allowed at every port.
    ///
    /// # Errors
    /// One of them is not a host or not an origin.
    pub fn new(hosts: &[String], origins: &[String]) -> Result<Self, NotAllowable> {
        let origin = |text: &String| {
            Url::parse(text)
                .ok()
                .filter(|url| url.origin().is_tuple() && url.path() == "/" && url.query().is_none())
                .ok_or_else(|| NotAllowable::Origin(text.clone()))
        };
        Ok(Self {
            hosts: hosts.iter().map(|host| named(host)).collect::<Result<_, _>>()?,
            at_paths: Vec::new(),
            origins: origins.iter().map(origin).collect::<Result<_, _>>()?,
            any_address: false,
        })
    }

    /// Takes this host too, at this path alone.
    ///
    /// # Errors
    /// It is not a host.
    pub fn with_host_at(mut self, path: &'static str, host: &str) -> Result<Self, NotAllowable> {
        self.at_paths.push((path, named(host)?));
        Ok(self)
    }

    /// Takes every address in figures for a host too. A page that rebinds a name cannot send one, and
    /// the probes of container platforms send nothing else.
    #[must_use]
    pub fn with_any_address(mut self) -> Self {
        self.any_address = true;
        self
    }

    /// Checks a request.
    ///
    /// # Errors
    /// The answer that refuses it: 400 without one clear host, else 403.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let Some(host) = host_of(uri, headers) else {
            return Err(refusal(StatusCode::BAD_REQUEST, "one Host header is needed"));
        };
        if !self.allows_host(&host, uri.path()) {
            let text = "this host is not allowed; the operator can add it with --allowed-host";
            return Err(refusal(StatusCode::FORBIDDEN, text));
        }
        for origin in headers.get_all(ORIGIN) {
            if !origin.to_str().is_ok_and(|origin| self.allows_origin(origin)) {
                let text =
                    "this origin is not allowed; the operator can add it with --allowed-origin";
                return Err(refusal(StatusCode::FORBIDDEN, text));
            }
        }
        Ok(())
    }

    fn allows_host(&self, host: &Authority, path: &str) -> bool {
        let name = bare(host.host());
        is_loopback(name)
            || (self.any_address && name.parse::<IpAddr>().is_ok())
            || self.hosts.iter().any(|allowed| covers(allowed, host))
            || self.at_paths.iter().any(|(at, allowed)| *at == path && covers(allowed, host))
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let Ok(origin) = Url::parse(origin) else { return false };
        if !matches!(origin.scheme(), "http" | "https") {
            return false;
        }
        origin.host_str().is_some_and(|host| is_loopback(bare(host)))
            || self.origins.iter().any(|allowed| allowed.origin() == origin.origin())
    }
}

/// The answer to a browser that asks whether it may send a request (CORS), for an origin that was
/// checked before.
#[must_use]
pub fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if method != Method::OPTIONS || !headers.contains_key("access-control-request-method") {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id, x-mcp-exclude-tools, x-mcp-readonly, x-mcp-tools, x-mcp-toolsets",
        ),
        (ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Lets the page at this origin, checked before, read the answer.
pub fn share(origin: HeaderValue, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = HeaderValue::from_static("mcp-session-id, www-authenticate, retry-after");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// Whether a request is for this machine by a name of loopback. One that a proxy brings is not, as long
/// as the proxy passes on the name that it was asked for.
#[must_use]
pub fn is_for_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    host_of(uri, headers).is_some_and(|host| is_loopback(bare(host.host())))
}

/// The one host that a request is for.
fn host_of(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers.get_all(HOST).iter();
    match (uri.authority(), named.next(), named.next()) {
        (Some(host), _, None) => Some(host.clone()),
        (None, Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
        _ => None,
    }
}

fn named(host: &str) -> Result<Authority, NotAllowable> {
    host.parse::<Authority>()
        .ok()
        // A host is allowed by its own name; `*` would let in a host of that name and no other.
        .filter(|parsed| !parsed.host().is_empty() && !host.contains(['@', '*']))
        .ok_or_else(|| NotAllowable::Host(host.to_owned()))
}

fn covers(allowed: &Authority, host: &Authority) -> bool {
    bare(allowed.host()).eq_ignore_ascii_case(bare(host.host()))
        && allowed.port_u16().is_none_or(|port| host.port_u16() == Some(port))
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn refusal(status: StatusCode, text: &'static str) -> Box<Response> {
    Box::new(super::answer::error(status, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(allowed: &Allowed, host: &str, origin: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        match allowed.check(&Uri::from_static("/mcp"), &headers) {
            Ok(()) => 200,
            Err(response) => response.status().as_u16(),
        }
    }

    #[test]
    fn only_loopback_and_what_was_allowed_gets_in() {
        let allowed = Allowed::new(
            &["phone.example.com".to_owned(), "other.example:8443".to_owned()],
            &["https://app.example.com".to_owned()],
        )
        .unwrap();
        for (host, origin, expected) in [
            ("127.0.0.1:8080", None, 200),
            ("localhost", None, 200),
            ("[::1]:8080", None, 200),
            ("LOCALHOST:1", Some("http://localhost:5173"), 200),
            ("127.0.0.1", Some("http://127.0.0.1:1"), 200),
            ("127.0.0.1", Some("http://[::1]:1"), 200),
            ("phone.example.com", None, 200),
            ("Phone.Example.com:444", Some("https://app.example.com"), 200),
            ("phone.example.com", Some("https://app.example.com:443"), 200),
            ("other.example:8443", None, 200),
            ("other.example", None, 403),
            ("other.example:1", None, 403),
            ("evil.example", None, 403),
            ("localhost.evil.example", None, 403),
            ("127.0.0.1.evil.example", None, 403),
            ("192.168.1.1", None, 403),
            ("127.0.0.1", Some("http://evil.example"), 403),
            ("127.0.0.1", Some("http://app.example.com"), 403),
            ("127.0.0.1", Some("https://app.example.com:8443"), 403),
            ("127.0.0.1", Some("https://app.example.com.evil.example"), 403),
            ("127.0.0.1", Some("null"), 403),
            ("127.0.0.1", Some("file://localhost"), 403),
            ("not a host", None, 400),
            ("", None, 400),
        ] {
            assert_eq!(status(&allowed, host, origin), expected, "{host} {origin:?}");
        }
        let allowed = Allowed::default().with_any_address();
        assert_eq!(status(&allowed, "10.0.0.7:9090", None), 200);
        assert_eq!(status(&allowed, "evil.example", None), 403);
    }

    #[test]
    fn two_hosts_are_no_host() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("127.0.0.1"));
        headers.append(HOST, HeaderValue::from_static("evil.example"));
        let refused = Allowed::default().check(&Uri::from_static("/"), &headers).unwrap_err();
        assert_eq!(refused.status(), 400);
    }

    #[test]
    fn what_cannot_be_allowed_is_said() {
        let patterns = ["*", "*:8080", "*.example.com"];
        for host in ["", "https://phone.example.com", "a b", "user@host"].iter().chain(&patterns) {
            assert!(Allowed::new(&[(*host).to_owned()], &[]).is_err(), "{host}");
        }
        for origin in ["", "app.example.com", "https://a.example/path", "data:x", "*"] {
            assert!(Allowed::new(&[], &[origin.to_owned()]).is_err(), "{origin}");
        }
    }
}
