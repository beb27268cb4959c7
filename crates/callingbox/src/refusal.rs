//! From an answer that is not a success to an [`ErrorKind`]: status, `Retry-After`, and the five forms
//! in which an error body may come. The body's text is hostile until it has been through [`clean`].

use std::time::Duration;

use serde_json::Value;

use super::error::ErrorKind;
use super::operation::ApiOperation;
use crate::money::MilliCents;
use crate::redact;

/// The most characters of a foreign text that an error carries.
const MAX_MESSAGE: usize = 500;

/// Reads a refusal. `key` is removed wherever the body repeats it.
pub(super) fn read(
    operation: ApiOperation,
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    key: &str,
) -> ErrorKind {
    let (raw, from_api) = text(body);
    let message = clean(&raw, key);
    if (300..400).contains(&status) {
        return ErrorKind::Redirect { status };
    }
    const PAUSED: &str = "calls paused.";
    if message.get(..PAUSED.len()).is_some_and(|start| start.eq_ignore_ascii_case(PAUSED)) {
        let [balance, hold, add] = amounts(&message);
        return ErrorKind::CallsPaused { status, message, balance, hold, add };
    }
    match status {
        400 | 422 => ErrorKind::BadRequest { status, message },
        401 => ErrorKind::Unauthorized { message },
        402 => ErrorKind::InsufficientCredit { message },
        404 => ErrorKind::NotFound { message },
        409 => ErrorKind::Conflict { message },
        429 => ErrorKind::RateLimited { message, retry_after },
        502 if from_api && operation == ApiOperation::PlaceCall => ErrorKind::Provider { message },
        503 => ErrorKind::Unavailable { message, retry_after },
        408 | 500.. => ErrorKind::Server { status, message },
        _ => ErrorKind::Refused { status, message },
    }
}

/// The text of an error body, and whether it is in a form that the API uses: `{"error": "…"}`,
/// `{"error": {"message": "…"}}` or `{"message": "…"}`. Else the text itself; an HTML page is named
/// rather than repeated.
fn text(body: &[u8]) -> (String, bool) {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let error = json.get("error");
        let message = error
            .filter(|error| error.is_string())
            .or_else(|| error.and_then(|error| error.get("message")))
            .or_else(|| json.get("message"))
            .and_then(Value::as_str);
        if let Some(message) = message {
            return (message.to_owned(), true);
        }
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        ("an HTML page, not an answer of the API".to_owned(), false)
    } else {
        (text.into_owned(), false)
    }
}

/// Makes a foreign text fit for an error: the key removed, what looks like another secret or a
/// telephone number masked, control and invisible direction characters replaced, runs of white space
/// joined, at most 500 characters.
pub fn clean(text: &str, key: &str) -> String {
    let text = if key.is_empty() { text.to_owned() } else { text.replace(key, "[key]") };
    let joined = text
        .split(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c))
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let masked = redact(&joined);
    if masked.chars().count() <= MAX_MESSAGE {
        return masked.into_owned();
    }
    masked.chars().take(MAX_MESSAGE - 1).chain(['…']).collect()
}

/// Characters that change how the text around them is shown (Unicode bidirectional and zero-width).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The balance, hold and least top-up that a "Calls paused." text names.
///
/// Only the start of the text is documented, so each amount is known by the last telling word before
/// it, or the first one after it; a text with three amounts and no telling words is read in the
/// documented order.
fn amounts(text: &str) -> [Option<MilliCents>; 3] {
    let lower = text.to_lowercase();
    let mut parts = lower.split('$');
    let mut before = parts.next().unwrap_or_default();
    let mut found: [Option<MilliCents>; 3] = [None; 3];
    let mut all = Vec::new();
    let mut any_named = false;
    for part in parts {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',');
        let amount = part.strip_suffix(digits).and_then(dollars);
        if let Some(amount) = amount {
            all.push(amount);
            let named = subject(before, true).or_else(|| subject(digits, false));
            if let Some(slot) = named.and_then(|at| found.get_mut(at)) {
                any_named = true;
                slot.get_or_insert(amount);
            }
        }
        before = digits;
    }
    match (any_named, all.as_slice()) {
        (false, [balance, hold, add]) => [Some(*balance), Some(*hold), Some(*add)],
        _ => found,
    }
}

/// Which of balance (0), hold (1) and top-up (2) the clause next to an amount speaks of: the last word
/// of the clause before it, or the first word of the one after.
fn subject(text: &str, last: bool) -> Option<usize> {
    let mut clauses = text.split(['.', ',', ';', '(', ')']);
    let text = if last { clauses.next_back() } else { clauses.next() }?;
    let words = [("balance", 0), ("hold", 1), ("held", 1), ("reserve", 1), ("add", 2), ("top", 2)];
    let places = words.iter().filter_map(|(word, at)| {
        if last { text.rfind(word) } else { text.find(word) }.map(|p| (p, *at))
    });
    if last { places.max() } else { places.min() }.map(|(_, at)| at)
}

/// Reads `3`, `3.0`, `1,234.56` as dollars.
fn dollars(text: &str) -> Option<MilliCents> {
    let text = text.trim_end_matches(['.', ',']).replace(',', "");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.len() > 5 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<5}").parse().ok()?;
    Some(MilliCents(whole.checked_mul(MilliCents::DOLLAR.0)?.checked_add(fraction)?))
}

