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
//! Time zones, premium prefixes and emergency numbers come from tables; see `data/README.md`.

mod country_code;
mod number_type;
mod restricted;
mod time_zones;
mod zone_data;

use std::fmt;
use std::ops::RangeInclusive;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, Region,
};

pub use self::country_code::{CountryCode, InvalidCountryCode};
pub use self::number_type::NumberType;
use self::time_zones::NumberPlace;
pub use self::time_zones::{TimeZones, list_missing_zones};
pub use self::zone_data::ZoneData;
use callingbox::{E164, InvalidE164};

/// No subscriber number has so few digits, the calling code included: the shortest, in Niue and on Saint Helena, have
/// seven.
const MAX_SHORT_NUMBER_DIGITS: usize = 6;
/// A text of so few digits is the number of a service, as it is dialed: no subscriber has one without an area code.
const SERVICE_DIGITS: RangeInclusive<usize> = 3..=4;
/// The national prefix of most countries. libphonenumber removes it only where it expects it.
const TRUNK_PREFIX: &str = "0";
/// Prefixes with which numbers of Mexico were dialed until 2020, the newest plan of which libphonenumber knows.
const MEXICAN_TRUNK_PREFIXES: [&str; 4] = ["044", "045", "01", "1"];
/// Countries where a mobile number has the area code of its owner's home: Mexico, Argentina, Brazil.
const MOBILE_WITH_AREA_CODE: [u16; 3] = [52, 54, 55];
/// A number in E.164 form has at most 15 digits.
const MAX_NATIONAL_DIGITS: u32 = 14;

/// What is known about a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// The country, if the number can only belong to this one.
    pub country: Option<CountryCode>,
    /// The calling code, such as 1 or 44; `None` if the number begins with none that is assigned.
    pub calling_code: Option<u16>,
    pub number_type: NumberType,
    /// The time zones in which its owner may be.
    pub zones: TimeZones,
    /// Why no telephone has this number as it is written.
    pub fault: Option<NumberFault>,
}

/// Why no telephone has a number as it is written. A carrier may dial such a number all the same, but rules and limits
/// would not recognize the telephone that rings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberFault {
    /// It has a national prefix after its calling code. This is the same number without it.
    NationalPrefix(E164),
    /// No number of this calling code has so many digits.
    Length(u16),
    /// It begins with no calling code that is assigned.
    CallingCode,
}

impl fmt::Display for NumberFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NationalPrefix(canonical) => write!(
                f,
                "it has a national prefix after its calling code; its E.164 form is {}",
                canonical.as_str()
            ),
            Self::Length(code) => {
                write!(f, "a number that begins with +{code} has {}", describe_lengths(*code))
            }
            Self::CallingCode => f.write_str("it begins with no country's calling code"),
        }
    }
}

impl Destination {
    /// Looks up a number. The first call loads the metadata in about 3 ms; later calls take microseconds.
    #[must_use]
    pub fn from_number(number: &E164) -> Self {
        let digits = number.digits();
        let parsed = parse(number.as_str());
        let calling_code = parsed
            .as_ref()
            .and_then(|parsed| u16::try_from(parsed.country_code).ok())
            .or_else(|| find_calling_code(digits));
        let country = parsed
            .as_ref()
            .and_then(|parsed| PHONE_NUMBER_UTIL.get_region_for_number(parsed))
            .and_then(CountryCode::from_region);
        let canonical = canonical_form(number);
        let fault = match calling_code {
            None => Some(NumberFault::CallingCode),
            Some(_) if canonical != *number => Some(NumberFault::NationalPrefix(canonical)),
            Some(code) => (!parsed.as_ref().is_some_and(has_possible_length))
                .then_some(NumberFault::Length(code)),
        };
        let valid_type = parsed
            .as_ref()
            .map_or(NumberType::Unknown, |parsed| PHONE_NUMBER_UTIL.get_number_type(parsed).into());
        let number_type = find_type(digits, calling_code, valid_type);
        let is_geographic = number_type == NumberType::Fixed
            || calling_code.is_some_and(|code| MOBILE_WITH_AREA_CODE.contains(&code));
        let zones = if number_type.has_no_place() || fault.is_some() {
            TimeZones::Unspecified
        } else {
            TimeZones::find(NumberPlace { digits, calling_code, country, is_geographic })
        };
        Self { country, calling_code, number_type, zones, fault }
    }
}

