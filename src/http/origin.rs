//! The hosts and origins from which requests are accepted. A foreign web page can make a browser send requests here, and
//! can read the responses by DNS rebinding, but it can forge neither `Host` nor `Origin`. Knows headers only.
//!
//! `tower_http::cors` does not fit: it answers a preflight with 200 and not 204, takes each OPTIONS request for one, and
//! lets a request of a foreign origin through, which MCP wants refused with 403.

use std::net::IpAddr;

use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use url::Url;

use super::answer;

/// The allowed hosts and origins, in addition to loopback.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    hosts: Vec<Authority>,
    hosts_by_path: Vec<(&'static str, Authority)>,
    origins: Vec<Url>,
    any_ip_address: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostPolicyError {
    #[error(
        "--allowed-host {0}: give a host name such as phone.example.com, with :port or without, and no pattern"
    )]
    Host(String),
    #[error(
        "--allowed-origin {0}: give scheme and host such as https://app.example.com, and no path"
    )]
    Origin(String),
}

impl HostPolicy {
    /// Allows these hosts and origins. A host without a port is allowed at every port.
    ///
    /// # Errors
    /// A host or an origin is invalid.
    pub fn new(hosts: &[String], origins: &[String]) -> Result<Self, HostPolicyError> {
        let parse_origin = |text: &String| {
            Url::parse(text)
                .ok()
                .filter(|url| url.origin().is_tuple() && url.path() == "/" && url.query().is_none())
                .ok_or_else(|| HostPolicyError::Origin(text.clone()))
        };
        Ok(Self {
            hosts: hosts.iter().map(|host| parse_host(host)).collect::<Result<_, _>>()?,
            hosts_by_path: Vec::new(),
            origins: origins.iter().map(parse_origin).collect::<Result<_, _>>()?,
            any_ip_address: false,
        })
    }

    /// Allows a host at one path only.
    ///
    /// # Errors
    /// The host is invalid.
    pub fn with_host_at_path(
        mut self,
        path: &'static str,
        host: &str,
    ) -> Result<Self, HostPolicyError> {
        self.hosts_by_path.push((path, parse_host(host)?));
        Ok(self)
    }

    /// Allows every IP address as host. A page that rebinds a name cannot send one, and the probes of container
    /// platforms send nothing else.
    #[must_use]
    pub fn with_any_ip_address(mut self) -> Self {
        self.any_ip_address = true;
        self
    }

    /// Whether any host is allowed beside loopback, at every path.
    #[must_use]
    pub fn has_named_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Checks the host and the origin of a request.
    ///
    /// # Errors
    /// The response: 400 unless there is exactly one host, else 403.
    pub fn check_request(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let refuse = |status, text| Err(Box::new(answer::error_response(status, text)));
        let Some(host) = request_host(uri, headers) else {
            return refuse(StatusCode::BAD_REQUEST, "one Host header is needed");
        };
        if !self.allows_host(&host, uri.path()) {
            let text = "this host is not allowed; the operator can add it with --allowed-host";
            return refuse(StatusCode::FORBIDDEN, text);
        }
        for origin in headers.get_all(ORIGIN) {
            if !origin.to_str().is_ok_and(|origin| self.allows_origin(origin)) {
                let text =
                    "this origin is not allowed; the operator can add it with --allowed-origin";
                return refuse(StatusCode::FORBIDDEN, text);
            }
        }
        Ok(())
    }

    fn allows_host(&self, host: &Authority, path: &str) -> bool {
        let name = strip_brackets(host.host());
        is_loopback(name)
            || (self.any_ip_address && name.parse::<IpAddr>().is_ok())
            || self.hosts.iter().any(|allowed| host_matches(allowed, host))
            || self
                .hosts_by_path
                .iter()
                .any(|(at, allowed)| *at == path && host_matches(allowed, host))
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let Ok(origin) = Url::parse(origin) else { return false };
        if !matches!(origin.scheme(), "http" | "https") {
            return false;
        }
        origin.host_str().is_some_and(|host| is_loopback(strip_brackets(host)))
            || self.origins.iter().any(|allowed| allowed.origin() == origin.origin())
    }
}

/// The response to a CORS preflight, whose origin was checked before; `None` for other requests.
#[must_use]
pub fn preflight_response(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if method != Method::OPTIONS || !headers.contains_key("access-control-request-method") {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id, x-mcp-exclude-tools, x-mcp-no-ui, x-mcp-readonly, x-mcp-tools, x-mcp-toolsets",
        ),
        (ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Lets the page at this origin, which was checked before, read the response.
pub fn add_cors_headers(origin: HeaderValue, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = HeaderValue::from_static("mcp-session-id, www-authenticate, retry-after");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// Whether the host of a request is a loopback name. It is not for a request from a proxy that forwards the host.
#[must_use]
pub fn is_loopback_request(uri: &Uri, headers: &HeaderMap) -> bool {
    request_host(uri, headers).is_some_and(|host| is_loopback(strip_brackets(host.host())))
}

/// The host of a request; `None` unless there is exactly one.
fn request_host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut values = headers.get_all(HOST).iter();
    match (uri.authority(), values.next(), values.next()) {
        (Some(host), _, None) => Some(host.clone()),
        (None, Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
        _ => None,
    }
}

fn parse_host(host: &str) -> Result<Authority, HostPolicyError> {
    host.parse::<Authority>()
        .ok()
        // Patterns are not supported: `*` would allow a host of that name and no other.
        .filter(|parsed| !parsed.host().is_empty() && !host.contains(['@', '*']))
        .ok_or_else(|| HostPolicyError::Host(host.to_owned()))
}

fn host_matches(allowed: &Authority, host: &Authority) -> bool {
    strip_brackets(allowed.host()).eq_ignore_ascii_case(strip_brackets(host.host()))
        && allowed.port_u16().is_none_or(|port| host.port_u16() == Some(port))
}

fn strip_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(allowed: &HostPolicy, host: &str, origin: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        match allowed.check_request(&Uri::from_static("/mcp"), &headers) {
            Ok(()) => 200,
            Err(response) => response.status().as_u16(),
        }
    }

    #[test]
    fn only_loopback_and_the_allowed_hosts_and_origins_are_accepted() {
        let allowed = HostPolicy::new(
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
            assert_eq!(status_of(&allowed, host, origin), expected, "{host} {origin:?}");
        }
        let allowed = HostPolicy::default().with_any_ip_address();
        assert_eq!(status_of(&allowed, "10.0.0.7:9090", None), 200);
        assert_eq!(status_of(&allowed, "evil.example", None), 403);
    }

    #[test]
    fn two_host_headers_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("127.0.0.1"));
        headers.append(HOST, HeaderValue::from_static("evil.example"));
        let refused =
            HostPolicy::default().check_request(&Uri::from_static("/"), &headers).unwrap_err();
        assert_eq!(refused.status(), 400);
    }

    #[test]
    fn patterns_and_invalid_hosts_and_origins_are_refused() {
        let patterns = ["*", "*:8080", "*.example.com"];
        for host in ["", "https://phone.example.com", "a b", "user@host"].iter().chain(&patterns) {
            assert!(HostPolicy::new(&[(*host).to_owned()], &[]).is_err(), "{host}");
        }
        for origin in ["", "app.example.com", "https://a.example/path", "data:x", "*"] {
            assert!(HostPolicy::new(&[], &[origin.to_owned()]).is_err(), "{origin}");
        }
    }
}
