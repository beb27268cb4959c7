//! Scenario files: destinations and conversations of the user's own, in TOML. A scenario of a file takes precedence
//! over the built-in ones; the first that matches is played. Knows nothing of where the files are configured.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::brief::AgentBrief;
use super::script::{Role, Script};
use super::table::Ending;

const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Scenarios in one file, and lines in one scenario.
const MAX_ITEMS: usize = 1_000;
/// The longest ring and the longest line, in seconds.
const MAX_SECONDS: f64 = 300.0;
/// The longest conversation in milliseconds: the longest call that the API allows.
const MAX_TALK_MILLIS: i64 = 3_600_000;

/// One scenario of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FileScenario {
    pub(crate) name: String,
    /// A destination, in which `*` matches any digits.
    to: String,
    /// How long it rings, if the file sets it.
    pub(crate) ring_millis: Option<i64>,
    lines: Vec<FileLine>,
    result: Map<String, Value>,
    /// How the first call, the second and so on to one destination end; the last one is that of all further calls.
    endings: Vec<Ending>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FileLine {
    role: Role,
    text: String,
    millis: i64,
}

impl FileScenario {
    /// How a call ends after this many earlier calls to its destination.
    pub(crate) fn ending(&self, earlier: usize) -> Ending {
        let ending = self.endings.get(earlier).or_else(|| self.endings.last());
        ending.copied().unwrap_or(Ending::Completed)
    }

    pub(crate) fn matches(&self, to: &str) -> bool {
        matches_pattern(self.to.as_bytes(), to.as_bytes())
    }

    /// Scripts the lines and the result of the file; `None` when the file has no lines and the simulator is to
    /// write them. A field of `returns` that the file does not name is null. A value of the wrong type is kept, so
    /// that this case can be tested too.
    pub(crate) fn to_script(&self, brief: &AgentBrief<'_>) -> Option<Script> {
        if self.lines.is_empty() {
            return None;
        }
        let mut script = Script::new(brief.returns);
        for line in &self.lines {
            script.add_timed_line(line.role, line.text.clone(), line.millis);
        }
        for (name, value) in &mut script.result {
            if let Some(from_file) = self.result.get(name) {
                value.clone_from(from_file);
            }
        }
        Some(script)
    }

    /// The scenario for `GET /sandbox`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name, "to": self.to, "endings": self.endings, "lines": self.lines.len(),
        })
    }
}

/// Whether a pattern, in which `*` matches any number of characters, matches a text.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), next) => {
            matches_pattern(rest, text)
                || next.is_some_and(|(_, text)| matches_pattern(pattern, text))
        }
        (Some((wanted, pattern)), Some((found, text))) => {
            wanted == found && matches_pattern(pattern, text)
        }
        _ => false,
    }
}

/// Reads a scenario file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn load_scenarios(path: &Path) -> Result<Vec<Arc<FileScenario>>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("the file is larger than {MAX_FILE_BYTES} bytes"));
    }
    parse_scenarios(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
}

fn parse_scenarios(text: &str) -> Result<Vec<Arc<FileScenario>>, String> {
    let mut file: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let list = file.remove("scenario");
    reject_unknown_key(&file, &["scenario"], "the file")?;
    let Some(toml::Value::Array(list)) = list else {
        return Err("the file must have at least one [[scenario]]".to_owned());
    };
    if list.len() > MAX_ITEMS {
        return Err(format!("a file can have at most {MAX_ITEMS} scenarios"));
    }
    (1..).zip(list).map(|(number, item)| parse_scenario(number, item).map(Arc::new)).collect()
}

