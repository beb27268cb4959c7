//! Facts about a number: its country, its type, and the time zones in which its owner may be. Whether it may be dialed
//! is decided by the policy. A number need not be assigned: `+15551234567` of the documentation is a valid destination
//! of which only the calling code is known.
//!
//! Country and type come from `rlibphonenumber`. It was chosen over `phonenumber` in November 2026:
//!
//! | | `rlibphonenumber` 2.2.15 | `phonenumber` 0.3.10 |
//! |---|---|---|
//! | first lookup (loads the metadata) | 3 ms | 60 ms |
//! | adds to a release binary | 0.6 MB | 3.3 MB |
//! | edition, minimum Rust | 2024, 1.88 | 2021, 1.76 |
//! | `+390612345678` (Rome) | IT, fixed line | no country, unknown (drops the leading zero) |
//! | crates at run time | 42 | 47 |
//!
//! Its feature `lite` matches patterns with `regex-lite`. With `regex` a lookup takes 2 us instead of 13 once the
//! patterns are compiled, but 9 ms instead of 3 the first time and 4 ms instead of 0.1 for the first number of each
//! country, and it uses 7 MB more. Both gave the same results for 1.1 million numbers.
//!
//! Time zones come from libphonenumber's own table, and emergency numbers from its short-number metadata; neither
//! crate has them. See `data/README.md`.

mod country_code;
mod emergency;
mod number_type;
mod time_zones;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat};

pub use self::country_code::{CountryCode, InvalidCountryCode};
pub use self::number_type::NumberType;
pub use self::time_zones::TimeZones;
use callingbox::E164;

/// No subscriber number has so few digits, the calling code included: the shortest, in Niue and on Saint Helena, have
/// seven.
const MAX_SHORT_NUMBER_DIGITS: usize = 6;
/// The longest emergency number in the table.
const MAX_EMERGENCY_DIGITS: usize = 7;

/// What is known about a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// The country, if the number belongs to one.
    pub country: Option<CountryCode>,
    /// The calling code, such as 1 or 44; `None` if the number begins with none that is assigned.
    pub calling_code: Option<u16>,
    pub number_type: NumberType,
    /// The time zones in which its owner may be.
    pub zones: TimeZones,
    /// The E.164 form of a number that is written with a national prefix after its calling code. A carrier may dial
    /// such a number, but rules and limits would not recognize it.
    pub canonical: Option<E164>,
}

impl Destination {
    /// Looks up a number. The first call loads the metadata in about 3 ms; later calls take microseconds.
    #[must_use]
    pub fn from_number(number: &E164) -> Self {
        let digits = number.digits();
        let parsed = PHONE_NUMBER_UTIL.parse(number.as_str(), None).ok();
        let calling_code = parsed
            .as_ref()
            .and_then(|parsed| u16::try_from(parsed.country_code).ok())
            .or_else(|| find_calling_code(digits));
        let country = parsed
            .as_ref()
            .and_then(|parsed| PHONE_NUMBER_UTIL.get_region_for_number(parsed))
            .and_then(CountryCode::from_region);
        let canonical = parsed
            .as_ref()
            .map(|parsed| PHONE_NUMBER_UTIL.format(parsed, PhoneNumberFormat::E164))
            .and_then(|text| E164::parse(&text).ok())
            .filter(|canonical| canonical != number);
        let number_type = find_restricted_type(digits, calling_code).unwrap_or_else(|| {
            parsed.map_or(NumberType::Unknown, |parsed| {
                PHONE_NUMBER_UTIL.get_number_type(&parsed).into()
            })
        });
        let zones = match number_type {
            NumberType::Emergency
            | NumberType::Short
            | NumberType::Premium
            | NumberType::TollFree => TimeZones::Unspecified,
            _ => TimeZones::find(digits, calling_code),
        };
        Self { country, calling_code, number_type, zones, canonical }
    }
}

/// The types that are determined from the digits alone, whether or not the number could be assigned. When in doubt, a
/// number counts as an emergency or premium number.
fn find_restricted_type(digits: &str, calling_code: Option<u16>) -> Option<NumberType> {
    let code = calling_code.map(|code| code.to_string()).unwrap_or_default();
    let national = digits.strip_prefix(&code).unwrap_or(digits);
    // The number without national prefixes, which do not belong there.
    let bare = national.trim_start_matches(if calling_code == Some(1) { '1' } else { '0' });
    let is_emergency = digits.len() <= MAX_SHORT_NUMBER_DIGITS
        && emergency::is_emergency_number(digits, None)
        || [national, bare].into_iter().any(|national| {
            national.len() <= MAX_EMERGENCY_DIGITS
                && emergency::is_emergency_number(national, calling_code)
        })
        // The crisis line of the United States and Canada, and area codes that the North American plan leaves
        // unassigned because they look like a service (N11, 988).
        || calling_code == Some(1) && (bare.starts_with("911") || bare.starts_with("988"));
    let is_premium = match calling_code {
        // Area code 900, and the international premium-rate service.
        Some(1) => bare.starts_with("900"),
        Some(979) => true,
        // Ofcom's numbering plan: all numbers in 09.
        Some(44) => bare.starts_with('9'),
        _ => false,
    };
    if is_emergency {
        Some(NumberType::Emergency)
    } else if digits.len() <= MAX_SHORT_NUMBER_DIGITS
        || calling_code == Some(1) && national.len() < 7
    {
        Some(NumberType::Short)
    } else {
        is_premium.then_some(NumberType::Premium)
    }
}

