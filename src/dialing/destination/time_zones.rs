//! The time zones in which the owner of a number may be. [`TimeZones::find`] answers with all of them, so that the quiet
//! hours are checked by every clock that the number may have: what is not known for certain makes the set larger.
//!
//! The table is made by `scripts/phone-tables`. Its third column names the source of each row: the time zone database's own
//! list of countries (`zone.tab`), libphonenumber's list of prefixes, a map of the land of North American area codes, the
//! list of area codes that share a territory, and a list of corrections.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::CountryCode;
use super::zone_data::ZoneData;

/// Sorted by bytes: digits or a region, tab, zones joined by `&`, tab, source.
const TIME_ZONES: &str = include_str!("data/time-zones.tsv");

/// More distinct local times than this are shown as a range.
const MAX_LOCAL_TIMES: usize = 4;

/// The time zones of a destination.
#[derive(Debug, Clone, PartialEq)]
pub enum TimeZones {
    /// The owner may be in any of these; never empty.
    Known(Vec<TimeZone>),
    /// The number has no place: it is toll-free, of a satellite, or cannot be dialed.
    Unspecified,
}

/// What the zones of a number depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberPlace<'a> {
    pub(super) digits: &'a str,
    pub(super) calling_code: Option<u16>,
    pub(super) country: Option<CountryCode>,
    /// Whether the digits after the calling code are bound to a place. A mobile phone of most countries is not.
    pub(super) is_geographic: bool,
}

impl TimeZones {
    /// All zones in which the owner of the number may be. In North America these are the zones of the area code, or of
    /// the whole plan (without Guam, Saipan and Samoa) if the area code is not known; elsewhere those of the area code of
    /// a fixed line, or of the whole country.
    pub(super) fn find(place: NumberPlace<'_>) -> Self {
        let Some(names) = find_names(place) else { return Self::Unspecified };
        let data = ZoneData::current();
        names
            .split('&')
            .map(|name| data.load(name))
            .collect::<Option<_>>()
            .map_or(Self::Unspecified, Self::Known)
    }

    /// The zones; empty if they are unspecified.
    #[must_use]
    pub fn known(&self) -> &[TimeZone] {
        match self {
            Self::Known(zones) => zones,
            Self::Unspecified => &[],
        }
    }

    /// The distinct local times, such as `21:30 (America/Chicago)`, earliest first; of many, the first and the last.
    #[must_use]
    pub fn local_times(&self, instant: Timestamp) -> Vec<String> {
        let mut local: Vec<_> =
            self.known().iter().map(|zone| instant.to_zoned(zone.clone())).collect();
        local.sort_by_key(jiff::Zoned::datetime);
        local.dedup_by_key(|zoned| zoned.datetime());
        let name = |zoned: &jiff::Zoned| zoned.time_zone().iana_name().unwrap_or("UTC").to_owned();
        let times: Vec<_> = local
            .iter()
            .map(|zoned| format!("{} ({})", zoned.strftime("%H:%M"), name(zoned)))
            .collect();
        match times.as_slice() {
            [first, .., last] if times.len() > MAX_LOCAL_TIMES => {
                vec![format!("between {first} and {last}")]
            }
            _ => times,
        }
    }
}

/// The names of the zones of the table that cannot be loaded; none, unless this program was built wrongly.
pub fn list_missing_zones() -> Vec<&'static str> {
    let names = super::table_rows(TIME_ZONES)
        .filter_map(|row| row.split('\t').nth(1))
        .flat_map(|names| names.split('&'));
    let names: std::collections::BTreeSet<_> = names.collect();
    names.into_iter().filter(|name| ZoneData::current().load(name).is_none()).collect()
}

