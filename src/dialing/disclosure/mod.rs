//! Whether the texts of a call tell the agent to say at the beginning that it is an AI, what the setting `disclosure` makes of
//! it, and whether the agent said it. Compares texts with the sentences of a table. Does not know what an agent will say.

mod sentences;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::sentences::{Language, find_forbidding, is_disclosing, says_ai};
use super::policy::{PolicyRefusal, RuleName};
use callingbox::{Agent, AgentType, OpenEnum};

/// The most characters of the instructions of a call, as the API takes them.
const MAX_INSTRUCTIONS: usize = 20_000;

/// How many lines of the agent are the beginning of a call.
const MAX_FIRST_LINES: usize = 3;

/// The language of an agent that names none.
const DEFAULT_LANGUAGE: &str = "en";

/// What happens to a call whose texts do not tell the agent to say at the beginning that it is an AI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DisclosureMode {
    /// It is placed, and the answer names the missing sentence.
    #[default]
    Remind,
    /// It is refused.
    Require,
    /// The sentence is sent before its instructions.
    Add,
    /// Nothing: the texts are not checked.
    Off,
}

/// The settings by which calls disclose that an AI calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DisclosureRules {
    pub mode: DisclosureMode,
    /// In whose name the agent calls.
    pub on_behalf_of: Option<String>,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisclosureDecision {
    /// It is sent as it is.
    Unchanged,
    /// It is sent as it is, and this sentence is shown.
    Remind(String),
    /// These instructions are sent in place of its own.
    Add(String),
    /// It is not sent.
    Refuse(PolicyRefusal),
}

/// What the texts of a call say.
enum TextFinding {
    Told,
    /// These words forbid it.
    Forbidden(&'static str),
    NotTold(Language),
    /// The table has no sentences in this language.
    UnknownLanguage(String),
}

/// Whether an agent said at the beginning of a call that it is an AI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpokenDisclosure {
    Said,
    /// Its first lines have no words of the table that say it, or words that deny it.
    NotFound,
    NoTranscript,
}

impl SpokenDisclosure {
    /// From the lines of the agent, in their order.
    pub fn from_agent_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let first: Vec<&str> = lines.into_iter().take(MAX_FIRST_LINES).collect();
        match first.as_slice() {
            [] => Self::NoTranscript,
            first if says_ai(&first.join(" ")) => Self::Said,
            _ => Self::NotFound,
        }
    }
}

impl DisclosureRules {
    /// Whether each agent must be told to say it: no call may be sent before its agent was read, and the transcript shows
    /// whether the agent said it.
    #[must_use]
    pub fn is_binding(&self) -> bool {
        matches!(self.mode, DisclosureMode::Require | DisclosureMode::Add)
    }

