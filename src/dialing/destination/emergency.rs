//! The table of emergency numbers.

use super::table_rows;

/// Region, tab, calling code, tab, pattern.
const EMERGENCY_NUMBERS: &str = include_str!("data/emergency-numbers.tsv");

/// Whether the digits are an emergency number of any region, or of any with this calling code.
pub(super) fn is_emergency_number(digits: &str, calling_code: Option<u16>) -> bool {
    table_rows(EMERGENCY_NUMBERS).any(|row| {
        let mut fields = row.split('\t').skip(1);
        let (Some(code), Some(pattern)) = (fields.next(), fields.next()) else { return false };
        calling_code.is_none_or(|wanted| code.parse() == Ok(wanted))
            && regex_lite::Regex::new(&format!("^(?:{pattern})$"))
                .is_ok_and(|pattern| pattern.is_match(digits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_the_table_compiles() {
        for row in table_rows(EMERGENCY_NUMBERS) {
            let fields: Vec<_> = row.split('\t').collect();
            assert_eq!(fields.len(), 3, "{row}");
            assert!(fields[1].parse::<u16>().is_ok() && regex_lite::Regex::new(fields[2]).is_ok());
        }
    }
}
