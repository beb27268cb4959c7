//! How the commands look: colors and signs on a terminal that wants them, plain words elsewhere.

use std::io::IsTerminal;

/// Colors on a terminal that wants them (<https://no-color.org>), none elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Style {
    terminal: bool,
    /// The terminal understands escape sequences.
    able: bool,
    colored: bool,
}

impl Style {
    pub(super) fn of_terminal() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let able = terminal && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal, able, colored: wanted && able }
    }

    /// Whether a line may be drawn over and over.
    pub(super) fn is_live(self) -> bool {
        self.able
    }

    /// The text in this color (SGR parameters of ECMA-48).
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.colored { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A sign for a person at a terminal, a word for whoever reads the text elsewhere.
    pub(super) fn mark(self, code: &str, sign: &str, word: &str) -> String {
        if self.terminal { self.paint(code, sign) } else { format!("{word:<4}") }
    }
}
