//! Reads JSON that is not quite JSON, as programs in the field write it: with a byte order mark, half a UTF-16 pair, bytes
//! that are not UTF-8, `NaN`, or a number that is too large. Knows nothing about what the JSON means.
//!
//! A text is read strictly first. Only one that fails is repaired and read again, so that one bad value does not cost the
//! records around it.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

/// The text without a byte order mark, which programs on Windows put before it (RFC 8259 section 8.1 lets a reader
/// ignore it).
#[must_use]
pub fn strip_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Reads a value from JSON, if need be from the [repaired](repair) text.
///
/// # Errors
/// The error of the first, strict reading: the text is not JSON, or not such a value.
pub fn read_leniently<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let text = strip_bom(text);
    // Checking UTF-8 once for the whole text is much cheaper than for each string in it.
    let strict = match str::from_utf8(text) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(text),
    };
    strict.or_else(|error| match error.classify() {
        Category::Syntax => serde_json::from_str(&repair(text)).map_err(|_| error),
        Category::Eof | Category::Data | Category::Io => Err(error),
    })
}

/// The text with U+FFFD for what no Unicode text may hold, and with null for what is no number. Any other mistake stays.
#[must_use]
pub fn repair(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut repaired = String::with_capacity(text.len());
    let mut rest = &*text;
    loop {
        let (outside, string) = rest.split_once('"').unwrap_or((rest, ""));
        repair_words(outside, &mut repaired);
        if outside.len() == rest.len() {
            return repaired;
        }
        repaired.push('"');
        rest = repair_string(string, &mut repaired);
    }
}

/// Copies what is outside of strings.
fn repair_words(text: &str, repaired: &mut String) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from_word) = rest.split_at(start);
        let end = from_word.find(|c| !is_word(c)).unwrap_or(from_word.len());
        let (word, after) = from_word.split_at(end);
        repaired.push_str(before);
        repaired.push_str(if is_unreadable_number(word) { "null" } else { word });
        rest = after;
    }
    repaired.push_str(rest);
}

fn is_unreadable_number(word: &str) -> bool {
    let unsigned = word.trim_start_matches(['-', '+']);
    let is_number = unsigned.starts_with(|c: char| c.is_ascii_digit());
    let is_special = ["nan", "inf", "infinity"].iter().any(|s| unsigned.eq_ignore_ascii_case(s));
    is_special || (is_number && serde_json::from_str::<Value>(word).is_err())
}

/// Copies a string up to its end; returns what follows it.
fn repair_string<'a>(text: &'a str, repaired: &mut String) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c.is_ascii_control()) {
        let (before, from) = rest.split_at(at);
        repaired.push_str(before);
        let mut chars = from.chars();
        match chars.next() {
            Some('"') => {
                repaired.push('"');
                return chars.as_str();
            }
            Some('\\') => rest = repair_escape(from, repaired),
            // DEL may stand in a string as it is; the escape means the same.
            Some(control) => {
                repaired.push_str(&format!("\\u{:04x}", u32::from(control)));
                rest = chars.as_str();
            }
            None => break,
        }
    }
    repaired.push_str(rest);
    ""
}

/// Copies one escape, or a pair of them that is one character; returns what follows.
fn repair_escape<'a>(text: &'a str, repaired: &mut String) -> &'a str {
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    };
    let after = |length: usize| text.get(length..).unwrap_or_default();
    let length = match (unit(text), unit(after(6))) {
        (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
        (Some(0xd800..0xe000), _) => {
            repaired.push_str("\\ufffd");
            return after(6);
        }
        (Some(_), _) => 6,
        (None, _) => match text.chars().nth(1) {
            Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => 2,
            _ => {
                repaired.push_str("\\ufffd");
                return after(1);
            }
        },
    };
    repaired.push_str(text.get(..length).unwrap_or_default());
    after(length)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bad_value_does_not_cost_the_values_around_it() {
        for (text, expected) in [
            (&b"\xef\xbb\xbf{\"a\":1}"[..], json!({"a": 1})),
            (br#"["\ud83d","b"]"#, json!(["\u{fffd}", "b"])),
            (br#"["\ud83d\u0041\ude00\ud83d\ude00"]"#, json!(["\u{fffd}A\u{fffd}😀"])),
            (br#"["\ud83dx\"\\\ud83d\\"]"#, json!(["\u{fffd}x\"\\\u{fffd}\\"])),
            (b"[\"caf\xe9\",1]", json!(["caf\u{fffd}", 1])),
            (
                b"[NaN,-Infinity,1e999,-1e999,01,-2.5e3]",
                json!([null, null, null, null, null, -2500.0]),
            ),
            (b"[\"NaN\",\"1e999\",true,false,null]", json!(["NaN", "1e999", true, false, null])),
            (b"[\"a\x01\tb\n\"]", json!(["a\u{1}\tb\n"])),
            (br#"["\x41\u12","\u00zz"]"#, json!(["\u{fffd}x41\u{fffd}u12", "\u{fffd}u00zz"])),
        ] {
            let read = read_leniently::<Value>(text);
            assert_eq!(read.unwrap(), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn invalid_json_stays_an_error() {
        for text in
            ["", "{", "[\"a", "[\"\\", "[\"\\u", "<html>", "[undefined]", "{\"a\":}", "[1,]"]
        {
            assert!(read_leniently::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn json_stays_as_it_is() {
        let text = r#" {"a\ud83d\ude00\"\\/\b":[-0.5e+10,"é😀",{}],"b":null} "#;
        assert_eq!(repair(text.as_bytes()), text);
    }
}
