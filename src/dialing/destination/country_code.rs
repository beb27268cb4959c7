//! Countries, as the calling rules name them.

use std::fmt;

use rlibphonenumber::{PHONE_NUMBER_UTIL, Region};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_with::SerializeDisplay;

/// The ISO 3166-1 alpha-2 code of a country that has phone numbers, such as `US`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, SerializeDisplay, JsonSchema)]
#[schemars(with = "String", inline, extend("pattern" = "^[A-Z]{2}$"))]
pub struct CountryCode([u8; 2]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a country: write two capital letters (ISO 3166-1), such as US")]
pub struct InvalidCountryCode(String);

impl CountryCode {
    pub const UNITED_STATES: Self = Self(*b"US");
    pub const CANADA: Self = Self(*b"CA");

    /// # Errors
    /// The text is not two capital letters, or no country with phone numbers has this code.
    pub fn parse(text: &str) -> Result<Self, InvalidCountryCode> {
        Region::from_code(text)
            .ok()
            .filter(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(*region).is_some())
            .and_then(Self::from_region)
            .filter(|code| code.as_str() == text)
            .ok_or_else(|| InvalidCountryCode(text.chars().take(20).collect()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// `None` for a region that is no country, such as international toll-free numbers, whose code has three digits.
    pub(super) fn from_region(region: Region) -> Option<Self> {
        region.as_region_str().as_bytes().try_into().ok().map(Self)
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CountryCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_code_is_two_capital_letters_of_a_country_with_phone_numbers() {
        assert_eq!(CountryCode::parse("US").unwrap().as_str(), "US");
        for invalid in ["us", "USA", "001", "", "ZZ", "U"] {
            assert_eq!(CountryCode::parse(invalid), Err(InvalidCountryCode(invalid.to_owned())));
        }
    }
}
