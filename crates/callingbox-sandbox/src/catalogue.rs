//! The numbers for sale: +1, an area code, 555 and 0116 to 0199. The range 555-01xx is never
//! assigned, so no real person is ever shown; 0100 to 0115 stay free for the scenarios. What is
//! offered first follows from the seed.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::billing::NUMBER_CENTS;
use super::seed::Dice;

/// Kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Local,
    TollFree,
}

/// The kinds as the API writes them.
pub(super) const KINDS: &[(&str, Kind)] = &[("local", Kind::Local), ("toll_free", Kind::TollFree)];

const TOLL_FREE: &[&str] = &["800", "833", "844", "855", "866", "877", "888"];

/// Area codes offered when none is asked for, with state and city.
const PLACES: &[(&str, &str, &str)] = &[
    ("202", "DC", "Washington"),
    ("206", "WA", "Seattle"),
    ("212", "NY", "New York"),
    ("213", "CA", "Los Angeles"),
    ("214", "TX", "Dallas"),
    ("215", "PA", "Philadelphia"),
    ("216", "OH", "Cleveland"),
    ("303", "CO", "Denver"),
    ("305", "FL", "Miami"),
    ("310", "CA", "Santa Monica"),
    ("312", "IL", "Chicago"),
    ("313", "MI", "Detroit"),
    ("314", "MO", "St. Louis"),
    ("317", "IN", "Indianapolis"),
    ("404", "GA", "Atlanta"),
    ("407", "FL", "Orlando"),
    ("410", "MD", "Baltimore"),
    ("412", "PA", "Pittsburgh"),
    ("415", "CA", "San Francisco"),
    ("503", "OR", "Portland"),
    ("504", "LA", "New Orleans"),
    ("505", "NM", "Albuquerque"),
    ("512", "TX", "Austin"),
    ("602", "AZ", "Phoenix"),
    ("612", "MN", "Minneapolis"),
    ("615", "TN", "Nashville"),
    ("617", "MA", "Boston"),
    ("619", "CA", "San Diego"),
    ("646", "NY", "New York"),
    ("702", "NV", "Las Vegas"),
    ("704", "NC", "Charlotte"),
    ("713", "TX", "Houston"),
    ("718", "NY", "Brooklyn"),
    ("801", "UT", "Salt Lake City"),
    ("808", "HI", "Honolulu"),
    ("816", "MO", "Kansas City"),
    ("901", "TN", "Memphis"),
    ("907", "AK", "Anchorage"),
];

/// What is asked for.
pub(super) struct Wish<'a> {
    pub(super) area_code: Option<&'a str>,
    pub(super) kind: Option<Kind>,
    pub(super) limit: usize,
}

/// The first numbers on offer that fit the wish.
pub(super) fn search(seed: u64, wish: &Wish<'_>, sold: &HashSet<String>) -> Vec<Value> {
    let areas: Vec<&str> = match (wish.area_code, wish.kind) {
        (Some(area), kind) => {
            let offered = kind_of_area(area).filter(|found| kind.is_none_or(|kind| kind == *found));
            offered.map(|_| area).into_iter().collect()
        }
        (None, Some(Kind::TollFree)) => turned(seed, TOLL_FREE.to_vec()),
        (None, _) => turned(seed, PLACES.iter().map(|(area, ..)| *area).collect()),
    };
    // One number of each area code in turn, so that a short list shows many places.
    let lines: Vec<(&str, Vec<u64>)> =
        areas.into_iter().map(|area| (area, order(seed, area))).collect();
    (0..84)
        .flat_map(|at| lines.iter().filter_map(move |(area, order)| Some((*area, *order.get(at)?))))
        .map(|(area, line)| (area, format!("+1{area}555{line:04}")))
        .filter(|(_, number)| !sold.contains(number))
        .take(wish.limit)
        .map(|(area, number)| offer(area, &number))
        .collect()
}

/// The kind of a number if the catalogue has it, owned or not.
pub(super) fn kind_of(number: &str) -> Option<Kind> {
    let rest = number.strip_prefix("+1").filter(|rest| rest.len() == 10 && rest.is_ascii())?;
    let (area, local) = rest.split_at_checked(3)?;
    let line: u64 = local.strip_prefix("555")?.parse().ok()?;
    kind_of_area(area).filter(|_| (116..200).contains(&line))
}

