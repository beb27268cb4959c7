//! Whether a text can be followed here: nobody is told to use a tool that is not offered. Knows texts
//! and the names of tools, and nothing of what either is for.

use std::sync::Arc;

use super::index::Index;
use super::selection::Selection;

/// What one caller is offered, as the texts for it are held against. Cheap to make: each tool call has one,
/// and few need it.
#[derive(Clone)]
pub struct Offer {
    all: Index,
    selection: Arc<Selection>,
}

impl Offer {
    /// What `selection` offers of all tools.
    #[must_use]
    pub fn of(all: &Index, selection: &Arc<Selection>) -> Self {
        Self { all: all.clone(), selection: Arc::clone(selection) }
    }

    /// Whether the tool of this name is offered.
    #[must_use]
    pub fn has(&self, tool: &str) -> bool {
        self.all.get(tool).is_some_and(|tool| self.selection.offers(tool))
    }

    /// A tool that a text names and that is not offered.
    #[must_use]
    pub fn lacking(&self, text: &str) -> Option<&'static str> {
        self.all_lacking(text).next()
    }

    /// All tools that a text names and that are not offered, as often as it names them.
    pub fn all_lacking(&self, text: &str) -> impl Iterator<Item = &'static str> {
        text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            // As each tool's name has: nearly all words need not be looked up.
            .filter(|word| word.contains('_'))
            .filter_map(|word| self.all.get(word))
            .filter(|tool| !self.selection.offers(tool))
            .map(|tool| tool.name)
    }

    /// A text without the sentences that name a tool that is not offered.
    #[must_use]
    pub fn fitting(&self, text: &str) -> String {
        let sentences = text.split_inclusive(". ");
        let fitting: String = sentences.filter(|one| self.lacking(one).is_none()).collect();
        fitting.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalogue::Catalogue;

    #[test]
    fn a_sentence_stays_if_all_its_tools_are_offered() {
        let text = "list_calls shows the calls. Look at `place_call`, not at list_call. It ends.";
        for (tools, lacking, fitting) in [
            (&["list_calls", "place_call"][..], None, text),
            (&["list_calls"], Some("place_call"), "list_calls shows the calls. It ends."),
            (
                &["place_call"],
                Some("list_calls"),
                "Look at `place_call`, not at list_call. It ends.",
            ),
            (&["get_agent"], Some("list_calls"), "It ends."),
        ] {
            let offer = Offer::only(tools);
            assert_eq!((offer.lacking(text), offer.fitting(text).as_str()), (lacking, fitting));
        }
        assert_eq!(Offer::only(&["get_agent"]).fitting("place_call makes one."), "");
    }

    #[test]
    fn no_name_of_a_tool_is_one_word() {
        for tool in Catalogue::new().index().iter() {
            assert!(tool.name.contains('_'), "{}", tool.name);
        }
    }
}