/// The calling code of a number that is too short to be parsed. Calling codes have one to three digits, and none is a
/// prefix of another (ITU-T E.164).
fn find_calling_code(digits: &str) -> Option<u16> {
    (1..=3).find_map(|length| {
        let code: u16 = digits.get(..length)?.parse().ok()?;
        PHONE_NUMBER_UTIL
            .get_regions_for_country_calling_code(code.into())
            .is_some()
            .then_some(code)
    })
}

/// The rows of a table in `data/`.
fn table_rows(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(number: &str) -> Destination {
        Destination::from_number(&E164::parse(number).unwrap())
    }

    fn zone_names(destination: &Destination) -> Vec<&str> {
        destination.zones.known().iter().map(|zone| zone.iana_name().unwrap()).collect()
    }

    #[test]
    fn country_type_and_zones_of_numbers() {
        for (number, code, country, number_type, zones) in [
            ("+14155550100", 1, "US", NumberType::FixedOrMobile, &["America/Los_Angeles"][..]),
            ("+12125550100", 1, "US", NumberType::FixedOrMobile, &["America/New_York"]),
            // Idaho: the prefix spans two zones, but one exchange is in one of them.
            (
                "+12082995678",
                1,
                "US",
                NumberType::FixedOrMobile,
                &["America/Boise", "America/Los_Angeles"],
            ),
            ("+12082015678", 1, "US", NumberType::FixedOrMobile, &["America/Denver"]),
            ("+16025550100", 1, "US", NumberType::FixedOrMobile, &["America/Phoenix"]),
            ("+18765551234", 1, "JM", NumberType::Mobile, &["America/Jamaica"]),
            ("+493012345678", 49, "DE", NumberType::Fixed, &["Europe/Berlin"]),
            ("+390612345678", 39, "IT", NumberType::Fixed, &["Europe/Rome"]),
            ("+919876543210", 91, "IN", NumberType::Mobile, &["Asia/Calcutta"]),
            ("+442071838750", 44, "GB", NumberType::Fixed, &["Europe/London"]),
            // Unassigned, or without a time zone.
            ("+15551234567", 1, "", NumberType::Unknown, &[]),
            ("+18005550100", 1, "US", NumberType::TollFree, &[]),
            ("+448001234567", 44, "GB", NumberType::TollFree, &[]),
            ("+80012345678", 800, "", NumberType::TollFree, &[]),
            // Types that are never dialed.
            ("+19005550100", 1, "US", NumberType::Premium, &[]),
            ("+19001", 1, "", NumberType::Short, &[]),
            ("+449091234567", 44, "GB", NumberType::Premium, &[]),
            ("+4490912345", 44, "", NumberType::Premium, &[]),
            ("+979123456789", 979, "", NumberType::Premium, &[]),
            ("+911123", 91, "IN", NumberType::Short, &[]),
        ] {
            let found = look_up(number);
            assert_eq!(
                (
                    found.calling_code,
                    found.country.map(|c| c.to_string()).unwrap_or_default(),
                    found.number_type
                ),
                (Some(code), country.to_owned(), number_type),
                "{number}"
            );
            assert_eq!(zone_names(&found), zones, "{number}");
        }
    }

    #[test]
    fn emergency_numbers_are_recognized_in_every_spelling() {
        for number in [
            "+911",
            "+112",
            "+999",
            "+110",
            "+1911",
            "+1112",
            "+1988",
            "+44999",
            "+44112",
            "+49112",
            "+49110",
            "+61000",
            "+81110",
            "+81119",
            "+33112",
            "+3315",
            "+15",
            "+18",
            "+19115550100",
            "+19885550100",
            "+4690000",
            "+86110",
            "+7112",
            "+64111",
            "+55190",
            "+11911",
            "+119115550100",
            "+119885551234",
            "+440999",
        ] {
            assert_eq!(look_up(number).number_type, NumberType::Emergency, "{number}");
        }
        for number in ["+14155550911", "+442079460999", "+4930112112", "+919112345678"] {
            assert_ne!(look_up(number).number_type, NumberType::Emergency, "{number}");
        }
    }

    #[test]
    fn a_national_prefix_after_the_calling_code_is_not_canonical() {
        for (number, canonical) in [
            ("+114155550100", Some("+14155550100")),
            ("+4407911123456", Some("+447911123456")),
            ("+44090912345678", Some("+4490912345678")),
            ("+14155550100", None),
            ("+390612345678", None),
            ("+5491123456789", None),
            ("+15551234567", None),
        ] {
            assert_eq!(look_up(number).canonical.as_ref().map(E164::as_str), canonical, "{number}");
        }
        assert_eq!(look_up("+44090912345678").number_type, NumberType::Premium);
    }
}
