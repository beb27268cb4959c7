//! Reads arguments as real clients send them: nulls and empty texts for what is left out, JSON inside texts, digits as
//! numbers, arguments of the client's own. The tool's schema alone decides; what it does not explain stays as it is and is
//! refused later. It does not know any tool.

use rmcp::model::JsonObject;
use serde_json::{Map, Number, Value};

/// What clients add to the arguments of every tool: Gemini CLI, Cline, Cursor, and n8n (the rest).
const CLIENT_ARGUMENTS: [&str; 8] = [
    "wait_for_previous",
    "task_progress",
    "random_string",
    "toolCallId",
    "tool",
    "sessionId",
    "action",
    "chatInput",
];

/// The largest whole number that a JSON number in floating point holds exactly.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// The arguments as the schema of the tool asks for them.
#[must_use]
pub fn normalize_arguments(
    schema: &JsonObject,
    mut arguments: Map<String, Value>,
) -> Map<String, Value> {
    let properties = properties(schema);
    arguments.retain(|name, _| {
        let is_added = CLIENT_ARGUMENTS.contains(&name.as_str())
            && properties.is_none_or(|known| !known.contains_key(name));
        if is_added {
            tracing::debug!(argument = name, "dropped an argument that the client adds");
        }
        !is_added
    });
    normalize_members(schema, arguments)
}

fn properties(schema: &JsonObject) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// Whether a list of names in the schema has this one.
fn is_named(list: Option<&Value>, name: &str) -> bool {
    list.and_then(Value::as_array).is_some_and(|names| names.iter().any(|one| one == name))
}

/// Whether a text argument can be emptied by naming it in `clear`.
#[must_use]
pub fn is_clearable(schema: &Value, name: &str) -> bool {
    is_named(schema.pointer("/properties/clear/items/enum"), name)
}

fn normalize_members(schema: &JsonObject, members: Map<String, Value>) -> Map<String, Value> {
    let (known, others) = (properties(schema), schema.get("additionalProperties"));
    let clearable = known.and_then(|known| known.get("clear")?.pointer("/items/enum"));
    let member = |(name, value): (String, Value)| {
        let known = known.and_then(|known| known.get(&name)).and_then(Value::as_object);
        let Some(member) = known.or_else(|| others?.as_object()) else {
            return Some((name, value));
        };
        let can_be_absent = known.is_some() && !is_named(schema.get("required"), &name);
        let is_absent = match &value {
            Value::Null => known.is_some(),
            Value::String(text) => {
                // An empty text may mean that the old one is to go; nothing else can be empty.
                let is_text = member.contains_key("maxLength") || is_named(clearable, &name);
                can_be_absent && text.trim().is_empty() && !is_text
            }
            _ => false,
        };
        (!is_absent).then(|| (name, normalize_value(member, value)))
    };
    members.into_iter().filter_map(member).collect()
}

fn normalize_value(schema: &JsonObject, value: Value) -> Value {
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let value = match value {
        Value::String(text) => read_text(wanted, text),
        Value::Number(number) if wanted == "string" => write_digits(number),
        value => value,
    };
    match (value, schema.get("items").and_then(Value::as_object)) {
        (Value::Object(members), _) if wanted == "object" => {
            Value::Object(normalize_members(schema, members))
        }
        (Value::Array(list), Some(items)) if wanted == "array" => {
            Value::Array(list.into_iter().map(|item| normalize_value(items, item)).collect())
        }
        (value, _) => value,
    }
}

/// A text that holds the JSON of the wanted type; else the text.
fn read_text(wanted: &str, text: String) -> Value {
    let fits: fn(&Value) -> bool = match wanted {
        "object" => Value::is_object,
        "array" => Value::is_array,
        "integer" | "number" => Value::is_number,
        "boolean" => match text.trim().to_ascii_lowercase().as_str() {
            "true" => return Value::Bool(true),
            "false" => return Value::Bool(false),
            _ => return Value::String(text),
        },
        _ => return Value::String(text),
    };
    serde_json::from_str(&text).ok().filter(fits).unwrap_or(Value::String(text))
}

