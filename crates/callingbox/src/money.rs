//! Money in thousandths of a US cent, the unit of the API's `billing_amount_milli_cents`. Amounts are integers, never
//! floating-point numbers.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An amount in thousandths of a US cent: 100,000 are one US dollar.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct MilliCents(pub u64);

impl MilliCents {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// One US dollar.
    pub const DOLLAR: Self = Self(100_000);

    /// An amount in whole cents, the unit of the prices of numbers.
    #[must_use]
    pub const fn from_cents(cents: u64) -> Self {
        Self(cents.saturating_mul(1_000))
    }

    /// The sum, or the largest amount if the sum is larger.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Dollars with at least two decimals: `$3.00`, `$0.075`.
impl fmt::Display for MilliCents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:05}", self.0 % Self::DOLLAR.0);
        let fraction = fraction.trim_end_matches('0');
        write!(f, "${}.{fraction:0<2}", self.0 / Self::DOLLAR.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_printed_in_dollars() {
        for (amount, text) in [
            (0, "$0.00"),
            (1, "$0.00001"),
            (5_000, "$0.05"),
            (7_500, "$0.075"),
            (300_000, "$3.00"),
            (312_340, "$3.1234"),
        ] {
            assert_eq!(MilliCents(amount).to_string(), text);
        }
        assert_eq!(MilliCents::from_cents(300), MilliCents(300_000));
    }
}
