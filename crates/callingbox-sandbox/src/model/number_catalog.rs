//! The numbers for sale: +1, an area code, 555 and 0116 to 0199. The range 555-01xx is never assigned, so no
//! real person's number is ever shown; 0100 to 0115 are reserved for the scenarios. The seed decides which numbers are
//! offered first. Knows nothing of organizations.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::billing::NUMBER_PRICE_CENTS;
use super::number::NumberType;
use crate::seed::SeededRng;

const TOLL_FREE_AREAS: &[&str] = &["800", "833", "844", "855", "866", "877", "888"];

/// The first line number for sale, and how many follow one another.
const FIRST_LINE: u64 = 116;
const LINE_COUNT: u64 = 84;

/// Area codes that are offered when the query names none, with state and city.
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

/// A search for numbers.
pub(crate) struct NumberQuery<'a> {
    pub(crate) area_code: Option<&'a str>,
    pub(crate) number_type: Option<NumberType>,
    pub(crate) limit: usize,
}

/// The first numbers for sale that match the query.
pub(crate) fn search_numbers(
    seed: u64,
    query: &NumberQuery<'_>,
    sold: &HashSet<String>,
) -> Vec<Value> {
    let areas: Vec<&str> = match (query.area_code, query.number_type) {
        (Some(area), wanted) => {
            let found = area_number_type(area);
            let matches = found.is_some_and(|found| wanted.is_none_or(|wanted| wanted == found));
            if matches { vec![area] } else { Vec::new() }
        }
        (None, Some(NumberType::TollFree)) => rotate_areas(seed, TOLL_FREE_AREAS.to_vec()),
        (None, _) => rotate_areas(seed, PLACES.iter().map(|(area, ..)| *area).collect()),
    };
    let lines: Vec<(&str, Vec<u64>)> =
        areas.into_iter().map(|area| (area, shuffle_lines(seed, area))).collect();
    // Area codes take turns, so that a short list shows many places.
    (0..LINE_COUNT as usize)
        .flat_map(|turn| {
            lines.iter().filter_map(move |(area, order)| Some((*area, *order.get(turn)?)))
        })
        .map(|(area, line)| (area, format!("+1{area}555{line:04}")))
        .filter(|(_, number)| !sold.contains(number))
        .take(query.limit)
        .map(|(area, number)| offer_to_json(area, &number))
        .collect()
}

/// The type of a number if the catalog has it, whether an organization owns it or not.
pub(crate) fn catalog_number_type(number: &str) -> Option<NumberType> {
    let rest = number.strip_prefix("+1").filter(|rest| rest.len() == 10 && rest.is_ascii())?;
    let (area, local) = rest.split_at_checked(3)?;
    let line: u64 = local.strip_prefix("555")?.parse().ok()?;
    area_number_type(area).filter(|_| (FIRST_LINE..FIRST_LINE + LINE_COUNT).contains(&line))
}

/// The type of an area code: toll-free, or any well-formed geographic one (2-9, 0-8, 0-9; not N11).
fn area_number_type(area: &str) -> Option<NumberType> {
    if TOLL_FREE_AREAS.contains(&area) {
        return Some(NumberType::TollFree);
    }
    let &[first, second, third] = area.as_bytes() else { return None };
    let is_local = (b'2'..=b'9').contains(&first)
        && (b'0'..=b'8').contains(&second)
        && third.is_ascii_digit()
        && (second, third) != (b'1', b'1')
        && !matches!(area, "822" | "900" | "976");
    is_local.then_some(NumberType::Local)
}

fn offer_to_json(area: &str, number: &str) -> Value {
    let place = PLACES.iter().find(|(known, ..)| *known == area);
    json!({
        "phone_number": number,
        "country_code": "US",
        "number_type": area_number_type(area),
        "state": place.map(|(_, state, _)| *state),
        "locality": place.map(|(_, _, city)| *city),
        "monthly_cost_cents": NUMBER_PRICE_CENTS,
        "upfront_cost_cents": 0,
        "currency": "USD",
        "simulated": true,
    })
}

/// The area codes from a starting point that follows from the seed.
fn rotate_areas(seed: u64, mut areas: Vec<&str>) -> Vec<&str> {
    let start = SeededRng::new(seed, &[b"areas"]).next_below(areas.len() as u64);
    areas.rotate_left(usize::try_from(start).unwrap_or(0));
    areas
}

/// The line numbers of an area in an order that follows from the seed. A step that shares no factor with their count
/// reaches each line once.
fn shuffle_lines(seed: u64, area: &str) -> Vec<u64> {
    let mut rng = SeededRng::new(seed, &[b"lines", area.as_bytes()]);
    let start = rng.next_below(LINE_COUNT);
    let steps = [5, 11, 13, 17, 19, 23, 25, 29];
    let step = steps.get(rng.next_below(8) as usize).copied().unwrap_or(5);
    (0..LINE_COUNT).map(|index| FIRST_LINE + (start + index * step) % LINE_COUNT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(
        seed: u64,
        area_code: Option<&str>,
        number_type: Option<NumberType>,
        limit: usize,
    ) -> Vec<String> {
        let query = NumberQuery { area_code, number_type, limit };
        let offers = search_numbers(seed, &query, &HashSet::new());
        offers.iter().map(|offer| offer["phone_number"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_offered_number_is_for_sale_and_never_assigned() {
        for (area, number_type, limit, count) in [
            (None, None, 50, 50),
            (None, Some(NumberType::TollFree), 50, 50),
            (Some("415"), None, 50, 50),
            (Some("415"), Some(NumberType::TollFree), 50, 0),
            (Some("833"), Some(NumberType::TollFree), 50, 50),
            (Some("833"), Some(NumberType::Local), 50, 0),
            (Some("911"), None, 50, 0),
            (Some("٤١٥"), None, 50, 0),
            (Some(""), None, 50, 0),
            (Some("936"), None, 3, 3),
        ] {
            let numbers = search(1, area, number_type, limit);
            assert_eq!(numbers.len(), count, "{area:?} {number_type:?}");
            let distinct: HashSet<&String> = numbers.iter().collect();
            assert_eq!(distinct.len(), count);
            for number in &numbers {
                assert!(catalog_number_type(number).is_some(), "{number}");
                assert_eq!(number.get(5..9), Some("5550"), "{number}");
                let line: u64 = number.get(8..).unwrap().parse().unwrap();
                assert!((116..200).contains(&line), "{number}");
            }
        }
    }

    #[test]
    fn the_seed_decides_the_order_of_all_lines() {
        assert_eq!(shuffle_lines(3, "415").iter().collect::<HashSet<_>>().len(), 84);
        assert_eq!(search(1, None, None, 10), search(1, None, None, 10));
        assert_ne!(search(1, None, None, 10), search(2, None, None, 10));
        for not_for_sale in
            ["+14155550100", "+14155550115", "+14155560150", "+4415555501", "+19115550150"]
        {
            assert_eq!(catalog_number_type(not_for_sale), None, "{not_for_sale}");
        }
    }
}
