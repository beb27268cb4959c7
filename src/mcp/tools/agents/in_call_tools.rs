//! In-call tools as an argument: one flat form for both kinds, because clients handle a choice of
//! schemas badly, checked as the API would check it (in-call tools guide) before anything is sent.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::mcp::input::arguments::{BoundedInteger, HttpsUrl, List, Object, REDACTED, Text};
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text;
use crate::telemetry::arguments::mask_digits;
use callingbox::{BuiltinTool, HttpTool, InCallTool, ToolPolicy};

// Comments of these types would reach the model without helping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum InCallKind {
    Http,
    Builtin,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `type`, `name` and `description`")]
pub(super) struct InCallToolInput {
    r#type: InCallKind,
    name: Text<1, 64>,
    description: Text<1, 2_000>,
    /// Default: read. confirm_first_write: only after the other party's clear yes.
    policy: Option<ToolPolicy>,
    /// http: receives the arguments.
    url: Option<HttpsUrl>,
    /// builtin: which one. Default: name.
    #[schemars(with = "Option<String>")]
    builtin: Option<Text<1, 64>>,
    /// JSON Schema of its arguments.
    parameters: Option<Object>,
    headers: Option<BTreeMap<String, String>>,
    timeout_ms: Option<BoundedInteger<1, 600_000>>,
    /// builtin: settings.
    config: Option<Object>,
}

/// The in-call tools of an agent, at most 16 (in-call tools guide).
pub(super) type InCallTools = List<InCallToolInput, 16>;

/// The tools in the API's form.
///
/// # Errors
/// The first member that is missing or does not belong to the tool's type.
pub(super) fn to_api_tools(
    tools: Option<InCallTools>,
) -> Result<Option<Vec<InCallTool>>, ToolError> {
    tools
        .map(|tools| {
            tools
                .into_vec()
                .into_iter()
                .enumerate()
                .map(|(at, tool)| {
                    to_api_tool(tool).map_err(|problem| {
                        ToolError::invalid_argument(format!("`tools[{at}]`: {problem}"))
                    })
                })
                .collect()
        })
        .transpose()
}

/// The addresses to which an agent with this webhook and these tools sends what it learns.
pub(super) fn addresses<'a>(
    webhook_url: &'a Option<String>,
    tools: &'a Option<Vec<InCallTool>>,
) -> impl Iterator<Item = &'a str> {
    let of_tool = |tool: &'a InCallTool| match tool {
        InCallTool::Http(tool) => Some(tool.url.as_str()),
        InCallTool::Builtin(_) => None,
    };
    webhook_url.as_deref().into_iter().chain(tools.iter().flatten().filter_map(of_tool))
}

fn to_api_tool(tool: InCallToolInput) -> Result<InCallTool, String> {
    let InCallToolInput {
        r#type,
        name,
        description,
        policy,
        url,
        builtin,
        parameters,
        headers,
        timeout_ms,
        config,
    } = tool;
    let name = name.into_string();
    let description = description.into_string();
    let policy = policy.unwrap_or_default();
    let parameters = match parameters.map(Object::into_map) {
        None => InCallTool::no_parameters(),
        Some(schema) => {
            check_parameters(&schema)?;
            schema
        }
    };
    match r#type {
        InCallKind::Http => {
            if builtin.is_some() || config.is_some() {
                return Err("`builtin` and `config` belong to type builtin".to_owned());
            }
            let headers = headers.unwrap_or_default();
            if let Some((name, _)) = headers.iter().find(|(_, value)| value.contains(REDACTED)) {
                let name = text::one_line(&mask_digits(name), 80);
                return Err(format!(
                    "`headers.{name}`: `***` stands for a secret that is not shown: give the value itself"
                ));
            }
            Ok(InCallTool::Http(HttpTool {
                name,
                description,
                policy,
                url: url.ok_or("an http tool needs `url`")?.into_string(),
                parameters,
                headers,
                timeout_ms: timeout_ms.and_then(|time| u32::try_from(time.get()).ok()),
            }))
        }
        InCallKind::Builtin => {
            if url.is_some() || headers.is_some() || timeout_ms.is_some() {
                return Err("`url`, `headers` and `timeout_ms` belong to type http".to_owned());
            }
            Ok(InCallTool::Builtin(BuiltinTool {
                builtin: builtin.map_or_else(|| name.clone(), Text::into_string),
                name,
                description,
                policy,
                parameters,
                config: config.map(Object::into_map).unwrap_or_default(),
            }))
        }
    }
}

