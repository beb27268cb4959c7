//! The toolset `numbers`: the numbers the account owns, and those for sale.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::ordering::{self, AnsweredOrder, ConfirmableTool, OrderOutcome, find_offer};
use crate::account::{Account, Environment};
use crate::dialing::order::{DialRequest, Order, Placed};
use crate::dialing::outcome::{DialResult, Dialed};
use crate::mcp::confirmation::card::CardAnswer;
use crate::mcp::confirmation::open_question::{OpenQuestionWords, PendingFields};
use crate::mcp::input::arguments::{BoundedInteger, Text};
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::surface::DataSurface;
use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::reply::text::{self};
use crate::mcp::tool::{
    Always, CardRole, Live, Reply, Sandbox, Sentence, Tool, ToolContext, ToolEffect, ToolExit,
    ToolName, With,
};
use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{
    AgentId, AvailableNumber, NumberId, NumberSearch, NumberType, PageCursor, PageRequest,
    PhoneNumber,
};

/// The names of agents, as far as they are known.
type AgentNames = BTreeMap<AgentId, String>;

/// The names of the agents that use numbers. Without them, the ids alone are shown.
async fn read_agent_names(
    account: &Account,
    tools: &AvailableTools,
    numbers: &[NumberSummary],
) -> AgentNames {
    let is_used = |number: &NumberSummary| {
        number.inbound_agent_id.is_some() || !number.outbound_agent_ids.is_empty()
    };
    if !numbers.iter().any(is_used) || !DataSurface::Agents.is_visible(tools) {
        return AgentNames::new();
    }
    let Ok(api) = account.api() else { return AgentNames::new() };
    let agents = api.list_agents(None).await.map(|page| page.data).unwrap_or_default();
    agents.into_iter().filter_map(|agent| Some((agent.id, agent.name?))).collect()
}

/// A number in short.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(in crate::mcp) struct NumberSummary {
    number_id: NumberId,
    e164: Option<E164>,
    friendly_name: Option<String>,
    number_type: Option<String>,
    status: Option<String>,
    monthly_cost_cents: Option<u64>,
    inbound_agent_id: Option<AgentId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outbound_agent_ids: Vec<AgentId>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) simulated: bool,
}

impl From<PhoneNumber> for NumberSummary {
    fn from(number: PhoneNumber) -> Self {
        Self {
            simulated: text::is_simulated(&number.extra),
            number_id: number.id,
            e164: number.e164,
            friendly_name: number.friendly_name,
            number_type: number.number_type.map(|kind| super::shared::wire_word(&kind)),
            status: number.status,
            monthly_cost_cents: number.monthly_cost_cents,
            inbound_agent_id: number.inbound_agent_id,
            outbound_agent_ids: number.outbound_agent_ids.unwrap_or_default(),
        }
    }
}

impl NumberSummary {
    /// The number and its id.
    pub(super) fn short_line(&self) -> String {
        let number = self.e164.as_ref().map_or("number", E164::as_str);
        format!("{number}, number_id {}", self.number_id)
    }

    /// One line: number, id, who uses it.
    fn summary_line(&self, names: &AgentNames) -> String {
        let agent = |id: &AgentId| match names.get(id) {
            Some(name) => format!("{} ({id})", text::one_line(name, 100)),
            None => id.to_string(),
        };
        let callers: Vec<String> = self.outbound_agent_ids.iter().map(agent).collect();
        let answered = self.inbound_agent_id.as_ref().map(agent);
        let used_by = match (answered, callers.as_slice()) {
            (None, []) => "used by no agent".to_owned(),
            (None, callers) => format!("caller ID of {}", callers.join(", ")),
            (Some(agent), []) => format!("answered by {agent}"),
            (Some(agent), callers) => {
                format!("answered by {agent}, caller ID of {}", callers.join(", "))
            }
        };
        format!("{}, {used_by}", self.short_line())
    }
}

pub(super) struct ListNumbers;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListNumbersInput {
    /// Number of entries. Default: 20.
    limit: Option<BoundedInteger<1, 100>>,
    /// Return numbers older than this number_id.
    starting_after: Option<NumberId>,
    /// Return numbers newer than this number_id.
    ending_before: Option<NumberId>,
}

