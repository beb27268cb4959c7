//! In-call tools of an agent: checked as the contract says, and stored as they were sent. The simulator never calls
//! them.

use serde_json::{Map, Value};

use super::reply::{ApiError, sanitize_input};

const MAX_TOOLS: usize = 16;
/// How deeply parameters may be nested.
const MAX_DEPTH: usize = 16;

pub(super) fn parse_tools(tools: Option<Vec<Value>>) -> Result<Option<Vec<Value>>, ApiError> {
    let Some(tools) = tools else { return Ok(None) };
    if tools.len() > MAX_TOOLS {
        let message = format!("at most {MAX_TOOLS} tools; {} were given", tools.len());
        return Err(ApiError::bad_request(message));
    }
    for (index, tool) in tools.iter().enumerate() {
        check_tool(tool)
            .map_err(|reason| ApiError::bad_request(format!("tools[{index}]{reason}")))?;
    }
    Ok(Some(tools))
}

/// Checks one tool. An error continues the path of the tool: `.name must not be empty`.
fn check_tool(tool: &Value) -> Result<(), String> {
    let tool = tool.as_object().ok_or(" must be an object")?;
    if required_text(tool, "name")?.is_empty() {
        return Err(".name must not be empty".to_owned());
    }
    required_text(tool, "description")?;
    if !matches!(required_text(tool, "policy")?, "read" | "confirm_first_write") {
        return Err(".policy must be read or confirm_first_write".to_owned());
    }
    match required_text(tool, "type")? {
        "http" => {
            let url = required_text(tool, "url")?;
            if !url.starts_with("https://") || url::Url::parse(url).is_err() {
                return Err(".url must be an https:// URL".to_owned());
            }
            if let Some(headers) = tool.get("headers") {
                let headers = headers.as_object().ok_or(".headers must be an object")?;
                if headers.values().any(|value| !value.is_string()) {
                    return Err(".headers must hold strings".to_owned());
                }
            }
            let timeout = tool.get("timeout_ms");
            if timeout.is_some_and(|value| value.as_u64().unwrap_or(0) == 0) {
                return Err(".timeout_ms must be a whole number above 0".to_owned());
            }
        }
        "builtin" => {
            required_text(tool, "builtin")?;
            if tool.get("config").is_some_and(|value| !value.is_object()) {
                return Err(".config must be an object".to_owned());
            }
        }
        _ => return Err(".type must be http or builtin".to_owned()),
    }
    let parameters = tool
        .get("parameters")
        .and_then(Value::as_object)
        .ok_or(".parameters is required and must be an object")?;
    if parameters.get("type") != Some(&Value::from("object"))
        || !parameters.contains_key("properties")
    {
        return Err(".parameters must have type object and properties".to_owned());
    }
    check_schema(parameters, ".parameters", 0)
}

fn required_text<'a>(tool: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    tool.get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!(".{name} is required and must be a string"))
}

/// Checks the members of a parameter schema, and those of the properties in it.
fn check_schema(schema: &Map<String, Value>, path: &str, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("{path} is nested too deeply"));
    }
    if let Some(properties) = schema.get("properties") {
        let properties =
            properties.as_object().ok_or_else(|| format!("{path}.properties must be an object"))?;
        for (name, property) in properties {
            let path = format!("{path}.properties.{}", sanitize_input(name));
            let property =
                property.as_object().ok_or_else(|| format!("{path} must be an object"))?;
            if !is_type_name(property.get("type")) {
                return Err(format!("{path}.type must be a type name or a list of them"));
            }
            if property.get("description").is_some_and(|value| !value.is_string()) {
                return Err(format!("{path}.description must be a string"));
            }
            check_schema(property, &path, depth + 1)?;
        }
    }
    if let Some(required) = schema.get("required") {
        let names = required.as_array().filter(|names| names.iter().all(Value::is_string));
        names.ok_or_else(|| format!("{path}.required must be a list of strings"))?;
    }
    if schema.get("additionalProperties").is_some_and(|value| !value.is_boolean()) {
        return Err(format!("{path}.additionalProperties must be true or false"));
    }
    Ok(())
}

fn is_type_name(value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(_)) => true,
        Some(Value::Array(names)) => !names.is_empty() && names.iter().all(Value::is_string),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn http_tool() -> Value {
        json!({"type": "http", "name": "find_slots", "description": "Looks up slots.",
            "policy": "read", "url": "https://example.com/slots",
            "parameters": {"type": "object", "properties": {
                "day": {"type": "string"}, "hour": {"type": ["integer", "null"]}},
                "required": ["day"], "additionalProperties": false},
            "headers": {"X-Clinic": "northside"}, "timeout_ms": 5000})
    }

    #[test]
    fn each_invalid_member_of_a_tool_is_rejected() {
        assert_eq!(parse_tools(Some(vec![http_tool(); 16])), Ok(Some(vec![http_tool(); 16])));
        assert!(parse_tools(Some(vec![http_tool(); 17])).is_err());
        for (pointer, bad) in [
            ("/type", json!("mcp")),
            ("/name", json!("")),
            ("/name", json!(null)),
            ("/description", json!(1)),
            ("/policy", json!("write")),
            ("/url", json!("http://example.com")),
            ("/url", json!("https://")),
            ("/parameters", json!({})),
            ("/parameters/type", json!("array")),
            ("/parameters/properties", json!([])),
            ("/parameters/properties/day", json!("string")),
            ("/parameters/properties/day/type", json!([])),
            ("/parameters/required", json!([1])),
            ("/parameters/additionalProperties", json!({})),
            ("/headers/X-Clinic", json!(1)),
            ("/timeout_ms", json!(0)),
            ("/timeout_ms", json!("5")),
        ] {
            let mut tool = http_tool();
            *tool.pointer_mut(pointer).unwrap() = bad.clone();
            let error = parse_tools(Some(vec![tool])).unwrap_err();
            assert_eq!(error.status, 400, "{pointer} {bad}");
            assert!(error.message.starts_with("tools[0]"), "{}", error.message);
        }
    }
}