/// Checks `parameters` against the API's form of a JSON Schema (in-call tools guide).
fn check_parameters(schema: &Map<String, Value>) -> Result<(), String> {
    if schema.get("type").is_none_or(|kind| kind != "object") {
        return Err("`parameters` must be a JSON Schema with \"type\": \"object\"".to_owned());
    }
    if !schema.contains_key("properties") {
        return Err("`parameters.properties` must be an object".to_owned());
    }
    check_object(schema, "parameters")
}

/// Checks the schema of one argument, at `path`.
fn check_argument(schema: &Value, path: &str) -> Result<(), String> {
    let schema = schema.as_object().ok_or_else(|| wrong_shape(path, "an object"))?;
    let named = match schema.get("type") {
        Some(Value::String(_)) => true,
        Some(Value::Array(names)) => !names.is_empty() && names.iter().all(Value::is_string),
        _ => false,
    };
    if !named {
        return Err(wrong_shape(
            &format!("{path}.type"),
            "the name of a type, or a list of such names",
        ));
    }
    if schema.get("description").is_some_and(|text| !text.is_string()) {
        return Err(wrong_shape(&format!("{path}.description"), "a text"));
    }
    check_object(schema, path)
}

/// Checks the members that a schema may have for an object; the API does not define others. The nesting is limited by
/// the JSON parser.
fn check_object(schema: &Map<String, Value>, path: &str) -> Result<(), String> {
    if let Some(properties) = schema.get("properties") {
        let path = format!("{path}.properties");
        let properties = properties.as_object().ok_or_else(|| wrong_shape(&path, "an object"))?;
        for (name, argument) in properties {
            check_argument(argument, &format!("{path}.{name}"))?;
        }
    }
    let is_list_of_names =
        |list: &Value| list.as_array().is_some_and(|names| names.iter().all(Value::is_string));
    if schema.get("required").is_some_and(|required| !is_list_of_names(required)) {
        return Err(wrong_shape(&format!("{path}.required"), "a list of names"));
    }
    if schema.get("additionalProperties").is_some_and(|more| !more.is_boolean()) {
        return Err(wrong_shape(&format!("{path}.additionalProperties"), "true or false"));
    }
    Ok(())
}