    /// What the setting does to calls; `None` if each is sent as it is.
    #[must_use]
    pub const fn describe(&self) -> Option<&'static str> {
        match self.mode {
            DisclosureMode::Remind | DisclosureMode::Off => None,
            DisclosureMode::Require => Some(
                "calls whose texts do not tell the agent to say at the beginning that it is an AI are refused",
            ),
            DisclosureMode::Add => Some(
                "calls whose texts do not tell the agent to say at the beginning that it is an AI are sent with such a sentence",
            ),
        }
    }

    /// What becomes of a call by this agent; `instructions` are those of the call, which replace the agent's.
    #[must_use]
    pub fn decide(&self, agent: &Agent, instructions: Option<&str>) -> DisclosureDecision {
        let is_inbound = agent.r#type == Some(OpenEnum::Known(AgentType::Inbound));
        if self.mode == DisclosureMode::Off || is_inbound {
            return DisclosureDecision::Unchanged;
        }
        let task = instructions.or(agent.instructions.as_deref()).unwrap_or_default();
        let finding = find(agent, task);
        match (self.mode, finding) {
            (_, TextFinding::Told) | (DisclosureMode::Off, _) => DisclosureDecision::Unchanged,
            (DisclosureMode::Remind, finding) => {
                DisclosureDecision::Remind(format!("{}.", sentence_case(&describe(&finding))))
            }
            (DisclosureMode::Add, TextFinding::NotTold(language)) => self.add(language, task),
            (DisclosureMode::Require, TextFinding::NotTold(language)) => refuse(format!(
                "{}; the instructions or the persona must contain the sentence \"{}\"",
                describe(&TextFinding::NotTold(language)),
                language.sentence
            )),
            (DisclosureMode::Require | DisclosureMode::Add, finding) => refuse(describe(&finding)),
        }
    }

    fn add(&self, language: Language, task: &str) -> DisclosureDecision {
        let mut text = language.sentence.to_owned();
        if let Some(name) = self.on_behalf_of.as_deref().filter(|name| !name.trim().is_empty()) {
            text.push(' ');
            text.push_str(&language.behalf_sentence(name.trim()));
        }
        if !task.trim().is_empty() {
            text.push_str("\n\n");
            text.push_str(task);
        }
        if text.chars().count() > MAX_INSTRUCTIONS {
            return refuse(format!(
                "with the sentence that tells the agent to say that it is an AI, the instructions are longer than \
                 {MAX_INSTRUCTIONS} characters"
            ));
        }
        DisclosureDecision::Add(text)
    }
}

impl DisclosureDecision {
    /// The instructions to send in place of the call's own.
    ///
    /// # Errors
    /// The call is not sent.
    pub fn into_instructions(self) -> Result<Option<String>, PolicyRefusal> {
        match self {
            Self::Unchanged | Self::Remind(_) => Ok(None),
            Self::Add(instructions) => Ok(Some(instructions)),
            Self::Refuse(refusal) => Err(refusal),
        }
    }

    /// What to show about a call that is sent as it is.
    #[must_use]
    pub fn reminder(&self) -> Option<&str> {
        match self {
            Self::Remind(text) => Some(text),
            Self::Unchanged | Self::Add(_) | Self::Refuse(_) => None,
        }
    }
}

fn find(agent: &Agent, task: &str) -> TextFinding {
    let texts = [agent.persona.as_deref().unwrap_or_default(), task];
    if let Some(words) = texts.into_iter().find_map(find_forbidding) {
        return TextFinding::Forbidden(words);
    }
    if texts.into_iter().any(is_disclosing) {
        return TextFinding::Told;
    }
    let tag = agent.language.as_deref().map(str::trim).filter(|tag| !tag.is_empty());
    let tag = tag.unwrap_or(DEFAULT_LANGUAGE);
    Language::from_tag(tag)
        .map_or_else(|| TextFinding::UnknownLanguage(tag.to_owned()), TextFinding::NotTold)
}

fn describe(finding: &TextFinding) -> String {
    match finding {
        TextFinding::Told => {
            "the instructions tell the agent to say at the beginning that it is an AI".to_owned()
        }
        TextFinding::NotTold(_) => {
            "the instructions do not tell the agent to say at the beginning that it is an AI"
                .to_owned()
        }
        TextFinding::Forbidden(words) => format!(
            "the instructions or the persona forbid the agent to say that it is an AI (\"{words}\")"
        ),
        TextFinding::UnknownLanguage(language) => format!(
            "it cannot be checked whether the instructions tell the agent to say at the beginning that it is an AI, because \
             there is no list of sentences for the language {}",
            callingbox::shown_text::one_line(language, 40)
        ),
    }
}

fn sentence_case(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(characters).collect()
}

fn refuse(reason: String) -> DisclosureDecision {
    let remedy = "The user can change `disclosure` under [dialing] in the configuration.";
    DisclosureDecision::Refuse(PolicyRefusal::new(RuleName::Setting("disclosure"), reason, remedy))
}

#[cfg(test)]
mod tests;
