//! `/v1/webhook_deliveries`.

use serde_json::{Value, json};

use super::fields::parse_id;
use super::reply::{ApiError, HandlerResult, Reply};
use super::request::ApiRequest;
use crate::model::{AgendaItem, Delivery, DeliveryStatus, Organization};
use crate::store::OrgContext;

/// GET /v1/webhook_deliveries
pub(crate) fn list_deliveries(
    context: &mut OrgContext<'_>,
    mut request: ApiRequest,
) -> HandlerResult {
    let endpoint = request.query.take_id("endpoint_id")?;
    let call = request.query.take_id("call_id")?;
    let status = request.query.take_word("status", DeliveryStatus::WORDS)?;
    let limit = request.query.take_limit(50, 200)?;
    request.query.reject_unknown()?;
    let org = &*context.org;
    let shown: Vec<Value> = org
        .deliveries
        .iter()
        .rev()
        .filter(|delivery| {
            (endpoint.is_none() || delivery.endpoint_id == endpoint)
                && call.is_none_or(|call| delivery.call_id == call)
                && status.is_none_or(|status| delivery.status == status)
        })
        .take(limit)
        .map(|delivery| delivery.to_json(org.id))
        .collect();
    Ok(Reply::ok(json!({"data": shown})))
}

/// GET /v1/webhook_deliveries/{id}
pub(crate) fn get_delivery(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let delivery = find_delivery(context.org, request.id())?;
    Ok(Reply::ok(delivery.to_json(context.org.id)))
}

/// POST /v1/webhook_deliveries/{id}/redeliver
pub(crate) fn redeliver(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let id = find_delivery(context.org, request.id())?.id;
    let missing = || ApiError::not_found("webhook delivery", request.id());
    let delivery = context.org.deliveries.get_mut(id).ok_or_else(missing)?;
    delivery.request_retry(context.now);
    let item = AgendaItem::Delivery(id);
    context.agenda.schedule(&mut delivery.agenda_key, context.now, context.org.id, item);
    Ok(Reply::ok(delivery.to_json(context.org.id)))
}

fn find_delivery<'a>(org: &'a Organization, text: &str) -> Result<&'a Delivery, ApiError> {
    parse_id(text)
        .and_then(|id| org.deliveries.get(id))
        .ok_or_else(|| ApiError::not_found("webhook delivery", text))
}