/// The answer to an id that no record can have, given without asking: it could reach another path.
pub(super) fn impossible_id(operation: ApiOperation) -> super::Error {
    super::Error::new(
        operation,
        ErrorKind::NotFound { message: "no record can have such an id".to_owned() },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: ApiOperation = ApiOperation::GetCall;
    const KEY: &str = "sk_live_0123456789";

    fn message(body: &str) -> String {
        match read(GET, 400, None, body.as_bytes(), KEY) {
            ErrorKind::BadRequest { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_every_form_of_error_body() {
        for (body, expected) in [
            (r#"{"error":"call abc not found"}"#, "call abc not found"),
            (r#"{"error":{"message":"bad to"}}"#, "bad to"),
            (r#"{"message":"bad to","code":7}"#, "bad to"),
            ("plain words", "plain words"),
            ("<html><title>502</title></html>", "an HTML page, not an answer of the API"),
            ("", ""),
            (r#"{"error":["x"]}"#, r#"{"error":["x"]}"#),
            ("null", "null"),
        ] {
            assert_eq!(message(body), expected, "{body}");
        }
    }

    #[test]
    fn a_foreign_text_is_made_harmless() {
        for (text, expected) in [
            (format!("bad key {KEY}!"), "bad key [key]!"),
            ("a\r\nb\u{1b}[31mc\u{202e}d\0e".to_owned(), "a b [31mc d e"),
            ("call +14155550123, or +1 or +".to_owned(), "call +141******23, or +1 or +"),
            ("+1 (415) 555-0123; whsec_00aa".to_owned(), "+1 (***********23; whsec_***"),
        ] {
            assert_eq!(clean(&text, KEY), expected);
        }
        let long = clean(&"x".repeat(10_000), KEY);
        assert_eq!((long.chars().count(), long.ends_with('…')), (500, true));
        let at_the_cut = clean(&format!("{}{KEY}", "x".repeat(495)), KEY);
        assert!(!at_the_cut.contains("sk_"), "{at_the_cut}");
    }

    #[test]
    fn calls_paused_is_known_by_its_text_on_any_status() {
        let cents = |cents| Some(MilliCents::from_cents(cents));
        let contract = "Calls paused. Balance $1.88, hold $3.00 (given back when nobody answers). \
                        Add at least $1.12.";
        let table = [
            (contract, [cents(188), cents(300), cents(112)]),
            (
                "Calls paused. Your balance is $1.88 but each call needs a $3.00 hold, returned when \
                 nobody answers. Add $1.12 or more.",
                [cents(188), cents(300), cents(112)],
            ),
            (
                "Calls paused. Add at least $1,001.12 to reach the $3 hold; $0.5 is your balance",
                [cents(50), cents(300), cents(100_112)],
            ),
            ("Calls paused. $1.88 / $3.00 / $1.12", [cents(188), cents(300), cents(112)]),
            ("Calls paused. Balance $x, hold $, add $1.1234567", [None; 3]),
            ("calls paused. Too little credit", [None; 3]),
            ("Calls paused. Balance $99999999999999999999", [None; 3]),
        ];
        for status in [400, 402, 403, 502] {
            for (text, [balance, hold, add]) in table {
                let body = serde_json::json!({"error": text}).to_string();
                let message = text.to_owned();
                assert_eq!(
                    read(ApiOperation::PlaceCall, status, None, body.as_bytes(), KEY),
                    ErrorKind::CallsPaused { status, message, balance, hold, add },
                );
            }
        }
    }

    #[test]
    fn each_status_has_its_kind() {
        let wait = Some(Duration::from_secs(3));
        let m = || "no".to_owned();
        let place = ApiOperation::PlaceCall;
        let table = [
            (place, 400, ErrorKind::BadRequest { status: 400, message: m() }),
            (place, 401, ErrorKind::Unauthorized { message: m() }),
            (place, 402, ErrorKind::InsufficientCredit { message: m() }),
            (place, 403, ErrorKind::Refused { status: 403, message: m() }),
            (place, 404, ErrorKind::NotFound { message: m() }),
            (place, 409, ErrorKind::Conflict { message: m() }),
            (place, 422, ErrorKind::BadRequest { status: 422, message: m() }),
            (place, 429, ErrorKind::RateLimited { message: m(), retry_after: wait }),
            (place, 500, ErrorKind::Server { status: 500, message: m() }),
            (place, 502, ErrorKind::Provider { message: m() }),
            (GET, 502, ErrorKind::Server { status: 502, message: m() }),
            (place, 503, ErrorKind::Unavailable { message: m(), retry_after: wait }),
            (place, 302, ErrorKind::Redirect { status: 302 }),
        ];
        for (operation, status, expected) in table {
            assert_eq!(read(operation, status, wait, br#"{"error":"no"}"#, KEY), expected);
        }
        assert_eq!(
            read(place, 502, None, b"<html>bad gateway</html>", KEY),
            ErrorKind::Server {
                status: 502,
                message: "an HTML page, not an answer of the API".to_owned()
            },
            "a page of something on the way is not the API's word about the call"
        );
    }
}
