//! What a client asks not to be offered, in headers of its own: by the names that the GitHub MCP server
//! made common. They can only take away from what the caller may use. Knows nothing of who calls.

use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::super::answer;
use crate::mcp::index::{Facts, Index};
use crate::mcp::present;
use crate::mcp::selection::Selection;
use crate::mcp::toolset::{Toolset, UnknownName};

/// Groups of tools, with commas.
pub const TOOLSETS: &str = "x-mcp-toolsets";
/// Single tools; besides the groups, or alone.
pub const TOOLS: &str = "x-mcp-tools";
/// Tools to leave out.
pub const EXCLUDE_TOOLS: &str = "x-mcp-exclude-tools";
/// Only tools that change nothing.
pub const READONLY: &str = "x-mcp-readonly";

/// What stays when a client asked for less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    toolsets: Vec<Toolset>,
    tools: Vec<&'static str>,
    exclude: Vec<&'static str>,
    read_only: bool,
}

impl Narrowing {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// The answer, 400: a header names what does not exist, and the valid names.
    pub fn of(headers: &HeaderMap, all: &Index) -> Result<Self, Box<Response>> {
        let refuse = |header: &str, error: UnknownName| {
            let text = format!("{header}: {}", present::reason(&error.to_string()));
            Box::new(answer::error(StatusCode::BAD_REQUEST, &text))
        };
        let tool = |name: &str| {
            let tool = all.get(name).map(|tool| tool.name);
            tool.ok_or_else(|| all.no_tool(name))
        };
        let tools =
            |header| once(names(headers, header)?, tool).map_err(|error| refuse(header, error));
        let toolsets = names(headers, TOOLSETS)?;
        Ok(Self {
            toolsets: once(toolsets, str::parse).map_err(|error| refuse(TOOLSETS, error))?,
            tools: tools(TOOLS)?,
            exclude: tools(EXCLUDE_TOOLS)?,
            read_only: names(headers, READONLY)?.into_iter().any(is_yes),
        })
    }

    /// The same as headers, from which [`Self::of`] reads it again.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let toolsets: Vec<String> = self.toolsets.iter().map(ToString::to_string).collect();
        let all = [
            (TOOLSETS, toolsets.join(",")),
            (TOOLS, self.tools.join(",")),
            (EXCLUDE_TOOLS, self.exclude.join(",")),
            (READONLY, if self.read_only { "true" } else { "" }.to_owned()),
        ];
        all.into_iter().filter(|(_, names)| !names.is_empty()).collect()
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a tool stays.
    #[must_use]
    pub fn keeps(&self, tool: &Facts) -> bool {
        let all = self.toolsets.is_empty() && self.tools.is_empty();
        (all || self.toolsets.contains(&tool.toolset) || self.tools.contains(&tool.name))
            && !self.exclude.contains(&tool.name)
            && (!self.read_only || tool.kind.is_read_only())
    }

    /// What is left of a selection.
    #[must_use]
    pub fn apply(&self, selection: &Selection, all: &Index) -> Selection {
        selection.narrowed(all, |tool| self.keeps(tool))
    }
}

/// The names in a header that may stand several times; none when it is missing or empty.
fn names<'a>(headers: &'a HeaderMap, header: &str) -> Result<Vec<&'a str>, Box<Response>> {
    let mut names = Vec::new();
    for value in headers.get_all(header) {
        let value = value.to_str().map_err(|_| {
            let text = format!("{header}: give names in plain letters, with commas between them");
            Box::new(answer::error(StatusCode::BAD_REQUEST, &text))
        })?;
        names.extend(value.split(',').map(str::trim).filter(|name| !name.is_empty()));
    }
    Ok(names)
}

/// What the names mean, each once: what is kept for a session is small, whatever was sent.
fn once<T: PartialEq>(
    names: Vec<&str>,
    read: impl Fn(&str) -> Result<T, UnknownName>,
) -> Result<Vec<T>, UnknownName> {
    let mut found = Vec::new();
    for name in names {
        let one = read(name)?;
        if !found.contains(&one) {
            found.push(one);
        }
    }
    Ok(found)
}

