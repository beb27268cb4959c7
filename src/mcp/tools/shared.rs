//! What the tools of several toolsets share. It does not know any of them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text::one_line;
use crate::mcp::request::context::ToolContext;
use callingbox::PageCursor;

/// The input of a tool without arguments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoInput {}

/// The wire name of a value that is a string on the wire, on one line.
pub(super) fn wire_word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => one_line(&word, 100),
        _ => String::new(),
    }
}

/// Clears the marks of simulated rows and returns whether there was one: a list says it once.
pub(super) fn take_simulated<'a>(marks: impl Iterator<Item = &'a mut bool>) -> bool {
    marks.filter_map(|mark| std::mem::take(mark).then_some(())).count() > 0
}

/// Checks that events and data of calls may be sent to these addresses.
pub(super) fn check_webhook_hosts<'a>(
    cx: &ToolContext,
    urls: impl IntoIterator<Item = &'a str>,
) -> Result<(), ToolError> {
    let rules = cx.account.dialer()?.rules();
    urls.into_iter().try_for_each(|url| rules.webhook_hosts.check_url(url)).map_err(|error| {
        let text = format!("refused by the calling rule `dialing.webhook_hosts`: {error}");
        ToolError::new(ErrorCode::RefusedByPolicy, text).with_next([NextStep::person(
            "Use an allowed host, or tell the user that this one is not allowed; only they can change it.",
        )])
    })
}

/// The hint for a list that has more entries but no next page. `unused` are the filters that can still narrow it.
pub(super) fn more_results_hint(limit_can_be_raised: bool, what: &str, unused: &[&str]) -> String {
    let raise = limit_can_be_raised.then(|| "raise `limit`".to_owned());
    let narrow = match unused {
        [] => None,
        [only] => Some(format!("narrow the {what} with `{only}`")),
        [others @ .., last] => {
            Some(format!("narrow the {what} with `{}` or `{last}`", others.join("`, `")))
        }
    };
    let ways: Vec<String> = raise.into_iter().chain(narrow).collect();
    match ways.as_slice() {
        [] => {
            "There are more than CallingBox returns in one list; there is no next page.".to_owned()
        }
        ways => format!("There are more: {}.", ways.join(", or ")),
    }
}

/// The cursor from two mutually exclusive arguments.
pub(super) fn page_cursor(
    starting_after: Option<String>,
    ending_before: Option<String>,
) -> Result<Option<PageCursor>, ToolError> {
    match (starting_after, ending_before) {
        (Some(_), Some(_)) => Err(ToolError::invalid_argument(
            "`starting_after` and `ending_before` exclude each other",
        )),
        (Some(id), None) => Ok(Some(PageCursor::After(id))),
        (None, Some(id)) => Ok(Some(PageCursor::Before(id))),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_more_results_suggests_only_possible_filters() {
        for (raise, unused, said) in [
            (
                true,
                &["a", "b", "c"][..],
                ": raise `limit`, or narrow the list with `a`, `b` or `c`.",
            ),
            (false, &["a", "b"], ": narrow the list with `a` or `b`."),
            (true, &[], ": raise `limit`."),
            (false, &[], " than CallingBox returns in one list; there is no next page."),
        ] {
            assert_eq!(more_results_hint(raise, "list", unused), format!("There are more{said}"));
        }
    }
}
