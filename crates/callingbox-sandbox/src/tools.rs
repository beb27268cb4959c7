//! In-call tools: checked as the contract says, kept as they were sent. The simulator never calls
//! them.

use serde_json::{Map, Value};

use super::answer::{Refusal, shorten};

/// At most this many tools on one agent.
const MAX_TOOLS: usize = 16;
/// Nested parameters deeper than this are refused.
const MAX_DEPTH: usize = 16;

/// Checks the list of tools.
pub(super) fn read(tools: Option<Vec<Value>>) -> Result<Option<Vec<Value>>, Refusal> {
    let Some(tools) = tools else { return Ok(None) };
    if tools.len() > MAX_TOOLS {
        return Err(Refusal::bad(format!("at most {MAX_TOOLS} tools; {} were given", tools.len())));
    }
    for (at, tool) in tools.iter().enumerate() {
        check(tool).map_err(|what| Refusal::bad(format!("tools[{at}]{what}")))?;
    }
    Ok(Some(tools))
}

fn check(tool: &Value) -> Result<(), String> {
    let tool = tool.as_object().ok_or(" must be an object")?;
    if text(tool, "name")?.is_empty() {
        return Err(".name must not be empty".to_owned());
    }
    text(tool, "description")?;
    if !matches!(text(tool, "policy")?, "read" | "confirm_first_write") {
        return Err(".policy must be read or confirm_first_write".to_owned());
    }
    match text(tool, "type")? {
        "http" => {
            let url = text(tool, "url")?;
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
            text(tool, "builtin")?;
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
    members(parameters, ".parameters", 0)
}

fn text<'a>(tool: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    tool.get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!(".{name} is required and must be a string"))
}

/// The parts that an object of parameters may have.
fn members(schema: &Map<String, Value>, path: &str, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("{path} is nested too deeply"));
    }
    if let Some(properties) = schema.get("properties") {
        let properties =
            properties.as_object().ok_or_else(|| format!("{path}.properties must be an object"))?;
        for (name, property) in properties {
            let path = format!("{path}.properties.{}", shorten(name));
            let property =
                property.as_object().ok_or_else(|| format!("{path} must be an object"))?;
            if !is_type(property.get("type")) {
                return Err(format!("{path}.type must be a type name or a list of them"));
            }
            if property.get("description").is_some_and(|value| !value.is_string()) {
                return Err(format!("{path}.description must be a string"));
            }
            members(property, &path, depth + 1)?;
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

fn is_type(value: Option<&Value>) -> bool {
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

    fn http() -> Value {
        json!({"type": "http", "name": "find_slots", "description": "Looks up slots.",
            "policy": "read", "url": "https://example.com/slots",
            "parameters": {"type": "object", "properties": {
                "day": {"type": "string"}, "hour": {"type": ["integer", "null"]}},
                "required": ["day"], "additionalProperties": false},
            "headers": {"X-Clinic": "northside"}, "timeout_ms": 5000})
    }

    #[test]
    fn a_tool_is_refused_for_each_thing_that_is_wrong_with_it() {
        assert_eq!(read(Some(vec![http(); 16])), Ok(Some(vec![http(); 16])));
        assert!(read(Some(vec![http(); 17])).is_err());
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
            let mut tool = http();
            *tool.pointer_mut(pointer).unwrap() = bad.clone();
            let refusal = read(Some(vec![tool])).unwrap_err();
            assert_eq!(refusal.status, 400, "{pointer} {bad}");
            assert!(refusal.text.starts_with("tools[0]"), "{}", refusal.text);
        }
    }
}