/// The E.164 form of a number: without the national prefixes after its calling code, in whatever number.
#[must_use]
pub fn canonical_form(number: &E164) -> E164 {
    let mut canonical = number.clone();
    // Each turn removes a digit or more.
    while let Some(shorter) = remove_national_prefix(&canonical) {
        canonical = shorter;
    }
    canonical
}

/// The E.164 form of a number as it is dialed in a country, such as `(415) 555-0100` in the United States; `None` for what
/// is no number.
#[must_use]
pub fn parse_national(text: &str, country: CountryCode) -> Option<E164> {
    let region = Region::from_code(country.as_str()).ok()?;
    let parsed = PHONE_NUMBER_UTIL.parse(text, Some(region)).ok()?;
    E164::parse(&PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::E164)).ok()
}

/// Reads a number that is to be called. A number that is never dialed may be written in any way, such as `911`, so that it
/// is refused for what it is; any other must be in E.164 form.
///
/// # Errors
/// It is neither.
pub fn parse_callee(text: &str) -> Result<E164, InvalidE164> {
    E164::parse(text).or_else(|invalid| {
        let text = text.strip_prefix("tel:").unwrap_or(text);
        let plain: String = text.chars().filter(|letter| !" -.()/".contains(*letter)).collect();
        let number = match plain.strip_prefix('+') {
            Some(digits) => E164::parse(&plain).or_else(|_| complete_service_number(digits)),
            None => complete_service_number(&plain),
        }?;
        let is_never_dialed = Destination::from_number(&number).number_type.is_never_dialed();
        if is_never_dialed { Ok(number) } else { Err(invalid) }
    })
}

/// Adds a calling code to the digits of a service, as they are dialed in a country: one whose emergency number they are,
/// North America if it is among them.
fn complete_service_number(digits: &str) -> Result<E164, InvalidE164> {
    let code = restricted::find_emergency_code(digits, Some(1))
        .or_else(|| restricted::find_emergency_code(digits, None))
        .or_else(|| SERVICE_DIGITS.contains(&digits.len()).then_some(1))
        .ok_or(InvalidE164)?;
    E164::parse(&format!("+{code}{digits}"))
}

fn remove_national_prefix(number: &E164) -> Option<E164> {
    let parsed = parse(number.as_str())?;
    let formatted =
        E164::parse(&PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::E164)).ok()?;
    if formatted.digits().len() < number.digits().len() {
        return Some(formatted);
    }
    if PHONE_NUMBER_UTIL.is_valid_number(&parsed) {
        return None;
    }
    let code = parsed.country_code;
    let national = number.digits().strip_prefix(&code.to_string())?;
    let mexican = MEXICAN_TRUNK_PREFIXES.iter().filter(|_| code == 52).copied();
    mexican.chain([TRUNK_PREFIX]).find_map(|prefix| {
        let shorter = format!("+{code}{}", national.strip_prefix(prefix)?);
        let is_valid = PHONE_NUMBER_UTIL.is_valid_number(&parse(&shorter)?);
        is_valid.then(|| E164::parse(&shorter).ok()).flatten()
    })
}

fn parse(number: &str) -> Option<PhoneNumber> {
    PHONE_NUMBER_UTIL.parse(number, None).ok()
}

/// Whether numbers of this country have so many digits. The lengths without an area code do not count: such a number
/// cannot be dialed from elsewhere.
fn has_possible_length(number: &PhoneNumber) -> bool {
    PHONE_NUMBER_UTIL.is_possible_number_with_reason(number) == Ok(NumberLengthType::IsPossible)
}

/// Such as `11 digits` or `7 to 15 digits`, the calling code included.
fn describe_lengths(calling_code: u16) -> String {
    let country_code = i32::from(calling_code);
    let is_possible = |digits: &u32| {
        let national_number = 10_u64.pow(digits - 1);
        has_possible_length(&PhoneNumber {
            country_code,
            national_number,
            ..PhoneNumber::default()
        })
    };
    let code_digits = calling_code.to_string().len();
    let mut lengths =
        (1..=MAX_NATIONAL_DIGITS).filter(is_possible).map(|digits| digits as usize + code_digits);
    match (lengths.next(), lengths.next_back()) {
        (Some(shortest), Some(longest)) => format!("{shortest} to {longest} digits"),
        (Some(only), None) => format!("{only} digits"),
        _ => "another number of digits".to_owned(),
    }
}

