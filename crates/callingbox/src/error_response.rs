//! From a response that is not a success to an [`ErrorKind`]: by the status, `Retry-After`, and the forms that the body of
//! an error may have. The text of the body is not trusted until [`sanitize_text`] has read it.

use std::time::Duration;

use serde_json::Value;

use crate::error::ErrorKind;
use crate::json_text;
use crate::money::MilliCents;
use crate::operation::ApiOperation;
use crate::redact::sanitize_text;

/// Reads an error response. `key` is removed wherever the body repeats it.
pub(crate) fn parse(
    operation: ApiOperation,
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    key: &str,
) -> ErrorKind {
    let (text, is_from_api) = extract_message(body);
    let message = sanitize_text(&text, key);
    if (300..400).contains(&status) {
        return ErrorKind::Redirect { status };
    }
    const CALLS_PAUSED: &str = "calls paused.";
    if message
        .get(..CALLS_PAUSED.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(CALLS_PAUSED))
    {
        let [balance, hold, add] = parse_amounts(&message);
        return ErrorKind::CallsPaused { status, message, balance, hold, add };
    }
    match status {
        400 | 422 => ErrorKind::BadRequest { status, message },
        401 => ErrorKind::Unauthorized { message },
        403 | 407 | 451 => ErrorKind::Forbidden { status, message },
        402 => ErrorKind::InsufficientCredit { message },
        404 => ErrorKind::NotFound { message },
        409 => ErrorKind::Conflict { message },
        429 => ErrorKind::RateLimited { message, retry_after },
        502 if is_from_api && operation == ApiOperation::PlaceCall => {
            ErrorKind::Provider { message }
        }
        503 => ErrorKind::Unavailable { message, retry_after },
        408 | 500.. => ErrorKind::Server { status, message },
        _ => ErrorKind::Refused { status, message },
    }
}

/// The message in the body of an error, and whether the body has a form that the API uses: `{"error": "…"}`,
/// `{"error": {"message": "…"}}` or `{"message": "…"}`. Gateways use problem details (RFC 9457) and other forms. Otherwise
/// the message is the body itself; an HTML page is not repeated.
fn extract_message(body: &[u8]) -> (String, bool) {
    if let Ok(json) = json_text::read_leniently::<Value>(body) {
        if let Some(message) = api_message(&json) {
            return (message.to_owned(), true);
        }
        if let Some(message) = gateway_message(&json) {
            return (message, false);
        }
    }
    let text = String::from_utf8_lossy(json_text::strip_bom(body));
    if text.trim_start().starts_with('<') {
        ("an HTML page, not a response of the API".to_owned(), false)
    } else {
        (text.into_owned(), false)
    }
}

fn api_message(json: &Value) -> Option<&str> {
    let error = json.get("error");
    let inner = error.and_then(|error| error.get("message"));
    let error = error.filter(|error| error.is_string());
    error.or(inner).or_else(|| json.get("message"))?.as_str()
}

/// `title` and `detail` of problem details, or the text of another common form.
fn gateway_message(json: &Value) -> Option<String> {
    let text = |name: &str| json.get(name)?.as_str().filter(|text| !text.trim().is_empty());
    match (text("title"), text("detail")) {
        (Some(title), Some(detail)) => Some(format!("{}: {detail}", title.trim_end_matches('.'))),
        (title, detail) => {
            title.or(detail).or_else(|| text("error_description")).map(str::to_owned)
        }
    }
}

