//! Refuses requests that a foreign web page makes a browser send: under another host name than loopback (DNS rebinding), or
//! from another origin. The simulator accepts any key, and its clock needs none.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};
use url::Url;

/// Whether the request comes from this machine's own programs and pages, as far as its headers tell.
pub(super) fn is_local_request(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (uri.authority(), hosts.next(), hosts.next()) {
        (Some(host), _, None) => Some(host.clone()),
        (None, Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
        _ => None,
    };
    let is_local_origin = |origin: &http::HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
        let is_http = |url: &Url| ["http", "https"].contains(&url.scheme());
        origin.filter(is_http).is_some_and(|url| url.host_str().is_some_and(is_loopback_name))
    };
    host.is_some_and(|host: Authority| is_loopback_name(host.host()))
        && headers.get_all(ORIGIN).iter().all(is_local_origin)
}

fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_and_origins_are_local() {
        for (hosts, origin, expected) in [
            (&["127.0.0.1:4010"][..], None, true),
            (&["LOCALHOST"], Some("http://localhost:5173"), true),
            (&["[::1]:4010"], Some("http://[::1]"), true),
            (&["evil.example"], None, false),
            (&["127.0.0.1.evil.example:4010"], None, false),
            (&["192.168.1.2:4010"], None, false),
            (&["127.0.0.1:4010"], Some("https://evil.example"), false),
            (&["127.0.0.1:4010"], Some("null"), false),
            (&["127.0.0.1:4010"], Some("file://localhost"), false),
            (&["127.0.0.1", "evil.example"], None, false),
            (&[], None, false),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().unwrap());
            }
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            let uri = Uri::from_static("/v1/calls");
            assert_eq!(is_local_request(&uri, &headers), expected, "{hosts:?} {origin:?}");
        }
    }
}