fn wrong_shape(path: &str, wanted: &str) -> String {
    format!("`{}` must be {wanted}", text::one_line(&mask_digits(path), 120))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(tool: Value) -> Result<Value, String> {
        let tool = serde_json::from_value(tool).map_err(|error| error.to_string())?;
        let tool = to_api_tool(tool)?;
        Ok(serde_json::to_value(tool).unwrap())
    }

    #[test]
    fn both_kinds_become_the_api_form() {
        let empty = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
        assert_eq!(
            read(json!({"type": "builtin", "name": "end_call", "description": "Hangs up."})),
            Ok(
                json!({"type": "builtin", "name": "end_call", "description": "Hangs up.", "policy": "read", "builtin": "end_call", "parameters": empty})
            )
        );
        assert_eq!(
            read(
                json!({"type": "http", "name": "slots", "description": "Finds slots.", "url": "https://example.com/slots", "policy": "confirm_first_write", "timeout_ms": 500})
            ),
            Ok(
                json!({"type": "http", "name": "slots", "description": "Finds slots.", "policy": "confirm_first_write", "url": "https://example.com/slots", "parameters": empty, "timeout_ms": 500})
            )
        );
    }

    #[test]
    fn invalid_tools_are_refused_before_the_request() {
        let with = |more: Value| {
            let mut tool = json!({"type": "http", "name": "n", "description": "d", "url": "https://example.com"});
            tool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(tool).unwrap_err()
        };
        for (more, problem) in [
            (json!({"url": "http://example.com"}), "must be an address that begins with https://"),
            (json!({"name": ""}), "must have 1 to 64 characters, and has 0"),
            (json!({"timeout_ms": 0}), "must be a whole number from 1 to 600000"),
            (json!({"policy": "write"}), "unknown variant `write`"),
            (json!({"type": "mcp"}), "unknown variant `mcp`"),
            (json!({"builtin": "end_call"}), "`builtin` and `config` belong to type builtin"),
            (json!({"type": "builtin"}), "`url`, `headers` and `timeout_ms` belong to type http"),
            (json!({"parameters": {"type": "string"}}), "`parameters` must be a JSON Schema"),
            (json!({"color": "red"}), "unknown field `color`"),
        ] {
            assert!(with(more.clone()).starts_with(problem), "{more}: {}", with(more.clone()));
        }
        for no_object in [json!("end_call"), json!(1)] {
            let problem = read(no_object).unwrap_err();
            let end = "expected an object with `type`, `name` and `description`";
            assert!(problem.ends_with(end), "{problem}");
        }
        let day = |day: Value| json!({"type": "object", "properties": {"day": day}});
        for (parameters, problem) in [
            (json!({"type": "object"}), "`parameters.properties` must be an object"),
            (
                json!({"type": "object", "properties": []}),
                "`parameters.properties` must be an object",
            ),
            (day(json!("string")), "`parameters.properties.day` must be an object"),
            (
                day(json!({})),
                "`parameters.properties.day.type` must be the name of a type, or a list of such names",
            ),
            (
                day(json!({"type": []})),
                "`parameters.properties.day.type` must be the name of a type, or a list of such names",
            ),
            (
                day(json!({"type": ["string", 1]})),
                "`parameters.properties.day.type` must be the name of a type, or a list of such names",
            ),
            (
                day(json!({"type": "string", "description": 1})),
                "`parameters.properties.day.description` must be a text",
            ),
            (
                day(json!({"type": "object", "properties": {"hour": {"type": 1}}})),
                "`parameters.properties.day.properties.hour.type` must be the name of a type, or a list of such names",
            ),
            (
                day(json!({"type": "object", "properties": 1})),
                "`parameters.properties.day.properties` must be an object",
            ),
            (
                json!({"type": "object", "properties": {}, "required": [1]}),
                "`parameters.required` must be a list of names",
            ),
            (
                json!({"type": "object", "properties": {}, "required": "day"}),
                "`parameters.required` must be a list of names",
            ),
            (
                json!({"type": "object", "properties": {}, "additionalProperties": {}}),
                "`parameters.additionalProperties` must be true or false",
            ),
            (
                json!({"type": "object", "properties": {"(310) 555-0100": 1}}),
                "`parameters.properties.(***` must be an object",
            ),
        ] {
            let more = json!({ "parameters": parameters });
            assert_eq!(with(more.clone()), problem, "{more}");
        }
    }

    #[test]
    fn valid_tools_are_passed_on_unchanged() {
        let parameters = json!({
            "type": "object",
            "properties": {
                "day": {"type": "string", "description": "As YYYY-MM-DD.", "enum": ["a"]},
                "hour": {"type": ["integer", "null"]},
                "guest": {
                    "type": "object", "properties": {"name": {"type": "string"}},
                    "required": ["name"], "additionalProperties": true,
                },
            },
            "required": ["day"],
            "title": "Slots",
        });
        let tool =
            json!({"type": "builtin", "name": "n", "description": "d", "parameters": parameters});
        assert_eq!(read(tool).unwrap()["parameters"], parameters);
    }
}
