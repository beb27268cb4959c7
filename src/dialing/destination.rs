//! What a number is: its country, its kind, and the clocks by which its owner may be asleep.
//!
//! Facts only; whether it may be dialed is for the policy to say. A number need not be assigned to be
//! judged: `+15551234567` of the documentation is a valid destination of which nothing is known but
//! its calling code.
//!
//! Country and kind come from `rlibphonenumber`. It was chosen over `phonenumber` in November 2026:
//!
//! | | `rlibphonenumber` 2.2.15 | `phonenumber` 0.3.10 |
//! |---|---|---|
//! | first lookup (loads the metadata) | 3 ms | 60 ms |
//! | adds to a release binary | 0.6 MB | 3.3 MB |
//! | edition, minimum Rust | 2024, 1.88 | 2021, 1.76 |
//! | `+390612345678` (Rome) | IT, fixed line | no country, unknown (drops the leading zero) |
//! | crates at run time | 42 | 47 |
//!
//! Its patterns are matched by `regex-lite`, as its feature `lite` has it. With `regex` a lookup takes 2 us instead
//! of 13 once the patterns are compiled, but 9 ms instead of 3 the first time and 4 ms instead of 0.1 at the first
//! number of each country, and it holds 7 MB more. Of 1.1 million numbers all came out alike.
//!
//! Time zones come from libphonenumber's own table, and emergency numbers from its short-number
//! metadata; neither crate has them. See `data/README.md`.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType, Region};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use callingbox::E164;

/// Sorted by bytes: prefix, tab, zones joined by `&`.
const TIME_ZONES: &str = include_str!("data/phone-timezones.tsv");
/// Region, tab, calling code, tab, pattern.
const EMERGENCY_NUMBERS: &str = include_str!("data/emergency-numbers.tsv");

/// A bare country prefix with more zones than this says nothing about the hour of its numbers. It
/// leaves `+1` (42 zones) and `+7` (16) unspecified; Australia and Mexico (8 each) keep theirs, of
/// which all must agree.
const MOST_ZONES: usize = 12;
/// No subscriber's number has so few digits, calling code included (the shortest, in Niue and on
/// Saint Helena, have seven).
const LONGEST_SHORT: usize = 6;
/// The longest emergency number in the table.
const LONGEST_EMERGENCY: usize = 7;

/// What is known about a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// The country, where the number belongs to one.
    pub country: Option<CountryCode>,
    /// The calling code, such as 1 or 44; `None` when the number begins with none that is assigned.
    pub calling_code: Option<u16>,
    /// What kind of number.
    pub kind: NumberType,
    /// The time zones in which its owner may be.
    pub zones: TimeZones,
    /// The number as E.164 writes it, where it was written otherwise: with a national prefix after the calling
    /// code. Something on the way may still dial it, and nothing here knows it by that name.
    pub canonical: Option<E164>,
}

/// An ISO 3166-1 alpha-2 code that has telephone numbers, such as `US`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CountryCode([u8; 2]);

/// Why a text is not a country.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a country: write two capital letters (ISO 3166-1), such as US")]
pub struct InvalidCountryCode(String);

impl CountryCode {
    /// Reads two capital letters.
    ///
    /// # Errors
    /// [`InvalidCountryCode`] for anything else, and for codes without telephone numbers.
    pub fn parse(text: &str) -> Result<Self, InvalidCountryCode> {
        Region::from_code(text)
            .ok()
            .filter(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(*region).is_some())
            .and_then(Self::of)
            .filter(|code| code.as_str() == text)
            .ok_or_else(|| InvalidCountryCode(text.chars().take(20).collect()))
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// `None` for what spans the world, whose code is a number of three digits.
    fn of(region: Region) -> Option<Self> {
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

impl Serialize for CountryCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CountryCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for CountryCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CountryCode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[A-Z]{2}$"})
    }
}

/// What kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberType {
    /// A fixed line.
    Fixed,
    /// A mobile.
    Mobile,
    /// One of the two; in North America they look alike.
    FixedOrMobile,
    /// Free for who calls, paid by who is called.
    TollFree,
    /// Paid by the call, at a high price.
    Premium,
    /// Paid by both.
    SharedCost,
    /// A line of the internet.
    Voip,
    /// A number that follows its owner.
    Personal,
    /// A pager.
    Pager,
    /// One number for many offices of a company.
    UniversalAccess,
    /// Access to a voicemail box.
    Voicemail,
    /// Ambulance, fire brigade, police, crisis lines.
    Emergency,
    /// Too short for a subscriber: a service of some network.
    Short,
    /// Nothing is known. Perhaps not assigned.
    Unknown,
}

