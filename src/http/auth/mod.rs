//! Who is calling, and what the caller may use. The headers of a request identify the caller before the body is read
//! ([`authenticator`]); a key or token in a URL is ignored. OAuth scopes are checked against the message before rmcp
//! reads it ([`required_scope`]) and limit the tools that are offered; a client may ask for fewer ([`super::tool_filter`]).

pub mod api_key;
pub mod authenticator;
mod key_checks;
pub mod oauth;
pub mod principal;
pub mod required_scope;
pub mod tokens;

use axum::response::Response;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer;
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;
use crate::toolset::Toolset;

pub use authenticator::Authenticator;
pub use principal::Principal;

const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1); `None` unless there is exactly one.
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let valid = !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
    (scheme.eq_ignore_ascii_case("bearer") && valid).then_some(token)
}

/// An error response with a challenge, which says which credentials are needed (RFC 6750, section 3).
#[must_use]
pub fn challenge_response(status: StatusCode, text: &str, challenge: &str) -> Response {
    let mut response = answer::error_response(status, text);
    let challenge = HeaderValue::from_str(challenge)
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"callingbox-mcp\""));
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// The response, 401, to a caller without valid credentials.
fn unauthorized(text: &str, has_credentials: bool) -> Box<Response> {
    let challenge = match has_credentials {
        true => "Bearer realm=\"callingbox-mcp\", error=\"invalid_token\"",
        false => "Bearer realm=\"callingbox-mcp\"",
    };
    Box::new(challenge_response(StatusCode::UNAUTHORIZED, text, challenge))
}

/// `selection`, limited to these toolsets and, if `read_only`, to tools that change nothing.
#[must_use]
pub fn restrict(
    selection: &Selection,
    tools: &ToolIndex,
    toolsets: Option<&[Toolset]>,
    read_only: bool,
) -> Selection {
    selection.narrowed(tools, |tool| {
        toolsets.is_none_or(|toolsets| toolsets.contains(&tool.toolset))
            && (!read_only || tool.effect.is_read_only())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalogue::Catalogue;

    #[test]
    fn only_one_bearer_token_is_read() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer_token(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(read(&["bearer  abc "]).as_deref(), Some("abc"));
        for other in [&["Basic abc"][..], &["abc"], &["Bearer "], &[], &["Bearer a", "Bearer b"]] {
            assert_eq!(read(other), None, "{other:?}");
        }
        assert_eq!(read(&[&format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1))]), None);
    }

    #[test]
    fn restricting_a_selection_never_adds_a_tool() {
        let catalogue = Catalogue::new();
        let names = |selection: &Selection| -> Vec<_> {
            let offered = catalogue.offered(selection).filter(|tool| !tool.meta.card.is_app_only());
            offered.map(|entry| entry.meta.name).collect()
        };
        let wide = Selection { toolsets: Toolset::ALL.to_vec(), ..Selection::default() };
        let narrow = Selection { tools: vec!["place_call".to_owned()], ..Selection::default() };
        let all = catalogue.names_where(|tool| tool.toolset == Toolset::Numbers);
        let numbers = restrict(&wide, catalogue.index(), Some(&[Toolset::Numbers]), false);
        assert_eq!(names(&numbers), all);
        let reading = restrict(&wide, catalogue.index(), Some(&[Toolset::Numbers]), true);
        let without_purchase: Vec<_> =
            all.into_iter().filter(|name| *name != "purchase_number").collect();
        assert_eq!(names(&reading), without_purchase);
        assert_eq!(
            names(&restrict(&narrow, catalogue.index(), Some(&Toolset::ALL), false)),
            ["place_call"]
        );
        assert_eq!(names(&restrict(&narrow, catalogue.index(), Some(&[]), false)), [""; 0]);
        let read_only = Selection { read_only: true, ..wide };
        let reading = restrict(&read_only, catalogue.index(), None, false);
        assert!(catalogue.offered(&reading).all(|entry| entry.meta.effect.is_read_only()));
    }
}
