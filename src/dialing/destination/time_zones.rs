//! The time zones in which the owner of a number may be, from the table of prefixes.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Sorted by bytes: prefix, tab, zones joined by `&`.
const TIME_ZONES: &str = include_str!("data/phone-timezones.tsv");

/// A bare country prefix with more zones than this does not determine the hour of its numbers. This leaves `+1` (42
/// zones) and `+7` (16) unspecified; Australia and Mexico (8 each) keep theirs, and all of them must agree.
const MAX_COUNTRY_ZONES: usize = 12;

/// The time zones of a destination.
#[derive(Debug, Clone, PartialEq)]
pub enum TimeZones {
    /// The owner may be in any of these; never empty.
    Known(Vec<TimeZone>),
    /// The number does not determine them: it is toll-free, unassigned, or its prefix spans a continent.
    Unspecified,
}

impl TimeZones {
    /// The zones of the longest prefix in the table.
    pub(super) fn find(digits: &str, calling_code: Option<u16>) -> Self {
        let Some((prefix, names)) = (1..=digits.len()).rev().find_map(|length| {
            digits.get(..length).and_then(|prefix| Some((prefix, find_zone_names(prefix)?)))
        }) else {
            return Self::Unspecified;
        };
        let names: Vec<&str> = names.split('&').collect();
        let is_bare_country = calling_code.is_some_and(|code| code.to_string() == prefix);
        if names.len() > MAX_COUNTRY_ZONES && is_bare_country {
            return Self::Unspecified;
        }
        // If the time zone database of this build lacks one of the names, the quiet hours in that zone could not be
        // checked; then the whole entry counts as unknown.
        names
            .into_iter()
            .map(TimeZone::get)
            .collect::<Result<Vec<_>, _>>()
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

    /// The distinct local times, such as `21:30 (America/Chicago)`, earliest first.
    #[must_use]
    pub fn local_times(&self, instant: Timestamp) -> Vec<String> {
        let mut local: Vec<_> =
            self.known().iter().map(|zone| instant.to_zoned(zone.clone())).collect();
        local.sort_by_key(jiff::Zoned::datetime);
        local.dedup_by_key(|zoned| zoned.datetime());
        let name = |zoned: &jiff::Zoned| zoned.time_zone().iana_name().unwrap_or("UTC").to_owned();
        local.iter().map(|zoned| format!("{} ({})", zoned.strftime("%H:%M"), name(zoned))).collect()
    }
}

/// The zones of exactly this prefix, by binary search over the sorted lines, without building an index.
fn find_zone_names(prefix: &str) -> Option<&'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialing::destination::table_rows;

    #[test]
    fn the_table_is_sorted_and_every_line_is_found() {
        let rows: Vec<_> =
            table_rows(TIME_ZONES).map(|line| line.split_once('\t').unwrap()).collect();
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
        assert!(rows.len() > 3_000);
        for (prefix, names) in rows {
            assert_eq!(find_zone_names(prefix), Some(names), "{prefix}");
        }
        for absent in ["", "0", "999999", "14150", "zzz"] {
            assert_eq!(find_zone_names(absent), None, "{absent}");
        }
    }

    #[test]
    fn the_time_zone_database_has_every_zone_of_the_table() {
        for (_, names) in table_rows(TIME_ZONES).filter_map(|line| line.split_once('\t')) {
            for name in names.split('&') {
                assert!(TimeZone::get(name).is_ok(), "{name}");
            }
        }
    }

    #[test]
    fn a_bare_country_prefix_is_specified_up_to_twelve_zones() {
        assert_eq!(TimeZones::find("61999999999", Some(61)).known().len(), 8);
        assert_eq!(TimeZones::find("1999", Some(1)), TimeZones::Unspecified);
        assert_eq!(TimeZones::find("7199", Some(7)), TimeZones::Unspecified);
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
