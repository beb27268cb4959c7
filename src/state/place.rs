//! Where the shared state is: the address of one server, or those of a cluster. It may hold a
//! password, and so is never shown.

use std::fmt;

use redis::Client;
use redis::cluster::ClusterClientBuilder;

/// The most addresses of a cluster.
const MOST: usize = 64;

/// Where it is.
#[derive(Clone)]
pub struct Place {
    /// Addresses that the client library reads; several only of a cluster.
    urls: Vec<String>,
    cluster: bool,
}

/// An address that cannot be used. It is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPlace {
    /// Another scheme.
    #[error(
        "an address of the shared state begins redis://, rediss:// (TLS), redis-cluster:// or rediss-cluster://"
    )]
    Scheme,
    /// Several addresses that are not all of one cluster.
    #[error(
        "several addresses of the shared state, with commas, are those of one cluster: each begins redis-cluster://, or each rediss-cluster://"
    )]
    Mixed,
    /// Unreadable.
    #[error(
        "the address of the shared state cannot be read; the form is redis://user:password@host:6379/0"
    )]
    Unreadable,
}

impl Place {
    /// Reads one address, or several with commas.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn parse(text: &str) -> Result<Self, BadPlace> {
        let mut read = text.split(',').map(|part| {
            let (scheme, rest) = part.trim().split_once("://").ok_or(BadPlace::Scheme)?;
            let (scheme, cluster) = match scheme {
                "redis" | "rediss" => (scheme, false),
                "redis-cluster" => ("redis", true),
                "rediss-cluster" => ("rediss", true),
                _ => return Err(BadPlace::Scheme),
            };
            let url = format!("{scheme}://{rest}");
            Client::open(url.as_str()).map_err(|_| BadPlace::Unreadable)?;
            Ok((url, cluster, scheme == "rediss"))
        });
        let (first, cluster, tls) = read.next().ok_or(BadPlace::Scheme)??;
        let mut urls = vec![first];
        for next in read {
            let (url, also_cluster, also_tls) = next?;
            if !cluster || !also_cluster || tls != also_tls || urls.len() == MOST {
                return Err(BadPlace::Mixed);
            }
            urls.push(url);
        }
        Ok(Self { urls, cluster })
    }

    /// Whether it is a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// A client for each address.
    pub(super) fn clients(&self) -> impl Iterator<Item = redis::RedisResult<Client>> + '_ {
        self.urls.iter().map(|url| Client::open(url.as_str()))
    }

    /// What makes a client of the whole cluster.
    pub(super) fn cluster(&self) -> ClusterClientBuilder {
        ClusterClientBuilder::new(self.urls.iter().map(String::as_str))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({} hidden, cluster: {})", self.urls.len(), self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_server_or_one_cluster_and_is_never_shown() {
        for (text, expected) in [
            ("redis://127.0.0.1:6379/", Ok((1, false))),
            ("rediss://user:hunter2@redis.example/0", Ok((1, false))),
            ("redis-cluster://a,redis-cluster://b:7000", Ok((2, true))),
            ("rediss-cluster://:hunter2@a, rediss-cluster://:hunter2@b", Ok((2, true))),
            ("redis://a,redis://b", Err(BadPlace::Mixed)),
            ("redis-cluster://a,rediss-cluster://b", Err(BadPlace::Mixed)),
            ("redis-cluster://a,redis://b", Err(BadPlace::Mixed)),
            ("http://a", Err(BadPlace::Scheme)),
            ("127.0.0.1:6379", Err(BadPlace::Scheme)),
            ("", Err(BadPlace::Scheme)),
            ("redis://a:hunter2", Err(BadPlace::Unreadable)),
            ("redis://a/hunter2", Err(BadPlace::Unreadable)),
        ] {
            let place = Place::parse(text);
            assert!(!format!("{place:?}").contains("hunter2"), "{text}");
            let found = place.map(|place| (place.urls.len(), place.cluster));
            assert_eq!(found, expected, "{text}");
            if let Err(error) = found {
                assert!(!error.to_string().contains("hunter2"), "{text}");
            }
        }
    }
}
