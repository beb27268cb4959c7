//! Edits a JSON text and keeps its comments, order, layout and unknown keys. Knows no client.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value};

use super::document::EditError;
use super::entry::without_nulls;

/// A parsed text.
pub(super) struct Document(CstRootNode);

impl Document {
    /// Parses it; a text of nothing but white space is an empty object.
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
        match root.object_value() {
            Some(_) => Ok(Self(root)),
            None => Err(EditError::Shape("it holds no object at its top".to_owned())),
        }
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        self.0.to_string()
    }

    /// The value at these keys.
    pub(super) fn get(&self, path: &[&str]) -> Option<Value> {
        let value = self.0.to_serde_value()?;
        path.iter().try_fold(&value, |at, key| at.get(*key)).cloned()
    }

    /// Applies a merge patch (RFC 7396) to the object at these keys, making it if it is not there.
    pub(super) fn merge(&self, path: &[&str], patch: &Map<String, Value>) -> Result<(), EditError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let parent = self.object(parents, true)?.ok_or_else(top)?;
        if single(&parent, last)? {
            let here = parent.object_value(last).ok_or_else(|| not_an_object(path))?;
            return merge_object(&here, patch);
        }
        parent.append(last, input(&without_nulls(patch).into()));
        Ok(())
    }

    /// Removes what is at these keys, if anything is.
    pub(super) fn remove(&self, path: &[&str]) -> Result<(), EditError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let Some(parent) = self.object(parents, false)? else { return Ok(()) };
        if single(&parent, last)?
            && let Some(found) = parent.get(last)
        {
            found.remove();
        }
        Ok(())
    }

    /// Adds an element to the array at this key of the root, unless one with its `id` is there.
    pub(super) fn add_element(&self, key: &str, element: &Value) -> Result<(), EditError> {
        if self.element(key, element).is_some() {
            return Ok(());
        }
        let root = self.0.object_value().ok_or_else(top)?;
        let array = root.array_value_or_create(key).ok_or_else(|| {
            EditError::Shape(format!("its `{key}` is not an array, where the question belongs"))
        })?;
        array.append(input(element));
        Ok(())
    }

    /// Removes the element with the same `id`, if it is there.
    pub(super) fn remove_element(&self, key: &str, element: &Value) {
        if let Some(found) = self.element(key, element) {
            found.remove();
        }
    }

    /// The element of that array with the same `id`.
    fn element(&self, key: &str, element: &Value) -> Option<CstNode> {
        let array: CstArray = self.0.object_value()?.array_value(key)?;
        array.elements().into_iter().find(|node| {
            node.to_serde_value().is_some_and(|value| value.get("id") == element.get("id"))
        })
    }

    /// Replaces every comment and every text that `shown` does not allow.
    pub(super) fn mask(&self, shown: &dyn Fn(&str) -> bool) {
        mask(&CstNode::from(jsonc_parser::cst::CstContainerNode::Root(self.0.clone())), shown);
    }

    fn object(&self, path: &[&str], create: bool) -> Result<Option<CstObject>, EditError> {
        let mut at = self.0.object_value().ok_or_else(top)?;
        for key in path {
            if !single(&at, key)? {
                if !create {
                    return Ok(None);
                }
                at.append(key, CstInputValue::Object(Vec::new()));
            }
            at = at.object_value(key).ok_or_else(|| not_an_object(path))?;
        }
        Ok(Some(at))
    }
}

/// Whether the key is there. Twice is refused: readers disagree about which one counts.
fn single(object: &CstObject, key: &str) -> Result<bool, EditError> {
    let count = object
        .properties()
        .iter()
        .filter(|property| property.decoded_name().as_deref() == Some(key))
        .count();
    match count {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(EditError::Shape(format!("it has the key `{key}` twice in one object"))),
    }
}

