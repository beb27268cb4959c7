//! Completes the parameters of an `initialize` in which a client left out, or wrote differently, what the server can do
//! without. Knows the parameters of `initialize` and nothing else.

use rmcp::model::InitializeRequestParams;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::MAX_VALUE_BYTES;
use super::meta::is_too_large;

/// The capabilities that rmcp knows, except experimental ones, which nothing here reads.
const CAPABILITIES: [&str; 4] = ["elicitation", "extensions", "roots", "sampling"];

/// Completes the parameters, and removes from them what a session need not remember.
///
/// # Errors
/// What is missing, or too large.
pub(super) fn complete(params: &mut Map<String, Value>) -> Result<(), String> {
    if !params.get("protocolVersion").is_some_and(Value::is_string) {
        return Err("`protocolVersion` is missing; it is a text such as \"2025-11-25\"".to_owned());
    }
    for (name, complete) in [
        ("capabilities", complete_capabilities as fn(Map<String, Value>) -> Map<String, Value>),
        ("clientInfo", complete_client_info),
    ] {
        let value = match params.remove(name) {
            Some(Value::Object(value)) => value,
            _ => Map::new(),
        };
        let value = Value::Object(complete(value));
        if is_too_large(&value) {
            return Err(format!("`{name}` has more than {MAX_VALUE_BYTES} bytes"));
        }
        params.insert(name.to_owned(), value);
    }
    match InitializeRequestParams::deserialize(&*params) {
        Ok(_) => Ok(()),
        Err(problem) => Err(problem.to_string()),
    }
}

fn complete_capabilities(mut given: Map<String, Value>) -> Map<String, Value> {
    let known = CAPABILITIES.iter().filter_map(|name| {
        let mut capability = as_object(given.remove(*name)?)?;
        // The parts of these are objects again.
        if *name != "roots" {
            capability = capability
                .into_iter()
                .filter_map(|(k, v)| Some((k, as_object(v)?.into())))
                .collect();
        }
        Some(((*name).to_owned(), capability.into()))
    });
    known.collect()
}

/// The value of a capability: `true` means the same as an empty object, and no other value means anything.
fn as_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(value) => Some(value),
        Value::Bool(true) => Some(Map::new()),
        _ => None,
    }
}

/// Name, title and version. What is missing is empty.
fn complete_client_info(mut given: Map<String, Value>) -> Map<String, Value> {
    let mut text = |name: &str| match given.remove(name) {
        Some(Value::String(text)) => Some(Value::from(text)),
        Some(Value::Number(number)) => Some(Value::from(number.to_string())),
        _ => None,
    };
    let title = text("title");
    let mut info = Map::new();
    for name in ["name", "version"] {
        info.insert(name.to_owned(), text(name).unwrap_or_else(|| json!("")));
    }
    info.extend(title.map(|title| ("title".to_owned(), title)));
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_misspelled_fields_are_completed() {
        let nobody = json!({"name": "", "version": ""});
        for (params, capabilities, info) in [
            (json!({}), json!({}), nobody.clone()),
            (json!({"capabilities": null, "clientInfo": null}), json!({}), nobody.clone()),
            (json!({"capabilities": [], "clientInfo": "x"}), json!({}), nobody.clone()),
            (
                json!({
                    "capabilities": {
                        "roots": true, "sampling": false, "elicitation": {"form": true, "url": null},
                        "extensions": {"a": {"b": 1}, "c": true, "d": 5}, "experimental": {"x": {}},
                        "other": {},
                    },
                    "clientInfo": {"name": "x", "title": "X", "version": 2, "icons": 7},
                }),
                json!({
                    "elicitation": {"form": {}}, "extensions": {"a": {"b": 1}, "c": {}}, "roots": {},
                }),
                json!({"name": "x", "version": "2", "title": "X"}),
            ),
            (
                json!({"capabilities": {"roots": {"listChanged": true}, "elicitation": true}}),
                json!({"elicitation": {}, "roots": {"listChanged": true}}),
                nobody,
            ),
        ] {
            let Value::Object(mut params) = params else { panic!() };
            params.insert("protocolVersion".to_owned(), json!("2025-11-25"));
            complete(&mut params).unwrap();
            assert_eq!((&params["capabilities"], &params["clientInfo"]), (&capabilities, &info));
        }
    }

    #[test]
    fn a_missing_version_and_a_large_description_are_named() {
        let large = "x".repeat(MAX_VALUE_BYTES);
        for (params, field) in [
            (json!({"capabilities": {}}), "`protocolVersion` is missing"),
            (json!({"protocolVersion": 1}), "`protocolVersion` is missing"),
            (
                json!({"protocolVersion": "2", "capabilities": {"roots": {"listChanged": 7}}}),
                "invalid type: integer `7`",
            ),
            (json!({"protocolVersion": "2", "clientInfo": {"name": large}}), "`clientInfo` has"),
            (
                json!({"protocolVersion": "2", "capabilities": {"extensions": {"x": {"y": large}}}}),
                "`capabilities` has",
            ),
        ] {
            let Value::Object(mut params) = params else { panic!() };
            assert!(complete(&mut params).unwrap_err().starts_with(field), "{field}");
        }
    }
}
