//! A telephone number in E.164 form (ITU-T E.164: `+`, a country code, at most 15 digits). Only the syntax is checked.
//!
//! The digits leave the type only through [`E164::as_str`] and [`E164::digits`]; everything that prints shows a mask.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::string_schema;

/// A syntactically valid E.164 number. `Debug` and `Display` print it masked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct E164(String);

/// The text is not an E.164 number. The text itself is not repeated, because it may be a real number, and the message
/// has no example, because logs would mask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an E.164 number: write + and the country code, such as +1, then the rest of the number, digits only, at most 15 in all"
)]
pub struct InvalidE164;

impl E164 {
    /// The pattern of a number, from the API's contract.
    pub const PATTERN: &'static str = r"^\+[1-9][0-9]{1,14}$";

    /// Reads a number: `+` and 2 to 15 digits, the first of them not zero.
    ///
    /// # Errors
    /// [`InvalidE164`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidE164> {
        let is_well_formed = text.strip_prefix('+').is_some_and(|digits| {
            (2..=15).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.starts_with('0')
        });
        if is_well_formed { Ok(Self(text.to_owned())) } else { Err(InvalidE164) }
    }

    /// The whole number with its `+`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number without its `+`.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.0.strip_prefix('+').unwrap_or(&self.0)
    }

    /// The number with its middle hidden, so that a person recognizes it and cannot dial it.
    #[must_use]
    pub fn masked(&self) -> String {
        mask_number(&self.0)
    }
}

/// Hides the middle of a text that may be a telephone number. At most the first four and the last two characters stay,
/// and never more than half of them.
#[must_use]
pub fn mask_number(number: &str) -> String {
    let length = number.chars().count();
    let (head, tail) = if length >= 12 { (4, 2) } else { (length / 4, length / 6) };
    number
        .chars()
        .enumerate()
        .map(|(index, c)| if index < head || index + tail >= length { c } else { '*' })
        .collect()
}

impl FromStr for E164 {
    type Err = InvalidE164;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for E164 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

string_schema!(E164, {"type": "string", "pattern": E164::PATTERN});

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
    fn only_the_form_of_the_contract_is_a_number() {
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
            assert_eq!(E164::parse(bad), Err(InvalidE164), "{bad:?}");
        }
    }

    #[test]
    fn a_printed_number_is_masked() {
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
