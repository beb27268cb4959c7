//! The tools that a client asks not to be offered, in headers that the GitHub MCP server introduced. They can only
//! remove tools from those that the caller may use. Knows nothing about callers.

use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::answer;
use crate::mcp::registry::index::{ToolIndex, ToolMeta};
use crate::mcp::registry::selection::Selection;
use crate::mcp::reply::text;
use crate::suggest::UnknownName;
use crate::toolset::Toolset;

/// Toolsets, separated by commas.
pub const TOOLSETS_HEADER: &str = "x-mcp-toolsets";
/// Single tools, in addition to the toolsets or alone.
pub const TOOLS_HEADER: &str = "x-mcp-tools";
/// Tools to leave out.
pub const EXCLUDE_TOOLS_HEADER: &str = "x-mcp-exclude-tools";
/// Offer only tools that change nothing.
pub const READONLY_HEADER: &str = "x-mcp-readonly";
/// Leave out the call card.
pub const NO_UI_HEADER: &str = "x-mcp-no-ui";

/// Which tools a client wants to be offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestToolFilter {
    toolsets: Vec<Toolset>,
    tools: Vec<&'static str>,
    exclude: Vec<&'static str>,
    read_only: bool,
    no_ui: bool,
}

impl RequestToolFilter {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// The response, 400, with the valid names: a header names an unknown toolset or tool.
    pub fn from_headers(headers: &HeaderMap, all: &ToolIndex) -> Result<Self, Box<Response>> {
        let refuse = |header: &str, error: UnknownName| {
            let text = format!("{header}: {}", text::shorten_reason(&error.to_string()));
            Box::new(answer::error_response(StatusCode::BAD_REQUEST, &text))
        };
        let tool = |name: &str| {
            let tool = all.get(name).map(|tool| tool.name);
            tool.ok_or_else(|| all.unknown_tool(name))
        };
        let tools = |header| {
            parse_distinct(listed_names(headers, header)?, tool)
                .map_err(|error| refuse(header, error))
        };
        let toolsets = listed_names(headers, TOOLSETS_HEADER)?;
        Ok(Self {
            toolsets: parse_distinct(toolsets, str::parse)
                .map_err(|error| refuse(TOOLSETS_HEADER, error))?,
            tools: tools(TOOLS_HEADER)?,
            exclude: tools(EXCLUDE_TOOLS_HEADER)?,
            read_only: listed_names(headers, READONLY_HEADER)?.into_iter().any(is_true),
            no_ui: listed_names(headers, NO_UI_HEADER)?.into_iter().any(is_true),
        })
    }

    /// `selection` without what the filter removes.
    #[must_use]
    pub fn restrict(&self, selection: &Selection, all: &ToolIndex) -> Selection {
        let mut narrow = selection.narrowed(all, |tool| self.allows(tool));
        narrow.no_ui |= self.no_ui;
        // Tools of the card go with the tools that they serve, unless they are excluded by name.
        let is_app_only = |name: &&str| all.get(name).is_some_and(|tool| tool.card.is_app_only());
        let excluded = self.exclude.iter().copied().filter(is_app_only);
        narrow.exclude_tools.extend(excluded.map(str::to_owned));
        narrow
    }

    /// Whether the filter removes no tool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn allows(&self, tool: &ToolMeta) -> bool {
        let all = self.toolsets.is_empty() && self.tools.is_empty();
        (all || self.toolsets.contains(&tool.toolset) || self.tools.contains(&tool.name))
            && !self.exclude.contains(&tool.name)
            && (!self.read_only || tool.effect.is_read_only())
    }
}

/// The names in a header that may be sent several times.
fn listed_names<'a>(headers: &'a HeaderMap, header: &str) -> Result<Vec<&'a str>, Box<Response>> {
    let mut names = Vec::new();
    for value in headers.get_all(header) {
        let value = value.to_str().map_err(|_| {
            let text = format!("{header}: use ASCII names, separated by commas");
            Box::new(answer::error_response(StatusCode::BAD_REQUEST, &text))
        })?;
        names.extend(value.split(',').map(str::trim).filter(|name| !name.is_empty()));
    }
    Ok(names)
}

/// Parses names and drops duplicates, so that the filter that a session keeps is small.
fn parse_distinct<T: PartialEq>(
    names: Vec<&str>,
    parse: impl Fn(&str) -> Result<T, UnknownName>,
) -> Result<Vec<T>, UnknownName> {
    let mut found = Vec::new();
    for name in names {
        let value = parse(name)?;
        if !found.contains(&value) {
            found.push(value);
        }
    }
    Ok(found)
}