/// The kind of an area code: toll-free, or any well-formed geographic one (2-9, 0-8, 0-9; not N11).
fn kind_of_area(area: &str) -> Option<Kind> {
    if TOLL_FREE.contains(&area) {
        return Some(Kind::TollFree);
    }
    let &[first, second, third] = area.as_bytes() else { return None };
    let local = (b'2'..=b'9').contains(&first)
        && (b'0'..=b'8').contains(&second)
        && third.is_ascii_digit()
        && (second, third) != (b'1', b'1')
        && !matches!(area, "822" | "900" | "976");
    local.then_some(Kind::Local)
}

fn offer(area: &str, number: &str) -> Value {
    let place = PLACES.iter().find(|(known, ..)| *known == area);
    let kind = if TOLL_FREE.contains(&area) { "toll_free" } else { "local" };
    json!({
        "phone_number": number,
        "country_code": "US",
        "number_type": kind,
        "state": place.map(|(_, state, _)| *state),
        "locality": place.map(|(_, _, city)| *city),
        "monthly_cost_cents": NUMBER_CENTS,
        "upfront_cost_cents": 0,
        "currency": "USD",
        "simulated": true,
    })
}

/// The area codes from a starting point that the seed chooses.
fn turned(seed: u64, mut areas: Vec<&str>) -> Vec<&str> {
    let start = Dice::new(seed, &[b"areas"]).below(areas.len() as u64);
    areas.rotate_left(usize::try_from(start).unwrap_or(0));
    areas
}

/// The lines 0116 to 0199 in an order that the seed chooses. The count is 84; a step that shares
/// no factor with it reaches each line once.
fn order(seed: u64, area: &str) -> Vec<u64> {
    let mut dice = Dice::new(seed, &[b"lines", area.as_bytes()]);
    let start = dice.below(84);
    let step = [5, 11, 13, 17, 19, 23, 25, 29].get(dice.below(8) as usize).copied().unwrap_or(5);
    (0..84).map(|at| 116 + (start + at * step) % 84).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(seed: u64, area_code: Option<&str>, kind: Option<Kind>, limit: usize) -> Vec<String> {
        let offers = search(seed, &Wish { area_code, kind, limit }, &HashSet::new());
        offers.iter().map(|offer| offer["phone_number"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_number_on_offer_can_be_bought_and_is_never_assigned() {
        for (area, kind, limit, count) in [
            (None, None, 50, 50),
            (None, Some(Kind::TollFree), 50, 50),
            (Some("415"), None, 50, 50),
            (Some("415"), Some(Kind::TollFree), 50, 0),
            (Some("833"), Some(Kind::TollFree), 50, 50),
            (Some("833"), Some(Kind::Local), 50, 0),
            (Some("911"), None, 50, 0),
            (Some("٤١٥"), None, 50, 0),
            (Some(""), None, 50, 0),
            (Some("936"), None, 3, 3),
        ] {
            let numbers = found(1, area, kind, limit);
            assert_eq!(numbers.len(), count, "{area:?} {kind:?}");
            let different: HashSet<&String> = numbers.iter().collect();
            assert_eq!(different.len(), count);
            for number in &numbers {
                assert!(kind_of(number).is_some(), "{number}");
                assert_eq!(number.get(5..9), Some("5550"), "{number}");
                let line: u64 = number.get(8..).unwrap().parse().unwrap();
                assert!((116..200).contains(&line), "{number}");
            }
        }
    }

    #[test]
    fn the_whole_line_is_reached_and_the_seed_decides_its_order() {
        assert_eq!(order(3, "415").iter().collect::<HashSet<_>>().len(), 84);
        assert_eq!(found(1, None, None, 10), found(1, None, None, 10));
        assert_ne!(found(1, None, None, 10), found(2, None, None, 10));
        for not_sold in
            ["+14155550100", "+14155550115", "+14155560150", "+4415555501", "+19115550150"]
        {
            assert_eq!(kind_of(not_sold), None, "{not_sold}");
        }
    }
}
