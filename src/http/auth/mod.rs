//! Who is calling, and what they may use. Who it is is decided from the headers of each request before
//! its body is read ([`door`]); no key and no token is ever taken from a URL. What was granted scope by
//! scope is held against the message before rmcp sees it ([`demand`]), and decides what is offered; a
//! client may ask for less ([`narrowing`]).

pub mod demand;
pub mod door;
pub mod narrowing;
pub mod oauth;
pub mod tokens;
pub mod visitor;

use axum::response::Response;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer;
use crate::mcp::index::Index;
use crate::mcp::selection::Selection;
use crate::mcp::toolset::Toolset;

pub use door::Door;
pub use visitor::Visitor;

/// The longest text that is taken for a token.
const MOST_TOKEN_BYTES: usize = 16 * 1024;

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1); none without exactly one.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let sound = !token.is_empty() && token.len() <= MOST_TOKEN_BYTES;
    (scheme.eq_ignore_ascii_case("bearer") && sound).then_some(token)
}

/// Refuses a caller, and says what would be enough (RFC 6750, section 3).
#[must_use]
pub fn challenged(status: StatusCode, text: &str, challenge: &str) -> Response {
    let mut response = answer::error(status, text);
    let challenge = HeaderValue::from_str(challenge)
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"callingbox-mcp\""));
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// What is left of a selection when only these groups may be used, or only what reads. It never
/// offers what `selection` does not.
#[must_use]
pub fn tightened(
    selection: &Selection,
    tools: &Index,
    toolsets: Option<&[Toolset]>,
    read_only: bool,
) -> Selection {
    selection.narrowed(tools, |tool| {
        toolsets.is_none_or(|toolsets| toolsets.contains(&tool.toolset))
            && (!read_only || tool.kind.is_read_only())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalogue::Catalogue;

    #[test]
    fn a_bearer_token_is_read_and_nothing_else_is() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(read(&["bearer  abc "]).as_deref(), Some("abc"));
        for other in [&["Basic abc"][..], &["abc"], &["Bearer "], &[], &["Bearer a", "Bearer b"]] {
            assert_eq!(read(other), None, "{other:?}");
        }
        assert_eq!(read(&[&format!("Bearer {}", "x".repeat(MOST_TOKEN_BYTES + 1))]), None);
    }

    #[test]
    fn a_selection_can_only_be_tightened() {
        let catalogue = Catalogue::new();
        let names = |selection: &Selection| -> Vec<_> {
            catalogue.offered(selection).map(|entry| entry.facts.name).collect()
        };
        let wide = Selection { toolsets: Toolset::ALL.to_vec(), ..Selection::default() };
        let narrow = Selection { tools: vec!["place_call".to_owned()], ..Selection::default() };
        let numbers = tightened(&wide, catalogue.index(), Some(&[Toolset::Numbers]), false);
        assert_eq!(names(&numbers), ["list_numbers", "search_numbers", "purchase_number"]);
        let reading = tightened(&wide, catalogue.index(), Some(&[Toolset::Numbers]), true);
        assert_eq!(names(&reading), ["list_numbers", "search_numbers"]);
        assert_eq!(
            names(&tightened(&narrow, catalogue.index(), Some(&Toolset::ALL), false)),
            ["place_call"]
        );
        assert_eq!(names(&tightened(&narrow, catalogue.index(), Some(&[]), false)), [""; 0]);
        let read_only = Selection { read_only: true, ..wide };
        let reading = tightened(&read_only, catalogue.index(), None, false);
        assert!(catalogue.offered(&reading).all(|entry| entry.facts.kind.is_read_only()));
    }
}
