//! In-call tools as an argument: one flat form for both kinds, because clients handle a choice of
//! schemas badly, checked as the API would check it (in-call tools guide) before anything is sent.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::{BuiltinTool, HttpTool, InCallTool, ToolPolicy};
use crate::mcp::arguments::{HttpsUrl, List, Object, Text, Whole};
use crate::mcp::error::ToolError;

// Comments of these types would reach the model and tell it nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum InCallKind {
    Http,
    Builtin,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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
    timeout_ms: Option<Whole<1, 600_000>>,
    /// builtin: settings.
    config: Option<Object>,
}

/// The in-call tools of an agent, at most 16 (in-call tools guide).
pub(super) type InCallTools = List<InCallToolInput, 16>;

/// The tools in the API's form.
///
/// # Errors
/// The first member that does not go with its kind, or is missing.
pub(super) fn to_api(tools: Option<InCallTools>) -> Result<Option<Vec<InCallTool>>, ToolError> {
    tools
        .map(|tools| {
            tools
                .into_vec()
                .into_iter()
                .enumerate()
                .map(|(at, tool)| {
                    one(tool).map_err(|problem| {
                        ToolError::invalid_argument(format!("`tools[{at}]`: {problem}"))
                    })
                })
                .collect()
        })
        .transpose()
}

fn one(tool: InCallToolInput) -> Result<InCallTool, &'static str> {
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
        Some(schema) if schema.get("type").is_none_or(|kind| kind != "object") => {
            return Err("`parameters` must be a JSON Schema with \"type\": \"object\"");
        }
        Some(schema) => schema,
    };
    match r#type {
        InCallKind::Http => {
            if builtin.is_some() || config.is_some() {
                return Err("`builtin` and `config` belong to type builtin");
            }
            Ok(InCallTool::Http(HttpTool {
                name,
                description,
                policy,
                url: url.ok_or("an http tool needs `url`")?.into_string(),
                parameters,
                headers: headers.unwrap_or_default(),
                timeout_ms: timeout_ms.and_then(|time| u32::try_from(time.get()).ok()),
            }))
        }
        InCallKind::Builtin => {
            if url.is_some() || headers.is_some() || timeout_ms.is_some() {
                return Err("`url`, `headers` and `timeout_ms` belong to type http");
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(tool: Value) -> Result<Value, String> {
        let tool = serde_json::from_value(tool).map_err(|error| error.to_string())?;
        let tool = one(tool).map_err(str::to_owned)?;
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
    fn what_the_api_would_refuse_is_refused_here() {
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
    }
}
