//! The hosts to which events and data of calls may be sent, as the operator lists them. Knows no agents and no calls.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};
use url::{Host, Url};

/// A host, or with `*.` in front all hosts below it. Names are kept in ASCII, as addresses have them.
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay, DeserializeFromStr, JsonSchema)]
#[schemars(with = "String")]
pub struct HostPattern {
    host: String,
    is_suffix: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a host: write it without scheme, port and path, such as \"hooks.example.com\", or \"*.example.com\" for all hosts below it"
)]
pub struct InvalidHostPattern;

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let (name, is_suffix) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        match Host::parse(name).map_err(|_| InvalidHostPattern)? {
            Host::Domain(name) if !name.is_empty() && !name.contains('*') => {
                Ok(Self { host: name, is_suffix })
            }
            host @ (Host::Ipv4(_) | Host::Ipv6(_)) if !is_suffix => {
                Ok(Self { host: host.to_string(), is_suffix })
            }
            _ => Err(InvalidHostPattern),
        }
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match host.strip_suffix(&self.host) {
            Some(rest) if self.is_suffix => rest.ends_with('.') && rest.len() > 1,
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_suffix { "*." } else { "" }, self.host)
    }
}

/// The allowed hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected \"any\" or a list of hosts without scheme, port and path, such as [\"hooks.example.com\", \"*.example.com\"]"
)]
pub enum WebhookHosts {
    Any(AnyHost),
    Listed(Vec<HostPattern>),
}

/// The word for any host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnyHost {
    Any,
}

impl Default for WebhookHosts {
    fn default() -> Self {
        Self::Any(AnyHost::Any)
    }
}

/// An address whose host is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("events and data of calls may not be sent to {host}; allowed: {allowed}")]
pub struct HostNotAllowed {
    /// The host with its port, as [`shown_host`] writes it.
    pub host: String,
    pub allowed: String,
}

impl WebhookHosts {
    /// Whether not every host is allowed.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        matches!(self, Self::Listed(_))
    }

    /// Checks the host of an address.
    ///
    /// # Errors
    /// It is not among the allowed ones, or the address cannot be read while hosts are restricted.
    pub fn check_url(&self, url: &str) -> Result<(), HostNotAllowed> {
        let Self::Listed(patterns) = self else { return Ok(()) };
        let parsed = Url::parse(url).ok();
        let host = parsed.as_ref().and_then(Url::host).map(|host| host.to_string());
        let host = host.as_deref().map(|host| host.strip_suffix('.').unwrap_or(host));
        if host.is_some_and(|host| patterns.iter().any(|pattern| pattern.matches(host))) {
            return Ok(());
        }
        Err(HostNotAllowed { host: shown_host(url), allowed: self.to_string() })
    }
}

/// The allowed hosts in words.
impl fmt::Display for WebhookHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(AnyHost::Any) => f.write_str("any host"),
            Self::Listed(patterns) if patterns.is_empty() => f.write_str("no host"),
            Self::Listed(patterns) => {
                let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
                f.write_str(&patterns.join(", "))
            }
        }
    }
}

/// The host of an address as people are shown it, with its port if that is unusual. Never the path, which may hold
/// secrets.
#[must_use]
pub fn shown_host(url: &str) -> String {
    let parsed = Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| Some((url.host_str()?, url.port())));
    match host {
        Some((host, None)) => host.to_owned(),
        Some((host, Some(port))) => format!("{host}:{port}"),
        None => "an address that cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_hosts_and_hosts_below_a_star_are_allowed() {
        let patterns =
            ["Hooks.example.com", "*.example.org", "bücher.example", "192.0.2.7", "[2001:db8::1]"];
        let patterns = patterns.map(|text| text.parse::<HostPattern>().unwrap());
        let hosts = WebhookHosts::Listed(patterns.to_vec());
        for url in [
            "https://hooks.example.com/a?b",
            "https://HOOKS.EXAMPLE.COM",
            "https://hooks.example.com.:8443/",
            "https://a.example.org",
            "https://a.b.example.org",
            "https://bücher.example",
            "https://xn--bcher-kva.example",
            "https://192.0.2.7:1",
            "https://[2001:db8::1]/",
        ] {
            assert_eq!(hosts.check_url(url), Ok(()), "{url}");
        }
        for url in [
            "https://example.com",
            "https://xhooks.example.com",
            "https://hooks.example.com.evil.example",
            "https://hooks.example.com@evil.example/",
            "https://evil.example/hooks.example.com",
            "https://example.org",
            "https://.example.org",
            "https://xexample.org",
            "https://192.0.2.8",
            "hooks.example.com",
            "",
        ] {
            assert!(hosts.check_url(url).is_err(), "{url}");
            assert!(WebhookHosts::Listed(vec![]).check_url(url).is_err(), "{url}");
            assert_eq!(WebhookHosts::default().check_url(url), Ok(()), "{url}");
        }
        let refused = hosts.check_url("https://evil.example:8443/secret").unwrap_err().to_string();
        assert!(refused.starts_with("events and data of calls may not be sent to evil.example:8443; allowed: hooks.example.com, *.example.org, "), "{refused}");
    }

    #[test]
    fn only_hosts_are_patterns() {
        for text in [
            "",
            "*",
            "*.",
            "https://a.example",
            "a.example/b",
            "a.example:443",
            "*.192.0.2.7",
            "a b",
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(InvalidHostPattern), "{text}");
        }
    }
}
