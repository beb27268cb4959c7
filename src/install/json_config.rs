//! Edits a JSON text and keeps its comments, order, layout and unknown keys. Knows no client.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{
    CstArray, CstContainerNode, CstInputValue, CstNode, CstObject, CstRootNode,
};
use serde_json::{Map, Value};

use super::document::{ConfigDocument, EditError};
use super::entry::without_nulls;

/// A JSON or JSON5 text.
pub(super) struct JsonDocument(CstRootNode);

impl JsonDocument {
    /// Parses a text; a blank one is an empty object.
    pub(super) fn parse(text: &str, json5: bool) -> Result<Self, EditError> {
        let options = ParseOptions {
            allow_comments: true,
            allow_trailing_commas: true,
            allow_missing_commas: false,
            allow_loose_object_property_names: json5,
            allow_single_quoted_strings: json5,
            allow_hexadecimal_numbers: json5,
            allow_unary_plus_numbers: json5,
            allow_bare_decimal_point_numbers: json5,
            allow_non_finite_numbers: json5,
            allow_extended_string_escapes: json5,
        };
        let text = if text.trim().is_empty() { "{}\n" } else { text };
        let root = CstRootNode::parse(text, &options).map_err(|error| {
            EditError::Syntax(format!(
                "{} (line {}, column {})",
                error.kind(),
                error.line_display(),
                error.column_display()
            ))
        })?;
        if root.value().is_some_and(|value| value.as_null_keyword().is_some()) {
            root.set_value(empty_object());
        }
        match root.object_value() {
            Some(_) => Ok(Self(root)),
            None => Err(not_an_object_at_top()),
        }
    }

    /// The element of `inputs` with the same `id`.
    fn find_input(&self, input: &Value) -> Option<CstNode> {
        let inputs: CstArray = self.0.object_value()?.array_value("inputs")?;
        inputs.elements().into_iter().find(|node| {
            node.to_serde_value().is_some_and(|value| value.get("id") == input.get("id"))
        })
    }

    fn object_at(&self, path: &[&str], create: bool) -> Result<Option<CstObject>, EditError> {
        let mut object = self.0.object_value().ok_or_else(not_an_object_at_top)?;
        for key in path {
            if !has_value(&object, key)? {
                if !create {
                    return Ok(None);
                }
                set_property(&object, key, empty_object());
            }
            object = object.object_value(key).ok_or_else(|| not_an_object(path))?;
        }
        Ok(Some(object))
    }
}

impl ConfigDocument for JsonDocument {
    fn get(&self, path: &[&str]) -> Option<Value> {
        let value = self.0.to_serde_value()?;
        path.iter().try_fold(&value, |value, key| value.get(*key)).cloned()
    }

    fn merge(&mut self, path: &[&str], patch: &Map<String, Value>) -> Result<(), EditError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let parent = self.object_at(parents, true)?.ok_or_else(not_an_object_at_top)?;
        if has_value(&parent, last)? {
            let object = parent.object_value(last).ok_or_else(|| not_an_object(path))?;
            return merge_object(&object, patch);
        }
        set_property(&parent, last, to_input(&without_nulls(patch).into()));
        Ok(())
    }

    fn remove(&mut self, path: &[&str]) -> Result<(), EditError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let Some(parent) = self.object_at(parents, false)? else { return Ok(()) };
        if has_key_once(&parent, last)?
            && let Some(found) = parent.get(last)
        {
            found.remove();
        }
        Ok(())
    }

    fn add_input(&mut self, input: &Value) -> Result<(), EditError> {
        if self.find_input(input).is_some() {
            return Ok(());
        }
        let root = self.0.object_value().ok_or_else(not_an_object_at_top)?;
        if !has_value(&root, "inputs")? {
            set_property(&root, "inputs", CstInputValue::Array(Vec::new()));
        }
        let inputs = root.array_value("inputs").ok_or_else(|| {
            EditError::Structure(
                "its `inputs` is not an array, so no input can be added".to_owned(),
            )
        })?;
        inputs.append(to_input(input));
        Ok(())
    }

    fn remove_input(&mut self, input: &Value) {
        if let Some(found) = self.find_input(input) {
            found.remove();
        }
    }

    fn to_text(&self) -> String {
        self.0.to_string()
    }

    fn into_masked_text(self: Box<Self>, is_shown: &dyn Fn(&str) -> bool) -> String {
        mask(&CstNode::from(CstContainerNode::Root(self.0.clone())), is_shown);
        self.to_text()
    }
}

