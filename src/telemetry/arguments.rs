//! The arguments of a tool call as a log may show them, where somebody asked for it: no secrets, no
//! telephone numbers however they are written, no more of an address than its scheme and host, and short;
//! and what else of a client's words a log shows, without the numbers. Knows nothing of tools.

use std::borrow::Cow;

use serde_json::{Map, Value};
use url::Url;

/// The most characters of one text.
const MOST_TEXT: usize = 200;
/// The most bytes altogether.
const MOST_BYTES: usize = 2_000;
/// The fewest digits that may be a telephone number.
const FEWEST_DIGITS: usize = 7;
/// What people write between the digits of a number.
const BETWEEN_DIGITS: &str = " -.()/\u{a0}";
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
        (digits_masked(&addresses_cut(name)).into_owned(), value)
    };
    fields.iter().map(field).collect()
}

fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(object(fields)),
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        Value::String(text) => {
            // Masked before it is cut: half a number is too short to be seen as one.
            let text = addresses_cut(text);
            let whole = digits_masked(&text);
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

/// Leaves of each address in a text only its scheme and host: what follows, and who is named before it,
/// may be secret.
fn addresses_cut(text: &str) -> Cow<'_, str> {
    if !text.contains(':') {
        return Cow::Borrowed(text);
    }
    // An address may hold white space where nothing but it is given.
    if let Some(cut) = address_cut(text) {
        return Cow::Owned(cut);
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>');
    let cut = |part: &str| {
        let word = part.trim_end_matches(ends);
        let after = part.strip_prefix(word).unwrap_or_default();
        let Some((before, address)) = address_in(word) else { return part.to_owned() };
        // What cannot be read as an address may be meant for one all the same.
        let cut = address_cut(address).unwrap_or_else(|| "…".to_owned());
        format!("{before}{cut}{after}")
    };
    Cow::Owned(text.split_inclusive(ends).map(cut).collect())
}

/// Where in a word an address begins, if one does: what stands before it, such as a bracket, and the rest.
fn address_in(word: &str) -> Option<(&str, &str)> {
    word.match_indices(':').find_map(|(colon, _)| {
        let (before, after) = word.split_at_checked(colon)?;
        let of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let start = before.trim_end_matches(of_scheme).len();
        let scheme = before.get(start..)?;
        let web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
        let begins = after.len() > "://".len() && (web || after.starts_with("://"));
        begins.then(|| word.split_at_checked(start)).flatten()
    })
}

/// Scheme and host of a text that is an address; the text itself where it holds no more.
fn address_cut(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let cut = format!("{}://{}", url.scheme(), url.host_str()?);
    let whole = text.trim().trim_end_matches('/');
    Some(if whole.eq_ignore_ascii_case(&cut) { text.to_owned() } else { cut + "/…" })
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
    fn of_an_address_only_scheme_and_host_are_shown() {
        for (text, expected) in [
            ("https://e.com/h?token=SECRETQ", "https://e.com/…"),
            ("https://u:p@e.com", "https://e.com/…"),
            ("https://e.com:8443/", "https://e.com/…"),
            ("https://e.com#SECRETF", "https://e.com/…"),
            ("HTTPS://E.com/h/SECRETP", "https://e.com/…"),
            ("https:e.com?SECRETQ", "https://e.com/…"),
            (" https://e.com/h?a=SECRET Q&b=\"SECRET", "https://e.com/…"),
            ("redis://:SECRET@cache:6379/0", "redis://cache/…"),
            (
                "Post to https://e.com/h?token=SECRETQ, or\n<http://f.com/SECRET> (wss://g.com).",
                "Post to https://e.com/… or\n<http://f.com/…> (wss://g.com).",
            ),
            ("see:https://u:SECRET@e.com/x", "see:https://e.com/…"),
            ("https://e.com", "https://e.com"),
            ("https://e.com/", "https://e.com/"),
            ("at 19:30, room: 4; mailto:a@e.com", "at 19:30, room: 4; mailto:a@e.com"),
            ("https://", "https://"),
            ("at https://e.com:x/?token=SECRET", "at …"),
            ("or https:SECRET@e.com", "or https://e.com/…"),
        ] {
            let arguments = json!({"webhook_url": text, "tools": [{"url": text}]});
            let expected = json!({"webhook_url": expected, "tools": [{"url": expected}]});
            assert_eq!(shown(arguments.as_object().unwrap()), expected.to_string(), "{text}");
        }
        let name = json!({"https://e.com/x": 1});
        assert_eq!(shown(name.as_object().unwrap()), r#"{"https://e.com/…":1}"#);
    }

    #[test]
    fn what_looks_like_many_addresses_is_read_once() {
        for part in ["a:", "http:%", "https://", "a://[", ": "] {
            let long = json!({"a": part.repeat(1_000_000)});
            let begun = std::time::Instant::now();
            assert!(shown(long.as_object().unwrap()).len() <= MOST_BYTES);
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{part}");
        }
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
