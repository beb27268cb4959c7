//! `/v1/numbers`: owned numbers, the search for numbers, and their purchase.

use http::StatusCode;
use serde_json::Value;

use super::fields::InputFields;
use super::pages::page_to_json;
use super::reply::{ApiError, HandlerResult, Reply};
use super::request::ApiRequest;
use crate::model::{
    MilliCents, NUMBER_PRICE_CENTS, Number, NumberQuery, NumberType, catalog_number_type, is_e164,
    search_numbers,
};
use crate::store::OrgContext;

/// GET /v1/numbers
pub(crate) fn list_numbers(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let org = &*context.org;
    page_to_json(&org.numbers, request.query, |number| org.number_to_json(number)).map(Reply::ok)
}

/// GET /v1/numbers/available
pub(crate) fn list_available_numbers(
    context: &mut OrgContext<'_>,
    request: ApiRequest,
) -> HandlerResult {
    let mut query = request.query;
    let country = query.take_text("country_code")?.unwrap_or_else(|| "US".to_owned());
    let area_code = query.take_text("area_code")?;
    let number_type = query.take_word("number_type", NumberType::WORDS)?;
    let limit = query.take_limit(10, 50)?;
    query.reject_unknown()?;
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(ApiError::invalid_value("country_code", "two capital letters, such as US"));
    }
    // The API offers only US numbers so far; other countries have none.
    let limit = if country == "US" { limit } else { 0 };
    let query = NumberQuery { area_code: area_code.as_deref(), number_type, limit };
    let offers = search_numbers(context.settings.seed, &query, context.sold_numbers);
    Ok(Reply::ok(Value::Array(offers)))
}

/// POST /v1/numbers/purchase
pub(crate) fn purchase_number(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let mut fields = InputFields::from_body(&request.body)?;
    let wanted = fields.take_required_text("phone_number")?;
    fields.reject_unknown()?;
    if !is_e164(&wanted) {
        let expected = "a number in E.164 form, such as +14155550123";
        return Err(ApiError::invalid_value("phone_number", expected));
    }
    let for_sale = catalog_number_type(&wanted).filter(|_| !context.sold_numbers.contains(&wanted));
    let Some(number_type) = for_sale else {
        return Err(ApiError::conflict(format!("number {wanted} is no longer for sale")));
    };
    let price = MilliCents::from_cents(NUMBER_PRICE_CENTS);
    let available = context.org.available_credit();
    if available < price {
        return Err(ApiError::new(
            StatusCode::PAYMENT_REQUIRED,
            format!("insufficient credit: the number costs {price}, {available} is available"),
        ));
    }
    context.org.balance = context.org.balance.saturating_sub(price);
    context.sold_numbers.insert(wanted.clone());
    let id = context.next_id();
    let number = Number { id, e164: wanted, number_type, purchased_at: context.now };
    let shown = context.org.number_to_json(&number);
    context.org.numbers.push(number);
    Ok(Reply::created(shown))
}
