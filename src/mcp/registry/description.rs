//! The description of a tool, sentence by sentence, each with the readers whom it concerns. A tool that a reader is not
//! offered is not named, and a simulated effect is not described as a real one.

use super::name::ToolName;
use crate::account::Environment;

/// A sentence of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentence {
    Always(&'static str),
    /// Where calls and purchases are real.
    Live(&'static str),
    /// Where they are simulated.
    Sandbox(&'static str),
    /// Where this other tool, which the sentence names, is offered.
    With(ToolName, &'static str),
    /// The same where calls are real.
    LiveWith(ToolName, &'static str),
}

/// The sentences that concern a reader, as one text.
#[must_use]
pub fn render_description(
    sentences: &[Sentence],
    environment: Environment,
    is_offered: impl Fn(ToolName) -> bool,
) -> String {
    let texts = sentences.iter().filter_map(|sentence| match *sentence {
        Sentence::Always(text) => Some(text),
        Sentence::Live(text) => (environment == Environment::Live).then_some(text),
        Sentence::Sandbox(text) => (environment == Environment::Sandbox).then_some(text),
        Sentence::With(tool, text) => is_offered(tool).then_some(text),
        Sentence::LiveWith(tool, text) => {
            (environment == Environment::Live && is_offered(tool)).then_some(text)
        }
    });
    texts.collect::<Vec<_>>().join(" ")
}
