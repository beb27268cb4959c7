//! The sentences that tell an agent to say that it is an AI, or forbid it, and how a text is compared with them. What counts
//! is a whole sentence: a condition before or after it makes it another one.

use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization as _;

/// Stands for whatever separates paragraphs and the items of a list.
const BREAK: char = '\n';

static TABLE: LazyLock<Vec<Row>> =
    LazyLock::new(|| include_str!("data/sentences.tsv").lines().filter_map(Row::parse).collect());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentenceKind {
    Add,
    Behalf,
    Also,
    Forbids,
    Claims,
    Says,
    Denies,
}

pub(super) struct Row {
    pub(super) language: &'static str,
    pub(super) kind: SentenceKind,
    pub(super) sentence: &'static str,
    /// The sentence as texts are compared, without its full stop.
    folded: String,
}

impl Row {
    /// `None` for a comment; a test reads every other line.
    fn parse(line: &'static str) -> Option<Self> {
        let mut columns = line.split('\t');
        let (language, kind) = (columns.next()?, columns.next()?);
        let sentence = columns.next()?;
        let kind = match kind {
            "add" => SentenceKind::Add,
            "behalf" => SentenceKind::Behalf,
            "also" => SentenceKind::Also,
            "forbids" => SentenceKind::Forbids,
            "claims" => SentenceKind::Claims,
            "says" => SentenceKind::Says,
            "denies" => SentenceKind::Denies,
            _ => return None,
        };
        let folded = fold(sentence).trim_end_matches(ends_sentence).to_owned();
        Some(Self { language, kind, sentence, folded })
    }

    /// Whether the words of the row are in a text, which is folded.
    fn is_in(&self, text: &str) -> bool {
        occurrences(text, &self.folded)
            .any(|(before, after)| is_word_boundary(&self.folded, before, after))
    }
}

pub(super) fn table() -> &'static [Row] {
    &TABLE
}

/// A language of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Language {
    /// Tells the agent to say at the beginning that it is an AI.
    pub(super) sentence: &'static str,
    behalf: &'static str,
}

impl Language {
    /// The language of a BCP 47 tag such as `en-US`.
    pub(super) fn from_tag(tag: &str) -> Option<Self> {
        let name = tag.split(['-', '_']).next().unwrap_or_default();
        let find = |kind| {
            let mut rows = table().iter();
            rows.find(|row| row.kind == kind && row.language.eq_ignore_ascii_case(name))
                .map(|row| row.sentence)
        };
        Some(Self { sentence: find(SentenceKind::Add)?, behalf: find(SentenceKind::Behalf)? })
    }

    /// The sentence that tells the agent to say in whose name it calls.
    pub(super) fn behalf_sentence(self, name: &str) -> String {
        self.behalf.replace("{name}", name)
    }
}

/// Whether a sentence of the text, in any language of the table, tells the agent to say at the beginning that it is an AI.
pub(super) fn is_disclosing(text: &str) -> bool {
    let text = fold(text);
    let mut rows =
        table().iter().filter(|row| matches!(row.kind, SentenceKind::Add | SentenceKind::Also));
    rows.any(|row| {
        occurrences(&text, &row.folded)
            .any(|(before, after)| starts_sentence(before) && ends_here(after))
    })
}

/// The words of the table that forbid it in the text, in any language.
pub(super) fn find_forbidding(text: &str) -> Option<&'static str> {
    let text = fold(text);
    let row = table().iter().find(|row| match row.kind {
        SentenceKind::Forbids => row.is_in(&text),
        SentenceKind::Claims => occurrences(&text, &row.folded).any(|(before, after)| {
            starts_sentence(before) && is_word_boundary(&row.folded, before, after)
        }),
        _ => false,
    })?;
    Some(row.sentence)
}

/// Whether words of the table, in any language, say that an AI speaks, and none deny it.
pub(super) fn says_ai(words: &str) -> bool {
    let words = fold(words);
    let has = |kind| table().iter().any(|row| row.kind == kind && row.is_in(&words));
    has(SentenceKind::Says) && !has(SentenceKind::Denies)
}

/// What is before and after each place where the words are in the text.
fn occurrences<'a>(text: &'a str, words: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.match_indices(words).filter_map(move |(at, found)| {
        Some((text.get(..at)?, text.get(at.checked_add(found.len())?..)?))
    })
}

fn starts_sentence(before: &str) -> bool {
    let before = before.strip_suffix(' ').unwrap_or(before);
    before.chars().next_back().is_none_or(|c| c == BREAK || c == '?' || ends_sentence(c))
}

fn ends_here(after: &str) -> bool {
    after.chars().next().is_none_or(|c| c == BREAK || ends_sentence(c))
}

const fn ends_sentence(c: char) -> bool {
    matches!(c, '.' | '!' | '。')
}

/// Whether the words are not part of longer words. Some scripts do not separate words.
fn is_word_boundary(words: &str, before: &str, after: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && c < '\u{2E80}');
    let begins = is_letter(words.chars().next()) && is_letter(before.chars().next_back());
    let ends = is_letter(words.chars().next_back()) && is_letter(after.chars().next());
    !begins && !ends
}

/// The text in NFKC and lower case, with one space for each run of white space. A blank line, and a line that begins with the
/// mark of a list item, become a [`BREAK`]; other line ends are spaces, because editors wrap lines.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut has_blank_line = false;
    for line in text.lines() {
        let line: String = line.nfkc().flat_map(char::to_lowercase).collect();
        let line = line.replace(['\u{2019}', '\u{2018}'], "'");
        let trimmed = line.trim();
        let item = trimmed.trim_start_matches(['-', '*', '•', '–', '—', '#']).trim_start();
        let is_item = item.len() < trimmed.len();
        if item.is_empty() {
            has_blank_line = true;
            continue;
        }
        if !folded.is_empty() {
            folded.push(if has_blank_line || is_item { BREAK } else { ' ' });
        }
        has_blank_line = false;
        for (index, word) in item.split_whitespace().enumerate() {
            if index > 0 {
                folded.push(' ');
            }
            folded.push_str(word);
        }
    }
    folded
}