/// Any value but a clear no means yes: a typing error must not offer more tools.
fn is_true(value: &str) -> bool {
    !["false", "f", "no", "n", "0", "off"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::mcp::catalogue::Catalogue;

    fn read(headers: &[(&'static str, &str)]) -> Result<RequestToolFilter, Box<Response>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        RequestToolFilter::from_headers(&map, Catalogue::new().index())
    }

    #[test]
    fn headers_remove_tools_and_never_add_one() {
        let catalogue = Catalogue::new();
        let wide = Selection { toolsets: Toolset::ALL.to_vec(), ..Selection::default() };
        let numbers = catalogue.names_where(|tool| tool.toolset == Toolset::Numbers);
        let reading = catalogue
            .names_where(|tool| tool.toolset == Toolset::Numbers && tool.name != "purchase_number");
        for (headers, expected) in [
            (&[(TOOLSETS_HEADER, "numbers")][..], &numbers[..]),
            (&[(TOOLSETS_HEADER, " numbers ,, ")], &numbers),
            (&[(TOOLSETS_HEADER, "numbers"), (READONLY_HEADER, "true")], &reading),
            (&[(TOOLSETS_HEADER, "numbers"), (READONLY_HEADER, "1")], &reading),
            (&[(TOOLSETS_HEADER, "numbers"), (READONLY_HEADER, "banana")], &reading),
            (&[(TOOLSETS_HEADER, "numbers"), (READONLY_HEADER, "False")], &numbers),
            (&[(TOOLSETS_HEADER, "numbers"), (READONLY_HEADER, "")], &numbers),
            (
                &[(TOOLSETS_HEADER, "numbers"), (READONLY_HEADER, "off"), (READONLY_HEADER, "yes")],
                &reading,
            ),
            (&[(TOOLSETS_HEADER, "numbers"), (EXCLUDE_TOOLS_HEADER, "purchase_number")], &reading),
            (&[(TOOLS_HEADER, "place_call")], &["place_call"]),
            (&[(TOOLS_HEADER, "place_call"), (READONLY_HEADER, "true")], &[]),
            (&[(TOOLS_HEADER, "place_call"), (TOOLSETS_HEADER, "sandbox")], &["place_call"]),
            (
                &[(TOOLS_HEADER, "get_agent"), (TOOLS_HEADER, "place_call")],
                &["place_call", "get_agent"],
            ),
        ] {
            let filter = read(headers).unwrap();
            let narrow = filter.restrict(&wide, catalogue.index());
            let offered = catalogue.offered(&narrow).filter(|tool| !tool.meta.card.is_app_only());
            let names: Vec<_> = offered.map(|entry| entry.meta.name).collect();
            assert_eq!(names, expected, "{headers:?}");
        }
        let closed = Selection { read_only: true, ..Selection::default() };
        for headers in [
            &[(TOOLS_HEADER, "place_call")][..],
            &[(READONLY_HEADER, "false"), (TOOLS_HEADER, "place_call,list_webhooks")],
            &[(TOOLSETS_HEADER, "webhooks")],
        ] {
            let filter = read(headers).unwrap();
            let narrow = filter.restrict(&closed, catalogue.index());
            assert_eq!(catalogue.offered(&narrow).count(), 0, "{headers:?}");
        }
        assert!(read(&[(TOOLSETS_HEADER, ""), (READONLY_HEADER, "no")]).unwrap().is_empty());
        let repeated = read(&[(TOOLS_HEADER, &"get_agent,".repeat(5_000))]).unwrap();
        assert_eq!(repeated.tools, ["get_agent"]);
    }

    #[tokio::test]
    async fn an_unknown_name_is_refused_with_the_valid_names() {
        for (header, value, expected) in [
            (
                TOOLSETS_HEADER,
                "call",
                "x-mcp-toolsets: there is no toolset `call` (did you mean `calls`?)",
            ),
            (TOOLS_HEADER, "list_calls,dial", "x-mcp-tools: there is no tool `dial`"),
            (
                EXCLUDE_TOOLS_HEADER,
                "place_cal",
                "x-mcp-exclude-tools: there is no tool `place_cal`",
            ),
            (TOOLS_HEADER, "\u{e9}", "x-mcp-tools: use ASCII names"),
            (TOOLS_HEADER, &"x".repeat(10_000), "x-mcp-tools: there is no tool `xxx"),
        ] {
            let response = read(&[(header, value)]).unwrap_err();
            assert_eq!(response.status(), 400);
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(text.contains(expected), "{text}");
        }
    }
}
