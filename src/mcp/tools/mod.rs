//! The tools, one file or folder for each toolset, and what they share.

pub(super) mod agents;
mod calls;
mod dialing;
mod in_call;
pub(super) mod numbers;
mod sandbox;
mod webhooks;

use serde_json::Value;

use super::error::ToolError;
use super::tool::Entry;
use callingbox::Cursor;

/// All tools, in the order in which they are listed.
pub(super) fn all() -> Vec<Entry> {
    vec![
        Entry::of::<calls::PlaceCall>(),
        Entry::of::<calls::GetCallResult>(),
        Entry::of::<calls::GetCallTranscript>(),
        Entry::of::<calls::ListCalls>(),
        Entry::of::<agents::ListAgents>(),
        Entry::of::<agents::GetAgent>(),
        Entry::of::<agents::CreateAgent>(),
        Entry::of::<agents::UpdateAgent>(),
        Entry::of::<agents::SetAgentNumbers>(),
        Entry::of::<agents::ArchiveAgent>(),
        Entry::of::<numbers::ListNumbers>(),
        Entry::of::<numbers::SearchNumbers>(),
        Entry::of::<numbers::PurchaseNumber>(),
        Entry::of::<webhooks::ListWebhooks>(),
        Entry::of::<webhooks::GetWebhook>(),
        Entry::of::<webhooks::CreateWebhook>(),
        Entry::of::<webhooks::UpdateWebhook>(),
        Entry::of::<webhooks::DeleteWebhook>(),
        Entry::of::<webhooks::RotateWebhookSecret>(),
        Entry::of::<webhooks::ListWebhookDeliveries>(),
        Entry::of::<webhooks::GetWebhookDelivery>(),
        Entry::of::<webhooks::RedeliverWebhook>(),
        Entry::of::<sandbox::SimulateInboundCall>(),
    ]
}

/// The API's own word for a value that is one word on the wire.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// What to do about a list without a next page that says there is more. `unused` are the filters that can
/// still narrow it.
fn there_are_more(limit_can_be_raised: bool, what: &str, unused: &[&str]) -> String {
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
        [] => "There are more than CallingBox lists at once; there is no next page.".to_owned(),
        ways => format!("There are more: {}.", ways.join(", or ")),
    }
}

/// The cursor that two exclusive arguments ask for.
fn cursor(
    starting_after: Option<String>,
    ending_before: Option<String>,
) -> Result<Option<Cursor>, ToolError> {
    match (starting_after, ending_before) {
        (Some(_), Some(_)) => Err(ToolError::invalid_argument(
            "`starting_after` and `ending_before` exclude each other",
        )),
        (Some(id), None) => Ok(Some(Cursor::After(id))),
        (None, Some(id)) => Ok(Some(Cursor::Before(id))),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_that_has_more_only_what_can_be_done_is_said() {
        for (raise, unused, said) in [
            (
                true,
                &["a", "b", "c"][..],
                ": raise `limit`, or narrow the list with `a`, `b` or `c`.",
            ),
            (false, &["a", "b"], ": narrow the list with `a` or `b`."),
            (true, &[], ": raise `limit`."),
            (false, &[], " than CallingBox lists at once; there is no next page."),
        ] {
            assert_eq!(there_are_more(raise, "list", unused), format!("There are more{said}"));
        }
    }
}