impl NumberType {
    /// The word in the policy file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Mobile => "mobile",
            Self::FixedOrMobile => "fixed_or_mobile",
            Self::TollFree => "toll_free",
            Self::Premium => "premium",
            Self::SharedCost => "shared_cost",
            Self::Voip => "voip",
            Self::Personal => "personal",
            Self::Pager => "pager",
            Self::UniversalAccess => "universal_access",
            Self::Voicemail => "voicemail",
            Self::Emergency => "emergency",
            Self::Short => "short",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for NumberType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<PhoneNumberType> for NumberType {
    fn from(kind: PhoneNumberType) -> Self {
        match kind {
            PhoneNumberType::FixedLine => Self::Fixed,
            PhoneNumberType::Mobile => Self::Mobile,
            PhoneNumberType::FixedLineOrMobile => Self::FixedOrMobile,
            PhoneNumberType::TollFree => Self::TollFree,
            PhoneNumberType::PremiumRate => Self::Premium,
            PhoneNumberType::SharedCost => Self::SharedCost,
            PhoneNumberType::VoIP => Self::Voip,
            PhoneNumberType::PersonalNumber => Self::Personal,
            PhoneNumberType::Pager => Self::Pager,
            PhoneNumberType::UAN => Self::UniversalAccess,
            PhoneNumberType::VoiceMail => Self::Voicemail,
            PhoneNumberType::Unknown => Self::Unknown,
        }
    }
}

/// The clocks at a destination.
#[derive(Debug, Clone, PartialEq)]
pub enum TimeZones {
    /// Each of these may be its owner's; never empty.
    Known(Vec<TimeZone>),
    /// The number does not tell: toll-free, unassigned, or a prefix that spans a continent.
    Unspecified,
}

impl TimeZones {
    /// The zones; empty when they are unspecified.
    #[must_use]
    pub fn known(&self) -> &[TimeZone] {
        match self {
            Self::Known(zones) => zones,
            Self::Unspecified => &[],
        }
    }

