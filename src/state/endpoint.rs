//! The address of the shared state: one server, or the nodes of one cluster. It may contain a password, so it is
//! never printed.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo};

/// The most addresses of one cluster.
const MAX_NODES: usize = 64;

/// One server, or one cluster.
#[derive(Clone)]
pub struct RedisEndpoint {
    /// More than one only for a cluster.
    pub(super) nodes: Vec<ConnectionInfo>,
    pub(super) is_cluster: bool,
}

/// An address that cannot be used. The error does not repeat it, because it may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedisUrl {
    /// The scheme is none of the four.
    #[error(
        "the address must begin with redis://, rediss:// (TLS), redis-cluster:// or rediss-cluster://"
    )]
    Scheme,
    /// Several addresses that are not all of one cluster.
    #[error(
        "several addresses, separated by commas, must be the nodes of one cluster: begin each with redis-cluster://, or each with rediss-cluster://"
    )]
    Mixed,
    /// The rest of the address.
    #[error("the address is malformed; write it as redis://user:password@host:6379/0")]
    Malformed,
}

impl RedisEndpoint {
    /// Parses one address, or several separated by commas.
    ///
    /// # Errors
    /// An address is invalid, or the addresses are not those of one cluster.
    pub fn parse(text: &str) -> Result<Self, InvalidRedisUrl> {
        let mut parsed = text.split(',').map(|part| {
            let (scheme, rest) = part.trim().split_once("://").ok_or(InvalidRedisUrl::Scheme)?;
            let (scheme, is_cluster) = match scheme {
                "redis" | "rediss" => (scheme, false),
                "redis-cluster" => ("redis", true),
                "rediss-cluster" => ("rediss", true),
                _ => return Err(InvalidRedisUrl::Scheme),
            };
            let node = format!("{scheme}://{rest}").into_connection_info();
            Ok((node.map_err(|_| InvalidRedisUrl::Malformed)?, is_cluster, scheme == "rediss"))
        });
        let (first, is_cluster, uses_tls) = parsed.next().ok_or(InvalidRedisUrl::Scheme)??;
        let mut nodes = vec![first];
        for next in parsed {
            let (node, next_is_cluster, next_uses_tls) = next?;
            let fits = is_cluster && next_is_cluster && uses_tls == next_uses_tls;
            if !fits || nodes.len() == MAX_NODES {
                return Err(InvalidRedisUrl::Mixed);
            }
            nodes.push(node);
        }
        Ok(Self { nodes, is_cluster })
    }
}

impl fmt::Debug for RedisEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, is_cluster) = (self.nodes.len(), self.is_cluster);
        write!(f, "RedisEndpoint({nodes} hidden, cluster: {is_cluster})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_server_or_one_cluster_and_is_never_printed() {
        for (text, expected) in [
            ("redis://127.0.0.1:6379/", Ok((1, false))),
            ("rediss://user:hunter2@redis.example/0", Ok((1, false))),
            ("redis-cluster://a,redis-cluster://b:7000", Ok((2, true))),
            ("rediss-cluster://:hunter2@a, rediss-cluster://:hunter2@b", Ok((2, true))),
            ("redis://a,redis://b", Err(InvalidRedisUrl::Mixed)),
            ("redis-cluster://a,rediss-cluster://b", Err(InvalidRedisUrl::Mixed)),
            ("redis-cluster://a,redis://b", Err(InvalidRedisUrl::Mixed)),
            ("http://a", Err(InvalidRedisUrl::Scheme)),
            ("127.0.0.1:6379", Err(InvalidRedisUrl::Scheme)),
            ("", Err(InvalidRedisUrl::Scheme)),
            ("redis://a:hunter2", Err(InvalidRedisUrl::Malformed)),
            ("redis://a/hunter2", Err(InvalidRedisUrl::Malformed)),
        ] {
            let endpoint = RedisEndpoint::parse(text);
            assert!(!format!("{endpoint:?}").contains("hunter2"), "{text}");
            let found = endpoint.map(|endpoint| (endpoint.nodes.len(), endpoint.is_cluster));
            assert_eq!(found, expected, "{text}");
            if let Err(error) = found {
                assert!(!error.to_string().contains("hunter2"), "{text}");
            }
        }
    }
}
