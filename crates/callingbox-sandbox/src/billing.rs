//! What a call costs: 5 cents a minute of connected time, by the second, rounded up to a whole
//! milli-cent; and the hold, sized for the longest allowed call of 60 minutes.

use crate::money::MilliCents;

/// Held for each call from its creation to its end.
pub(super) const HOLD: MilliCents = MilliCents::from_cents(300);
/// What a new organization begins with.
pub(super) const WELCOME: MilliCents = MilliCents::from_cents(500);
/// The monthly price of a number, charged at once when it is bought.
pub(super) const NUMBER_CENTS: u64 = 100;
/// One minute of connected time.
const MINUTE: u64 = 5_000;

/// Whole seconds of a stretch of milliseconds, a begun one counted as whole.
pub(super) fn seconds(milliseconds: i64) -> u64 {
    u64::try_from(milliseconds).unwrap_or(0).div_ceil(1_000)
}

/// The charge for connected seconds, never above the hold.
pub(super) fn charge(seconds: u64) -> MilliCents {
    MilliCents(seconds.saturating_mul(MINUTE).div_ceil(60)).min(HOLD)
}

/// The text of a refusal for lack of credit, as the dashboard guide describes it: it begins
/// `Calls paused.` and names the balance, the hold and the least amount to add.
pub(super) fn paused(available: MilliCents) -> String {
    let missing = MilliCents(HOLD.0.saturating_sub(available.0));
    format!(
        "Calls paused. Your balance of {available} is below the {HOLD} held for each call; the \
         hold is given back when nobody answers. Add at least {missing} to go on."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_second_rounded_up_to_a_whole_milli_cent() {
        for (time, amount) in [
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
            assert_eq!(charge(time), MilliCents(amount), "{time} s");
        }
        for (milliseconds, whole) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (-5, 0)] {
            assert_eq!(seconds(milliseconds), whole);
        }
    }

    #[test]
    fn the_refusal_names_the_amounts() {
        assert_eq!(
            paused(MilliCents::from_cents(188)),
            "Calls paused. Your balance of $1.88 is below the $3.00 held for each call; the hold is \
             given back when nobody answers. Add at least $1.12 to go on."
        );
    }
}