    /// The different times of day there, such as `21:30 (America/Chicago)`, earliest first.
    #[must_use]
    pub fn local_times(&self, at: Timestamp) -> Vec<String> {
        let mut local: Vec<_> = self.known().iter().map(|zone| at.to_zoned(zone.clone())).collect();
        local.sort_by_key(jiff::Zoned::datetime);
        local.dedup_by_key(|zoned| zoned.datetime());
        let name = |zoned: &jiff::Zoned| zoned.time_zone().iana_name().unwrap_or("UTC").to_owned();
        local.iter().map(|zoned| format!("{} ({})", zoned.strftime("%H:%M"), name(zoned))).collect()
    }
}

impl Destination {
    /// Looks a number up. The first call loads the metadata (some 3 ms), later ones take
    /// microseconds.
    #[must_use]
    pub fn from_number(number: &E164) -> Self {
        let digits = number.digits();
        let parsed = PHONE_NUMBER_UTIL.parse(number.as_str(), None).ok();
        let calling_code = parsed
            .as_ref()
            .and_then(|parsed| u16::try_from(parsed.country_code).ok())
            .or_else(|| calling_code(digits));
        let country = parsed
            .as_ref()
            .and_then(|parsed| PHONE_NUMBER_UTIL.get_region_for_number(parsed))
            .and_then(CountryCode::of);
        let canonical = parsed
            .as_ref()
            .map(|parsed| PHONE_NUMBER_UTIL.format(parsed, PhoneNumberFormat::E164))
            .and_then(|text| E164::parse(&text).ok())
            .filter(|canonical| canonical != number);
        let kind = dangerous(digits, calling_code).unwrap_or_else(|| {
            parsed.map_or(NumberType::Unknown, |parsed| {
                PHONE_NUMBER_UTIL.get_number_type(&parsed).into()
            })
        });
        let zones = match kind {
            NumberType::Emergency
            | NumberType::Short
            | NumberType::Premium
            | NumberType::TollFree => TimeZones::Unspecified,
            _ => zones(digits, calling_code),
        };
        Self { country, calling_code, kind, zones, canonical }
    }
}

/// The kinds that are judged from the digits alone, whether or not the number could be assigned: a
/// number is rather taken for an emergency or a premium line once too often.
fn dangerous(digits: &str, calling_code: Option<u16>) -> Option<NumberType> {
    let code = calling_code.map(|code| code.to_string()).unwrap_or_default();
    let national = digits.strip_prefix(&code).unwrap_or(digits);
    // The same without national prefixes, which do not belong there.
    let bare = national.trim_start_matches(if calling_code == Some(1) { '1' } else { '0' });
    let emergency = digits.len() <= LONGEST_SHORT && emergency_in(digits, None)
        || [national, bare].into_iter().any(|national| {
            national.len() <= LONGEST_EMERGENCY && emergency_in(national, calling_code)
        })
        // The crisis line of the United States and Canada; and area codes that the North American
        // plan keeps free so that they can never be confused with a service (N11, 988).
        || calling_code == Some(1) && (bare.starts_with("911") || bare.starts_with("988"));
    let premium = match calling_code {
        // Area code 900, and the international premium-rate service.
        Some(1) => bare.starts_with("900"),
        Some(979) => true,
        // Ofcom's numbering plan: everything in 09.
        Some(44) => bare.starts_with('9'),
        _ => false,
    };
    if emergency {
        Some(NumberType::Emergency)
    } else if digits.len() <= LONGEST_SHORT || calling_code == Some(1) && national.len() < 7 {
        Some(NumberType::Short)
    } else {
        premium.then_some(NumberType::Premium)
    }
}

/// Whether the digits are an emergency number of a region, or of any with this calling code.
fn emergency_in(digits: &str, calling_code: Option<u16>) -> bool {
    rows(EMERGENCY_NUMBERS).any(|row| {
        let mut fields = row.split('\t').skip(1);
        let (Some(code), Some(pattern)) = (fields.next(), fields.next()) else { return false };
        calling_code.is_none_or(|wanted| code.parse() == Ok(wanted))
            && regex_lite::Regex::new(&format!("^(?:{pattern})$"))
                .is_ok_and(|pattern| pattern.is_match(digits))
    })
}

/// The calling code of a number too short to be parsed: they are one to three digits long and none
/// is the beginning of another (ITU-T E.164).
fn calling_code(digits: &str) -> Option<u16> {
    (1..=3).find_map(|length| {
        let code: u16 = digits.get(..length)?.parse().ok()?;
        PHONE_NUMBER_UTIL
            .get_regions_for_country_calling_code(code.into())
            .is_some()
            .then_some(code)
    })
}

/// The zones of the longest prefix in the table.
fn zones(digits: &str, calling_code: Option<u16>) -> TimeZones {
    let Some((prefix, names)) = (1..=digits.len())
        .rev()
        .find_map(|length| digits.get(..length).and_then(|prefix| Some((prefix, row(prefix)?))))
    else {
        return TimeZones::Unspecified;
    };
    let names: Vec<&str> = names.split('&').collect();
    if names.len() > MOST_ZONES && calling_code.is_some_and(|code| code.to_string() == prefix) {
        return TimeZones::Unspecified;
    }
    // A name that this build's time zone database lacks would be a clock that nobody looks at, so
    // that the whole entry then counts as not known.
    match names.into_iter().map(TimeZone::get).collect::<Result<Vec<_>, _>>() {
        Ok(zones) => TimeZones::Known(zones),
        Err(_) => TimeZones::Unspecified,
    }
}

/// The zones of exactly this prefix, by binary search over the sorted lines: nothing is built.
fn row(prefix: &str) -> Option<&'static str> {
    let (mut low, mut high) = (0, TIME_ZONES.len());
    while low < high {
        let middle = low.midpoint(high);
        let start = TIME_ZONES.get(..middle)?.rfind('\n').map_or(0, |end| end + 1);
        let line = TIME_ZONES.get(start..)?.lines().next()?;
        let (key, names) = line.split_once('\t').unwrap_or((line, ""));
        match key.cmp(prefix) {
            std::cmp::Ordering::Equal => return Some(names),
            std::cmp::Ordering::Less => low = start + line.len() + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    None
}

fn rows(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: &str) -> Destination {
        Destination::from_number(&E164::parse(number).unwrap())
    }

    fn zone_names(destination: &Destination) -> Vec<&str> {
        destination.zones.known().iter().map(|zone| zone.iana_name().unwrap()).collect()
    }

    #[test]
    fn country_kind_and_zones() {
        for (number, code, country, kind, zones) in [
            ("+14155550100", 1, "US", NumberType::FixedOrMobile, &["America/Los_Angeles"][..]),
            ("+12125550100", 1, "US", NumberType::FixedOrMobile, &["America/New_York"]),
            // Idaho: the prefix spans two zones, one exchange only one.
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
            // Not assigned, or without a zone of their own.
            ("+15551234567", 1, "", NumberType::Unknown, &[]),
            ("+18005550100", 1, "US", NumberType::TollFree, &[]),
            ("+448001234567", 44, "GB", NumberType::TollFree, &[]),
            ("+80012345678", 800, "", NumberType::TollFree, &[]),
            // Never to be dialed.
            ("+19005550100", 1, "US", NumberType::Premium, &[]),
            ("+19001", 1, "", NumberType::Short, &[]),
            ("+449091234567", 44, "GB", NumberType::Premium, &[]),
            ("+4490912345", 44, "", NumberType::Premium, &[]),
            ("+979123456789", 979, "", NumberType::Premium, &[]),
            ("+911123", 91, "IN", NumberType::Short, &[]),
        ] {
            let found = of(number);
            assert_eq!(
                (
                    found.calling_code,
                    found.country.map(|c| c.to_string()).unwrap_or_default(),
                    found.kind
                ),
                (Some(code), country.to_owned(), kind),
                "{number}"
            );
            assert_eq!(zone_names(&found), zones, "{number}");
        }
    }

    #[test]
    fn emergency_numbers_in_every_disguise() {
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
            assert_eq!(of(number).kind, NumberType::Emergency, "{number}");
        }
        for number in ["+14155550911", "+442079460999", "+4930112112", "+919112345678"] {
            assert_ne!(of(number).kind, NumberType::Emergency, "{number}");
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (number, canonical) in [
            ("+114155550100", Some("+14155550100")),
            ("+4407911123456", Some("+447911123456")),
            ("+44090912345678", Some("+4490912345678")),
            ("+14155550100", None),
            ("+390612345678", None),
            ("+5491123456789", None),
            ("+15551234567", None),
        ] {
            assert_eq!(of(number).canonical.as_ref().map(E164::as_str), canonical, "{number}");
        }
        assert_eq!(of("+44090912345678").kind, NumberType::Premium);
    }

    #[test]
    fn the_table_of_zones_is_sorted_and_every_line_is_found() {
        let keys: Vec<_> = rows(TIME_ZONES).map(|line| line.split_once('\t').unwrap()).collect();
        assert!(keys.is_sorted_by(|a, b| a.0 < b.0));
        assert!(keys.len() > 3_000);
        for (key, names) in keys {
            assert_eq!(row(key), Some(names), "{key}");
        }
        for absent in ["", "0", "999999", "14150", "zzz"] {
            assert_eq!(row(absent), None, "{absent}");
        }
    }

    #[test]
    fn every_zone_of_the_table_is_in_the_time_zone_database() {
        for name in rows(TIME_ZONES).filter_map(|l| l.split_once('\t')).flat_map(|l| l.1.split('&'))
        {
            assert!(TimeZone::get(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_emergency_pattern_is_readable() {
        for line in rows(EMERGENCY_NUMBERS) {
            let fields: Vec<_> = line.split('\t').collect();
            assert_eq!(fields.len(), 3, "{line}");
            assert!(fields[1].parse::<u16>().is_ok() && regex_lite::Regex::new(fields[2]).is_ok());
        }
    }

    #[test]
    fn bare_country_prefixes() {
        // Twelve zones and fewer still tell something.
        assert_eq!(zones("61999999999", Some(61)).known().len(), 8);
        assert_eq!(zones("1999", Some(1)), TimeZones::Unspecified);
        assert_eq!(zones("7199", Some(7)), TimeZones::Unspecified);
    }

    #[test]
    fn local_times_follow_daylight_saving() {
        let phoenix_and_denver = TimeZones::Known(vec![
            TimeZone::get("America/Denver").unwrap(),
            TimeZone::get("America/Phoenix").unwrap(),
        ]);
        let at = |text: &str| phoenix_and_denver.local_times(text.parse().unwrap());
        assert_eq!(at("2026-01-15T19:00:00Z"), ["12:00 (America/Denver)"]);
        assert_eq!(
            at("2026-07-15T19:00:00Z"),
            ["12:00 (America/Phoenix)", "13:00 (America/Denver)"]
        );
    }

    #[test]
    fn countries() {
        assert_eq!(CountryCode::parse("US").unwrap().as_str(), "US");
        for bad in ["us", "USA", "001", "", "ZZ", "U"] {
            assert_eq!(CountryCode::parse(bad), Err(InvalidCountryCode(bad.to_owned())));
        }
    }
}