/// The type of a number. When in doubt, a number counts as an emergency or premium number: additional digits do not keep
/// the telephone that is meant from ringing. `valid_type` is that of an assignable number, otherwise unknown.
fn find_type(digits: &str, calling_code: Option<u16>, valid_type: NumberType) -> NumberType {
    let code = calling_code.map(|code| code.to_string()).unwrap_or_default();
    let national = digits.strip_prefix(&code).unwrap_or(digits);
    // The number without national prefixes, which do not belong there.
    let bare = national.trim_start_matches(if calling_code == Some(1) { '1' } else { '0' });
    let is_unknown = valid_type == NumberType::Unknown;
    if is_emergency(digits, [national, bare], calling_code, is_unknown) {
        return NumberType::Emergency;
    }
    if digits.len() <= MAX_SHORT_NUMBER_DIGITS || calling_code == Some(1) && national.len() < 7 {
        return NumberType::Short;
    }
    let is_premium = match calling_code {
        // 976 after the area code; libphonenumber has it as any other exchange.
        Some(1) if bare.get(3..6) == Some("976") => true,
        // The international premium-rate service.
        Some(979) => true,
        _ => {
            is_unknown
                && [digits, &format!("{code}{bare}")]
                    .into_iter()
                    .any(restricted::begins_like_premium_number)
        }
    };
    match calling_code {
        _ if is_premium => NumberType::Premium,
        Some(870 | 881 | 882 | 883) => NumberType::Satellite,
        // Personal numbers of the International Telecommunication Union.
        Some(878) => NumberType::Personal,
        _ => valid_type,
    }
}

