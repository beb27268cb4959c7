//! What a person sees before a number is bought, and what their yes covers. It does not know how the person is asked.

use crate::mcp::confirmation::preview::Preview;
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text;
use crate::mcp::request::context::ToolContext;
use callingbox::{AvailableNumber, E164, MilliCents, NumberSearch};

/// What the user is asked before a purchase.
///
/// # Errors
/// CallingBox or the ledger cannot be read.
pub(super) async fn preview_purchase(
    cx: &ToolContext,
    number: &E164,
) -> Result<Preview, ToolError> {
    let cost = cost_line(find_offer(cx, number).await?.as_ref());
    let (number, aside) = (number.as_str(), cx.account.environment().order_suffix());
    let title = format!("Buy the phone number {number}{aside}?");
    let preview = Preview::new(title, [("Cost", Some(cost))], String::new());
    Ok(match describe_remaining_limits(cx).await? {
        Some(remaining) => preview.with_uncovered("Left of the limits", remaining),
        None => preview,
    })
}

/// The number among those for sale, if the search finds it.
pub(in crate::mcp::tools) async fn find_offer(
    cx: &ToolContext,
    number: &E164,
) -> Result<Option<AvailableNumber>, ToolError> {
    let search = NumberSearch {
        area_code: number
            .digits()
            .strip_prefix('1')
            .and_then(|rest| rest.get(..3))
            .map(str::to_owned),
        limit: Some(50),
        ..NumberSearch::default()
    };
    let offers = cx.account.api()?.search_numbers(&search).await?.data;
    Ok(offers.into_iter().find(|offer| offer.phone_number == *number))
}

/// What a purchase costs now and later. Prices are in cents of a US dollar, unless the offer names another currency.
fn cost_line(offer: Option<&AvailableNumber>) -> String {
    let currency = offer.and_then(|offer| offer.currency.as_deref());
    let currency = currency.filter(|name| !name.eq_ignore_ascii_case("usd"));
    let currency = currency.map(|name| format!(" ({})", text::one_line(name, 10)));
    let monthly = offer.and_then(|offer| offer.monthly_cost_cents).map(MilliCents::from_cents);
    match (offer.and_then(AvailableNumber::purchase_price), monthly) {
        (Some(price), Some(monthly)) => {
            let currency = currency.unwrap_or_default();
            match price == monthly {
                true => format!("{price} now and each month, no set-up fee{currency}"),
                false => format!("{price} now, {monthly} each month from then on{currency}"),
            }
        }
        _ => "price unknown: CallingBox says none for this number".to_owned(),
    }
}

/// How many purchases and how much money the limits leave for the next 24 hours; `None` without such limits.
async fn describe_remaining_limits(cx: &ToolContext) -> Result<Option<String>, ToolError> {
    let dialer = cx.account.dialer()?;
    let limits = dialer.rules().policy.measured_limits();
    let usage = dialer.measure_usage(&cx.caller).await?;
    let purchases = limits.purchases_per_day.map(|max| {
        let left = max.saturating_sub(usage.purchases.count);
        format!("{left} of {max} purchases per day")
    });
    let money = limits.spend_per_day.map(|max| {
        let left = MilliCents(max.0.saturating_sub(usage.spent.0));
        format!("{left} of {max} per day")
    });
    let remaining: Vec<String> = purchases.into_iter().chain(money).collect();
    Ok((!remaining.is_empty()).then(|| remaining.join(", ")))
}
