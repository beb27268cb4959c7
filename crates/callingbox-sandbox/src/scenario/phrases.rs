//! The phrases of the simulated people. A language is a file in `languages/`; English stands in for all others. Knows
//! nothing of when a phrase is said.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::civil::{Date, DateTime};
use serde::Deserialize;

const FILES: [&str; 4] = [
    include_str!("languages/en.toml"),
    include_str!("languages/de.toml"),
    include_str!("languages/es.toml"),
    include_str!("languages/fr.toml"),
];

static LANGUAGES: LazyLock<Vec<Phrases>> =
    LazyLock::new(|| FILES.iter().filter_map(|file| toml::from_str(file).ok()).collect());

static NONE: LazyLock<Phrases> = LazyLock::new(Phrases::default);

/// One language.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Phrases {
    language: String,
    months: Vec<String>,
    date: String,
    date_time: String,
    /// The first day of a month, if it is not said as `1`.
    first_day: Option<String>,
    pub(super) you_are: Vec<String>,
    pub(super) prepositions: Vec<String>,
    /// The words before the name of the person on whose behalf the agent calls.
    pub(super) on_behalf_of: String,
    pub(super) work: Vec<String>,
    /// How a sentence begins that says what the agent says first.
    pub(super) beginnings: Vec<String>,
    /// The words of such a sentence that mean an AI.
    pub(super) ai: String,
    pub(super) small_talk: Vec<[String; 2]>,
    pub(super) lines: Lines,
    pub(super) facts: BTreeMap<String, String>,
    pub(super) purposes: BTreeMap<String, PurposePhrases>,
    pub(super) booleans: BTreeMap<String, BooleanPhrases>,
    pub(super) values: BTreeMap<String, ValuePhrases>,
    pub(super) requests: Vec<String>,
}

/// The phrases that occur in every conversation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    pub(super) hello: String,
    pub(super) greeting_full: String,
    pub(super) greeting_deputy: String,
    pub(super) greeting_name: String,
    pub(super) greeting_organization: String,
    pub(super) greeting: String,
    pub(super) disclosure: String,
    pub(super) ask_for: String,
    pub(super) speaking: String,
    pub(super) what_about: String,
    pub(super) help: String,
    pub(super) inbound_request: String,
    pub(super) inbound_start: String,
    pub(super) inbound_noted: String,
    pub(super) one_question: String,
    pub(super) several_questions: String,
    pub(super) no_question: String,
    pub(super) thanks_for_call: String,
    pub(super) acknowledged: String,
    pub(super) noted: String,
    pub(super) after_no: String,
    pub(super) closing: String,
    pub(super) goodbye: String,
    pub(super) wrong_number_named: String,
    pub(super) wrong_number: String,
    pub(super) wrong_number_caller: String,
    pub(super) no_problem: String,
    pub(super) apology: String,
    pub(super) opt_out: String,
    pub(super) opt_out_reply: String,
    pub(super) plenty_of_time: String,
    pub(super) hostile_reply: String,
    pub(super) message_for: String,
    pub(super) message_no_purpose: String,
    pub(super) call_back: String,
    pub(super) unknown_boolean: BooleanPhrases,
    pub(super) unknown_number: ValuePhrases,
    pub(super) unknown_text: ValuePhrases,
}

