//! Everything that looks random is drawn from the seed, so that two runs with one seed give the
//! same ids, numbers, lines and delays.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Thirty-two bytes that follow from the seed and the parts alone.
pub(super) fn derive(seed: u64, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A UUID (version 4 in form) that follows from the seed and the parts.
pub(super) fn uuid(seed: u64, parts: &[&[u8]]) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = derive(seed, parts);
    uuid::Builder::from_random_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into_uuid()
}

/// A signing secret: `whsec_` and 32 hexadecimal digits.
pub(super) fn signing_secret(seed: u64, parts: &[&[u8]]) -> String {
    format!("whsec_{}", base16ct::lower::encode_string(&derive(seed, parts)[..16]))
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Own
/// code, because the sequence must never change with a dependency.
pub(super) struct Dice(u64);

impl Dice {
    /// Dice that follow from the seed and the parts.
    pub(super) fn new(seed: u64, parts: &[&[u8]]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = derive(seed, parts);
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The next throw.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A throw from 0 up to, not including, `bound`; 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// One of the items; the default when there is none.
    pub(super) fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        let at = usize::try_from(self.below(items.len() as u64)).unwrap_or(0);
        items.get(at).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_and_another_gives_another() {
        let id = uuid(7, &[b"call", b"1"]);
        assert_eq!(id, uuid(7, &[b"call", b"1"]));
        assert_eq!(id.get_version_num(), 4);
        assert_ne!(id, uuid(8, &[b"call", b"1"]));
        // The parts are set apart, not run together.
        assert_ne!(uuid(7, &[b"ab", b"c"]), uuid(7, &[b"a", b"bc"]));
        assert_eq!(signing_secret(1, &[b"x"]).len(), 38);
        let mut dice = Dice(0);
        assert_eq!(dice.next(), 0xE220_A839_7B1D_CDAF);
    }
}