/// The digits of a whole number as a text.
fn write_digits(number: Number) -> Value {
    let whole = number.as_f64().filter(|value| {
        number.is_f64() && value.fract() == 0.0 && value.abs() <= MAX_EXACT_INTEGER
    });
    match whole {
        Some(whole) => Value::String(format!("{whole:.0}")),
        None if number.is_f64() => Value::Number(number),
        None => Value::String(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_read_as_the_schema_asks() {
        let schema = json!({
            "type": "object",
            "properties": {
                "id": {"type": "string", "minLength": 1},
                "to": {"type": "string"},
                "code": {"type": "string"},
                "text": {"type": "string", "minLength": 1, "maxLength": 9},
                "url": {"type": "string", "pattern": "^https://"},
                "kind": {"type": "string", "enum": ["a"]},
                "count": {"type": "integer"},
                "yes": {"type": "boolean"},
                "free": {"type": "object"},
                "typed": {"type": "object", "additionalProperties": {"type": "string"}},
                "list": {"type": "array", "items": {"type": "string"}},
                "tools": {"type": "array", "items": {
                    "type": "object", "required": ["name"],
                    "properties": {"name": {"type": "string", "maxLength": 9}, "time": {"type": "integer"}},
                }},
                "clear": {"type": "array", "items": {"type": "string", "enum": ["url"]}},
            },
            "required": ["id"],
            "additionalProperties": false,
        });
        for (sent, read) in [
            // Null is absent, whatever it is for; an argument that does not exist is not hidden.
            (json!({"id": null, "text": null, "free": null, "no": null}), json!({"no": null})),
            (json!({"free": {"a": null, "b": ""}}), json!({"free": {"a": null, "b": ""}})),
            (
                json!({"tools": [{"name": null, "time": "5"}, {"name": "n", "time": null}]}),
                json!({"tools": [{"time": 5}, {"name": "n"}]}),
            ),
            // An empty text is absent where it can mean nothing else.
            (json!({"id": "", "code": "", "kind": " ", "to": ""}), json!({"id": ""})),
            (json!({"count": "", "yes": "", "free": "", "list": ""}), json!({})),
            (json!({"text": "", "url": ""}), json!({"text": "", "url": ""})),
            // JSON inside a text.
            (
                json!({"free": " {\"a\": \"1\"}", "list": "[1, \"b\"]", "clear": "[\"url\"]"}),
                json!({"free": {"a": "1"}, "list": ["1", "b"], "clear": ["url"]}),
            ),
            (json!({"count": "10", "yes": "true"}), json!({"count": 10, "yes": true})),
            (json!({"count": "10.0", "yes": "False"}), json!({"count": 10.0, "yes": false})),
            (json!({"tools": "[{\"name\": 7}]"}), json!({"tools": [{"name": "7"}]})),
            // A text that is no such JSON, and a text where a text is wanted, stay as they are.
            (
                json!({"free": "Sam", "list": "a, b", "count": "ten", "yes": "yes", "text": "{}"}),
                json!({"free": "Sam", "list": "a, b", "count": "ten", "yes": "yes", "text": "{}"}),
            ),
            (json!({"free": "[1]", "count": "true"}), json!({"free": "[1]", "count": "true"})),
            // Digits.
            (json!({"code": 415, "id": 415.0}), json!({"code": "415", "id": "415"})),
            (json!({"code": 4.5, "typed": {"a": 1}}), json!({"code": 4.5, "typed": {"a": "1"}})),
            (
                json!({"count": 3, "yes": 1, "code": true}),
                json!({"count": 3, "yes": 1, "code": true}),
            ),
            // What clients add.
            (
                json!({"wait_for_previous": true, "task_progress": "- [x]", "toolCallId": "c", "to": "+1"}),
                json!({"to": "+1"}),
            ),
            (json!({"waitForPrevious": true}), json!({"waitForPrevious": true})),
        ] {
            let (schema, sent) = (schema.as_object().unwrap(), sent.as_object().unwrap());
            assert_eq!(Value::Object(normalize_arguments(schema, sent.clone())), read, "{sent:?}");
        }
    }

    #[test]
    fn an_argument_of_the_tool_is_not_dropped() {
        let schema = json!({"properties": {"action": {"type": "string"}}});
        let arguments = json!({"action": "a", "sessionId": "s"});
        let (schema, arguments) = (schema.as_object().unwrap(), arguments.as_object().unwrap());
        let read = normalize_arguments(schema, arguments.clone());
        assert_eq!(Value::Object(read), json!({"action": "a"}));
    }
}
