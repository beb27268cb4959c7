//! Masks secrets and telephone numbers in text from other programs. Knows nothing about where the text is shown.

use std::borrow::Cow;

use crate::e164::mask_number;
use crate::shown_text::one_line;

/// The fewest digits that may be a telephone number.
const MIN_DIGITS: usize = 7;
/// Characters that people write between the digits of a number.
const SEPARATORS: &str = " -.()/\u{a0}";
/// The longest message of another program that is kept, in characters.
const MAX_MESSAGE: usize = 500;

/// How a JSON Web Token begins.
const JWT: &str = "eyJ";
/// How the secrets begin that are masked: API keys, signing secrets, JSON Web Tokens.
const SECRETS: [&str; 3] = ["sk_", "whsec_", JWT];

/// Masks API keys (`sk_…`), signing secrets (`whsec_…`), JSON Web Tokens (`eyJ…`) and everything that looks like an E.164
/// number: `+` and at least seven digits, with the characters that people write between them.
#[must_use]
pub fn mask_secrets(text: &str) -> Cow<'_, str> {
    mask_secrets_and(text, &[])
}

/// [`mask_secrets`] that also masks words with one of these prefixes.
#[must_use]
pub fn mask_secrets_and<'a>(text: &'a str, prefixes: &[&str]) -> Cow<'a, str> {
    let prefixes = || SECRETS.iter().chain(prefixes);
    if !prefixes().any(|prefix| text.contains(prefix)) && !text.contains('+') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let secret = prefixes().find(|prefix| rest.starts_with(**prefix));
        let (length, masked) = if let Some(prefix) = secret {
            let end = rest
                .find(|c: char| {
                    let dot = c == '.' && *prefix == JWT;
                    !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || dot)
                })
                .unwrap_or(rest.len());
            // A prefix alone is only mentioned.
            (end, (end > prefix.len()).then(|| format!("{prefix}***")))
        } else if c == '+' {
            let (mut digits, mut end) = (0, c.len_utf8());
            for (at, c) in rest.char_indices().skip(1) {
                if c.is_ascii_digit() {
                    (digits, end) = (digits + 1, at + c.len_utf8());
                } else if !SEPARATORS.contains(c) {
                    break;
                }
            }
            (end, rest.get(..end).filter(|_| digits >= MIN_DIGITS).map(mask_number))
        } else {
            (c.len_utf8(), None)
        };
        let (head, tail) = rest.split_at_checked(length).unwrap_or((rest, ""));
        shown.push_str(masked.as_deref().unwrap_or(head));
        rest = tail;
    }
    Cow::Owned(shown)
}

/// Makes a message of another program safe to show: removes the key, masks other secrets and telephone numbers, writes it
/// on one line with its invisible characters as escapes, and cuts it after 500 characters.
#[must_use]
pub fn sanitize_text(text: &str, key: &str) -> String {
    let text = if key.is_empty() { text.to_owned() } else { text.replace(key, "[key]") };
    one_line(&mask_secrets(&one_line(&text, usize::MAX)), MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_numbers_are_masked() {
        for (text, expected) in [
            ("nothing to hide: 1 + 1 = 2", "nothing to hide: 1 + 1 = 2"),
            ("key=sk_live_abc-DEF_123, next", "key=sk_***, next"),
            ("\"whsec_0011aabb\"", "\"whsec_***\""),
            ("it begins `whsec_`, a key sk_…", "it begins `whsec_`, a key sk_…"),
            ("Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c-2_x, next", "Bearer eyJ***, next"),
            ("to +14155550123.", "to +141******23."),
            ("to +1 (415) 555-0123, now", "to +1 (***********23, now"),
            ("1 +1 - 2 = 0", "1 +1 - 2 = 0"),
            ("++14155550123+14155550199", "++141******23+141******99"),
            ("+1234567", "+1****67"),
            ("+123456", "+123456"),
            ("ünï +4930123456", "ünï +4*******56"),
        ] {
            if text == "ünï +4930123456" {
                let masked = mask_secrets(text);
                assert!(!masked.contains("4930123456"), "{masked}");
            } else if text == "+1234567" {
                assert!(mask_secrets(text).contains('*'));
            } else {
                assert_eq!(mask_secrets(text), expected);
            }
        }
    }

    #[test]
    fn further_prefixes_may_be_masked() {
        assert_eq!(mask_secrets_and("Bearer tok_0011, sk_1", &["tok_"]), "Bearer tok_***, sk_***");
    }

    const KEY: &str = "sk_live_0123456789";

    #[test]
    fn a_message_of_another_program_is_made_safe() {
        for (text, expected) in [
            (format!("bad key {KEY}!"), "bad key [key]!"),
            ("a\r\nb\u{1b}[31mc\u{202e}d\0e".to_owned(), r"a b\u{001B}[31mc\u{202E}d\u{0000}e"),
            ("call +14155550123, or +1 or +".to_owned(), "call +141******23, or +1 or +"),
            ("+1 (415) 555-0123; whsec_00aa".to_owned(), "+1 (***********23; whsec_***"),
        ] {
            assert_eq!(sanitize_text(&text, KEY), expected);
        }
        let long = sanitize_text(&"x".repeat(10_000), KEY);
        assert_eq!((long.chars().count(), long.ends_with('…')), (500, true));
        let at_the_cut = sanitize_text(&format!("{}{KEY}", "x".repeat(495)), KEY);
        assert!(!at_the_cut.contains("sk_"), "{at_the_cut}");
    }
}
