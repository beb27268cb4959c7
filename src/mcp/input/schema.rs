//! Converts a Rust type to the schema that a model reads: short, portable, and without constructs that some clients
//! reject.
//!
//! No `$schema` (2020-12 is the default dialect of the protocol, and a stated one is refused by some clients), no
//! titles, no `["x", "null"]` (an optional argument is left out, never null), sub-schemas inlined. Details that do not
//! help a model are omitted, because every conversation pays for each word: limits and required fields of answers.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The schema of the arguments that `T` reads.
#[must_use]
pub fn input_schema<T: JsonSchema>() -> Arc<JsonObject> {
    generate_schema::<T>(Contract::Deserialize, simplify_schema)
}

/// The schema of the answers that `T` writes.
#[must_use]
pub fn output_schema<T: JsonSchema>() -> Arc<JsonObject> {
    generate_schema::<T>(Contract::Serialize, |schema| {
        simplify_schema(schema);
        // This program writes the answers: limits and explanations of fields would use a model's context without
        // helping it.
        for key in
            ["description", "pattern", "minLength", "maxLength", "minimum", "maximum", "required"]
        {
            schema.remove(key);
        }
    })
}

fn generate_schema<T: JsonSchema>(contract: Contract, tidy: fn(&mut Schema)) -> Arc<JsonObject> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.meta_schema = None;
    settings.inline_subschemas = true;
    let is_input = matches!(contract, Contract::Deserialize);
    settings.contract = contract;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    let required = schema.get("required").filter(|_| is_input).cloned();
    RecursiveTransform(tidy).transform(&mut schema);
    schema.remove("description");
    if let Some(required) = required {
        schema.insert("required".into(), required);
    }
    // An empty object schema still needs its `properties`: some clients require the key.
    schema.ensure_object().entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    Arc::new(std::mem::take(schema.ensure_object()))
}

fn simplify_schema(schema: &mut Schema) {
    schema.remove("title");
    schema.remove("format");
    // The description of the list covers its items.
    for key in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(key) {
            inner.remove("description");
        }
    }
    if schema.get("minLength").is_some_and(|min| min == 0) {
        schema.remove("minLength");
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    let only_type = schema.get("type").and_then(Value::as_array).and_then(|types| {
        let mut others = types.iter().filter(|t| t.as_str() != Some("null"));
        match (others.next(), others.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        }
    });
    if let Some(only_type) = only_type {
        schema.insert("type".into(), only_type);
    }
    let without_null = schema.get("anyOf").and_then(Value::as_array).and_then(|options| {
        let mut others = options
            .iter()
            .filter(|option| option.get("type").and_then(Value::as_str) != Some("null"));
        match (others.next(), others.next(), options.len()) {
            (Some(Value::Object(only)), None, 2) => Some(only.clone()),
            _ => None,
        }
    });
    if let Some(only) = without_null {
        schema.remove("anyOf");
        for (key, value) in only {
            schema.ensure_object().entry(key).or_insert(value);
        }
    }
    let words = schema.get("oneOf").and_then(Value::as_array).and_then(|options| {
        let words = options.iter().map(|option| match (option.get("const"), option.get("enum")) {
            (Some(word), _) if word.is_string() => Some(vec![word.clone()]),
            (None, Some(Value::Array(words))) => Some(words.clone()),
            _ => None,
        });
        words.collect::<Option<Vec<_>>>().map(|words| words.concat())
    });
    if let Some(words) = words {
        // Clients handle a plain enumeration better than a choice of constants.
        schema.remove("oneOf");
        schema.insert("type".into(), "string".into());
        schema.insert("enum".into(), words.into());
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::mcp::input::arguments::{BoundedInteger, Object, Text};

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        /// Towards us.
        In,
        Out,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Sample {
        /// What it is called.
        name: Text<1, 20>,
        count: Option<BoundedInteger<1, 9>>,
        way: Option<Way>,
        context: Option<Object>,
    }

    #[test]
    fn inputs_are_flat_and_never_null() {
        assert_eq!(
            Value::Object((*input_schema::<Sample>()).clone()),
            json!({
                "type": "object",
                "properties": {
                    "name": {"description": "What it is called.", "type": "string", "minLength": 1, "maxLength": 20},
                    "count": {"type": "integer", "minimum": 1, "maximum": 9},
                    "way": {"type": "string", "enum": ["out", "in"]},
                    "context": {"type": "object"},
                },
                "required": ["name"],
                "additionalProperties": false,
            })
        );
    }
}
