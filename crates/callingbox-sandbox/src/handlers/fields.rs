//! Reads bodies and query strings strictly: each field has one type, an unknown field is an error, and an error names
//! the field. A handler reads the whole input before it changes anything.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::reply::{ApiError, sanitize_input};

const MAX_QUERY_PARAMS: usize = 16;

/// The fields of a body or the parameters of a query. They are taken one by one, and one that is left at the end is unknown.
pub(crate) struct InputFields {
    map: Map<String, Value>,
    known: Vec<&'static str>,
    /// What errors call one of them.
    noun: &'static str,
}

impl InputFields {
    /// Reads a body, which must be one JSON object.
    pub(super) fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { map, known: Vec::new(), noun: "field" }),
            Ok(_) => Err(ApiError::bad_request("the body must be a JSON object")),
            Err(error) => {
                Err(ApiError::bad_request(format!("the body is not valid JSON: {error}")))
            }
        }
    }

    /// Reads a query string, in which each parameter may be given once.
    pub(crate) fn from_query(query: &str) -> Result<Self, ApiError> {
        let mut map = Map::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if map.contains_key(&*name) {
                let name = sanitize_input(&name);
                return Err(ApiError::bad_request(format!("parameter {name} is given twice")));
            }
            if map.len() >= MAX_QUERY_PARAMS {
                return Err(ApiError::bad_request("too many parameters"));
            }
            map.insert(name.into_owned(), value.into());
        }
        Ok(Self { map, known: Vec::new(), noun: "parameter" })
    }

    pub(super) fn take_value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.shift_remove(name)
    }

    pub(super) fn take_text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take_value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid_value(name, "a string")),
        }
    }

    pub(super) fn take_required_text(&mut self, name: &'static str) -> Result<String, ApiError> {
        let missing = || ApiError::bad_request(format!("{name} is required"));
        self.take_text(name)?.ok_or_else(missing)
    }

    /// A text, or null to clear it: `None`, `Some(None)`, `Some(Some(text))`.
    pub(super) fn take_nullable_text(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Option<String>>, ApiError> {
        match self.take_value(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text))),
            Some(_) => Err(ApiError::invalid_value(name, "a string or null")),
        }
    }

    pub(super) fn take_object(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.take_value(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(ApiError::invalid_value(name, "an object")),
        }
    }

    pub(super) fn take_list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take_value(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(ApiError::invalid_value(name, "a list")),
        }
    }

    pub(super) fn take_texts(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Vec<String>>, ApiError> {
        let Some(items) = self.take_list(name)? else { return Ok(None) };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Ok(text),
            _ => Err(ApiError::invalid_value(name, "a list of strings")),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn take_integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take_value(name) else { return Ok(None) };
        let integer = value.as_u64().filter(|integer| range.contains(integer));
        integer.map(Some).ok_or_else(|| {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            ApiError::invalid_value(name, &expected)
        })
    }

    /// One of a set of words.
    pub(super) fn take_word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.take_text(name)? else { return Ok(None) };
        parse_word(name, &text, words).map(Some)
    }

    /// `limit`, from 1 to `max`.
    pub(super) fn take_limit(&mut self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.take_text("limit")? else { return Ok(default) };
        let has_only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|limit| has_only_digits && (1..=max).contains(limit));
        limit.ok_or_else(|| {
            ApiError::invalid_value("limit", &format!("a whole number from 1 to {max}"))
        })
    }

    pub(super) fn take_id(&mut self, name: &'static str) -> Result<Option<Uuid>, ApiError> {
        let Some(text) = self.take_text(name)? else { return Ok(None) };
        parse_id(&text).map(Some).ok_or_else(|| ApiError::invalid_value(name, "a UUID"))
    }

    /// Rejects a field that has not been taken.
    pub(crate) fn reject_unknown(&self) -> Result<(), ApiError> {
        let Some(name) = self.map.keys().next() else { return Ok(()) };
        let noun = self.noun;
        let advice = match self.known.join(", ") {
            known if known.is_empty() => "this endpoint takes none".to_owned(),
            known => format!("the {noun}s are {known}"),
        };
        let name = sanitize_input(name);
        Err(ApiError::bad_request(format!("unknown {noun} {name}; {advice}")))
    }
}

/// One of a set of words.
pub(super) fn parse_word<T: Copy>(
    name: &str,
    text: &str,
    words: &[(&str, T)],
) -> Result<T, ApiError> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        ApiError::invalid_value(name, &format!("one of {}", words.join(", ")))
    })
}

/// Sets a value if the body has a new one.
pub(super) fn change<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

/// An id in the only form that the simulator gives out: a hyphenated UUID.
pub(super) fn parse_id(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}
