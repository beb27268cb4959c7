//! Colors and signs for a terminal; plain words elsewhere.

use std::io::IsTerminal;
use std::sync::LazyLock;

#[derive(Clone, Copy)]
pub(super) struct Style {
    is_terminal: bool,
    /// Whether the terminal understands escape sequences.
    has_escapes: bool,
    /// Whether the user wants colors (<https://no-color.org>).
    has_colors: bool,
}

/// What is known of standard output.
struct Terminal {
    is_terminal: bool,
    /// `TERM` is `dumb`.
    is_dumb: bool,
    no_color: bool,
    /// Whether a console of Windows takes escape sequences; `None` elsewhere. Classic consoles need to be asked, and old
    /// ones show them as text.
    console_escapes: Option<bool>,
}

impl Style {
    pub(super) fn from_terminal() -> Self {
        static CONSOLE_ESCAPES: LazyLock<Option<bool>> =
            LazyLock::new(anstyle_query::windows::enable_ansi_colors);
        Self::new(&Terminal {
            is_terminal: std::io::stdout().is_terminal(),
            is_dumb: std::env::var_os("TERM").is_some_and(|name| name == "dumb"),
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            console_escapes: *CONSOLE_ESCAPES,
        })
    }

    fn new(terminal: &Terminal) -> Self {
        let Terminal { is_terminal, is_dumb, no_color, console_escapes } = *terminal;
        let has_escapes = is_terminal && !is_dumb && console_escapes.unwrap_or(true);
        Self { is_terminal, has_escapes, has_colors: has_escapes && !no_color }
    }

    /// Whether a line can be erased and drawn again.
    pub(super) fn can_redraw(self) -> bool {
        self.has_escapes
    }

    /// The text in a color (SGR parameters of ECMA-48).
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.has_colors { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A line of a conversation: agent and callee in different colors.
    pub(super) fn utterance(self, role: &str, words: &str) -> String {
        let (name, color) = match role {
            "agent" => (role, "36"),
            // The API's word is `user`, that of the tools `callee`.
            "user" | "callee" => ("callee", "33"),
            other => (other, "35"),
        };
        format!("  {}\n", self.paint(color, &format!("{name}: {words}")))
    }

    /// A sign for a person at a terminal, a word for other readers.
    pub(super) fn mark(self, code: &str, sign: &str, word: &str) -> String {
        if self.is_terminal { self.paint(code, sign) } else { format!("{word:<4}") }
    }

    /// The columns of a mark.
    pub(super) fn mark_width(self) -> usize {
        if self.is_terminal { 1 } else { 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_understands_escapes_gets_them() {
        for (is_terminal, is_dumb, no_color, console_escapes, redraws, colors) in [
            (true, false, false, None, true, true),
            (true, false, false, Some(true), true, true),
            (true, false, false, Some(false), false, false),
            (true, true, false, None, false, false),
            (true, false, true, None, true, false),
            (false, false, false, Some(true), false, false),
        ] {
            let terminal = Terminal { is_terminal, is_dumb, no_color, console_escapes };
            let style = Style::new(&terminal);
            let painted = style.paint("2", "x") != "x";
            assert_eq!((style.can_redraw(), painted), (redraws, colors), "{console_escapes:?}");
        }
    }
}
