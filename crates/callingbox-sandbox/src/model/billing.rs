//! Prices and holds, in milli-cents: thousandths of a US cent, the unit of the API's `billing_amount_milli_cents`.
//! Amounts are integers, never floats. Knows nothing of calls or organizations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in milli-cents: 100,000 of them are one US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MilliCents(pub(crate) u64);

/// Held for each call from its creation to its end: the price of the longest call, 60 minutes.
pub(crate) const CALL_HOLD: MilliCents = MilliCents::from_cents(300);
/// The monthly price of a number, charged when it is purchased.
pub(crate) const NUMBER_PRICE_CENTS: u64 = 100;
/// The price of one minute of connected time.
const MINUTE_PRICE: u64 = 5_000;

impl MilliCents {
    pub(crate) const ZERO: Self = Self(0);
    const DOLLAR: Self = Self(100_000);

    pub(crate) const fn from_cents(cents: u64) -> Self {
        Self(cents.saturating_mul(1_000))
    }

    pub(crate) const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Dollars with at least two decimals and no trailing zeros beyond them: `$3.00`, `$0.075`.
impl fmt::Display for MilliCents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:05}", self.0 % Self::DOLLAR.0);
        let fraction = fraction.trim_end_matches('0');
        write!(f, "${}.{fraction:0<2}", self.0 / Self::DOLLAR.0)
    }
}

/// Milliseconds as seconds, rounded up to a whole one.
pub(crate) fn round_up_to_seconds(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0).div_ceil(1_000)
}

/// The charge for connected seconds: by the second, rounded up to a whole milli-cent, never above the hold.
pub(crate) fn charge_for_seconds(seconds: u64) -> MilliCents {
    MilliCents(seconds.saturating_mul(MINUTE_PRICE).div_ceil(60)).min(CALL_HOLD)
}

/// The error text for insufficient credit, as the dashboard guide describes it: it begins with `Calls paused.` and
/// names the balance, the hold and the smallest amount to add.
pub(crate) fn calls_paused_message(available: MilliCents) -> String {
    let missing = CALL_HOLD.saturating_sub(available);
    format!(
        "Calls paused. Your balance of {available} is below the {CALL_HOLD} held for each call; the \
         hold is given back when nobody answers. Add at least {missing} to go on."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_charged_by_the_second() {
        for (seconds, amount) in [
            (0, 0),
            (1, 84),
            (2, 167),
            (3, 250),
            (47, 3_917),
            (60, 5_000),
            (90, 7_500),
            (1_800, 150_000),
            (9_999, 300_000),
        ] {
            assert_eq!(charge_for_seconds(seconds), MilliCents(amount), "{seconds} s");
        }
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (-5, 0)] {
            assert_eq!(round_up_to_seconds(millis), seconds);
        }
    }

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

    #[test]
    fn the_calls_paused_message_names_the_amounts() {
        assert_eq!(
            calls_paused_message(MilliCents::from_cents(188)),
            "Calls paused. Your balance of $1.88 is below the $3.00 held for each call; the hold is \
             given back when nobody answers. Add at least $1.12 to go on."
        );
    }
}