/// A page of owned numbers.
#[derive(Serialize, JsonSchema)]
pub(in crate::mcp) struct ListNumbersOutput {
    numbers: Vec<NumberSummary>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<NumberId>,
    /// By agent_id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    agent_names: AgentNames,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl ListNumbersOutput {
    /// Reads a page, and the names of the agents that use its numbers.
    ///
    /// # Errors
    /// CallingBox cannot be read.
    pub(in crate::mcp) async fn read(
        account: &Account,
        tools: &AvailableTools,
        request: &PageRequest,
    ) -> Result<Self, ToolError> {
        let page = account.api()?.list_numbers(request).await?;
        let mut numbers: Vec<NumberSummary> = page.data.into_iter().map(Into::into).collect();
        let simulated =
            super::shared::take_simulated(numbers.iter_mut().map(|number| &mut number.simulated));
        let towards_newer = matches!(request.cursor, Some(PageCursor::Before(_)));
        let edge = if towards_newer { numbers.first() } else { numbers.last() };
        let next_cursor = edge.filter(|_| page.has_more).map(|number| number.number_id.clone());
        let agent_names = read_agent_names(account, tools, &numbers).await;
        Ok(Self { numbers, has_more: page.has_more, next_cursor, agent_names, simulated })
    }
}

impl Tool for ListNumbers {
    const NAME: ToolName = ToolName::LIST_NUMBERS;
    const TITLE: &'static str = "List owned numbers";
    const DESCRIPTION: &'static [Sentence] = &[
        Always(
            "Lists the phone numbers that the account owns, newest first, with the agents that use them. Use it to find a number_id.",
        ),
        With(ToolName::SEARCH_NUMBERS, "search_numbers finds numbers for sale."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = false;
    type Input = ListNumbersInput;
    type Output = ListNumbersOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let ListNumbersInput { limit, starting_after, ending_before } = input;
        let cursor = super::shared::page_cursor(
            starting_after.map(|id| id.as_str().to_owned()),
            ending_before.map(|id| id.as_str().to_owned()),
        )?;
        let towards_newer = matches!(cursor, Some(PageCursor::Before(_)));
        let paged = cursor.is_some();
        let limit = limit.map_or(20, |limit| u8::try_from(limit.get()).unwrap_or(100));
        let request = PageRequest { limit: Some(limit), cursor };
        let output = ListNumbersOutput::read(&cx.account, &cx.tools, &request).await?;
        let ListNumbersOutput { numbers, next_cursor, agent_names, .. } = &output;
        let mut text: String =
            numbers.iter().map(|number| number.summary_line(agent_names) + "\n").collect();
        if let Some(cursor) = next_cursor {
            let name = if towards_newer { "ending_before" } else { "starting_after" };
            text.push_str(&format!("More: call again with {name} {cursor}."));
        } else if numbers.is_empty() && paged {
            text.push_str("No more numbers in this direction.");
        } else if numbers.is_empty() {
            text.push_str("The account owns no number.");
        }
        let simulated = output.simulated;
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

/// The maximum number of offers in one search.
const MAX_OFFERS: u8 = 50;

pub(super) struct SearchNumbers;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchNumbersInput {
    /// Three digits; local numbers only.
    #[schemars(with = "Option<String>")]
    area_code: Option<AreaCode>,
    /// Kind of number.
    number_type: Option<NumberType>,
    /// ISO country code. Default and only country so far: US.
    #[schemars(with = "Option<String>")]
    country_code: Option<SearchCountry>,
    /// Number of entries. Default: 10.
    limit: Option<BoundedInteger<1, 50>>,
}

/// An area code of the North American numbering plan.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct AreaCode(String);

impl TryFrom<String> for AreaCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = text.len() == 3
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && !text.starts_with(['0', '1']);
        fits.then_some(Self(text)).ok_or("must be three digits, the first 2 to 9")
    }
}

/// A country code of ISO 3166-1.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct SearchCountry(String);