fn find_names(place: NumberPlace<'_>) -> Option<&'static str> {
    let code = place.calling_code?.to_string();
    let digits = place.digits;
    let in_area = match code.as_str() {
        "1" => digits.get(..4).and_then(find_row),
        _ if place.is_geographic => {
            (code.len() + 1..=digits.len()).rev().find_map(|length| find_row(digits.get(..length)?))
        }
        _ => None,
    };
    // Countries that share a calling code have rows of their own, but not those of North America.
    in_area.or_else(|| find_row(place.country?.as_str())).or_else(|| find_row(&code))
}

/// The zones of exactly this key, by binary search over the sorted lines, without building an index.
fn find_row(key: &str) -> Option<&'static str> {
    let (mut low, mut high) = (0, TIME_ZONES.len());
    while low < high {
        let middle = low.midpoint(high);
        let start = TIME_ZONES.get(..middle)?.rfind('\n').map_or(0, |end| end + 1);
        let line = TIME_ZONES.get(start..)?.lines().next()?;
        let (found, rest) = line.split_once('\t').unwrap_or((line, ""));
        match found.cmp(key) {
            std::cmp::Ordering::Equal => return rest.split('\t').next(),
            std::cmp::Ordering::Less => low = start + line.len() + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberType};

    use super::*;
    use crate::dialing::destination::{Destination, table_rows};
    use callingbox::E164;

    fn zones_of(number: &str) -> Vec<String> {
        let destination = Destination::from_number(&E164::parse(number).unwrap());
        let zones = destination.zones.known();
        zones.iter().map(|zone| zone.iana_name().unwrap().to_owned()).collect()
    }

    /// What the zones' clocks show, month by month, in 2027.
    fn clocks<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<Vec<i32>> {
        let offsets = |name: &str| {
            let zone = ZoneData::current().load(name).unwrap();
            let days =
                (0..365).map(|day| Timestamp::from_second(1_798_761_600 + day * 86_400).unwrap());
            days.map(|at| zone.to_offset(at).seconds()).collect()
        };
        names.into_iter().map(offsets).collect()
    }

    #[test]
    fn the_table_is_sorted_and_every_line_is_found() {
        let rows: Vec<_> =
            table_rows(TIME_ZONES).map(|line| line.split('\t').collect::<Vec<_>>()).collect();
        assert!(rows.is_sorted_by(|a, b| a[0] < b[0]));
        assert!(rows.len() > 1_000);
        for row in rows {
            assert_eq!(row.len(), 3, "{row:?}");
            assert_eq!(find_row(row[0]), Some(row[1]), "{row:?}");
        }
        for absent in ["", "0", "999999", "14150", "zzz"] {
            assert_eq!(find_row(absent), None, "{absent}");
        }
        assert_eq!(list_missing_zones(), Vec::<&str>::new());
    }

    #[test]
    fn every_assigned_area_code_of_north_america_has_a_zone() {
        let mut assigned = 0;
        for area in 200..1_000 {
            let number = E164::parse(&format!("+1{area}2345678")).unwrap();
            let parsed = PHONE_NUMBER_UTIL.parse(number.as_str(), None).unwrap();
            let is_geographic = matches!(
                PHONE_NUMBER_UTIL.get_number_type(&parsed),
                PhoneNumberType::FixedLine
                    | PhoneNumberType::Mobile
                    | PhoneNumberType::FixedLineOrMobile
            );
            let destination = Destination::from_number(&number);
            if is_geographic {
                assigned += 1;
                assert!(find_row(&format!("1{area}")).is_some(), "{area}");
                assert!(destination.zones.known().len() < 20, "{area}");
            }
            let is_placeless = destination.number_type.has_no_place();
            assert_eq!(destination.zones == TimeZones::Unspecified, is_placeless, "{area}");
        }
        assert!(assigned > 400, "{assigned}");
    }

    #[test]
    fn every_overlay_has_the_zones_of_the_area_codes_that_it_overlays() {
        let table = include_str!("../../../scripts/data/nanp-area-codes.tsv");
        let rows: Vec<Vec<&str>> = table_rows(table).map(|row| row.split('\t').collect()).collect();
        let zones_of = |area: &str| -> BTreeSet<&str> {
            find_row(&format!("1{area}"))
                .unwrap_or_else(|| panic!("no row for {area}"))
                .split('&')
                .collect()
        };
        let mut overlays = 0;
        for row in &rows {
            for older in rows.iter().filter(|older| row[4].contains(older[0]) && older[1] < row[1])
            {
                // A younger overlay of two area codes belongs to no more than both of them.
                let is_shared = older[4].contains(row[0]);
                overlays += usize::from(is_shared);
                assert!(
                    !is_shared || zones_of(row[0]).is_superset(&zones_of(older[0])),
                    "{} lacks zones of {}",
                    row[0],
                    older[0]
                );
            }
        }
        assert!(overlays > 150, "{overlays}");
    }

    #[test]
    fn every_calling_code_is_judged_by_the_clocks_of_its_own_countries() {
        let mut by_country: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in table_rows(include_str!("../../../scripts/data/zone.tab")) {
            let fields: Vec<_> = row.split('\t').collect();
            by_country.entry(fields[0]).or_default().push(fields[2]);
        }
        for code in PHONE_NUMBER_UTIL.get_supported_calling_codes() {
            let regions = PHONE_NUMBER_UTIL.get_regions_for_country_calling_code(code).unwrap();
            let regions: Vec<_> = regions
                .map(|region| {
                    String::from_utf8(region.as_region_str().as_bytes().to_vec()).unwrap()
                })
                .collect();
            let row = find_row(&code.to_string());
            if regions == ["001"] {
                assert_eq!(row, None, "{code} belongs to no country");
                continue;
            }
            let far = ["GU", "MP", "AS"];
            let own = regions
                .iter()
                .map(String::as_str)
                .filter(|region| code != 1 || !far.contains(region));
            let own: Vec<&str> =
                own.filter_map(|region| by_country.get(region)).flatten().copied().collect();
            let table = clocks(row.unwrap_or_else(|| panic!("no row for {code}")).split('&'));
            assert!(table.is_superset(&clocks(own.iter().copied())), "{code} {own:?}");
            if let [region] = regions.as_slice()
                && !["AC", "XK", "NF"].contains(&region.as_str())
            {
                assert_eq!(table, clocks(own), "{region}");
            }
        }
    }

    #[test]
    fn numbers_have_every_zone_that_they_may_have() {
        for (number, zones) in [
            ("+919876543210", &["Asia/Kolkata"][..]),
            // An exchange that no source lists, in an area code of two zones.
            ("+14236055555", &["America/Chicago", "America/New_York"]),
            // A listed exchange may have been listed by the zone of its neighbors.
            (
                "+12507825555",
                &[
                    "America/Dawson_Creek",
                    "America/Edmonton",
                    "America/Fort_Nelson",
                    "America/Vancouver",
                ],
            ),
            ("+12082015678", &["America/Boise", "America/Denver", "America/Los_Angeles"]),
            // An overlay has the zones of the code that it overlays.
            ("+13645550123", &["America/Chicago", "America/New_York"]),
            ("+14485550123", &["America/Chicago", "America/New_York"]),
            ("+14585550123", &["America/Boise", "America/Denver", "America/Los_Angeles"]),
            ("+14745550123", &["America/Edmonton", "America/Regina", "America/Swift_Current"]),
            // Overlays that libphonenumber does not know yet.
            ("+17295550123", &["America/Chicago", "America/New_York"]),
            ("+14835550123", &["America/Chicago", "America/New_York"]),
            ("+16715550123", &["Pacific/Guam"]),
            // A country that libphonenumber has by the zone of a neighbor.
            ("+211912345678", &["Africa/Juba"]),
            ("+213551234567", &["Africa/Algiers"]),
            // Mobile phones of a country with several zones, and fixed lines.
            ("+62812345678", &["Asia/Jakarta", "Asia/Jayapura", "Asia/Makassar", "Asia/Pontianak"]),
            ("+622112345678", &["Asia/Jakarta"]),
            ("+74012345678", &["Europe/Kaliningrad"]),
            (
                "+77010009998",
                &[
                    "Asia/Almaty",
                    "Asia/Aqtau",
                    "Asia/Aqtobe",
                    "Asia/Atyrau",
                    "Asia/Oral",
                    "Asia/Qostanay",
                    "Asia/Qyzylorda",
                ],
            ),
            (
                "+61891234567",
                &["Australia/Eucla", "Australia/Perth", "Indian/Christmas", "Indian/Cocos"],
            ),
            ("+529981234567", &["America/Cancun"]),
        ] {
            assert_eq!(zones_of(number), zones, "{number}");
        }
        let has = |number: &str, zone: &str| zones_of(number).iter().any(|name| name == zone);
        assert!(has("+79161234567", "Asia/Kamchatka") && has("+79161234567", "Europe/Kaliningrad"));
        assert!(
            has("+12195550123", "America/Chicago")
                && has("+12195550123", "America/Indiana/Indianapolis")
        );
        assert!(has("+19285550123", "America/Phoenix") && has("+19285550123", "America/Denver"));
        assert!(
            has("+19305550123", "America/Chicago") && has("+19305550123", "America/Indiana/Vevay")
        );
    }

    #[test]
    fn an_unknown_area_code_is_judged_by_every_clock_of_north_america() {
        let far = E164::parse("+15652345678").unwrap();
        let zones = Destination::from_number(&far).zones;
        let names = zones_of(far.as_str());
        assert!(names.iter().any(|name| name == "Pacific/Honolulu"), "{names:?}");
        assert!(!names.iter().any(|name| {
            ["Pacific/Guam", "Pacific/Saipan", "Pacific/Pago_Pago"].contains(&name.as_str())
        }));
        // 13:00 Eastern in winter.
        assert_eq!(
            zones.local_times("2026-11-28T18:00:00Z".parse().unwrap()),
            ["between 08:00 (America/Adak) and 14:30 (America/St_Johns)"]
        );
    }

    #[test]
    fn local_times_follow_daylight_saving() {
        let phoenix_and_denver = TimeZones::Known(vec![
            TimeZone::get("America/Denver").unwrap(),
            TimeZone::get("America/Phoenix").unwrap(),
        ]);
        let local_times = |text: &str| phoenix_and_denver.local_times(text.parse().unwrap());
        assert_eq!(local_times("2026-01-15T19:00:00Z"), ["12:00 (America/Denver)"]);
        assert_eq!(
            local_times("2026-07-15T19:00:00Z"),
            ["12:00 (America/Phoenix)", "13:00 (America/Denver)"]
        );
    }
}
