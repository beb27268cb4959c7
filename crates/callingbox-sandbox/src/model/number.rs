//! Telephone numbers: their syntax, their types, and the numbers that an organization owns.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::records::Record;
use crate::clock::Moment;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NumberType {
    Local,
    TollFree,
}

impl NumberType {
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("local", Self::Local), ("toll_free", Self::TollFree)];
}

/// A number that the organization owns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Number {
    pub(crate) id: Uuid,
    pub(crate) e164: String,
    pub(crate) number_type: NumberType,
    pub(crate) purchased_at: Moment,
}

impl Record for Number {
    fn id(&self) -> Uuid {
        self.id
    }
}

/// Whether a text is a number in E.164 form: `+` and 2 to 15 digits, the first of which is not zero.
pub(crate) fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e164_is_a_plus_and_two_to_fifteen_digits() {
        for valid in ["+14155550100", "+15551234567", "+12", "+123456789012345"] {
            assert!(is_e164(valid), "{valid}");
        }
        for invalid in [
            "",
            "+",
            "+1",
            "14155550100",
            "+04155550100",
            "+1 415 555 0100",
            "+1415555010a",
            "+1234567890123456",
            "(415) 555-0100",
            "+１４１５５５５０１００",
            "+14155550100\n",
            "911",
        ] {
            assert!(!is_e164(invalid), "{invalid:?}");
        }
    }
}
