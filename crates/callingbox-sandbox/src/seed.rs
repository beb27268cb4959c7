//! Derives everything that looks random from the seed, so that two runs with one seed give the same ids, numbers,
//! spoken lines and delays. Knows nothing of what the values are for.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Derives 32 bytes from the seed and the parts alone.
fn derive_bytes(seed: u64, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Derives a UUID (version 4 in form) from the seed and the parts.
pub(crate) fn derive_uuid(seed: u64, parts: &[&[u8]]) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = derive_bytes(seed, parts);
    uuid::Builder::from_random_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into_uuid()
}

/// Derives a webhook signing secret: `whsec_` and 32 hexadecimal digits.
pub(crate) fn derive_signing_secret(seed: u64, parts: &[&[u8]]) -> String {
    format!("whsec_{}", base16ct::lower::encode_string(&derive_bytes(seed, parts)[..16]))
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). It is implemented here
/// because its sequence must never change with a dependency.
pub(crate) struct SeededRng(u64);

impl SeededRng {
    pub(crate) fn new(seed: u64, parts: &[&[u8]]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = derive_bytes(seed, parts);
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not including, `bound`; 0 when `bound` is 0.
    pub(crate) fn next_below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// One of the items; an empty text when there are none.
    pub(crate) fn pick_from<'a>(&mut self, items: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.next_below(items.len() as u64)).unwrap_or(0);
        items.get(index).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_from_seed_and_parts() {
        let id = derive_uuid(7, &[b"call", b"1"]);
        assert_eq!(id, derive_uuid(7, &[b"call", b"1"]));
        assert_eq!(id.get_version_num(), 4);
        assert_ne!(id, derive_uuid(8, &[b"call", b"1"]));
        // The parts are kept apart, not concatenated.
        assert_ne!(derive_uuid(7, &[b"ab", b"c"]), derive_uuid(7, &[b"a", b"bc"]));
        assert_eq!(derive_signing_secret(1, &[b"x"]).len(), 38);
        // The first value that the paper's reference implementation gives for state 0.
        assert_eq!(SeededRng(0).next_u64(), 0xE220_A839_7B1D_CDAF);
    }
}
