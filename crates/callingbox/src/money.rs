//! Money in thousandths of a US cent, the unit of the API's `billing_amount_milli_cents`. Amounts are integers, never
//! floating-point numbers.

use std::fmt;
use std::str::FromStr;

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

    /// The exact amount as it is parsed, without a sign: `5.00`, `0.00001`.
    #[must_use]
    pub fn to_exact_dollars(self) -> String {
        let fraction = format!("{:05}", self.0 % Self::DOLLAR.0);
        format!("{}.{:0<2}", self.0 / Self::DOLLAR.0, fraction.trim_end_matches('0'))
    }

    /// The sum, or the largest amount if the sum is larger.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// So many times the amount, or the greatest amount if that is less.
    #[must_use]
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

/// A text is not an amount of dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected US dollars such as 5.00, with at most nine digits before the point and five after it"
)]
pub struct InvalidDollars;

/// Reads `10`, `10.5` and `0.00001` as dollars.
impl FromStr for MilliCents {
    type Err = InvalidDollars;

    fn from_str(text: &str) -> Result<Self, InvalidDollars> {
        let (dollars, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str, max_digits| {
            (1..=max_digits).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        };
        if !is_number(dollars, 9) || !is_number(fraction, 5) {
            return Err(InvalidDollars);
        }
        let dollars: u64 = dollars.parse().map_err(|_| InvalidDollars)?;
        let fraction: u64 = format!("{fraction:0<5}").parse().map_err(|_| InvalidDollars)?;
        Ok(Self(dollars * Self::DOLLAR.0 + fraction))
    }
}

/// Dollars, rounded to the cent: `$3.00`. An amount below a cent has four decimals, rounded up: `$0.0042`.
impl fmt::Display for MilliCents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (1..1_000).contains(&self.0) {
            return write!(f, "$0.{:04}", self.0.div_ceil(10));
        }
        let cents = self.0.saturating_add(500) / 1_000;
        write!(f, "${}.{:02}", cents / 100, cents % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_printed_in_dollars() {
        for (amount, text) in [
            (0, "$0.00"),
            (1, "$0.0001"),
            (420, "$0.0042"),
            (999, "$0.0100"),
            (4_917, "$0.05"),
            (5_000, "$0.05"),
            (99_500, "$1.00"),
            (300_000, "$3.00"),
            (312_340, "$3.12"),
            (u64::MAX, "$184467440737095.51"),
        ] {
            assert_eq!(MilliCents(amount).to_string(), text);
        }
        for (text, amount, exact) in [
            ("10", 1_000_000, "10.00"),
            ("10.5", 1_050_000, "10.50"),
            ("12.34567", 1_234_567, "12.34567"),
            ("0.00001", 1, "0.00001"),
        ] {
            assert_eq!(text.parse(), Ok(MilliCents(amount)), "{text}");
            assert_eq!(MilliCents(amount).to_exact_dollars(), exact);
        }
        for text in ["", "-1", "1.", ".5", "5,00", "$5", "0.000001", "1234567890"] {
            assert_eq!(text.parse::<MilliCents>(), Err(InvalidDollars), "{text}");
        }
        assert_eq!(MilliCents::from_cents(300), MilliCents(300_000));
    }
}
