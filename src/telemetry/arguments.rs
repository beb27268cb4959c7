//! The arguments of a tool call as a log may show them, where somebody asked for it: no secrets, no
//! telephone numbers however they are written, and short; and what else of a client's words a log
//! shows, without the numbers. Knows nothing of tools.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The most characters of one text.
const MOST_TEXT: usize = 200;
/// The most bytes altogether.
const MOST_BYTES: usize = 2_000;
/// The fewest digits that may be a telephone number.
pub(super) const FEWEST_DIGITS: usize = 7;
/// What people write between the digits of a number.
pub(super) const BETWEEN_DIGITS: &str = " -.()/\u{a0}";
/// What stands in the names of fields that hold secrets.
const SECRET: [&str; 7] =
    ["secret", "token", "password", "authorization", "credential", "header", "key"];

/// Arguments on one line.
#[must_use]
pub fn shown(arguments: &Map<String, Value>) -> String {
    let mut text = Value::Object(object(arguments)).to_string();
    if text.len() > MOST_BYTES {
        let end = (0..=MOST_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn object(fields: &Map<String, Value>) -> Map<String, Value> {
    let field = |(name, value): (&String, &Value)| {
        let lower = name.to_lowercase();
        let value = match SECRET.iter().any(|part| lower.contains(part)) {
            true => Value::from("***"),
            false => masked(value),
        };
        (digits_masked(name).into_owned(), value)
    };
    fields.iter().map(field).collect()
}

fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(object(fields)),
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        Value::String(text) => {
            // Masked before it is cut: half a number is too short to be seen as one.
            let whole = digits_masked(text);
            let mut short: String = whole.chars().take(MOST_TEXT).collect();
            if short.len() < whole.len() {
                short.push('…');
            }
            Value::from(short)
        }
        Value::Number(number) => {
            let text = number.to_string();
            match digits_masked(&text) {
                Cow::Borrowed(_) => value.clone(),
                Cow::Owned(masked) => Value::from(masked),
            }
        }
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// Masks each run of digits that may be a telephone number, with what people write between them.
#[must_use]
pub fn digits_masked(text: &str) -> Cow<'_, str> {
    // Nearly always, and each call's line of log asks.
    if text.bytes().filter(u8::is_ascii_digit).count() < FEWEST_DIGITS {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    let mut run = String::new();
    let mut any = false;
    let mut end = |run: &mut String, shown: &mut String| {
        if run.chars().filter(char::is_ascii_digit).count() >= FEWEST_DIGITS {
            any = true;
            shown.push_str("***");
        } else {
            shown.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_digit() || (!run.is_empty() && BETWEEN_DIGITS.contains(c)) {
            run.push(c);
        } else {
            end(&mut run, &mut shown);
            shown.push(c);
        }
    }
    end(&mut run, &mut shown);
    if any { Cow::Owned(shown) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_number_and_no_secret_is_shown_and_the_rest_is() {
        let arguments = json!({
            "to": "+13105550107",
            "instructions": "Ring (310) 555-0107 or 310.555.0108,\nthen 3105550109; table for 4 at 19:30.",
            "context": {"fax": 13_105_550_107_u64, "people": 4, "+13105550107": true},
            "tools": [{"headers": {"authorization": "Basic abc"}, "name": "x"}],
            "idempotency_key": "a",
            "confirmation_token": "b",
            "api_key": ["sk_live_x"],
        });
        assert_eq!(
            shown(arguments.as_object().unwrap()),
            concat!(
                r#"{"to":"+***","instructions":"Ring (***or ***,\nthen ***; table for 4 at 19:30.","#,
                r#""context":{"fax":"***","people":4,"+***":true},"tools":[{"headers":"***","name":"x"}],"#,
                r#""idempotency_key":"***","confirmation_token":"***","api_key":"***"}"#
            )
        );
    }

    #[test]
    fn it_is_short_and_on_one_line() {
        let long = json!({"a": "x\n".repeat(10_000)});
        let text = shown(long.as_object().unwrap());
        assert_eq!((text.lines().count(), text.chars().filter(|c| *c == 'x').count()), (1, 100));
        let many: Map<String, Value> =
            (0..1_000).map(|number| (format!("é{number}"), json!("é"))).collect();
        let text = shown(&many);
        assert!(text.len() <= MOST_BYTES + '…'.len_utf8() && text.ends_with('…'), "{}", text.len());
        let edge = json!({"a": format!("{}13105550107", "x".repeat(MOST_TEXT - 5))});
        assert!(!shown(edge.as_object().unwrap()).contains("1310"));
    }
}