impl TryFrom<String> for SearchCountry {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        fits.then_some(Self(text)).ok_or("must be two capital letters such as US")
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SearchNumbersOutput {
    numbers: Vec<AvailableNumber>,
    has_more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl Tool for SearchNumbers {
    const NAME: ToolName = ToolName::SEARCH_NUMBERS;
    const TITLE: &'static str = "Search numbers for sale";
    const DESCRIPTION: &'static [Sentence] = &[
        Always("Searches phone numbers for sale and returns their prices. Does not buy."),
        With(ToolName::PURCHASE_NUMBER, "purchase_number does."),
        With(ToolName::LIST_NUMBERS, "list_numbers returns the owned numbers."),
    ];
    const EFFECT: ToolEffect = ToolEffect::Reads;
    const OPEN_WORLD: bool = true;
    type Input = SearchNumbersInput;
    type Output = SearchNumbersOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let SearchNumbersInput { area_code, number_type, country_code, limit } = input;
        if area_code.is_some() && number_type == Some(NumberType::TollFree) {
            return Err(ToolError::invalid_argument(
                "`area_code` is for local numbers only: leave it out for toll_free",
            )
            .into());
        }
        let limit = limit.map_or(10, |limit| u8::try_from(limit.get()).unwrap_or(MAX_OFFERS));
        let search = NumberSearch {
            country_code: country_code.map(|code| code.0),
            area_code: area_code.map(|code| code.0),
            number_type,
            // One additional entry shows whether there are more, if the list itself does not.
            limit: Some(limit.saturating_add(1).min(MAX_OFFERS).into()),
        };
        let given = [
            ("country_code", search.country_code.is_some()),
            ("area_code", search.area_code.is_some()),
            ("number_type", search.number_type.is_some()),
        ];
        let given: Vec<&str> =
            given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect();
        let page = cx.account.api()?.search_numbers(&search).await?.limit_to(limit.into());
        let (mut numbers, has_more) = (page.data, page.has_more);
        let mut simulated = false;
        for number in &mut numbers {
            simulated |= text::is_simulated(&number.extra);
            number.extra.shift_remove("simulated");
        }
        let mut text = if numbers.is_empty() && given.is_empty() {
            "No number is for sale at the moment.".to_owned()
        } else if numbers.is_empty() {
            format!("No number for sale matches. Change or omit {}.", given.join(", "))
        } else {
            numbers.iter().map(|number| offer_line(number) + "\n").collect()
        };
        if has_more {
            // An area code is for local numbers only, and says so by itself.
            let unused: &[&str] = match (&search.area_code, search.number_type) {
                (None, None) => &["area_code", "number_type"],
                (None, Some(NumberType::Local)) => &["area_code"],
                (Some(_), _) | (None, Some(NumberType::TollFree)) => &[],
            };
            text.push_str(&super::shared::more_results_hint(limit < MAX_OFFERS, "search", unused));
        }
        let output = SearchNumbersOutput { numbers, has_more, simulated };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}

/// One line: number, place, prices.
fn offer_line(number: &AvailableNumber) -> String {
    let place = [number.locality.as_deref(), number.state.as_deref()]
        .into_iter()
        .flatten()
        .map(|part| text::one_line(part, 100))
        .collect::<Vec<_>>()
        .join(", ");
    let kind = number.number_type.as_ref().map(super::shared::wire_word).unwrap_or_default();
    let place = format!("{kind} {place}");
    let price = |cents: Option<u64>| {
        cents.map_or_else(
            || "unknown price".to_owned(),
            |cents| MilliCents::from_cents(cents).to_string(),
        )
    };
    let set_up = match number.upfront_cost_cents {
        Some(0) => "no set-up fee".to_owned(),
        fee => format!("set-up fee {}", price(fee)),
    };
    format!(
        "{} {}: {} now and each month, {set_up}",
        number.phone_number.as_str(),
        place.trim(),
        price(number.monthly_cost_cents),
    )
}

pub(super) struct PurchaseNumber;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PurchaseNumberInput {
    /// A number for sale.
    #[schemars(with = "String")]
    phone_number: E164,
    /// From an earlier answer, after the user agreed to it.
    #[schemars(with = "Option<String>")]
    confirmation_token: Option<Text<1, 200>>,
}

/// The number that was bought; all of it is in `list_numbers`.
#[skip_serializing_none]
#[derive(Serialize, JsonSchema)]
struct BoughtNumber {
    number_id: NumberId,
    e164: Option<E164>,
    monthly_cost_cents: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

impl From<NumberSummary> for BoughtNumber {
    fn from(number: NumberSummary) -> Self {
        Self {
            number_id: number.number_id,
            e164: number.e164,
            monthly_cost_cents: number.monthly_cost_cents,
            simulated: number.simulated,
        }
    }
}

/// What became of the purchase.
#[skip_serializing_none]
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct PurchaseNumberOutput {
    number: Option<BoughtNumber>,
    /// Whether the number is the account's now; absent when that could not be found out.
    purchased: Option<bool>,
    #[serde(flatten)]
    pending: PendingFields,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
    note: String,
}

impl PurchaseNumberOutput {
    fn new(purchased: Option<bool>, note: impl Into<String>) -> Self {
        Self { purchased, note: note.into(), ..Self::default() }
    }

