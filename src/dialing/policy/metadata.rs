//! The metadata that a rule needs: a record of why the person may be called, such as their consent. Whether a value counts is
//! decided by its form; whether it is true is for people to say.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Action;
use callingbox::shown_text::one_line;

/// The most characters of a record: a person reads it before they say yes.
const MAX_RECORD_CHARS: usize = 1_000;

/// Texts that say that there is a record, and are none, one a line. Compared in lower case, without the marks around them.
const EMPTY_RECORDS: &str = include_str!("data/empty-records.txt");

/// Who wrote the metadata of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataSource {
    /// A model, whose values a person must see.
    #[default]
    Model,
    /// A person's own file, whose values are taken as given.
    File,
}

/// What the keys that a rule needs make of a call; `None` if nothing.
pub(super) fn check_required(
    keys: &[String],
    metadata: Option<&Map<String, Value>>,
    source: MetadataSource,
) -> Option<(Action, String)> {
    let mut records = Vec::new();
    for key in keys {
        let value = metadata.and_then(|metadata| metadata.get(key));
        match value.and_then(Value::as_str).filter(|record| is_record(record)) {
            Some(record) => records.push((key, record)),
            None => return Some((Action::Refuse, describe_missing(key, value))),
        }
    }
    let shown: Vec<String> = records
        .into_iter()
        .map(|(key, record)| format!("{key}: \"{}\"", one_line(record, MAX_RECORD_CHARS)))
        .collect();
    let must_ask = source == MetadataSource::Model && !shown.is_empty();
    must_ask.then(|| {
        let reason = format!("the rule needs a record, and the model wrote {}", shown.join(", "));
        (Action::Ask, reason)
    })
}

/// Whether a text can be a record: not empty, not one that only says yes, and short enough to be read.
fn is_record(text: &str) -> bool {
    let bare = text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let bare = bare.split_whitespace().collect::<Vec<_>>().join(" ");
    !bare.is_empty()
        && !EMPTY_RECORDS.lines().any(|text| text == bare)
        && text.chars().count() <= MAX_RECORD_CHARS
}

fn describe_missing(key: &str, value: Option<&Value>) -> String {
    let key = one_line(key, 100);
    let other = value.map_or_else(String::new, |value| {
        format!(" `{}` is not one.", one_line(&value.to_string(), 60))
    });
    format!(
        "This rule needs a record of {key} (metadata key `{key}`), such as where and when it was given.{other} Ask the user; \
         do not write one yourself"
    )
}
