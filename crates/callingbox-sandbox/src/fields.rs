//! Reads bodies and query strings the strict way: each field has one type, none is unknown, and a
//! refusal names the field. Nothing is changed before the whole input has been read.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::answer::{Refusal, shorten};

/// A JSON object whose fields are taken out one by one; what is left at the end is unknown.
pub(super) struct Fields {
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Reads a body that must be one JSON object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { map, known: Vec::new() }),
            Ok(_) => Err(Refusal::bad("the body must be a JSON object")),
            Err(error) => Err(Refusal::bad(format!("the body is not valid JSON: {error}"))),
        }
    }

    /// The field as it is, if it is there at all.
    pub(super) fn value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.shift_remove(name)
    }

    /// A text that may be left out.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(&mut self, name: &'static str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| Refusal::bad(format!("{name} is required")))
    }

    /// A text that may be left out, or null to clear: `None`, `Some(None)`, `Some(Some(text))`.
    pub(super) fn clearable(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Option<String>>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text))),
            Some(_) => Err(wrong(name, "a string or null")),
        }
    }

    /// An object that may be left out.
    pub(super) fn object(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// A list that may be left out.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(wrong(name, "a list")),
        }
    }

    /// A list of texts that may be left out.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Ok(text),
            _ => Err(wrong(name, "a list of strings")),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// A whole number in a range that may be left out.
    pub(super) fn whole(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|number| range.contains(number)) {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(name, &wanted)),
            },
        }
    }

    /// One word of a set, which may be left out.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        choose(name, &text, words).map(Some)
    }

    /// Refuses whatever was not taken.
    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(Refusal::bad(format!(
                "unknown field {}; the fields are {}",
                shorten(name),
                self.known.join(", ")
            ))),
        }
    }
}

/// The refusal for a value of the wrong type.
pub(super) fn wrong(name: &str, wanted: &str) -> Refusal {
    Refusal::bad(format!("{name} must be {wanted}"))
}

/// One word of a set.
pub(super) fn choose<T: Copy>(name: &str, text: &str, words: &[(&str, T)]) -> Result<T, Refusal> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        wrong(name, &format!("one of {}", words.join(", ")))
    })
}

/// A query string, each parameter at most once.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    /// Reads a query string.
    pub(super) fn parse(raw: &str) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(raw.as_bytes()) {
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Refusal::bad(format!("parameter {} is given twice", shorten(&name))));
            }
            if pairs.len() >= 16 {
                return Err(Refusal::bad("too many parameters"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { pairs, known: Vec::new() })
    }

    /// A parameter that may be left out.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let at = self.pairs.iter().position(|(found, _)| found == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// A number from 1 to a greatest value, with a default.
    pub(super) fn limit(&mut self, default: usize, greatest: usize) -> Result<usize, Refusal> {
        let Some(text) = self.text("limit") else { return Ok(default) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|limit| digits && (1..=greatest).contains(limit))
            .ok_or_else(|| wrong("limit", &format!("a whole number from 1 to {greatest}")))
    }

    /// An id that may be left out.
    pub(super) fn id(&mut self, name: &'static str) -> Result<Option<Uuid>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        id(&text).map(Some).ok_or_else(|| wrong(name, "a UUID"))
    }

    /// One word of a set, which may be left out.
    pub(super) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        choose(name, &text, words).map(Some)
    }

    /// Refuses whatever was not taken.
    pub(super) fn end(&self) -> Result<(), Refusal> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::bad(format!(
                "unknown parameter {}; {}",
                shorten(name),
                if self.known.is_empty() {
                    "this endpoint takes none".to_owned()
                } else {
                    format!("the parameters are {}", self.known.join(", "))
                }
            ))),
        }
    }
}

/// An id in the one form that the simulator gives out: a hyphenated UUID.
pub(super) fn id(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}
