//! Which addresses webhooks may go to: public HTTPS addresses, as the real service demands. With
//! `allow_private_webhooks`, plain HTTP and private addresses too, for receivers under test.
//! Knows nothing of deliveries or HTTP requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

const MAX_URL_LENGTH: usize = 2_048;

/// Checks a URL when it is configured. The addresses that its name resolves to are checked at each attempt.
///
/// # Errors
/// The form that the URL must have, as in "url must be …".
pub(crate) fn check_webhook_url(text: &str, allow_private: bool) -> Result<(), String> {
    if text.len() > MAX_URL_LENGTH {
        return Err(format!("at most {MAX_URL_LENGTH} characters long"));
    }
    let not_https = || "an absolute https:// URL".to_owned();
    let url = Url::parse(text).map_err(|_| not_https())?;
    let has_valid_scheme = url.scheme() == "https" || (allow_private && url.scheme() == "http");
    if !has_valid_scheme || url.host().is_none() {
        return Err(not_https());
    }
    if !allow_private && !has_public_host(&url) {
        return Err("publicly reachable; this address is private".to_owned());
    }
    Ok(())
}

/// Whether the host can be public. A name can be, unless it is reserved for private use (RFC 6761, RFC 6762).
pub(crate) fn has_public_host(url: &Url) -> bool {
    match url.host() {
        None => false,
        Some(Host::Ipv4(address)) => is_public_address(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_public_address(IpAddr::V6(address)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let private = ["localhost", "local", "internal", "lan", "home.arpa"];
            !private.iter().any(|suffix| name == *suffix || name.ends_with(&format!(".{suffix}")))
        }
    }
}

/// Whether an address is globally reachable (the IANA special-purpose registries).
pub(crate) fn is_public_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_ipv4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_ipv4(mapped),
            None => is_public_ipv6(address),
        },
    }
}

fn is_public_ipv4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_ipv6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast is 2000::/3. Of it, 2001:db8::/32 is documentation, 2001::/23 is special-purpose, and
    // 2002::/16 embeds an IPv4 address that would go unchecked.
    (0x2000..0x4000).contains(&a) && !(a == 0x2001 && (b == 0xdb8 || b < 0x200)) && a != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_is_accepted_unless_private_addresses_are_allowed() {
        for url in ["https://example.com/hook", "https://8.8.8.8/", "https://[2606:4700::1]/"] {
            assert_eq!(check_webhook_url(url, false), Ok(()), "{url}");
        }
        for url in [
            "http://example.com/",
            "ftp://example.com/",
            "example.com",
            "",
            "https://",
            "mailto:a@example.com",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://printer.local/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.0.0.1/",
            "https://100.64.0.1/",
            "https://169.254.169.254/",
            "https://192.168.1.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
        ] {
            assert!(check_webhook_url(url, false).is_err(), "{url}");
        }
        for url in ["http://127.0.0.1:9/", "http://localhost/x", "https://10.0.0.1/"] {
            assert_eq!(check_webhook_url(url, true), Ok(()), "{url}");
        }
        assert!(check_webhook_url("file:///etc/passwd", true).is_err());
    }
}
