//! Scenario files: destinations and conversations of the user's own, in TOML. A file scenario goes
//! before the built-in ones; the first that matches is taken.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::SandboxError;
use super::conversation::{Brief, Role, Script};
use super::scenario::{ENDINGS, Ending};
use crate::suggest::nearest;

/// The largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;
/// The most scenarios of one file, and the most lines of one scenario.
const MAX_ITEMS: usize = 1_000;
/// The longest ring and the longest line, in seconds.
const MAX_SECONDS: f64 = 300.0;
/// The longest conversation, in milliseconds: the longest allowed call.
const MAX_TALK: i64 = 3_600_000;

/// One scenario of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FileScenario {
    pub(super) name: String,
    /// A destination, in which `*` stands for any digits.
    to: String,
    ring: Option<i64>,
    lines: Vec<WrittenLine>,
    result: Map<String, Value>,
    pub(super) ending: Ending,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct WrittenLine {
    role: Role,
    text: String,
    milliseconds: i64,
}

impl FileScenario {
    /// Whether the scenario is meant for this destination.
    pub(super) fn matches(&self, to: &str) -> bool {
        fits(self.to.as_bytes(), to.as_bytes())
    }

    /// How long it rings, when the file says so.
    pub(super) fn ring_milliseconds(&self) -> Option<i64> {
        self.ring
    }

    /// The lines and the result of the file; `None` when it leaves them to the simulator. A field
    /// of `returns` that the file does not name is null; a value of another type stays as it is,
    /// so that this case can be tried too.
    pub(super) fn script(&self, brief: &Brief<'_>) -> Option<Script> {
        if self.lines.is_empty() {
            return None;
        }
        let mut script = Script::default();
        for line in &self.lines {
            script.say_for(line.role, line.text.clone(), line.milliseconds);
        }
        script.nothing_learned(brief);
        for (name, value) in &mut script.result {
            if let Some(written) = self.result.get(name) {
                value.clone_from(written);
            }
        }
        Some(script)
    }

    /// The scenario for `GET /sandbox`.
    pub(super) fn show(&self) -> Value {
        json!({"name": self.name, "to": self.to, "ending": self.ending, "lines": self.lines.len()})
    }
}

/// Whether a pattern in which `*` stands for any number of characters fits a text.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            fits(rest, text) || text.split_first().is_some_and(|(_, text)| fits(pattern, text))
        }
        (Some((wanted, pattern)), Some((found, text))) => wanted == found && fits(pattern, text),
        _ => false,
    }
}

