//! The address of a peer, as limits count it. Behind a proxy all peers have the proxy's address.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the part of an IPv6 address that a provider assigns to one customer (/64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddress(IpAddr);

impl PeerAddress {
    /// Stands for a peer whose address is unknown.
    pub const UNKNOWN: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

    /// The peer of a request, which the listener attaches to it.
    #[must_use]
    pub fn from_extensions(extensions: &http::Extensions) -> Self {
        extensions.get::<Self>().copied().unwrap_or(Self::UNKNOWN)
    }
}

impl From<IpAddr> for PeerAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << 64);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 => v4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_customer_are_one_peer() {
        let peer = |text: &str| PeerAddress::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.2"), peer("192.0.2.1"));
    }
}
