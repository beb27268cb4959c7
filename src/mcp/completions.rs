//! Completions: agent ids by name, own numbers, call ids, languages. What no tool that is offered lists
//! is not completed.

use rmcp::model::{CompleteRequestParams, CompletionInfo, ErrorData, Reference};

use crate::account::Account;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::surface::DataSurface;
use crate::mcp::reply::answer;
use crate::mcp::reply::error::ToolError;
use callingbox::{AgentType, PageRequest};

/// Languages that people ask for, by their BCP 47 tags; the API takes any.
const LANGUAGES: [&str; 14] = [
    "ar", "de", "en", "en-GB", "en-US", "es", "es-MX", "fr", "hi", "it", "ja", "nl", "pt-BR", "zh",
];

/// Where the values come from.
#[derive(Clone, Copy)]
enum Source {
    /// Agents, of one type or all, by their ids and names.
    Agents(Option<AgentType>),
    /// Calls, by their ids.
    Calls,
    /// The account's own numbers.
    Numbers,
    /// Languages.
    Languages,
}

impl Source {
    /// Where the values of a prompt's argument come from: the agents of prompts are outbound.
    fn from_argument(argument: &str) -> Option<Self> {
        Some(match argument {
            "agent_id" => Self::Agents(Some(AgentType::Outbound)),
            "call_id" => Self::Calls,
            "number" | "from_number" => Self::Numbers,
            "language" => Self::Languages,
            _ => return None,
        })
    }
}

/// What can stand where the user is typing for this caller.
///
/// # Errors
/// Nothing can be completed there, or the API cannot be read.
pub async fn complete_argument(
    account: &Account,
    tools: &AvailableTools,
    request: &CompleteRequestParams,
) -> Result<CompletionInfo, ErrorData> {
    let typed = request.argument.value.to_lowercase();
    let source = match &request.r#ref {
        Reference::Prompt(_) => Source::from_argument(&request.argument.name),
        Reference::Resource(template) if template.uri.starts_with("callingbox://agents/") => {
            Some(Source::Agents(None))
        }
        Reference::Resource(template) if template.uri.starts_with("callingbox://calls/") => {
            Some(Source::Calls)
        }
        _ => return Err(ErrorData::invalid_params("there is nothing to complete there", None)),
    };
    let found = match source {
        Some(source) => load_values(account, tools, source, &typed)
            .await
            .map_err(|error| answer::protocol_error(error, tools))?,
        None => Vec::new(),
    };
    let total = u32::try_from(found.len()).ok();
    let more = found.len() > CompletionInfo::MAX_VALUES;
    let shown = found.into_iter().take(CompletionInfo::MAX_VALUES).collect();
    CompletionInfo::with_pagination(shown, total, more)
        .map_err(|error| ErrorData::internal_error(error, None))
}

async fn load_values(
    account: &Account,
    tools: &AvailableTools,
    source: Source,
    typed: &str,
) -> Result<Vec<String>, ToolError> {
    let fits = |text: &str| text.to_lowercase().contains(typed);
    Ok(match source {
        Source::Agents(kind) if DataSurface::Agents.is_visible(tools) => {
            let agents = account.api()?.list_agents(kind).await?;
            let named = agents
                .data
                .iter()
                .filter(|agent| fits(agent.id.as_str()) || agent.name.as_deref().is_some_and(fits));
            named.map(|agent| agent.id.to_string()).collect()
        }
        Source::Calls if DataSurface::Calls.is_visible(tools) => {
            let page = account.api()?.list_calls(&PageRequest::with_limit(100)).await?;
            let ids = page.data.iter().map(|call| call.id.to_string());
            ids.filter(|id| fits(id)).collect()
        }
        Source::Numbers if DataSurface::Numbers.is_visible(tools) => {
            let page = account.api()?.list_numbers(&PageRequest::with_limit(100)).await?;
            let numbers = page.data.iter().filter_map(|number| number.e164.as_ref());
            numbers.map(|number| number.as_str().to_owned()).filter(|text| fits(text)).collect()
        }
        Source::Languages => {
            LANGUAGES.iter().filter(|tag| fits(tag)).map(|tag| (*tag).to_owned()).collect()
        }
        Source::Agents(_) | Source::Calls | Source::Numbers => Vec::new(),
    })
}