/// Whether the object has this key. A duplicate key is an error, because parsers disagree about which one counts.
fn has_key_once(object: &CstObject, key: &str) -> Result<bool, EditError> {
    let count = object
        .properties()
        .iter()
        .filter(|property| property.decoded_name().as_deref() == Some(key))
        .count();
    match count {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(EditError::Structure(format!("it has the key `{key}` twice in one object"))),
    }
}

/// Whether the object has this key with a value. Programs that write `null` mean that there is nothing.
fn has_value(object: &CstObject, key: &str) -> Result<bool, EditError> {
    let value = if has_key_once(object, key)? { object.get(key) } else { None };
    let value = value.and_then(|property| property.value());
    Ok(value.is_some_and(|value| value.as_null_keyword().is_none()))
}

fn set_property(object: &CstObject, key: &str, value: CstInputValue) {
    match object.get(key) {
        Some(property) => property.set_value(value),
        None => drop(object.append(key, value)),
    }
}

fn empty_object() -> CstInputValue {
    CstInputValue::Object(Vec::new())
}

fn merge_object(object: &CstObject, patch: &Map<String, Value>) -> Result<(), EditError> {
    for (key, value) in patch {
        let found = if has_key_once(object, key)? { object.get(key) } else { None };
        match (found, value) {
            (None, Value::Null) => {}
            (Some(found), Value::Null) => found.remove(),
            (Some(found), Value::Object(inner)) if found.object_value().is_some() => {
                if let Some(here) = found.object_value() {
                    merge_object(&here, inner)?;
                }
            }
            (found, value) => {
                let value = match value {
                    Value::Object(inner) => {
                        let inner = without_nulls(inner);
                        if inner.is_empty() {
                            continue;
                        }
                        Value::Object(inner)
                    }
                    other => other.clone(),
                };
                match found {
                    None => drop(object.append(key, to_input(&value))),
                    Some(found) => {
                        let same = found.value().and_then(|node| node.to_serde_value());
                        if same.as_ref() != Some(&value) {
                            found.set_value(to_input(&value));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn mask(node: &CstNode, is_shown: &dyn Fn(&str) -> bool) {
    if let Some(comment) = node.as_comment() {
        let masked = if comment.is_line_comment() { "// …" } else { "/* … */" };
        comment.set_raw_value(masked.to_owned());
    } else if let Some(text) = node.as_string_lit() {
        if !text.decoded_value().is_ok_and(|text| is_shown(&text)) {
            text.set_raw_value("\"…\"".to_owned());
        }
    } else if let Some(property) = node.as_object_prop() {
        // The name stays readable; the value is masked.
        for child in property.children().iter().skip(1) {
            mask(child, is_shown);
        }
    } else {
        node.children().iter().for_each(|child| mask(child, is_shown));
    }
}

fn to_input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(to_input).collect()),
        Value::Object(map) => CstInputValue::Object(
            map.iter().map(|(key, value)| (key.clone(), to_input(value))).collect(),
        ),
    }
}

fn not_an_object_at_top() -> EditError {
    EditError::Structure("its top level is not an object".to_owned())
}

fn not_an_object(path: &[&str]) -> EditError {
    EditError::Structure(format!(
        "its `{}` is not an object, so no server can be added",
        path.join(".")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    fn merged(text: &str, change: &str) -> String {
        let mut document = JsonDocument::parse(text, false).unwrap();
        document.merge(&["mcpServers", "tel"], &patch(change)).unwrap();
        document.to_text()
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        let table = [
            ("", "{\n  \"mcpServers\": {\n    \"tel\": {\n      \"a\": 1\n    }\n  }\n}\n"),
            (
                "{\n    // mine\n    \"z\": [1,2 , 3], /* odd */\n    \"mcpServers\": {\n        \"x\": {\"k\" : 1.50}, // why\n    },\n}",
                "{\n    // mine\n    \"z\": [1,2 , 3], /* odd */\n    \"mcpServers\": {\n        \"x\": {\"k\" : 1.50}, // why\n        \"tel\": {\n            \"a\": 1,\n        },\n    },\n}",
            ),
            (
                "{\"mcpServers\":{\"x\":{}}}",
                "{\"mcpServers\":{\n    \"x\":{},\n    \"tel\": {\n      \"a\": 1\n    }\n  }}",
            ),
            (
                "{\r\n\t\"mcpServers\": {}\r\n}\r\n",
                "{\r\n\t\"mcpServers\": {\r\n\t\t\"tel\": {\r\n\t\t\t\"a\": 1\r\n\t\t}\r\n\t}\r\n}\r\n",
            ),
        ];
        for (before, after) in table {
            let first = merged(before, r#"{"a": 1, "gone": null}"#);
            assert_eq!(first, after);
            assert_eq!(merged(&first, r#"{"a": 1, "gone": null}"#), first);
        }
    }

    #[test]
    fn an_entry_keeps_what_the_user_added() {
        let before = r#"{"mcpServers": {"tel": {
  "command": "old", // the old one
  "disabled": true, // mine
  "env": {"MINE": "1", "GONE": "2"},
  "url": "http://x"
}}}"#;
        let after = r#"{"mcpServers": {"tel": {
  "command": "C:\\new \"x\"\n", // the old one
  "disabled": true, // mine
  "env": {"MINE": "1"}
}}}"#;
        let change = r#"{"command": "C:\\new \"x\"\n", "url": null, "env": {"GONE": null}}"#;
        assert_eq!(merged(before, change), after);
        assert_eq!(merged(after, change), after);
    }

    #[test]
    fn a_value_that_is_not_an_object_is_refused() {
        for text in [
            "[]",
            "1",
            "{\"mcpServers\": []}",
            "{\"mcpServers\": {\"tel\": 1}}",
            "{\"mcpServers\": {}, \"mcpServers\": {}}",
        ] {
            let done = JsonDocument::parse(text, false)
                .and_then(|mut document| document.merge(&["mcpServers", "tel"], &patch("{}")));
            assert!(matches!(done, Err(EditError::Structure(_))), "{text}");
        }
        for text in
            ["{", "{\"a\": }", "{'a': 1}", "{a: 1}", "{\"a\": 1 \"b\": 2}", "{} {}", "\u{0}"]
        {
            let done = JsonDocument::parse(text, false).map(|document| document.to_text());
            assert!(matches!(done, Err(EditError::Syntax(_))), "{text}: {done:?}");
        }
        let mut json5 = JsonDocument::parse("{a: 'b', // c\n}", true).unwrap();
        json5.merge(&["mcp", "tel"], &patch(r#"{"a": "b"}"#)).unwrap();
        assert!(json5.to_text().starts_with("{a: 'b', // c\n"), "{}", json5.to_text());
        assert_eq!(json5.get(&["mcp", "tel", "a"]), Some("b".into()));
    }

    #[test]
    fn masking_keeps_names_and_allowed_strings() {
        let document = JsonDocument::parse(
            "{\"TOKEN\": \"s3cret\", // s3cret\n \"list\": [\"s3cret\", \"ours\", 7]}",
            false,
        )
        .unwrap();
        let masked = Box::new(document).into_masked_text(&|text| text == "ours");
        assert_eq!(masked, "{\"TOKEN\": \"…\", // …\n \"list\": [\"…\", \"ours\", 7]}");
    }

    #[test]
    fn an_input_is_added_once() {
        let mut document =
            JsonDocument::parse("{\"inputs\": [\n  {\"id\": \"x\"}\n]}", false).unwrap();
        let input = serde_json::json!({"id": "k"});
        document.add_input(&input).unwrap();
        document.add_input(&input).unwrap();
        let both = serde_json::json!([{"id": "x"}, {"id": "k"}]);
        assert_eq!(document.get(&["inputs"]), Some(both));
        document.remove_input(&input);
        assert_eq!(document.to_text(), "{\"inputs\": [\n  {\"id\": \"x\"}\n]}");
    }
}