/// Reads a file.
///
/// # Errors
/// [`SandboxError::Scenario`] that names the file and what is wrong with it.
pub(super) fn load(path: &Path) -> Result<Vec<Arc<FileScenario>>, SandboxError> {
    let wrong = |reason: String| SandboxError::Scenario { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(wrong(format!("the file is larger than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse(&text).map_err(wrong)
}

/// Reads the text of a file.
fn parse(text: &str) -> Result<Vec<Arc<FileScenario>>, String> {
    let mut file: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let list = take(&mut file, "scenario");
    known(&file, &["scenario"], "the file")?;
    let Some(toml::Value::Array(list)) = list else {
        return Err("the file must hold at least one [[scenario]]".to_owned());
    };
    if list.len() > MAX_ITEMS {
        return Err(format!("at most {MAX_ITEMS} scenarios to a file"));
    }
    (1..).zip(list).map(|(at, item)| one(at, item).map(Arc::new)).collect()
}

fn one(at: usize, item: toml::Value) -> Result<FileScenario, String> {
    let toml::Value::Table(mut table) = item else {
        return Err("scenario must be written as [[scenario]]".to_owned());
    };
    let name = match take(&mut table, "name") {
        Some(toml::Value::String(name)) if !name.is_empty() => name,
        _ => return Err(format!("scenario {at} needs a name")),
    };
    let here = format!("scenario {name:?}");
    let to = match take(&mut table, "to") {
        Some(toml::Value::String(to)) => to,
        _ => return Err(format!("{here} needs to, a destination such as \"+1*5550199\"")),
    };
    let digits = to.strip_prefix('+').unwrap_or_default();
    let pattern = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'*');
    if !pattern || digits.is_empty() || to.len() > 16 || digits.matches('*').count() > 3 {
        return Err(format!("{here}: to must be + and digits, with at most three *"));
    }
    let ring = match take(&mut table, "ring_seconds") {
        None => None,
        Some(value) => Some(milliseconds(&value, &format!("{here}: ring_seconds"))?),
    };
    let ending = match take(&mut table, "ending") {
        None => Ending::Completed,
        Some(value) => {
            let word = value.as_str().unwrap_or_default();
            let found = ENDINGS.iter().find(|(known, _)| *known == word);
            found.map(|(_, ending)| *ending).ok_or_else(|| {
                let words: Vec<&str> = ENDINGS.iter().map(|(word, _)| *word).collect();
                format!("{here}: ending must be one of {}", words.join(", "))
            })?
        }
    };
    let lines = match take(&mut table, "lines") {
        None => Vec::new(),
        Some(toml::Value::Array(items)) if items.len() <= MAX_ITEMS => {
            items.into_iter().map(|item| line(&here, item)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(format!("{here}: lines must be a list of at most {MAX_ITEMS}")),
    };
    let result = match take(&mut table, "result") {
        None => Map::new(),
        Some(toml::Value::Table(values)) => values
            .into_iter()
            .map(|(name, value)| result(&here, name, value))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(format!("{here}: result must be a table")),
    };
    known(&table, &["name", "to", "ring_seconds", "ending", "lines", "result"], &here)?;
    if !lines.is_empty() && !matches!(ending, Ending::Completed | Ending::Voicemail) {
        return Err(format!("{here}: nobody speaks before this ending; leave lines out"));
    }
    if lines.is_empty() && !result.is_empty() {
        return Err(format!("{here}: a result needs lines that it follows from"));
    }
    if lines.iter().map(|line| line.milliseconds + 400).sum::<i64>() > MAX_TALK {
        return Err(format!("{here}: the lines take longer than an hour"));
    }
    Ok(FileScenario { name, to, ring, lines, result, ending })
}

fn line(here: &str, item: toml::Value) -> Result<WrittenLine, String> {
    let toml::Value::Table(mut table) = item else {
        return Err(format!("{here}: a line must be a table with role and text"));
    };
    let role = match take(&mut table, "role").as_ref().and_then(toml::Value::as_str) {
        Some("agent") => Role::Agent,
        Some("user") => Role::User,
        _ => return Err(format!("{here}: the role of a line must be agent or user")),
    };
    let Some(toml::Value::String(text)) = take(&mut table, "text") else {
        return Err(format!("{here}: a line needs a text"));
    };
    let milliseconds = match take(&mut table, "seconds") {
        None => 3_000,
        Some(value) => milliseconds(&value, &format!("{here}: seconds"))?,
    };
    known(&table, &["role", "text", "seconds"], &format!("a line of {here}"))?;
    Ok(WrittenLine { role, text, milliseconds })
}

fn result(here: &str, name: String, value: toml::Value) -> Result<(String, Value), String> {
    let value = match value {
        toml::Value::Boolean(value) => json!(value),
        toml::Value::String(value) => json!(value),
        toml::Value::Integer(value) => json!(value),
        toml::Value::Float(value) if value.is_finite() => json!(value),
        _ => return Err(format!("{here}: result.{name} must be a boolean, a string or a number")),
    };
    Ok((name, value))
}

fn milliseconds(value: &toml::Value, what: &str) -> Result<i64, String> {
    let seconds = match value {
        toml::Value::Integer(whole) => *whole as f64,
        toml::Value::Float(seconds) => *seconds,
        _ => f64::NAN,
    };
    if !(0.1..=MAX_SECONDS).contains(&seconds) {
        return Err(format!("{what} must be from 0.1 to {MAX_SECONDS}"));
    }
    Ok((seconds * 1_000.0).round() as i64)
}

fn take(table: &mut toml::Table, key: &str) -> Option<toml::Value> {
    table.remove(key)
}

/// Refuses the first key that is left, with the known one that was meant or all of them.
fn known(table: &toml::Table, keys: &[&str], place: &str) -> Result<(), String> {
    let Some(unknown) = table.keys().next() else { return Ok(()) };
    let advice = match nearest(unknown, keys.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("the known ones are {}", keys.join(", ")),
    };
    Err(format!("{place} has an unknown key {unknown:?}; {advice}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const GOOD: &str = r#"
        [[scenario]]
        name = "picky"
        to = "+1*5550199"
        ring_seconds = 2
        ending = "completed"
        result = { confirmed = true, party_size = 4, odd = "dropped" }
        lines = [
            { role = "user", text = "Hello?", seconds = 1.5 },
            { role = "agent", text = "A table for four?" },
        ]

        [[scenario]]
        name = "nobody"
        to = "+49*"
        ending = "no_answer"
    "#;

    #[test]
    fn a_file_says_who_rings_how_long_and_what_is_said() {
        let scenarios = parse(GOOD).unwrap();
        let shown: Vec<Value> = scenarios.iter().map(|scenario| scenario.show()).collect();
        assert_eq!(
            shown,
            [
                json!({"name": "picky", "to": "+1*5550199", "ending": "completed", "lines": 2}),
                json!({"name": "nobody", "to": "+49*", "ending": "no_answer", "lines": 0}),
            ]
        );
        let picky = &scenarios[0];
        assert!(picky.matches("+14155550199") && picky.matches("+15550199"));
        assert!(!picky.matches("+14155550198") && !picky.matches("+4155550199"));
        assert_eq!(picky.ring_milliseconds(), Some(2_000));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("", "at least one"),
            ("[[scenario]]\nto = \"+1\"", "scenario 1 needs a name"),
            ("[[scenarios]]\nname = \"a\"", "did you mean \"scenario\""),
            ("[[scenario]]\nname = \"a\"\nto = \"+1\"\nending_ = 1", "did you mean \"ending\""),
            ("[[scenario]]\nname = \"a\"\nto = \"555\"", "to must be"),
            ("[[scenario]]\nname = \"a\"\nto = \"+1\"\nending = \"maybe\"", "one of completed"),
            ("[[scenario]]\nname = \"a\"\nto = \"+1\"\nring_seconds = -1", "ring_seconds must be"),
            (
                "[[scenario]]\nname = \"a\"\nto = \"+1\"\nlines = [{role = \"user\", txt = \"x\"}]",
                "a line needs a text",
            ),
            (
                "[[scenario]]\nname = \"a\"\nto = \"+1\"\nending = \"busy\"\nlines = [{role = \"user\", text = \"x\"}]",
                "nobody speaks",
            ),
            ("[[scenario]", "TOML parse error"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(says), "{text}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_reason(
            changes in prop::collection::vec((any::<Index>(), any::<Index>(), "\\PC{0,3}|[0-9.*+\\[\\]{}=\"\\n-]{0,3}"), 0..6),
            to in "[+][0-9*]{0,20}",
        ) {
            let mut text: Vec<char> = GOOD.chars().collect();
            for (at, cut, with) in changes {
                let at = at.index(text.len());
                let end = (at + cut.index(4)).min(text.len());
                text.splice(at..end, with.chars());
            }
            match parse(&text.into_iter().collect::<String>()) {
                Ok(scenarios) => {
                    for scenario in scenarios {
                        scenario.matches("+123456789012345");
                        scenario.show();
                    }
                }
                Err(reason) => prop_assert!(!reason.is_empty()),
            }
            // Whatever pattern is taken fits itself, once its stars are digits.
            if let Ok(scenarios) = parse(&format!("[[scenario]]\nname = \"a\"\nto = \"{to}\"")) {
                prop_assert!(scenarios[0].matches(&to.replace('*', "7")));
            }
        }
    }
}
