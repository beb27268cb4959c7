//! Why a text is not a message, in the terms of JSON-RPC 2.0, section 5.1.

use callingbox::json_text::repair;
use rmcp::ErrorData;
use rmcp::model::{ClientJsonRpcMessage, RequestId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{InvalidMessage, JsonRpcPeek};
use crate::mcp::reply::text;

impl InvalidMessage {
    /// The error for a text that could not be read because of `problem`.
    pub(super) fn describe(text: &[u8], problem: &serde_json::Error) -> Box<Self> {
        let value = match serde_json::from_slice::<Value>(text) {
            Ok(value) => value,
            Err(problem) => return Self::not_json(text, &problem),
        };
        match &value {
            Value::Array(_) => Self::without_id(ErrorData::invalid_request(
                "batches were removed in 2025-06-18: send one message at a time",
                None,
            )),
            Value::Object(object) => describe_object(object, problem),
            _ => Self::without_id(ErrorData::invalid_request("a message is a JSON object", None)),
        }
    }

    /// The error for a request with invalid parameters; `None` if the text is not a request.
    pub(super) fn invalid_params(text: &[u8], problem: String) -> Option<Box<Self>> {
        let (id, error) = (find_request_id(text)?, ErrorData::invalid_params(problem, None));
        Some(Box::new(Self { error, id: Some(id), is_answered: true }))
    }

    fn not_json(text: &[u8], problem: &serde_json::Error) -> Box<Self> {
        let text_error = match std::str::from_utf8(text) {
            Ok(_) => format!("the message is not JSON: {problem}"),
            Err(problem) => format!("the message is not UTF-8: {problem}"),
        };
        let error = ErrorData::parse_error(text_error, None);
        Box::new(Self { error, id: find_request_id(text), is_answered: true })
    }

    fn without_id(error: ErrorData) -> Box<Self> {
        Box::new(Self { error, id: None, is_answered: true })
    }
}

/// Finds the id of a request whose text is nearly JSON, so that its sender does not wait for an answer in vain.
fn find_request_id(text: &[u8]) -> Option<RequestId> {
    let object: Map<String, Value> = serde_json::from_str(&repair(text)).ok()?;
    let is_request = object.get("method").is_some_and(Value::is_string) && !is_response(&object);
    is_request.then(|| read_id(&object)).flatten()
}

fn is_response(object: &Map<String, Value>) -> bool {
    ["result", "error"].iter().any(|name| object.contains_key(*name))
}

fn read_id(object: &Map<String, Value>) -> Option<RequestId> {
    RequestId::deserialize(object.get("id")?).ok()
}

fn describe_object(
    object: &Map<String, Value>,
    problem: &serde_json::Error,
) -> Box<InvalidMessage> {
    let id = read_id(object);
    let method = object.get("method").and_then(Value::as_str);
    let no_message = |reason: &str| {
        let text = format!("not a JSON-RPC 2.0 message: {reason}");
        let error = ErrorData::invalid_request(text, None);
        Box::new(InvalidMessage { error, id: id.clone(), is_answered: true })
    };
    let ignored = |mut invalid: Box<InvalidMessage>| {
        (invalid.id, invalid.is_answered) = (None, false);
        invalid
    };
    match method {
        Some(_) if !object.contains_key("id") => ignored(no_message(&problem.to_string())),
        None if is_response(object) && !object.contains_key("method") => {
            ignored(no_message(&problem.to_string()))
        }
        _ if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") => {
            no_message("`jsonrpc` must be \"2.0\"")
        }
        None => no_message("`method` must be a text"),
        Some(_) if is_response(object) => no_message("a request has no `result` and no `error`"),
        Some(_) if id.is_none() => no_message("`id` must be a text or a whole number"),
        // Of two values for a key an object has one.
        Some(_) if has_duplicate_key(object, problem) => no_message(&problem.to_string()),
        Some(method) => {
            let text = describe_params_error(method, object.get("params"), problem);
            let error = ErrorData::invalid_params(text, None);
            Box::new(InvalidMessage { error, id, is_answered: true })
        }
    }
}

/// Whether the message could be read if each of its keys occurred once.
fn has_duplicate_key(object: &Map<String, Value>, problem: &serde_json::Error) -> bool {
    problem.is_data() && {
        let text = serde_json::to_vec(object).unwrap_or_default();
        serde_json::from_slice::<JsonRpcPeek>(&text).is_ok()
            && serde_json::from_slice::<ClientJsonRpcMessage>(&text).is_ok()
    }
}

/// The error text for a request that is valid except for its parameters.
fn describe_params_error(
    method: &str,
    params: Option<&Value>,
    problem: &serde_json::Error,
) -> String {
    let method = text::one_line(method, 80);
    match params {
        Some(params) if !params.is_object() => {
            format!("the parameters of {method} cannot be read: `params` must be an object")
        }
        _ => format!("the parameters of {method} cannot be read: {problem}"),
    }
}
