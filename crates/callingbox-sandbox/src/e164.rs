//! A telephone number in E.164 form (ITU-T E.164: `+`, a country code, at most 15 digits).
//!
//! Syntax only: whether the number is assigned, dangerous or asleep is for `dialing` to say. The
//! digits leave this type only through [`E164::as_str`]; everything that prints shows a mask.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A syntactically valid E.164 number. `Debug` and `Display` print it masked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct E164(String);

/// Why a text is not an E.164 number. The text itself is not repeated: it may be a real number. Nor is a
/// whole number given as an example: standard error shows it masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an E.164 number: write + and the country code, such as +1, then the rest of the number, digits only, at most 15 in all"
)]
pub(crate) struct NotE164;

impl E164 {
    /// Reads a number; only the exact form `+` and 2 to 15 digits, the first not zero, is taken.
    ///
    /// # Errors
    /// [`NotE164`] for any other text.
    pub(crate) fn parse(text: &str) -> Result<Self, NotE164> {
        if is_well_formed(text) { Ok(Self(text.to_owned())) } else { Err(NotE164) }
    }

    /// The whole number with its `+`, for the wire and for the human who is asked.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The number with its middle hidden: enough to recognize, not enough to dial.
    #[must_use]
    pub(crate) fn masked(&self) -> String {
        mask(&self.0)
    }
}

fn is_well_formed(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

/// Hides the middle of anything that may be a telephone number: at most the first four and the
/// last two characters stay, and never more than half.
#[must_use]
pub(crate) fn mask(number: &str) -> String {
    let length = number.chars().count();
    let (head, tail) = if length >= 12 { (4, 2) } else { (length / 4, length / 6) };
    number
        .chars()
        .enumerate()
        .map(|(at, c)| if at < head || at + tail >= length { c } else { '*' })
        .collect()
}

impl FromStr for E164 {
    type Err = NotE164;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for E164 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_well_formed(&text) { Ok(Self(text)) } else { Err(serde::de::Error::custom(NotE164)) }
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E164({})", self.masked())
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_exactly_the_form_of_the_contract() {
        for good in ["+14155550100", "+15551234567", "+12", "+123456789012345"] {
            assert_eq!(E164::parse(good).map(|n| n.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in [
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
            assert_eq!(E164::parse(bad), Err(NotE164), "{bad:?}");
        }
    }

    #[test]
    fn printing_never_shows_the_whole_number() {
        for text in ["+14155550123", "+12", "+4930123456", "+123456789012345"] {
            let number = E164::parse(text).unwrap();
            for shown in [format!("{number}"), format!("{number:?}"), number.masked()] {
                assert!(!shown.contains(text), "{shown}");
                assert!(shown.contains('*'), "{shown}");
            }
        }
        assert_eq!(E164::parse("+14155550123").unwrap().masked(), "+141******23");
    }
}
