//! Instructions with placeholders: `{name}` is replaced by a value of each person, and `{{` and `}}` are braces. Knows
//! neither batches nor calls.

use serde_json::{Map, Value};

/// Instructions, parsed once for all people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(String),
}

/// Why instructions are not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    #[error("a `{{` in `instructions` has no `}}`; write `{{{{` for a brace")]
    Unclosed,
    #[error("a `}}` in `instructions` has no `{{`; write `}}}}` for a brace")]
    Unopened,
    #[error("`{{}}` in `instructions` names nothing; write `{{{{}}}}` for braces")]
    Empty,
}

impl Template {
    /// # Errors
    /// A brace has no partner.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                '{' if rest.next_if_eq(&'{').is_some() => literal.push('{'),
                '}' if rest.next_if_eq(&'}').is_some() => literal.push('}'),
                '}' => return Err(InvalidTemplate::Unopened),
                '{' => {
                    let mut key = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some('{') | None => return Err(InvalidTemplate::Unclosed),
                            Some(character) => key.push(character),
                        }
                    }
                    let key = key.trim();
                    if key.is_empty() {
                        return Err(InvalidTemplate::Empty);
                    }
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(Part::Placeholder(key.to_owned()));
                }
                other => literal.push(other),
            }
        }
        parts.push(Part::Text(literal));
        Ok(Self { parts })
    }

    /// The keys of the placeholders, each once.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        for part in &self.parts {
            if let Part::Placeholder(key) = part
                && !keys.contains(&key.as_str())
            {
                keys.push(key);
            }
        }
        keys
    }

    /// The text with each placeholder replaced by the person's name or by a value of their context. A value is filled in
    /// once: braces in it stay as they are.
    ///
    /// # Errors
    /// The keys that have no value for this person, or one that is not a text, a number or a boolean.
    pub fn fill(
        &self,
        name: Option<&str>,
        context: Option<&Map<String, Value>>,
    ) -> Result<String, Vec<String>> {
        let mut missing = Vec::new();
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Placeholder(key) => match find_value(key, name, context) {
                    Some(value) => text.push_str(&value),
                    None if missing.contains(key) => {}
                    None => missing.push(key.clone()),
                },
            }
        }
        if missing.is_empty() { Ok(text) } else { Err(missing) }
    }
}

fn find_value(
    key: &str,
    name: Option<&str>,
    context: Option<&Map<String, Value>>,
) -> Option<String> {
    match context.and_then(|context| context.get(key)) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Bool(value)) => Some(value.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) => None,
        None if key == "name" => name.map(str::to_owned),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_are_filled_once_and_double_braces_are_braces() {
        let context = json!({"time": "{name}", "seats": 4, "outside": false, "list": []});
        let context = context.as_object().unwrap();
        let fill = |text: &str| Template::parse(text).unwrap().fill(Some("Ada"), Some(context));
        assert_eq!(
            fill("Hello {name}, {{{ time }}} for {seats}.").unwrap(),
            "Hello Ada, {{name}} for 4."
        );
        assert_eq!(fill("{outside}{outside}").unwrap(), "falsefalse");
        assert_eq!(fill("{list} {unknown} {unknown}").unwrap_err(), ["list", "unknown"]);
        assert_eq!(Template::parse("no {name").unwrap_err(), InvalidTemplate::Unclosed);
        assert_eq!(Template::parse("no }").unwrap_err(), InvalidTemplate::Unopened);
        assert_eq!(Template::parse("{ }").unwrap_err(), InvalidTemplate::Empty);
        assert_eq!(Template::parse("{a} {b} {a}").unwrap().keys(), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn a_text_with_its_braces_doubled_is_filled_unchanged(text in ".{0,80}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(Template::parse(&doubled).unwrap().fill(None, None).unwrap(), text);
        }
    }
}