fn parse_scenario(number: usize, item: toml::Value) -> Result<FileScenario, String> {
    let toml::Value::Table(mut table) = item else {
        return Err("scenario must be written as [[scenario]]".to_owned());
    };
    let name = match table.remove("name") {
        Some(toml::Value::String(name)) if !name.is_empty() => name,
        _ => return Err(format!("scenario {number} needs a name")),
    };
    let place = format!("scenario {name:?}");
    let to = parse_destination(table.remove("to"), &place)?;
    let ring = table.remove("ring_seconds");
    let ring = ring.map(|value| parse_seconds(&value, &format!("{place}: ring_seconds")));
    let ring_millis = ring.transpose()?;
    let endings = match (table.remove("ending"), table.remove("endings")) {
        (None, None) => vec![Ending::Completed],
        (Some(value), None) => vec![parse_ending(&value, &place)?],
        (None, Some(toml::Value::Array(values))) if (1..=MAX_ITEMS).contains(&values.len()) => {
            values.iter().map(|value| parse_ending(value, &place)).collect::<Result<_, _>>()?
        }
        (None, Some(_)) => {
            return Err(format!("{place}: endings must be a list of 1 to {MAX_ITEMS} endings"));
        }
        (Some(_), Some(_)) => return Err(format!("{place} has both ending and endings")),
    };
    let lines = match table.remove("lines") {
        None => Vec::new(),
        Some(toml::Value::Array(items)) if items.len() <= MAX_ITEMS => {
            items.into_iter().map(|item| parse_line(item, &place)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(format!("{place}: lines must be a list of at most {MAX_ITEMS}")),
    };
    let result = match table.remove("result") {
        None => Map::new(),
        Some(toml::Value::Table(values)) => values
            .into_iter()
            .map(|(name, value)| parse_result_field(name, value, &place))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(format!("{place}: result must be a table")),
    };
    let known_keys = ["name", "to", "ring_seconds", "ending", "endings", "lines", "result"];
    reject_unknown_key(&table, &known_keys, &place)?;
    let speaks = |ending: &Ending| matches!(ending, Ending::Completed | Ending::Voicemail);
    if !lines.is_empty() && !endings.iter().any(speaks) {
        return Err(format!("{place}: a call with this ending has no conversation; remove lines"));
    }
    if lines.is_empty() && !result.is_empty() {
        return Err(format!("{place}: a result needs lines from which it follows; add lines"));
    }
    if lines.iter().map(|line| line.millis + 400).sum::<i64>() > MAX_TALK_MILLIS {
        return Err(format!("{place}: the lines take longer than an hour"));
    }
    Ok(FileScenario { name, to, ring_millis, lines, result, endings })
}

fn parse_destination(value: Option<toml::Value>, place: &str) -> Result<String, String> {
    let Some(toml::Value::String(to)) = value else {
        return Err(format!("{place} needs to, a destination such as \"+1*5550199\""));
    };
    let digits = to.strip_prefix('+').unwrap_or_default();
    let is_pattern = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'*');
    if !is_pattern || digits.is_empty() || to.len() > 16 || digits.matches('*').count() > 3 {
        return Err(format!("{place}: to must be + and digits, with at most three *"));
    }
    Ok(to)
}

fn parse_ending(value: &toml::Value, place: &str) -> Result<Ending, String> {
    let text = value.as_str().unwrap_or_default();
    let found = Ending::WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, ending)| *ending).ok_or_else(|| {
        let words: Vec<&str> = Ending::WORDS.iter().map(|(word, _)| *word).collect();
        format!("{place}: ending must be one of {}", words.join(", "))
    })
}

fn parse_line(item: toml::Value, place: &str) -> Result<FileLine, String> {
    let toml::Value::Table(mut table) = item else {
        return Err(format!("{place}: a line must be a table with role and text"));
    };
    let role = match table.remove("role").as_ref().and_then(toml::Value::as_str) {
        Some("agent") => Role::Agent,
        Some("user") => Role::User,
        _ => return Err(format!("{place}: the role of a line must be agent or user")),
    };
    let Some(toml::Value::String(text)) = table.remove("text") else {
        return Err(format!("{place}: a line needs a text"));
    };
    let millis = match table.remove("seconds") {
        None => 3_000,
        Some(value) => parse_seconds(&value, &format!("{place}: seconds"))?,
    };
    reject_unknown_key(&table, &["role", "text", "seconds"], &format!("a line of {place}"))?;
    Ok(FileLine { role, text, millis })
}