    /// The answer for a number that the account has already.
    fn new_owned(id: &str, number: Option<NumberSummary>) -> Self {
        let note = format!(
            "The account owns this number already (number_id {id}); nothing was charged now."
        );
        Self { number: number.map(Into::into), ..Self::new(Some(true), note) }
    }

    fn into_reply(mut self, cx: &ToolContext) -> Reply<Self> {
        self.simulated = cx.account.environment() == Environment::Sandbox;
        let text = format!("{}{}", self.note, self.pending.token_line());
        Reply::new(self, text)
    }

    fn new_dialed(dialed: Dialed, tools: &AvailableTools) -> Self {
        match dialed.result {
            DialResult::Placed(Placed::Number(number)) => {
                let number = NumberSummary::from(*number);
                let monthly = number.monthly_cost_cents.map(MilliCents::from_cents);
                let cost = monthly.map_or_else(String::new, |cost| format!(", {cost} each month"));
                let note = format!("Bought {}{cost}.", number.summary_line(&AgentNames::new()));
                let step = NextStep::tool(ToolName::SET_AGENT_NUMBERS, "attaches it to an agent");
                let note = with_steps(&note, &[step], tools);
                Self { number: Some(number.into()), ..Self::new(Some(true), note) }
            }
            DialResult::Repeat { id, product, .. } => {
                let number = match product {
                    Some(Placed::Number(number)) => Some(NumberSummary::from(*number)),
                    _ => None,
                };
                Self::new_owned(&id, number)
            }
            DialResult::Unknown(why) => {
                let note = format!(
                    "It is not known whether the number was bought: {}. Do not buy it again.",
                    text::one_line(why.trim_end_matches('.'), 300)
                );
                let step = NextStep::tool(ToolName::LIST_NUMBERS, "shows whether it is there");
                Self::new(None, with_steps(&note, &[step], tools))
            }
            _ => {
                let note = "The same number is being bought by another request at this moment. Do not buy it again.";
                let step = NextStep::tool(ToolName::LIST_NUMBERS, "shows it when it is bought");
                Self::new(None, with_steps(note, &[step], tools))
            }
        }
    }
}

/// The number among the newest owned ones.
async fn find_owned(cx: &ToolContext, number: &E164) -> Option<NumberSummary> {
    let page = cx.account.api().ok()?.list_numbers(&PageRequest::with_limit(100)).await.ok()?;
    page.data.into_iter().find(|owned| owned.e164.as_ref() == Some(number)).map(Into::into)
}

fn not_for_sale(error: ToolError, number: &E164) -> ToolError {
    error
        .with_message(format!("{} is not for sale", number.as_str()))
        .with_next([NextStep::tool(ToolName::SEARCH_NUMBERS, "finds one that is for sale")])
}

const OPEN_PURCHASE: OpenQuestionWords = OpenQuestionWords {
    nothing_done: "Nothing was bought",
    repeat: "purchase_number again with the same phone_number and the confirmation_token",
    after_card: " Once they have said yes, the same purchase_number says what was bought.",
};

impl Tool for PurchaseNumber {
    const NAME: ToolName = ToolName::PURCHASE_NUMBER;
    const TITLE: &'static str = "Buy a number";
    const DESCRIPTION: &'static [Sentence] = &[
        Live(
            "Buys a phone number: its price is charged to the account's credit now and each month. Only the dashboard can release it. A client that cannot ask its user gets a preview first, with the price, the monthly cost, what is left of the limits and a confirmation_token: show it to the user.",
        ),
        Sandbox(
            "Buys a simulated phone number; only simulated credit is charged. If the answer has a confirmation_token, show it to the user.",
        ),
        Always("Use it when the user agreed to the price."),
    ];
    const EFFECT: ToolEffect = ToolEffect::CostsMoney;
    const OPEN_WORLD: bool = true;
    const CARD: CardRole = CardRole::ShowsResult;
    type Input = PurchaseNumberInput;
    type Output = PurchaseNumberOutput;

