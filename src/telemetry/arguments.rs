//! The arguments of a tool call in a form that a log may show, if the operator asks for it: without secrets, without
//! telephone numbers in any notation, with only scheme and host of a URL, and short. Knows no tools.

use std::borrow::Cow;

use serde_json::{Map, Value};
use url::Url;

/// The longest string that is shown, in characters.
const MAX_STRING_CHARS: usize = 200;
/// The longest line of arguments, in bytes.
const MAX_BYTES: usize = 2_000;
/// The fewest digits that may be a telephone number.
const MIN_DIGITS: usize = 7;
/// Characters that people write between the digits of a number.
const SEPARATORS: &str = " -.()/\u{a0}";
/// Parts of the names of fields that hold secrets.
const SECRET_NAMES: [&str; 7] =
    ["secret", "token", "password", "authorization", "credential", "header", "key"];

/// The arguments on one line, masked and shortened.
#[must_use]
pub fn mask_arguments(arguments: &Map<String, Value>) -> String {
    let mut text = Value::Object(mask_fields(arguments)).to_string();
    if text.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn mask_fields(fields: &Map<String, Value>) -> Map<String, Value> {
    let field = |(name, value): (&String, &Value)| {
        let lower = name.to_lowercase();
        let value = match SECRET_NAMES.iter().any(|part| lower.contains(part)) {
            true => Value::from("***"),
            false => mask_value(value),
        };
        (mask_digits(&cut_urls(name)).into_owned(), value)
    };
    fields.iter().map(field).collect()
}

fn mask_value(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(mask_fields(fields)),
        Value::Array(items) => Value::Array(items.iter().map(mask_value).collect()),
        Value::String(text) => {
            // Masked first, because half a number would not be recognized after the cut.
            let text = cut_urls(text);
            let whole = mask_digits(&text);
            let mut short: String = whole.chars().take(MAX_STRING_CHARS).collect();
            if short.len() < whole.len() {
                short.push('…');
            }
            Value::from(short)
        }
        Value::Number(number) => {
            let text = number.to_string();
            match mask_digits(&text) {
                Cow::Borrowed(_) => value.clone(),
                Cow::Owned(masked) => Value::from(masked),
            }
        }
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// Cuts each URL in a text to its scheme and host. The user before it and the path after it may be secret.
fn cut_urls(text: &str) -> Cow<'_, str> {
    if !text.contains(':') {
        return Cow::Borrowed(text);
    }
    // A text that is nothing but a URL may have white space in it.
    if let Some(cut) = cut_url(text) {
        return Cow::Owned(cut);
    }
    let is_delimiter = |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>');
    let cut = |part: &str| {
        let word = part.trim_end_matches(is_delimiter);
        let after = part.strip_prefix(word).unwrap_or_default();
        let Some((before, url)) = split_at_url(word) else { return part.to_owned() };
        // A malformed URL may hold a secret too.
        let cut = cut_url(url).unwrap_or_else(|| "…".to_owned());
        format!("{before}{cut}{after}")
    };
    Cow::Owned(text.split_inclusive(is_delimiter).map(cut).collect())
}

/// Splits a word at the beginning of a URL in it, for example after a bracket.
fn split_at_url(word: &str) -> Option<(&str, &str)> {
    word.match_indices(':').find_map(|(colon, _)| {
        let (before, after) = word.split_at_checked(colon)?;
        let is_scheme_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let start = before.trim_end_matches(is_scheme_char).len();
        let scheme = before.get(start..)?;
        let is_http = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
        let begins_here = after.len() > "://".len() && (is_http || after.starts_with("://"));
        begins_here.then(|| word.split_at_checked(start)).flatten()
    })
}

/// Scheme and host of a URL; the URL itself if it has no more.
fn cut_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let cut = format!("{}://{}", url.scheme(), url.host_str()?);
    let whole = text.trim().trim_end_matches('/');
    Some(if whole.eq_ignore_ascii_case(&cut) { text.to_owned() } else { cut + "/…" })
}

/// Masks each run of digits that may be a telephone number, with the separators in it.
#[must_use]
pub fn mask_digits(text: &str) -> Cow<'_, str> {
    // Nearly always; each log line of a call is checked.
    if text.bytes().filter(u8::is_ascii_digit).count() < MIN_DIGITS {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    let mut run = String::new();
    let mut any = false;
    let mut end_run = |run: &mut String, shown: &mut String| {
        if run.chars().filter(char::is_ascii_digit).count() >= MIN_DIGITS {
            any = true;
            shown.push_str("***");
        } else {
            shown.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_digit() || (!run.is_empty() && SEPARATORS.contains(c)) {
            run.push(c);
        } else {
            end_run(&mut run, &mut shown);
            shown.push(c);
        }
    }
    end_run(&mut run, &mut shown);
    if any { Cow::Owned(shown) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_secrets_are_masked_and_the_rest_is_shown() {
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
            mask_arguments(arguments.as_object().unwrap()),
            concat!(
                r#"{"to":"+***","instructions":"Ring (***or ***,\nthen ***; table for 4 at 19:30.","#,
                r#""context":{"fax":"***","people":4,"+***":true},"tools":[{"headers":"***","name":"x"}],"#,
                r#""idempotency_key":"***","confirmation_token":"***","api_key":"***"}"#
            )
        );
    }

    #[test]
    fn a_url_is_cut_to_scheme_and_host() {
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
            assert_eq!(
                mask_arguments(arguments.as_object().unwrap()),
                expected.to_string(),
                "{text}"
            );
        }
        let name = json!({"https://e.com/x": 1});
        assert_eq!(mask_arguments(name.as_object().unwrap()), r#"{"https://e.com/…":1}"#);
    }

    #[test]
    fn a_text_like_many_urls_is_read_in_linear_time() {
        for part in ["a:", "http:%", "https://", "a://[", ": "] {
            let long = json!({"a": part.repeat(1_000_000)});
            let begun = std::time::Instant::now();
            assert!(mask_arguments(long.as_object().unwrap()).len() <= MAX_BYTES);
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{part}");
        }
    }

    #[test]
    fn long_arguments_are_shortened_to_one_line() {
        let long = json!({"a": "x\n".repeat(10_000)});
        let text = mask_arguments(long.as_object().unwrap());
        assert_eq!((text.lines().count(), text.chars().filter(|c| *c == 'x').count()), (1, 100));
        let many: Map<String, Value> =
            (0..1_000).map(|number| (format!("é{number}"), json!("é"))).collect();
        let text = mask_arguments(&many);
        assert!(text.len() <= MAX_BYTES + '…'.len_utf8() && text.ends_with('…'), "{}", text.len());
        let edge = json!({"a": format!("{}13105550107", "x".repeat(MAX_STRING_CHARS - 5))});
        assert!(!mask_arguments(edge.as_object().unwrap()).contains("1310"));
    }
}