fn parse_result_field(
    name: String,
    value: toml::Value,
    place: &str,
) -> Result<(String, Value), String> {
    let value = match value {
        toml::Value::Boolean(value) => json!(value),
        toml::Value::String(value) => json!(value),
        toml::Value::Integer(value) => json!(value),
        toml::Value::Float(value) if value.is_finite() => json!(value),
        _ => return Err(format!("{place}: result.{name} must be a boolean, a string or a number")),
    };
    Ok((name, value))
}

/// Reads a number of seconds as milliseconds.
fn parse_seconds(value: &toml::Value, label: &str) -> Result<i64, String> {
    let seconds = match value {
        toml::Value::Integer(seconds) => *seconds as f64,
        toml::Value::Float(seconds) => *seconds,
        _ => f64::NAN,
    };
    if !(0.1..=MAX_SECONDS).contains(&seconds) {
        return Err(format!("{label} must be from 0.1 to {MAX_SECONDS}"));
    }
    Ok((seconds * 1_000.0).round() as i64)
}

/// Rejects the first key that has not been read, and suggests a known key.
fn reject_unknown_key(table: &toml::Table, known: &[&str], place: &str) -> Result<(), String> {
    let Some(unknown) = table.keys().next() else { return Ok(()) };
    let advice = match closest_key(unknown, known) {
        Some(key) => format!("did you mean {key:?}?"),
        None => format!("the known keys are {}", known.join(", ")),
    };
    Err(format!("{place} has an unknown key {unknown:?}; {advice}"))
}

/// The known key that a misspelled one most likely stands for.
fn closest_key<'a>(misspelled: &str, known: &[&'a str]) -> Option<&'a str> {
    let max_distance = match misspelled.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        _ => 2,
    };
    known
        .iter()
        .map(|key| (strsim::osa_distance(misspelled, key), *key))
        .filter(|(distance, _)| *distance <= max_distance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
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
    fn a_file_sets_destination_ring_and_lines() {
        let scenarios = parse_scenarios(GOOD).unwrap();
        let shown: Vec<Value> = scenarios.iter().map(|scenario| scenario.to_json()).collect();
        assert_eq!(
            shown,
            [
                json!({"name": "picky", "to": "+1*5550199", "endings": ["completed"], "lines": 2}),
                json!({"name": "nobody", "to": "+49*", "endings": ["no_answer"], "lines": 0}),
            ]
        );
        let picky = &scenarios[0];
        assert!(picky.matches("+14155550199") && picky.matches("+15550199"));
        assert!(!picky.matches("+14155550198") && !picky.matches("+4155550199"));
        assert_eq!(picky.ring_millis, Some(2_000));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (text, expected) in [
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
                "has no conversation",
            ),
            ("[[scenario]", "TOML parse error"),
        ] {
            let reason = parse_scenarios(text).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_rejected_with_a_reason(
            changes in prop::collection::vec((any::<Index>(), any::<Index>(), "\\PC{0,3}|[0-9.*+\\[\\]{}=\"\\n-]{0,3}"), 0..6),
            to in "[+][0-9*]{0,20}",
        ) {
            let mut text: Vec<char> = GOOD.chars().collect();
            for (start, cut, with) in changes {
                let start = start.index(text.len());
                let end = (start + cut.index(4)).min(text.len());
                text.splice(start..end, with.chars());
            }
            match parse_scenarios(&text.into_iter().collect::<String>()) {
                Ok(scenarios) => {
                    for scenario in scenarios {
                        scenario.matches("+123456789012345");
                        scenario.to_json();
                    }
                }
                Err(reason) => prop_assert!(!reason.is_empty()),
            }
            // A valid pattern matches itself once its stars are digits.
            if let Ok(scenarios) = parse_scenarios(&format!("[[scenario]]\nname = \"a\"\nto = \"{to}\"")) {
                prop_assert!(scenarios[0].matches(&to.replace('*', "7")));
            }
        }
    }
}