/// Finds the balance, the hold and the smallest top-up in a "Calls paused." message.
///
/// Only the start of the message is documented, so each amount is classified by the last keyword before it, or the first
/// one after it. Three amounts without keywords are read in the documented order.
fn parse_amounts(text: &str) -> [Option<MilliCents>; 3] {
    let lower = text.to_lowercase();
    let mut parts = lower.split('$');
    let mut before = parts.next().unwrap_or_default();
    let mut found: [Option<MilliCents>; 3] = [None; 3];
    let mut all = Vec::new();
    let mut any_named = false;
    for part in parts {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',');
        let amount = part.strip_suffix(digits).and_then(parse_dollars);
        if let Some(amount) = amount {
            all.push(amount);
            let named = classify_amount(before, true).or_else(|| classify_amount(digits, false));
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

/// Which amount a clause is about: balance (0), hold (1) or top-up (2). The last keyword of the clause before the amount
/// counts, or the first one of the clause after it.
fn classify_amount(text: &str, last: bool) -> Option<usize> {
    let mut clauses = text.split(['.', ',', ';', '(', ')']);
    let text = if last { clauses.next_back() } else { clauses.next() }?;
    let words = [("balance", 0), ("hold", 1), ("held", 1), ("reserve", 1), ("add", 2), ("top", 2)];
    let places = words.iter().filter_map(|(word, at)| {
        if last { text.rfind(word) } else { text.find(word) }.map(|p| (p, *at))
    });
    if last { places.max() } else { places.min() }.map(|(_, at)| at)
}

/// Reads `3`, `3.0`, `1,234.56` as dollars.
fn parse_dollars(text: &str) -> Option<MilliCents> {
    let text = text.trim_end_matches(['.', ',']).replace(',', "");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.len() > 5 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<5}").parse().ok()?;
    Some(MilliCents(whole.checked_mul(MilliCents::DOLLAR.0)?.checked_add(fraction)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: ApiOperation = ApiOperation::GetCall;
    const KEY: &str = "sk_live_0123456789";

    fn message(body: &str) -> String {
        match parse(GET, 400, None, body.as_bytes(), KEY) {
            ErrorKind::BadRequest { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_of_an_error_body_is_read() {
        for (body, expected) in [
            (r#"{"error":"call abc not found"}"#, "call abc not found"),
            (r#"{"error":{"message":"bad to"}}"#, "bad to"),
            (r#"{"message":"bad to","code":7}"#, "bad to"),
            ("plain words", "plain words"),
            ("<html><title>502</title></html>", "an HTML page, not a response of the API"),
            ("", ""),
            (r#"{"error":["x"]}"#, r#"{"error":["x"]}"#),
            ("\u{feff}{\"error\":\"bad to\"}", "bad to"),
            (r#"{"error":"no \ud83d"}"#, "no \u{fffd}"),
            (
                r#"{"type":"about:blank","title":"Forbidden.","status":403,"detail":"Not your call"}"#,
                "Forbidden: Not your call",
            ),
            (r#"{"type":"about:blank","title":"Forbidden","status":403}"#, "Forbidden"),
            (r#"{"detail":"Not found"}"#, "Not found"),
            (r#"{"error_description":"no access"}"#, "no access"),
            ("null", "null"),
        ] {
            assert_eq!(message(body), expected, "{body}");
        }
    }

    #[test]
    fn paused_calls_are_recognized_by_the_message_with_any_status() {
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
                    parse(ApiOperation::PlaceCall, status, None, body.as_bytes(), KEY),
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
            (place, 403, ErrorKind::Forbidden { status: 403, message: m() }),
            (place, 407, ErrorKind::Forbidden { status: 407, message: m() }),
            (place, 451, ErrorKind::Forbidden { status: 451, message: m() }),
            (place, 410, ErrorKind::Refused { status: 410, message: m() }),
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
            assert_eq!(parse(operation, status, wait, br#"{"error":"no"}"#, KEY), expected);
        }
        assert_eq!(
            parse(place, 502, None, b"<html>bad gateway</html>", KEY),
            ErrorKind::Server {
                status: 502,
                message: "an HTML page, not a response of the API".to_owned()
            },
            "a proxy's page says nothing about the call"
        );
        let problem = br#"{"title":"Bad Gateway","detail":"no upstream"}"#;
        let message = "Bad Gateway: no upstream".to_owned();
        assert_eq!(
            parse(place, 502, None, problem, KEY),
            ErrorKind::Server { status: 502, message },
            "nor do the problem details of a gateway"
        );
    }
}
