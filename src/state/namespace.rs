//! Key names: one prefix for the program, and a namespace for each owner of keys.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The first part of every key: the program and the version of the key layout. A layout that older programs cannot
/// read gets a new version.
pub const KEY_PREFIX: &str = "callingbox-mcp:v1";

/// The owner of some keys, as a hash that reveals nothing about the owner. One owner cannot name the keys of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateNamespace(String);

impl StateNamespace {
    /// The namespace of an owner that these parts identify together.
    #[must_use]
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new_with_prefix(b"callingbox-mcp scope");
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(short_hex(&hash.finalize().into()))
    }

    /// A key in this namespace. The hash tag keeps all keys of a namespace in one slot of a cluster.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{KEY_PREFIX}:{{{}}}:{name}", self.0)
    }
}

/// The first half of a hash, in hexadecimal.
pub(super) fn short_hex(hash: &[u8; 32]) -> String {
    base16ct::lower::encode_string(&hash[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_differ_however_the_parts_are_split() {
        let namespaces = [
            StateNamespace::new(&[b"ab", b"c"]),
            StateNamespace::new(&[b"a", b"bc"]),
            StateNamespace::new(&[b"abc"]),
            StateNamespace::new(&[b"abc", b""]),
        ];
        for (index, namespace) in namespaces.iter().enumerate() {
            assert_eq!(namespaces.iter().position(|other| other == namespace), Some(index));
        }
    }
}
