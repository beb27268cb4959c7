//! Colors and signs for a terminal; plain words elsewhere.

use std::io::IsTerminal;

#[derive(Clone, Copy)]
pub(super) struct Style {
    is_terminal: bool,
    /// Whether the terminal understands escape sequences.
    has_escapes: bool,
    /// Whether the user wants colors (<https://no-color.org>).
    has_colors: bool,
}

impl Style {
    pub(super) fn from_terminal() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let has_escapes = is_terminal && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        let wants_colors = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_terminal, has_escapes, has_colors: has_escapes && wants_colors }
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