fn merge_object(object: &CstObject, patch: &Map<String, Value>) -> Result<(), EditError> {
    for (key, value) in patch {
        let found = if single(object, key)? { object.get(key) } else { None };
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
                    None => drop(object.append(key, input(&value))),
                    Some(found) => {
                        let same = found.value().and_then(|node| node.to_serde_value());
                        if same.as_ref() != Some(&value) {
                            found.set_value(input(&value));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn mask(node: &CstNode, shown: &dyn Fn(&str) -> bool) {
    if let Some(comment) = node.as_comment() {
        let masked = if comment.is_line_comment() { "// …" } else { "/* … */" };
        comment.set_raw_value(masked.to_owned());
    } else if let Some(text) = node.as_string_lit() {
        if !text.decoded_value().is_ok_and(|text| shown(&text)) {
            text.set_raw_value("\"…\"".to_owned());
        }
    } else if let Some(property) = node.as_object_prop() {
        // The name stays readable; what stands after it is masked.
        for child in property.children().iter().skip(1) {
            mask(child, shown);
        }
    } else {
        node.children().iter().for_each(|child| mask(child, shown));
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(map) => CstInputValue::Object(
            map.iter().map(|(key, value)| (key.clone(), input(value))).collect(),
        ),
    }
}

fn top() -> EditError {
    EditError::Shape("it holds no object at its top".to_owned())
}

fn not_an_object(path: &[&str]) -> EditError {
    EditError::Shape(format!("its `{}` is not an object, where a server belongs", path.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    fn merged(text: &str, change: &str) -> String {
        let document = Document::parse(text, false).unwrap();
        document.merge(&["mcpServers", "tel"], &patch(change)).unwrap();
        document.text()
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
    fn what_is_no_object_is_refused() {
        for text in [
            "[]",
            "1",
            "{\"mcpServers\": []}",
            "{\"mcpServers\": {\"tel\": 1}}",
            "{\"mcpServers\": {}, \"mcpServers\": {}}",
        ] {
            let done = Document::parse(text, false)
                .and_then(|document| document.merge(&["mcpServers", "tel"], &patch("{}")));
            assert!(matches!(done, Err(EditError::Shape(_))), "{text}");
        }
        for text in
            ["{", "{\"a\": }", "{'a': 1}", "{a: 1}", "{\"a\": 1 \"b\": 2}", "{} {}", "\u{0}"]
        {
            let done = Document::parse(text, false).map(|document| document.text());
            assert!(matches!(done, Err(EditError::Syntax(_))), "{text}: {done:?}");
        }
        let json5 = Document::parse("{a: 'b', // c\n}", true).unwrap();
        json5.merge(&["mcp", "tel"], &patch(r#"{"a": "b"}"#)).unwrap();
        assert!(json5.text().starts_with("{a: 'b', // c\n"), "{}", json5.text());
        assert_eq!(json5.get(&["mcp", "tel", "a"]), Some("b".into()));
    }

    #[test]
    fn a_mask_leaves_names_and_what_is_allowed() {
        let document = Document::parse(
            "{\"TOKEN\": \"s3cret\", // s3cret\n \"list\": [\"s3cret\", \"ours\", 7]}",
            false,
        )
        .unwrap();
        document.mask(&|text| text == "ours");
        assert_eq!(document.text(), "{\"TOKEN\": \"…\", // …\n \"list\": [\"…\", \"ours\", 7]}");
    }

    #[test]
    fn a_question_is_asked_once() {
        let document = Document::parse("{\"inputs\": [\n  {\"id\": \"x\"}\n]}", false).unwrap();
        let element = serde_json::json!({"id": "k"});
        document.add_element("inputs", &element).unwrap();
        document.add_element("inputs", &element).unwrap();
        let both = serde_json::json!([{"id": "x"}, {"id": "k"}]);
        assert_eq!(document.get(&["inputs"]), Some(both));
        document.remove_element("inputs", &element);
        assert_eq!(document.text(), "{\"inputs\": [\n  {\"id\": \"x\"}\n]}");
    }
}
