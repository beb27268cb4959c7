//! Makes texts of unknown origin safe to show: what cannot be seen becomes visible, and a line stays one line. This is the only
//! place that decides which characters are invisible.

use std::fmt;

/// Whether a character is invisible or changes how the text around it is shown: control characters, line and paragraph
/// separators, and everything that Unicode lets programs ignore (Default_Ignorable_Code_Point: bidirectional controls,
/// tags, variation selectors, fillers, characters without width).
#[must_use]
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// The text with its invisible characters as escapes such as `\u{202E}`. Line feeds and tabs stay.
#[must_use]
pub fn escape_invisible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) && c != '\n' && c != '\t' {
            shown.push_str(&format!("\\u{{{:04X}}}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The same on one line, shortened to `limit` characters.
#[must_use]
pub fn one_line(text: &str, limit: usize) -> String {
    let shown = escape_invisible(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if shown.chars().count() <= limit {
        return shown;
    }
    let mut cut: String = shown.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Writes a text of the API on one line. Most texts need no change.
pub(crate) fn fmt_one_line(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if text.chars().any(|c| c.is_whitespace() || is_invisible(c)) {
        f.write_str(&one_line(text, usize::MAX))
    } else {
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_shown() {
        for (text, shown) in [
            ("a\u{202E}b\u{0007}c\u{200B}\td\n", "a\\u{202E}b\\u{0007}c\\u{200B}\td\n"),
            ("\u{E0049}\u{FE0F}\u{3164}\u{115F}", "\\u{E0049}\\u{FE0F}\\u{3164}\\u{115F}"),
            ("\u{FEFF}\u{AD}\u{E01EF}\u{2800}", "\\u{FEFF}\\u{00AD}\\u{E01EF}\\u{2800}"),
            ("\u{2028}\u{2066}\u{85}\r", "\\u{2028}\\u{2066}\\u{0085}\\u{000D}"),
            ("Žluťoučký 電話 🙂 ß", "Žluťoučký 電話 🙂 ß"),
        ] {
            assert_eq!(escape_invisible(text), shown);
        }
        assert_eq!(one_line(" a \n b\r\n c\u{2028}d\u{85}", 20), "a b c d");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }
}
