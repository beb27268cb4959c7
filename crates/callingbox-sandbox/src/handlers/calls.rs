//! Reading `/v1/calls`.

use super::fields::parse_id;
use super::pages::page_to_json;
use super::reply::{ApiError, HandlerResult, Reply};
use super::request::ApiRequest;
use crate::model::{Call, Organization};
use crate::store::OrgContext;

/// GET /v1/calls
pub(crate) fn list_calls(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let (seed, now) = (context.settings.seed, context.now);
    page_to_json(&context.org.calls, request.query, |call| call.to_json(seed, now)).map(Reply::ok)
}

/// GET /v1/calls/{id}
pub(crate) fn get_call(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let call = find_call(context.org, request.id())?;
    Ok(Reply::ok(call.to_json(context.settings.seed, context.now)))
}

/// GET /v1/calls/{id}/transcript
pub(crate) fn get_transcript(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let call = find_call(context.org, request.id())?;
    Ok(Reply::ok(call.transcript_to_json(context.settings.seed, context.now)))
}

fn find_call<'a>(org: &'a Organization, text: &str) -> Result<&'a Call, ApiError> {
    parse_id(text).and_then(|id| org.calls.get(id)).ok_or_else(|| ApiError::not_found("call", text))
}
