//! What a message takes to be granted, by a glance at it before rmcp reads it. Whatever cannot be told
//! for certain is refused. The gate of the tools is the second line: it offers a caller nothing else.

use axum::response::Response;
use http::StatusCode;

use super::super::answer;
use super::super::body::Glance;
use crate::mcp::index::{Facts, Index};
use crate::mcp::scope::Scope;
use crate::mcp::selection::Selection;

/// What tells nothing about the account and changes nothing in it.
const FREE: [&str; 9] = [
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

/// The scope that a message takes; none for what everybody may send who may come in.
///
/// # Errors
/// The answer, 400: it cannot be told what the message asks for.
pub fn of(body: &[u8], tools: &Index, offered: &Selection) -> Result<Option<Scope>, Box<Response>> {
    let refuse = |text| Box::new(answer::error(StatusCode::BAD_REQUEST, text));
    let glance = Glance::at(body)?;
    let Some(method) = glance.method.as_deref() else {
        // The answer to a question of the server's own, which it asked of this session.
        return Ok(None);
    };
    if method == "tools/call" {
        let name = glance.tool().ok_or_else(|| refuse("tools/call names no tool"))?;
        // What is not offered to anybody is not to be had by more scopes: the gate says why.
        let tool = tools.get(name).filter(|tool| offered.offers(tool));
        return Ok(tool.map(Facts::scope));
    }
    let free = FREE.contains(&method) || method.starts_with("notifications/");
    // Resources, completions, tasks, subscriptions, and whatever is added to the protocol one day.
    Ok((!free).then_some(Scope::CallsRead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalogue::Catalogue;
    use crate::mcp::toolset::Toolset;

    #[test]
    fn what_a_message_takes_is_known_or_it_is_refused() {
        let catalogue = Catalogue::new();
        let offered = Selection { toolsets: Toolset::ALL.to_vec(), ..Selection::default() };
        let of =
            |text: &str| of(text.as_bytes(), catalogue.index(), &offered).map_err(|no| no.status());
        let call =
            |name: &str| format!(r#"{{"method":"tools/call","params":{{"name":"{name}"}}}}"#);
        for (name, scope) in [
            ("list_calls", Some(Scope::CallsRead)),
            ("place_call", Some(Scope::CallsPlace)),
            (r"place\u005fcall", Some(Scope::CallsPlace)),
            ("archive_agent", Some(Scope::AgentsWrite)),
            ("purchase_number", Some(Scope::NumbersPurchase)),
            ("list_webhooks", Some(Scope::WebhooksWrite)),
            // Only with --sandbox; and what is no tool at all.
            ("simulate_inbound_call", None),
            ("no_such_tool", None),
        ] {
            assert_eq!(of(&call(name)), Ok(scope), "{name}");
        }
        for (method, scope) in [
            ("initialize", None),
            ("tools/list", None),
            ("prompts/get", None),
            ("notifications/cancelled", None),
            ("resources/read", Some(Scope::CallsRead)),
            ("resources/subscribe", Some(Scope::CallsRead)),
            ("subscriptions/listen", Some(Scope::CallsRead)),
            ("completion/complete", Some(Scope::CallsRead)),
            ("tasks/get", Some(Scope::CallsRead)),
            ("tools/call ", Some(Scope::CallsRead)),
            ("brand/new", Some(Scope::CallsRead)),
        ] {
            assert_eq!(of(&format!(r#"{{"method":"{method}"}}"#)), Ok(scope), "{method}");
        }
        assert_eq!(of(r#"{"id":1,"result":{"action":"accept"}}"#), Ok(None));
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
            assert_eq!(of(text), Err(StatusCode::BAD_REQUEST), "{text}");
        }
    }
}
