//! The OAuth scope that a message needs, decided before rmcp reads it. A message whose scope is uncertain is rejected.
//! The tool pipeline is a second check: it runs no tool that the caller is not offered.

use axum::response::Response;
use http::StatusCode;

use super::super::answer;
use crate::json_rpc::JsonRpcPeek;
use crate::mcp::card;
use crate::mcp::registry::index::{ToolIndex, ToolMeta};
use crate::mcp::registry::name::ToolName;
use crate::mcp::registry::scope::OAuthScope;
use crate::mcp::registry::selection::Selection;

/// Methods that reveal nothing about the account and change nothing in it.
const UNSCOPED_METHODS: [&str; 9] = [
    "initialize",
    "ping",
    "server/discover",
    "logging/setLevel",
    "tools/list",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
];

/// The scope that a message needs; `None` if every authenticated caller may send it.
///
/// # Errors
/// The response, 400: a tool call without the name of a tool.
pub fn required_scope(
    message: &JsonRpcPeek,
    tools: &ToolIndex,
    offered: &Selection,
) -> Result<Option<OAuthScope>, Box<Response>> {
    let Some(method) = message.method.as_deref() else {
        // A response to a request that the server sent in this session.
        return Ok(None);
    };
    if method == "tools/call" {
        let name = message.tool_name().ok_or_else(|| {
            Box::new(answer::error_response(StatusCode::BAD_REQUEST, "tools/call names no tool"))
        })?;
        // The scope of a yes is that of the order, whose tool the arguments name.
        let name = match name == ToolName::CONFIRM_CALL.as_str() {
            true => message.confirmed_tool().unwrap_or_default(),
            false => name,
        };
        // No scope unlocks a tool that is not offered to anyone; the pipeline explains why it is not.
        let tool = tools.get(name).filter(|tool| offered.offers(tool));
        return Ok(tool.map(ToolMeta::scope));
    }
    if message.resource_uri().is_some_and(|uri| uri.starts_with(card::SCHEME)) {
        return Ok(None);
    }
    let unscoped = UNSCOPED_METHODS.contains(&method) || method.starts_with("notifications/");
    // All other methods need a scope: resources, completions, tasks, subscriptions, and future additions.
    Ok((!unscoped).then_some(OAuthScope::CallsRead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::invalid_message;
    use crate::mcp::catalogue::Catalogue;
    use crate::toolset::Toolset;

    #[test]
    fn each_message_needs_a_known_scope_or_is_rejected() {
        let catalogue = Catalogue::new();
        let offered = Selection { toolsets: Toolset::ALL.to_vec(), ..Selection::default() };
        let required = |text: &str| {
            let scope = JsonRpcPeek::parse(text.as_bytes())
                .map_err(invalid_message)
                .and_then(|message| required_scope(&message, catalogue.index(), &offered));
            scope.map_err(|response| response.status())
        };
        let call =
            |name: &str| format!(r#"{{"method":"tools/call","params":{{"name":"{name}"}}}}"#);
        for (name, scope) in [
            ("list_calls", Some(OAuthScope::CallsRead)),
            ("place_call", Some(OAuthScope::CallsPlace)),
            (r"place\u005fcall", Some(OAuthScope::CallsPlace)),
            ("archive_agent", Some(OAuthScope::AgentsWrite)),
            ("purchase_number", Some(OAuthScope::NumbersPurchase)),
            ("list_webhooks", Some(OAuthScope::WebhooksWrite)),
            // A tool of --sandbox only, and a name that no tool has.
            ("simulate_inbound_call", None),
            ("no_such_tool", None),
        ] {
            assert_eq!(required(&call(name)), Ok(scope), "{name}");
        }
        for (method, scope) in [
            ("initialize", None),
            ("tools/list", None),
            ("prompts/get", None),
            ("notifications/cancelled", None),
            ("resources/read", Some(OAuthScope::CallsRead)),
            ("resources/subscribe", Some(OAuthScope::CallsRead)),
            ("subscriptions/listen", Some(OAuthScope::CallsRead)),
            ("completion/complete", Some(OAuthScope::CallsRead)),
            ("tasks/get", Some(OAuthScope::CallsRead)),
            ("tools/call ", Some(OAuthScope::CallsRead)),
            ("brand/new", Some(OAuthScope::CallsRead)),
        ] {
            assert_eq!(required(&format!(r#"{{"method":"{method}"}}"#)), Ok(scope), "{method}");
        }
        for (arguments, scope) in [
            (r#"{"tool":"place_call"}"#, Some(OAuthScope::CallsPlace)),
            (r#"{"tool":"place_calls"}"#, Some(OAuthScope::CallsPlace)),
            (r#"{"tool":"purchase_number"}"#, Some(OAuthScope::NumbersPurchase)),
            (r#"{"tool":7}"#, None),
            ("[]", None),
        ] {
            let text = format!(
                r#"{{"method":"tools/call","params":{{"name":"confirm_call","arguments":{arguments}}}}}"#
            );
            assert_eq!(required(&text), Ok(scope), "{arguments}");
        }
        for (uri, scope) in [
            ("ui://callingbox/call-1.html", None),
            ("callingbox://calls/ui://", Some(OAuthScope::CallsRead)),
        ] {
            let text = format!(r#"{{"method":"resources/read","params":{{"uri":"{uri}"}}}}"#);
            assert_eq!(required(&text), Ok(scope), "{uri}");
        }
        assert_eq!(required(r#"{"id":1,"result":{"action":"accept"}}"#), Ok(None));
        for text in [
            "",
            "not json",
            "null",
            "[]",
            r#"["tools/call",{"name":"place_call"}]"#,
            r#"[{"method":"tools/call","params":{"name":"place_call"}}]"#,
            r#"{"method":"tools/call"}"#,
            r#"{"method":"tools/call","params":{}}"#,
            r#"{"method":"tools/call","params":["place_call"]}"#,
            r#"{"method":"tools/call","params":{"name":7}}"#,
            r#"{"method":"tools/call","params":{"name":"list_calls","name":"place_call"}}"#,
            r#"{"method":"tools/list","method":"tools/call"}"#,
            r#"{"method":7}"#,
            "{\"method\":\"tools/list\"} {\"method\":\"tools/call\"}",
        ] {
            assert_eq!(required(text), Err(StatusCode::BAD_REQUEST), "{text}");
        }
    }
}
