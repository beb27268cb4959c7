//! What a field of `returns`, an entry of the context, or a call is about, by words. The words are in `fields.toml`.

use std::sync::LazyLock;

use serde::{Deserialize, Deserializer};

use super::script::FieldType;

/// Words of the instructions beyond these do not decide what a call is about.
const MAX_WORDS: usize = 300;

/// One row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topic {
    pub(super) id: String,
    /// Parts of a name between `_`, such as `_party_size_` and `_reschedul`.
    #[serde(deserialize_with = "read_patterns")]
    names: Vec<String>,
    #[serde(default = "default_three")]
    pub(super) rank: u8,
    pub(super) sets: Option<String>,
    #[serde(default)]
    pub(super) inverts: bool,
    #[serde(default)]
    pub(super) unless: Vec<String>,
    #[serde(default = "default_three")]
    pub(super) yes_in_four: u8,
    #[serde(default)]
    pub(super) known: bool,
    pub(super) range: Option<[u64; 2]>,
    #[serde(default = "default_one")]
    pub(super) step: u64,
    pub(super) range_after_no: Option<[u64; 2]>,
    pub(super) purpose: Option<String>,
    #[serde(default)]
    pub(super) facts: Vec<String>,
}

fn default_one() -> u64 {
    1
}

fn default_three() -> u8 {
    3
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    boolean: Vec<Topic>,
    value: Vec<Topic>,
    purpose: Vec<Topic>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("fields.toml")).unwrap_or_default());

/// What a field of this name and type is about.
pub(super) fn find_topic(name: &str, field_type: FieldType) -> Option<&'static Topic> {
    let rows = match field_type {
        FieldType::Boolean => &TABLE.boolean,
        FieldType::String | FieldType::Number => &TABLE.value,
    };
    find_row(rows, &split_words(name))
}

/// What a call with these instructions is about.
pub(super) fn find_purpose(instructions: &str) -> Option<&'static Topic> {
    let start: Vec<&str> = instructions.split_whitespace().take(MAX_WORDS).collect();
    find_row(&TABLE.purpose, &split_words(&start.join(" ")))
}

pub(super) fn purpose_by_id(id: &str) -> Option<&'static Topic> {
    TABLE.purpose.iter().find(|purpose| purpose.id == id)
}

/// A field name as a person would say it.
pub(super) fn spoken_name(name: &str) -> String {
    split_words(name).join(" ")
}

fn find_row<'a>(rows: &'a [Topic], words: &[String]) -> Option<&'a Topic> {
    let text = format!("_{}_", words.join("_"));
    rows.iter().find(|row| row.names.iter().any(|pattern| text.contains(pattern)))
}

fn read_patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = String::deserialize(deserializer)?;
    let pattern = |name: &str| match name.strip_suffix('*') {
        Some(start) => format!("_{start}"),
        None => format!("_{name}_"),
    };
    Ok(names.split_whitespace().map(pattern).collect())
}

/// The words of `new_time`, `newTime` or `New time`, in lower case.
fn split_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every topic with each of its names, as a field of `returns` would have it.
    pub(crate) fn usual_fields() -> Vec<(&'static Topic, String, bool)> {
        let booleans = TABLE.boolean.iter().map(|topic| (topic, true));
        let all = booleans.chain(TABLE.value.iter().map(|topic| (topic, false)));
        all.flat_map(|(topic, is_boolean)| {
            let names = topic.names.iter().map(|name| name.trim_matches('_').to_owned());
            names.map(move |name| (topic, name, is_boolean))
        })
        .collect()
    }

    #[test]
    fn every_name_of_the_table_finds_its_own_row() {
        for (topic, name, is_boolean) in usual_fields() {
            let field_type = if is_boolean { FieldType::Boolean } else { FieldType::String };
            assert_eq!(find_topic(&name, field_type).unwrap().id, topic.id, "{name}");
        }
    }

    #[test]
    fn a_name_is_split_into_words() {
        for name in ["new_time", "newTime", "New time", "new-time", "NEW_TIME"] {
            assert_eq!(split_words(name), ["new", "time"], "{name}");
        }
        assert_eq!(find_topic("customerEmailAddress", FieldType::String).unwrap().id, "email");
        assert!(find_topic("flux", FieldType::String).is_none());
        let purpose = find_purpose("Remind the patient of the appointment tomorrow.").unwrap();
        assert_eq!(purpose.id, "appointment");
        assert!(find_purpose("Say hello.").is_none());
    }
}
