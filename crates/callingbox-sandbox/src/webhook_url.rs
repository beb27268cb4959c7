//! Where webhooks may go: public HTTPS addresses, as the real service demands; with
//! `allow_private_webhooks` also plain HTTP and private addresses, for receivers under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::answer::Refusal;
use super::fields::wrong;

/// The longest URL that is taken.
const MAX_LENGTH: usize = 2_048;

/// Checks a URL when it is given. What a name resolves to is checked at each attempt.
///
/// # Errors
/// 400 that names the field.
pub(super) fn check(field: &str, text: &str, allow_private: bool) -> Result<(), Refusal> {
    if text.len() > MAX_LENGTH {
        return Err(wrong(field, &format!("at most {MAX_LENGTH} characters long")));
    }
    let url = Url::parse(text).map_err(|_| wrong(field, "an absolute https:// URL"))?;
    let secure = url.scheme() == "https" || (allow_private && url.scheme() == "http");
    if !secure || url.host().is_none() {
        return Err(wrong(field, "an absolute https:// URL"));
    }
    if !allow_private && !is_public_host(&url) {
        return Err(wrong(field, "publicly reachable; this address is private"));
    }
    Ok(())
}

/// Whether the host can be public: names are unless reserved for private use (RFC 6761, RFC 6762).
pub(super) fn is_public_host(url: &Url) -> bool {
    match url.host() {
        None => false,
        Some(Host::Ipv4(address)) => is_public(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_public(IpAddr::V6(address)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let private = ["localhost", "local", "internal", "lan", "home.arpa"];
            !private.iter().any(|end| name == *end || name.ends_with(&format!(".{end}")))
        }
    }
}

/// Whether an address is globally reachable (the IANA special-purpose registries).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
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

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast is 2000::/3; of it, 2001:db8::/32 is documentation, 2001::/23 is special,
    // and 2002::/16 carries an IPv4 address that nobody has checked.
    (0x2000..0x4000).contains(&a) && !(a == 0x2001 && (b == 0xdb8 || b < 0x200)) && a != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_unless_private_is_allowed() {
        for url in ["https://example.com/hook", "https://8.8.8.8/", "https://[2606:4700::1]/"] {
            assert_eq!(check("url", url, false), Ok(()), "{url}");
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
            assert_eq!(check("url", url, false).unwrap_err().status, 400, "{url}");
        }
        for url in ["http://127.0.0.1:9/", "http://localhost/x", "https://10.0.0.1/"] {
            assert_eq!(check("url", url, true), Ok(()), "{url}");
        }
        assert!(check("url", "file:///etc/passwd", true).is_err());
    }
}
