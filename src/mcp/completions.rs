//! Completions: agent ids by name, own numbers, call ids, languages.

use rmcp::model::{CompleteRequestParams, CompletionInfo, ErrorData, Reference};

use super::error::ToolError;
use crate::account::Account;
use crate::api::{AgentType, PageRequest};

/// Languages that people ask for, by their BCP 47 tags; the API takes any.
const LANGUAGES: [&str; 14] = [
    "ar", "de", "en", "en-GB", "en-US", "es", "es-MX", "fr", "hi", "it", "ja", "nl", "pt-BR", "zh",
];

/// What can stand where the user is typing.
///
/// # Errors
/// Nothing can be completed there, or the API cannot be read.
pub async fn complete(
    account: &Account,
    request: &CompleteRequestParams,
) -> Result<CompletionInfo, ErrorData> {
    let typed = request.argument.value.to_lowercase();
    let argument = match &request.r#ref {
        Reference::Prompt(_) => request.argument.name.as_str(),
        Reference::Resource(template) if template.uri.starts_with("callingbox://agents/") => {
            "agent_id"
        }
        Reference::Resource(template) if template.uri.starts_with("callingbox://calls/") => {
            "call_id"
        }
        _ => return Err(ErrorData::invalid_params("there is nothing to complete there", None)),
    };
    let found = values(account, argument, &typed)
        .await
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let total = u32::try_from(found.len()).ok();
    let more = found.len() > CompletionInfo::MAX_VALUES;
    let shown = found.into_iter().take(CompletionInfo::MAX_VALUES).collect();
    CompletionInfo::with_pagination(shown, total, more)
        .map_err(|error| ErrorData::internal_error(error, None))
}

async fn values(account: &Account, argument: &str, typed: &str) -> Result<Vec<String>, ToolError> {
    let fits = |text: &str| text.to_lowercase().contains(typed);
    Ok(match argument {
        "agent_id" => {
            let agents = account.api()?.list_agents(Some(AgentType::Outbound)).await?;
            let named = agents
                .data
                .iter()
                .filter(|agent| fits(agent.id.as_str()) || agent.name.as_deref().is_some_and(fits));
            named.map(|agent| agent.id.to_string()).collect()
        }
        "call_id" => {
            let page = account.api()?.list_calls(&PageRequest::first(100)).await?;
            let ids = page.data.iter().map(|call| call.id.to_string());
            ids.filter(|id| fits(id)).collect()
        }
        "number" | "from_number" => {
            let page = account.api()?.list_numbers(&PageRequest::first(100)).await?;
            let numbers = page.data.iter().filter_map(|number| number.e164.as_ref());
            numbers.map(|number| number.as_str().to_owned()).filter(|text| fits(text)).collect()
        }
        "language" => {
            LANGUAGES.iter().filter(|tag| fits(tag)).map(|tag| (*tag).to_owned()).collect()
        }
        _ => Vec::new(),
    })
}