/// Anything but a plain no is a yes: who asks for less must not get more by a slip.
fn is_yes(value: &str) -> bool {
    !["false", "f", "no", "n", "0", "off"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::mcp::catalogue::Catalogue;

    fn read(headers: &[(&'static str, &str)]) -> Result<Narrowing, Box<Response>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Narrowing::of(&map, Catalogue::new().index())
    }

    #[test]
    fn headers_take_away_and_never_add() {
        let catalogue = Catalogue::new();
        let wide = Selection { toolsets: Toolset::ALL.to_vec(), ..Selection::default() };
        let numbers = ["list_numbers", "search_numbers", "purchase_number"];
        for (headers, left) in [
            (&[(TOOLSETS, "numbers")][..], &numbers[..]),
            (&[(TOOLSETS, " numbers ,, ")], &numbers),
            (&[(TOOLSETS, "numbers"), (READONLY, "true")], &numbers[..2]),
            (&[(TOOLSETS, "numbers"), (READONLY, "1")], &numbers[..2]),
            (&[(TOOLSETS, "numbers"), (READONLY, "banana")], &numbers[..2]),
            (&[(TOOLSETS, "numbers"), (READONLY, "False")], &numbers),
            (&[(TOOLSETS, "numbers"), (READONLY, "")], &numbers),
            (&[(TOOLSETS, "numbers"), (READONLY, "off"), (READONLY, "yes")], &numbers[..2]),
            (&[(TOOLSETS, "numbers"), (EXCLUDE_TOOLS, "purchase_number")], &numbers[..2]),
            (&[(TOOLS, "place_call")], &["place_call"]),
            (&[(TOOLS, "place_call"), (READONLY, "true")], &[]),
            (&[(TOOLS, "place_call"), (TOOLSETS, "sandbox")], &["place_call"]),
            (&[(TOOLS, "get_agent"), (TOOLS, "place_call")], &["place_call", "get_agent"]),
        ] {
            let narrow = read(headers).unwrap().apply(&wide, catalogue.index());
            let names: Vec<_> = catalogue.offered(&narrow).map(|entry| entry.facts.name).collect();
            assert_eq!(names, left, "{headers:?}");
        }
        let closed = Selection { read_only: true, ..Selection::default() };
        for headers in [
            &[(TOOLS, "place_call")][..],
            &[(READONLY, "false"), (TOOLS, "place_call,list_webhooks")],
            &[(TOOLSETS, "webhooks")],
        ] {
            let narrow = read(headers).unwrap().apply(&closed, catalogue.index());
            assert_eq!(catalogue.offered(&narrow).count(), 0, "{headers:?}");
        }
        assert!(read(&[(TOOLSETS, ""), (READONLY, "no")]).unwrap().is_none());
        let often = read(&[(TOOLS, &"get_agent,".repeat(5_000))]).unwrap();
        assert_eq!(often.tools, ["get_agent"]);
    }

    #[tokio::test]
    async fn what_does_not_exist_is_refused_with_the_valid_names() {
        for (header, value, expected) in [
            (
                TOOLSETS,
                "call",
                "x-mcp-toolsets: there is no toolset `call` (did you mean `calls`?)",
            ),
            (TOOLS, "list_calls,dial", "x-mcp-tools: there is no tool `dial`"),
            (EXCLUDE_TOOLS, "place_cal", "x-mcp-exclude-tools: there is no tool `place_cal`"),
            (TOOLS, "\u{e9}", "x-mcp-tools: give names in plain letters"),
            (TOOLS, &"x".repeat(10_000), "x-mcp-tools: there is no tool `xxx"),
        ] {
            let refused = read(&[(header, value)]).unwrap_err();
            assert_eq!(refused.status(), 400);
            let body = axum::body::to_bytes(refused.into_body(), 10_000).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(text.contains(expected), "{text}");
        }
    }
}