fn is_emergency(
    digits: &str,
    national: [&str; 2],
    calling_code: Option<u16>,
    is_unknown: bool,
) -> bool {
    let [_, bare] = national;
    digits.len() <= MAX_SHORT_NUMBER_DIGITS && restricted::is_emergency_number(digits, None)
        || is_unknown
            && national
                .into_iter()
                .any(|national| restricted::begins_with_emergency_number(national, calling_code))
        // The crisis line of the United States and Canada, and area codes that the North American plan leaves
        // unassigned because they look like a service (N11, 988).
        || calling_code == Some(1) && (bare.starts_with("911") || bare.starts_with("988"))
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
            ("+16025550100", 1, "US", NumberType::FixedOrMobile, &["America/Phoenix"]),
            ("+18765551234", 1, "JM", NumberType::Mobile, &["America/Jamaica"]),
            ("+493012345678", 49, "DE", NumberType::Fixed, &["Europe/Berlin", "Europe/Busingen"]),
            ("+390612345678", 39, "IT", NumberType::Fixed, &["Europe/Rome"]),
            ("+919876543210", 91, "IN", NumberType::Mobile, &["Asia/Kolkata"]),
            ("+442071838750", 44, "GB", NumberType::Fixed, &["Europe/London"]),
            // Unassigned, or without a time zone.
            ("+993999999999", 993, "TM", NumberType::Unknown, &[]),
            ("+18005550100", 1, "US", NumberType::TollFree, &[]),
            ("+448001234567", 44, "GB", NumberType::TollFree, &[]),
            ("+80012345678", 800, "", NumberType::TollFree, &[]),
            // Types that are never dialed.
            ("+19005550100", 1, "US", NumberType::Premium, &[]),
            ("+19001", 1, "", NumberType::Short, &[]),
            ("+449091234567", 44, "GB", NumberType::Premium, &[]),
            ("+4490912345", 44, "", NumberType::Premium, &[]),
            ("+14159761234", 1, "US", NumberType::Premium, &[]),
            ("+1411", 1, "", NumberType::Short, &[]),
            ("+1933", 1, "", NumberType::Short, &[]),
            ("+10", 1, "", NumberType::Short, &[]),
            // Types that are asked about.
            ("+447012345678", 44, "GB", NumberType::Personal, &["Europe/London"]),
            ("+878101234567890", 878, "", NumberType::Personal, &[]),
            ("+870773111632", 870, "", NumberType::Satellite, &[]),
            ("+881612345678", 881, "", NumberType::Satellite, &[]),
            ("+88213300000", 882, "", NumberType::Satellite, &[]),
            ("+883510012345", 883, "", NumberType::Satellite, &[]),
            ("+979123456789", 979, "", NumberType::Premium, &[]),
            ("+911123", 91, "IN", NumberType::Emergency, &[]),
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
    fn a_number_that_is_never_dialed_is_recognized_however_it_is_written() {
        for (text, number_type) in [
            ("911", NumberType::Emergency),
            ("9-1-1", NumberType::Emergency),
            ("(911)", NumberType::Emergency),
            ("tel:112", NumberType::Emergency),
            ("999", NumberType::Emergency),
            ("000", NumberType::Emergency),
            ("+000", NumberType::Emergency),
            ("110", NumberType::Emergency),
            ("988", NumberType::Emergency),
            ("1911", NumberType::Emergency),
            ("1-911", NumberType::Emergency),
            ("+1 911", NumberType::Emergency),
            ("+44 999", NumberType::Emergency),
            ("411", NumberType::Short),
            ("933", NumberType::Emergency),
            ("+1 411", NumberType::Short),
            ("+1 900 555 0100", NumberType::Premium),
        ] {
            let number = parse_callee(text).unwrap();
            assert_eq!(Destination::from_number(&number).number_type, number_type, "{text}");
        }
        for text in
            ["", "+", "1", "Sam", "12345", "5550100", "4155550100", "+1 415 555 0100", "91l"]
        {
            assert_eq!(parse_callee(text), Err(InvalidE164), "{text}");
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (number, canonical) in [
            ("+114155550100", Some("+14155550100")),
            ("+11114155550100", Some("+14155550100")),
            ("+4407911123456", Some("+447911123456")),
            ("+44007911123456", Some("+447911123456")),
            ("+44090912345678", Some("+4490912345678")),
            // Mexico before 2020.
            ("+5215512345678", Some("+525512345678")),
            ("+52015512345678", Some("+525512345678")),
            ("+520445512345678", Some("+525512345678")),
            ("+520455512345678", Some("+525512345678")),
            // Argentina's mobiles as they are dialed there, and Colombia's national prefix.
            ("+54111523456789", Some("+5491123456789")),
            ("+5703211234567", Some("+573211234567")),
            ("+14155550100", None),
            ("+390612345678", None),
            ("+5491123456789", None),
            ("+15551234567", None),
        ] {
            let fault = look_up(number).fault;
            let expected =
                canonical.map(|text| NumberFault::NationalPrefix(E164::parse(text).unwrap()));
            assert_eq!(fault, expected, "{number}");
        }
        assert_eq!(look_up("+44090912345678").number_type, NumberType::Premium);
    }

    #[test]
    fn no_telephone_has_a_number_of_impossible_length() {
        for (number, why) in [
            ("+141555501990", "a number that begins with +1 has 11 digits"),
            ("+1415555019", "a number that begins with +1 has 11 digits"),
            ("+15550100", "a number that begins with +1 has 11 digits"),
            ("+44207183875012", "a number that begins with +44 has 9 to 12 digits"),
            ("+33142685", "a number that begins with +33 has 11 digits"),
            ("+99912345678", "it begins with no country's calling code"),
            ("+21012345678", "it begins with no country's calling code"),
        ] {
            let fault = look_up(number).fault.map(|fault| fault.to_string());
            assert_eq!(fault.as_deref(), Some(why), "{number}");
        }
    }

    #[test]
    fn further_digits_do_not_change_the_type_of_a_number_that_is_never_dialed() {
        for (number, number_type) in [
            ("+398991234560", NumberType::Premium),
            ("+49900123456", NumberType::Premium),
            ("+4490912345678901", NumberType::Premium),
            ("+190055501000", NumberType::Premium),
            ("+449990", NumberType::Emergency),
            ("+19110", NumberType::Emergency),
            ("+491120", NumberType::Emergency),
        ] {
            let Ok(number) = E164::parse(number) else { continue };
            assert_eq!(Destination::from_number(&number).number_type, number_type, "{number:?}");
        }
        // Delhi, whose numbers begin with an emergency number of India.
        assert_eq!(look_up("+911123456789").number_type, NumberType::Fixed);
    }
}