/// What is said about the purpose of a call.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurposePhrases {
    pub(super) line: String,
    pub(super) confirm: String,
    /// What a caller asks for.
    pub(super) request: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BooleanPhrases {
    /// Empty if the purpose of the call has the question.
    pub(super) question: String,
    pub(super) yes: String,
    pub(super) no: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValuePhrases {
    pub(super) question: String,
    pub(super) answer: String,
    #[serde(default)]
    pub(super) values: Vec<String>,
    /// The values for a callee who was not satisfied, if they differ.
    #[serde(default)]
    pub(super) after_no: Vec<String>,
    /// How a number is written, such as `${n}`.
    pub(super) unit: Option<String>,
}

impl Phrases {
    /// The phrases for a BCP 47 tag such as `es-MX`.
    pub(super) fn for_language(tag: Option<&str>) -> &'static Self {
        let primary = tag.and_then(|tag| tag.split(['-', '_']).next()).unwrap_or_default();
        let found = LANGUAGES.iter().find(|one| one.language.eq_ignore_ascii_case(primary));
        found.or_else(|| LANGUAGES.first()).unwrap_or(&NONE)
    }

    pub(super) fn all() -> &'static [Self] {
        &LANGUAGES
    }

    /// A number as it is said about a topic, such as `$120`.
    pub(super) fn with_unit(&self, id: &str, number: &str) -> String {
        let unit = self.values.get(id).and_then(|phrases| phrases.unit.as_deref());
        fill(unit.unwrap_or("{n}"), "n", number)
    }

    /// An ISO 8601 date, or date and time, as a person would say it.
    pub(super) fn spell_date(&self, text: &str) -> Option<String> {
        let text = text.strip_suffix('Z').unwrap_or(text);
        let (moment, pattern) = match text.parse::<Date>() {
            Ok(date) if text.len() == 10 => {
                (date.to_datetime(jiff::civil::Time::midnight()), &self.date)
            }
            _ => (text.parse::<DateTime>().ok()?, &self.date_time),
        };
        let index = usize::try_from(moment.month() - 1).ok()?;
        let day = match &self.first_day {
            Some(first) if moment.day() == 1 => first.clone(),
            _ => moment.day().to_string(),
        };
        let pattern = fill(&fill(pattern, "month", self.months.get(index)?), "day", &day);
        Some(moment.strftime(&pattern).to_string())
    }
}

/// A phrase with its placeholders filled in.
pub(super) fn fill(phrase: &str, placeholder: &str, value: &str) -> String {
    let mut letters = value.chars();
    let capitalized: String =
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let mut initial = placeholder.chars();
    let upper: String =
        initial.next().into_iter().flat_map(char::to_uppercase).chain(initial).collect();
    phrase
        .replace(&format!("{{{upper}}}"), &capitalized)
        .replace(&format!("{{{placeholder}}}"), value)
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::*;

    #[test]
    fn every_language_has_phrases_for_every_topic() {
        for file in FILES {
            let phrases: Phrases = toml::from_str(file).unwrap();
            assert_eq!(phrases.months.len(), 12, "{}", phrases.language);
            assert!(phrases.requests.len() > 1 && phrases.small_talk.len() > 5);
            for (topic, _, is_boolean) in fields::tests::usual_fields() {
                let found = match is_boolean {
                    true => phrases.booleans.contains_key(&topic.id),
                    false => phrases.values.contains_key(&topic.id),
                };
                assert_eq!(found, topic.id != "other", "{} {}", phrases.language, topic.id);
                let purpose = topic.purpose.as_ref();
                assert!(purpose.is_none_or(|id| phrases.purposes.contains_key(id)), "{purpose:?}");
            }
        }
    }

    #[test]
    fn a_language_is_found_by_its_primary_subtag() {
        for (tag, expected) in [
            (None, "en"),
            (Some("en-GB"), "en"),
            (Some("es"), "es"),
            (Some("es-419"), "es"),
            (Some("DE-at"), "de"),
            (Some("fr_CA"), "fr"),
            (Some("pt-BR"), "en"),
        ] {
            assert_eq!(Phrases::for_language(tag).language, expected, "{tag:?}");
        }
    }

    #[test]
    fn dates_are_spelled_out() {
        for (tag, date, moment) in [
            ("en", "on November 28", "on November 28 at 9:05 am"),
            ("de", "am 28. November", "am 28. November um 9:05 Uhr"),
            ("es", "el 28 de noviembre", "el 28 de noviembre a las 9:05"),
            ("fr", "le 28 novembre", "le 28 novembre à 9 h 05"),
        ] {
            let phrases = Phrases::for_language(Some(tag));
            assert_eq!(phrases.spell_date("2026-11-28").unwrap(), date);
            assert_eq!(phrases.spell_date("2026-11-28T09:05:00-08:00").unwrap(), moment);
            assert_eq!(phrases.spell_date("2026-11-28T09:05:00Z").unwrap(), moment);
            assert_eq!(phrases.spell_date("next Tuesday"), None);
        }
    }
}
