//! Standard output, to which only commands write on purpose, and the width of a terminal.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context;
use textwrap::{Options, WordSplitter};

/// Narrower than this, wrapped text would be harder to read than broken lines.
const MIN_COLUMNS: usize = 30;

/// Writes to standard output and flushes it. A reader that went away is not an error.
pub(super) fn print(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_ref().as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output cannot be written"),
    }
}

/// Writes sentences: lines that are longer than the terminal is wide continue below with two more columns of
/// indentation than they have. Elsewhere than at a terminal nothing is wrapped.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print_wrapped(text: impl AsRef<str>) -> anyhow::Result<()> {
    print(wrap_lines(text.as_ref(), None))
}

/// The text with its lines wrapped at the terminal's width. Continued lines have this indentation, or two more columns
/// than the line itself.
pub(super) fn wrap_lines(text: &str, indentation: Option<usize>) -> String {
    if !std::io::stdout().is_terminal() {
        return text.to_owned();
    }
    wrap_at(text, indentation, textwrap::termwidth())
}

/// An error with its lines wrapped at the width of the terminal at which standard error is shown.
#[must_use]
pub fn wrap_error(text: &str) -> String {
    match std::io::stderr().is_terminal() {
        true => wrap_at(text, None, textwrap::termwidth()),
        false => text.to_owned(),
    }
}

fn wrap_at(text: &str, indentation: Option<usize>, columns: usize) -> String {
    let wrap_line = |line: &str| {
        // The end of the line stays, because an answer may be typed behind a blank.
        let content = line.trim_end();
        let end = line.strip_prefix(content).unwrap_or_default();
        if columns < MIN_COLUMNS || textwrap::core::display_width(content) < columns {
            return line.to_owned();
        }
        let own = content.chars().take_while(|letter| *letter == ' ').count();
        let indent = " ".repeat(indentation.unwrap_or(own + 2).min(columns / 2));
        // A hyphen is part of a command or of a flag.
        let options = Options::new(columns - 1)
            .subsequent_indent(&indent)
            .word_splitter(WordSplitter::NoHyphenation)
            .break_words(false);
        textwrap::fill(content, options) + end
    };
    text.split_inclusive('\n').map(wrap_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_continue_with_a_hanging_indentation() {
        let text = "  one two three four five six seven eight nine ten\nshort\n";
        let wrapped = "  one two three four five six\n    seven eight nine ten\nshort\n";
        assert_eq!(wrap_at(text, None, 32), wrapped);
        let wrapped = "  one two three four five six\n          seven eight nine ten\nshort\n";
        assert_eq!(wrap_at(text, Some(10), 32), wrapped);
    }

    #[test]
    fn words_question_marks_and_colors_are_not_broken() {
        let question = "Which of all of these numbers? (1 to 5, Enter for 1) ";
        let wrapped = "Which of all of these numbers?\n  (1 to 5, Enter for 1) ";
        assert_eq!(wrap_at(question, None, 32), wrapped);
        let word = "x".repeat(50);
        assert_eq!(wrap_at(&word, None, 32), word);
        let command = "callingbox-mcp install claude-desktop --sandbox";
        assert_eq!(
            wrap_at(command, None, 32),
            "callingbox-mcp install\n  claude-desktop --sandbox"
        );
        // Escape sequences take no room.
        let colored = format!("\u{1b}[33m{}\u{1b}[0m", "a".repeat(31));
        assert_eq!(wrap_at(&colored, None, 32), colored);
    }
}
