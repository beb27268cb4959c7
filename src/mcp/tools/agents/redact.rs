//! Redacts the secrets of an agent: the values of headers, and in addresses the user and the query values. The names
//! stay visible.

use serde_json::Value;
use url::Url;

use crate::mcp::input::arguments::REDACTED;

/// An address without its secrets.
pub(super) fn redact_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return REDACTED.to_owned() };
    let has_user = !url.username().is_empty() || url.password().is_some();
    if !has_user && url.query().is_none() && url.fragment().is_none() {
        return text.to_owned();
    }
    if has_user && (url.set_username(REDACTED).is_err() || url.set_password(None).is_err()) {
        return REDACTED.to_owned();
    }
    let query = url.query().map(|query| {
        let values = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}={REDACTED}"),
            None => REDACTED.to_owned(),
        });
        values.collect::<Vec<_>>().join("&")
    });
    url.set_query(query.as_deref());
    if url.fragment().is_some() {
        url.set_fragment(Some(REDACTED));
    }
    url.into()
}

/// In-call tools, in the API's form, without the secrets of their servers.
pub(super) fn redact_tools(mut tools: Value) -> Value {
    for tool in tools.as_array_mut().into_iter().flatten() {
        if let Some(Value::String(url)) = tool.get_mut("url") {
            *url = redact_url(url);
        }
        match tool.get_mut("headers") {
            None | Some(Value::Null) => {}
            Some(Value::Object(headers)) => {
                headers.values_mut().for_each(|value| *value = REDACTED.into());
            }
            Some(headers) => *headers = REDACTED.into(),
        }
    }
    tools
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_an_address_all_but_its_secrets_is_shown() {
        for (text, shown) in [
            ("https://e.com", "https://e.com"),
            ("https://e.com/a/b", "https://e.com/a/b"),
            ("https://e.com/h?token=SECRET", "https://e.com/h?token=***"),
            ("https://e.com?a=SECRET&SECRET&b=", "https://e.com/?a=***&***&b=***"),
            ("https://SECRET:SECRET@e.com:8443/h", "https://***@e.com:8443/h"),
            ("https://:SECRET@e.com/h", "https://***@e.com/h"),
            ("https://e.com/h#SECRET", "https://e.com/h#***"),
            ("e.com/h?token=SECRET", "***"),
        ] {
            assert_eq!(redact_url(text), shown, "{text}");
        }
    }

    #[test]
    fn of_a_tool_in_any_form_no_header_is_shown() {
        for (tool, shown) in [
            (
                json!({"headers": {"A": "SECRET", "B": ["SECRET"]}}),
                json!({"headers": {"A": "***", "B": "***"}}),
            ),
            (json!({"headers": ["SECRET"]}), json!({"headers": "***"})),
            (json!({"headers": "SECRET", "url": 1}), json!({"headers": "***", "url": 1})),
            (json!({"name": "n", "headers": null}), json!({"name": "n", "headers": null})),
            (json!("no tool"), json!("no tool")),
        ] {
            assert_eq!(redact_tools(json!([tool])), json!([shown]));
        }
    }
}