    /// The human may take time, and so may the dispatch.
    fn deadline(_input: &Self::Input, cx: &ToolContext) -> Duration {
        ordering::order_deadline(cx)
    }

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let PurchaseNumberInput { phone_number, confirmation_token } = input;
        let asked = purchase_order(cx, phone_number).await?;
        let token = confirmation_token.as_ref().map(Text::as_str);
        match ordering::place_order(cx, asked.clone(), token).await {
            Ok(OrderOutcome::Dialed(dialed)) => {
                Ok(PurchaseNumberOutput::new_dialed(dialed, &cx.tools).into_reply(cx))
            }
            Ok(OrderOutcome::Asked(question)) => {
                Ok(question.into_reply(&OPEN_PURCHASE, |pending, note| {
                    let output = PurchaseNumberOutput::new(Some(false), note);
                    PurchaseNumberOutput { pending, ..output }.into_reply(cx)
                }))
            }
            Err(exit) => Ok(explain_conflict(cx, &asked, exit).await?.into_reply(cx)),
        }
    }
}

impl ConfirmableTool for PurchaseNumber {
    async fn run_as_answered(
        input: Self::Input,
        answer: CardAnswer<'_>,
        cx: &ToolContext,
    ) -> Result<AnsweredOrder<Reply<Self::Output>>, ToolExit> {
        let asked = purchase_order(cx, input.phone_number).await?;
        let answered = ordering::place_answered_order(cx, asked.clone(), answer).await;
        let bought = match answered {
            Err(exit) => AnsweredOrder::Confirmed(explain_conflict(cx, &asked, exit).await?),
            Ok(answered) => {
                answered.map(|dialed| PurchaseNumberOutput::new_dialed(dialed, &cx.tools))
            }
        };
        Ok(bought.map(|output| output.into_reply(cx)))
    }
}

async fn purchase_order(cx: &ToolContext, number: E164) -> Result<DialRequest, ToolError> {
    let offer = find_offer(cx, &number).await?;
    let price = offer.as_ref().and_then(AvailableNumber::purchase_price);
    Ok(DialRequest {
        order: Order::Number { number, price },
        caller: cx.caller.clone(),
        idempotency_key: None,
        allow_repeat: false,
        attempt: None,
        disclosing_instructions: None,
        metadata_source: Default::default(),
    })
}

/// A number that cannot be bought may be the account's already.
async fn explain_conflict(
    cx: &ToolContext,
    asked: &DialRequest,
    exit: ToolExit,
) -> Result<PurchaseNumberOutput, ToolExit> {
    match (exit, asked.number()) {
        (ToolExit::Failed(error), Some(number))
            if error.class() == ErrorCode::Conflict && error.is_from_api() =>
        {
            let owned = find_owned(cx, number).await.ok_or_else(|| not_for_sale(error, number))?;
            let id = owned.number_id.clone();
            Ok(PurchaseNumberOutput::new_owned(id.as_str(), Some(owned)))
        }
        (exit, _) => Err(exit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Environment;
    use crate::dialing::ledger::DispatchId;

    #[test]
    fn every_reply_says_not_to_buy_it_again() {
        let tools = AvailableTools::only(&[PurchaseNumber::NAME], Environment::Live);
        for (result, begins) in [
            (DialResult::Unknown("no answer".to_owned()), "It is not known whether"),
            (DialResult::Unknown("No answer.".to_owned()), "It is not known whether"),
            (DialResult::InFlight, "The same number is being bought by another request"),
        ] {
            let dialed = Dialed { dispatch: DispatchId::new(), result };
            let note = PurchaseNumberOutput::new_dialed(dialed, &tools).note;
            assert!(note.starts_with(begins), "{note}");
            assert!(note.contains(". Do not buy it again"), "{note}");
        }
    }
}
