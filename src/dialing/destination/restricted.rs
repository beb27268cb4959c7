//! The tables of emergency numbers and of the digits with which premium numbers begin.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::table_rows;

/// The calling code and the digits after it.
const PREMIUM_PREFIXES: &str = include_str!("data/premium-prefixes.tsv");
/// The longest and the shortest emergency number in the table.
const EMERGENCY_DIGITS: std::ops::RangeInclusive<usize> = 2..=7;

/// The suicide and crisis line of the United States and Canada.
const CRISIS_LINE: &str = "988";

/// The calling code of each region, and the pattern of its emergency numbers.
static EMERGENCY_PATTERNS: LazyLock<Vec<(u16, Regex)>> = LazyLock::new(|| {
    let patterns = table_rows(EMERGENCY_NUMBERS).filter_map(|row| {
        let mut fields = row.split('\t').skip(1);
        let code = fields.next()?.parse().ok()?;
        let pattern = Regex::new(&format!("^(?:{})$", fields.next()?)).ok()?;
        Some((code, pattern))
    });
    patterns.collect()
});

/// Region, tab, calling code, tab, pattern.
const EMERGENCY_NUMBERS: &str = include_str!("data/emergency-numbers.tsv");

/// The calling code of a region with this emergency number, such as 61 for 000.
pub(super) fn find_emergency_code(digits: &str, calling_code: Option<u16>) -> Option<u16> {
    if digits == CRISIS_LINE && calling_code.is_none_or(|code| code == 1) {
        return Some(1);
    }
    let fits = |code: u16, pattern: &Regex| {
        calling_code.is_none_or(|wanted| code == wanted) && pattern.is_match(digits)
    };
    EMERGENCY_PATTERNS.iter().find_map(|(code, pattern)| fits(*code, pattern).then_some(*code))
}

/// Whether the digits are an emergency number of any region, or of any with this calling code.
pub(super) fn is_emergency_number(digits: &str, calling_code: Option<u16>) -> bool {
    find_emergency_code(digits, calling_code).is_some()
}

/// Whether the digits after this calling code begin with an emergency number.
pub(super) fn begins_with_emergency_number(national: &str, calling_code: Option<u16>) -> bool {
    EMERGENCY_DIGITS
        .filter_map(|length| national.get(..length))
        .any(|prefix| is_emergency_number(prefix, calling_code))
}

/// Whether the number begins as premium numbers of its country do. A valid number of another type may do so too.
pub(super) fn begins_like_premium_number(digits: &str) -> bool {
    static PREFIXES: LazyLock<BTreeSet<&str>> =
        LazyLock::new(|| table_rows(PREMIUM_PREFIXES).collect());
    (1..=digits.len()).any(|length| digits.get(..length).is_some_and(|p| PREFIXES.contains(p)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_the_table_compiles() {
        assert_eq!(EMERGENCY_PATTERNS.len(), table_rows(EMERGENCY_NUMBERS).count());
    }
}
