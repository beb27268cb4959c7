//! Finds the name of the agent and of its organization in a persona, and whether a text obliges the agent to say at the
//! beginning that it is an AI. Nothing else of a persona is ever spoken.

use super::phrases::Phrases;

const MAX_NAME_CHARS: usize = 60;
/// Words that end with a full stop and do not end a sentence.
const ABBREVIATIONS: &[&str] =
    &["Dr.", "Dra.", "Mr.", "Mrs.", "Ms.", "St.", "Sr.", "Sra.", "Prof.", "Inc.", "Co."];
/// Words in lower case that may be part of an organization's name.
const CONNECTORS: &[&str] =
    &["&", "of", "and", "de", "del", "la", "du", "des", "der", "und", "y", "et"];

/// Who calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: Option<String>,
    pub(super) organization: Option<String>,
    /// Whether the agent calls for the organization, or for a person whose name that is, and not from it.
    pub(super) is_deputy: bool,
}

impl Identity {
    pub(super) fn from_persona(persona: &str) -> Self {
        let sentences = split_sentences(persona);
        for phrases in Phrases::all() {
            for words in &sentences {
                let Some(rest) = strip_introduction(words, &phrases.you_are) else { continue };
                let name = take_capitalized(rest, &[]);
                let after_name = rest.get(name.len()..).unwrap_or_default();
                let organization = find_organization(after_name, phrases).or_else(|| {
                    let is_about_work = |words: &&Vec<&str>| {
                        words.iter().any(|word| {
                            let word = word.to_lowercase();
                            phrases.work.iter().any(|start| word.starts_with(start))
                        })
                    };
                    let work = sentences.iter().find(is_about_work)?;
                    find_organization(work, phrases)
                });
                return Self { name: join_name(name), ..organization.unwrap_or_default() };
            }
        }
        let first = sentences.first().map_or(&[][..], Vec::as_slice);
        Phrases::all().iter().find_map(|one| find_organization(first, one)).unwrap_or_default()
    }
}

/// Whether a sentence of a text, in any language, obliges the agent to say at the beginning that it is an AI.
pub(super) fn must_disclose(text: &str) -> bool {
    split_sentences(text).iter().any(|words| {
        let sentence = words.join(" ");
        let mut languages = Phrases::all().iter();
        languages.any(|phrases| {
            phrases.beginnings.iter().any(|beginning| sentence.starts_with(beginning.as_str()))
                && sentence.split(|c: char| !c.is_alphanumeric()).any(|word| word == phrases.ai)
        })
    })
}

fn split_sentences(text: &str) -> Vec<Vec<&str>> {
    let words: Vec<&str> = text.split_whitespace().take(200).collect();
    let ends_sentence =
        |word: &&str| word.ends_with(['.', '!', '?']) && !ABBREVIATIONS.contains(word);
    words.split_inclusive(ends_sentence).map(<[&str]>::to_vec).collect()
}

/// The words after `You are` or its like.
fn strip_introduction<'a>(words: &'a [&'a str], introductions: &[String]) -> Option<&'a [&'a str]> {
    introductions.iter().find_map(|introduction| {
        let count = introduction.split(' ').count();
        let starts = introduction.split(' ').eq(words.iter().take(count).copied());
        starts.then(|| words.get(count..)).flatten()
    })
}

/// The capitalized words at the start, and the connectors between them.
fn take_capitalized<'a>(words: &'a [&'a str], connectors: &[&str]) -> &'a [&'a str] {
    let mut count = 0;
    for (index, word) in words.iter().enumerate() {
        let is_connector = connectors.contains(word)
            && count > 0
            && words.get(index + 1).is_some_and(|next| is_capitalized(next));
        if !is_capitalized(word) && !is_connector {
            break;
        }
        count = index + 1;
        if ends_part(word) {
            break;
        }
    }
    words.get(..count).unwrap_or_default()
}

fn find_organization(words: &[&str], phrases: &Phrases) -> Option<Identity> {
    let is_preposition = |word: &str| phrases.prepositions.iter().any(|known| known == word);
    (1..words.len()).find_map(|start| {
        let before = words.get(start - 1).filter(|word| is_preposition(word))?;
        let organization = Some(join_name(take_capitalized(words.get(start..)?, CONNECTORS))?);
        Some(Identity { name: None, organization, is_deputy: *before == phrases.on_behalf_of })
    })
}

fn is_capitalized(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase)
}

fn ends_part(word: &str) -> bool {
    word.ends_with([',', ';', ':', '.', '!', '?']) && !ABBREVIATIONS.contains(&word)
}

fn join_name(words: &[&str]) -> Option<String> {
    let name = words.join(" ");
    let name = name.trim_end_matches([',', ';', ':', '.', '!', '?']);
    (!name.is_empty() && name.chars().count() <= MAX_NAME_CHARS).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_about_the_beginning_instructs_the_agent() {
        for (text, expected) in [
            ("Be brief. At the beginning of the call, say that you are an AI assistant.", true),
            ("Sagen Sie zu Beginn des Gesprächs, dass Sie ein KI-Assistent sind. Danke.", true),
            ("If asked, say that you are an AI assistant.", false),
            ("At the beginning of the call, say hello.", false),
            ("", false),
        ] {
            assert_eq!(must_disclose(text), expected, "{text}");
        }
    }

    #[test]
    fn name_and_organization_are_found() {
        for (persona, name, organization) in [
            ("You are Mia, a calm assistant of Northside Dental.", "Mia", "Northside Dental"),
            ("You are Mia of Northside Dental. Be brief.", "Mia", "Northside Dental"),
            ("You're Leo from Smith & Sons Heating", "Leo", "Smith & Sons Heating"),
            ("You are a calm assistant of Northside Dental.", "", "Northside Dental"),
            ("You are Leo.", "Leo", ""),
            ("You are Ana, calling for Sam Lee.", "Ana", "Sam Lee"),
            (
                "You are Mia Wong. You work for the Bank of Oakland, in sales.",
                "Mia Wong",
                "Bank of Oakland",
            ),
            ("Your name is Sam. Be polite at all times with Customers.", "Sam", ""),
            ("You are Ann, receptionist at Dr. Lee Dental. Speak slowly.", "Ann", "Dr. Lee Dental"),
            ("A friendly receptionist at Northside Dental.", "", "Northside Dental"),
            ("Be friendly.", "", ""),
            ("Eres Ana, asistente de la Clínica Norte.", "Ana", "Clínica Norte"),
            ("Du bist Mia von der Praxis Nord.", "Mia", "Praxis Nord"),
            ("Vous êtes Camille, du Cabinet du Nord.", "Camille", "Cabinet du Nord"),
        ] {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let is_deputy = persona.contains(" for Sam");
            let expected =
                Identity { name: given(name), organization: given(organization), is_deputy };
            assert_eq!(Identity::from_persona(persona), expected, "{persona}");
        }
    }
}
