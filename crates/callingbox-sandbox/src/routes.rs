//! The endpoints by method and path, and the way of a request through them: key, fault, body,
//! work under the lock, answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::RawPathParams;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use axum::{Extension, Router};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;

use super::answer::{Answer, Manner, Refusal, Reply};
use super::faults::{Kind, Strike};
use super::fields::Query;
use super::request::Request;
use super::world::{Scope, unauthorized};
use super::{Shared, agents, calls, control, deliveries, dispatch, endpoints, faults, numbers};

/// The largest body that is read.
const MAX_BODY: usize = 256 * 1024;

type Work = fn(&mut Scope<'_>, Request) -> Answer;

/// One endpoint of an organization.
#[derive(Clone, Copy)]
struct Endpoint {
    method: &'static str,
    path: &'static str,
    work: Work,
}

const fn at(method: &'static str, path: &'static str, work: Work) -> Endpoint {
    Endpoint { method, path, work }
}

const ENDPOINTS: &[Endpoint] = &[
    at("GET", "/v1/agents", agents::list),
    at("POST", "/v1/agents", agents::create),
    at("GET", "/v1/agents/{id}", agents::get),
    at("PATCH", "/v1/agents/{id}", agents::update),
    at("DELETE", "/v1/agents/{id}", agents::archive),
    at("POST", "/v1/agents/{id}/numbers", agents::attach),
    at("DELETE", "/v1/agents/{id}/numbers/{number_id}", agents::detach),
    at("PUT", "/v1/agents/{id}/primary-number", agents::set_primary),
    at("GET", "/v1/calls", calls::list),
    at("POST", "/v1/calls", dispatch::place),
    at("GET", "/v1/calls/{id}", calls::get),
    at("GET", "/v1/calls/{id}/transcript", calls::transcript),
    at("GET", "/v1/numbers", numbers::list),
    at("GET", "/v1/numbers/available", numbers::available),
    at("POST", "/v1/numbers/purchase", numbers::purchase),
    at("GET", "/v1/webhook_endpoints", endpoints::list),
    at("POST", "/v1/webhook_endpoints", endpoints::create),
    at("GET", "/v1/webhook_endpoints/{id}", endpoints::get),
    at("PATCH", "/v1/webhook_endpoints/{id}", endpoints::update),
    at("DELETE", "/v1/webhook_endpoints/{id}", endpoints::delete),
    at("POST", "/v1/webhook_endpoints/{id}/rotate_secret", endpoints::rotate_secret),
    at("GET", "/v1/webhook_deliveries", deliveries::list),
    at("GET", "/v1/webhook_deliveries/{id}", deliveries::get),
    at("POST", "/v1/webhook_deliveries/{id}/redeliver", deliveries::redeliver),
    at("POST", "/sandbox/inbound_calls", dispatch::ring_in),
    at("GET", "/sandbox/organization", control::organization),
    at("GET", "/sandbox/dialed", control::dialed),
    at("GET", "/sandbox/credits", control::credits),
    at("POST", "/sandbox/credits", control::set_credits),
    at("GET", "/sandbox/signing_secret", control::signing_secret),
    at("GET", "/sandbox/faults", faults::list),
    at("POST", "/sandbox/faults", faults::add),
    at("DELETE", "/sandbox/faults", faults::clear),
    at("GET", "/sandbox/requests", control::requests),
    at("DELETE", "/sandbox/requests", control::forget_requests),
];

/// Marks a response whose connection is to be reset instead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reset;

/// The whole application.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        let endpoint = *endpoint;
        let Ok(filter) =
            MethodFilter::try_from(endpoint.method.parse::<Method>().unwrap_or(Method::GET))
        else {
            continue;
        };
        let handler = move |Extension(shared): Extension<Arc<Shared>>,
                            path: Result<RawPathParams, _>,
                            request: axum::extract::Request| async move {
            let path = path.map_or_else(
                |_: axum::extract::rejection::RawPathParamsRejection| Vec::new(),
                |path| path.iter().map(|(_, value)| value.to_owned()).collect(),
            );
            respond(serve(&shared, endpoint, path, request).await)
        };
        router = router.route(endpoint.path, on(filter, handler));
    }
    router
        .route("/sandbox", on(MethodFilter::GET, describe))
        .route("/sandbox/clock", on(MethodFilter::GET, get_clock).post(set_clock))
        .route("/sandbox/reset", on(MethodFilter::POST, reset))
        .method_not_allowed_fallback(async || {
            let text = "this path does not know the method";
            respond(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).into())
        })
        .fallback(async || respond(Refusal::new(StatusCode::NOT_FOUND, "no such path").into()))
        .layer(Extension(shared))
}

async fn describe(Extension(shared): Extension<Arc<Shared>>) -> Response {
    let body = control::describe(&shared.world());
    respond(Reply::ok(body))
}

async fn get_clock(Extension(shared): Extension<Arc<Shared>>) -> Response {
    let body = control::clock(&shared.world());
    respond(Reply::ok(body))
}

async fn set_clock(Extension(shared): Extension<Arc<Shared>>, body: Body) -> Response {
    let answer = match read(body).await {
        Ok(body) => control::set_clock(&shared, &body).await,
        Err(refusal) => Err(refusal),
    };
    respond(answer.unwrap_or_else(Reply::from))
}

async fn reset(Extension(shared): Extension<Arc<Shared>>, headers: HeaderMap) -> Response {
    let reply = {
        let mut world = shared.world();
        world.catch_up();
        match organization(&mut world, &headers) {
            Ok(org) => {
                world.reset(org);
                Reply::ok(serde_json::json!({"reset": true, "simulated": true}))
            }
            Err(refusal) => refusal.into(),
        }
    };
    shared.wake.notify_one();
    respond(reply)
}

fn organization(world: &mut super::world::World, headers: &HeaderMap) -> Result<Uuid, Refusal> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, key) = value.and_then(|text| text.split_once(' ')).ok_or_else(unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized());
    }
    world.org_of_key(key.trim())
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let read = to_bytes(body, MAX_BODY).await;
    read.map_err(|_| Refusal::bad(format!("the body is cut off or longer than {MAX_BODY} bytes")))
}

async fn serve(
    shared: &Arc<Shared>,
    endpoint: Endpoint,
    path: Vec<String>,
    request: axum::extract::Request,
) -> Reply {
    let (parts, body) = request.into_parts();
    let entered = {
        let mut world = shared.world();
        world.catch_up();
        organization(&mut world, &parts.headers).map(|org| {
            let strike = endpoint.path.starts_with("/v1/").then(|| {
                let org = world.orgs.get_mut(&org)?;
                *org.requests.entry((endpoint.path, endpoint.method)).or_default() += 1;
                org.strike(endpoint.method, parts.uri.path())
            });
            (org, strike.flatten())
        })
    };
    let (org, strike) = match entered {
        Ok(entered) => entered,
        Err(refusal) => return refusal.into(),
    };
    if let Some(Strike { before: true, kind: Kind::Delay(delay) }) = strike {
        tokio::time::sleep(delay).await;
    } else if let Some(reply) =
        strike.as_ref().filter(|strike| strike.before).and_then(Strike::alone)
    {
        return reply;
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into(),
    };
    let answer = Query::parse(parts.uri.query().unwrap_or_default()).and_then(|query| {
        let mut world = shared.world();
        let now = world.catch_up();
        let mut scope = world.scope(org, now).ok_or_else(unauthorized)?;
        let answer = (endpoint.work)(&mut scope, Request::new(path, query, body));
        // What begins at once, such as the first event of a call, happens before the answer.
        world.catch_up();
        if parts.method != Method::GET {
            world.changed = true;
        }
        answer
    });
    if parts.method != Method::GET {
        shared.wake.notify_one();
    }
    let truth = answer.unwrap_or_else(Reply::from);
    match strike {
        Some(strike) if !strike.before => strike.bend(truth),
        _ => truth,
    }
}

/// Turns a reply into a response. A late one and a reset are only marked: the connection, which
/// alone can hold an answer back or end without one, sees to them. A body that is a JSON string is
/// sent raw, so that a fault can answer with something that is no JSON.
fn respond(reply: Reply) -> Response {
    let body = match &reply.body {
        Value::String(raw) => raw.clone(),
        value => value.to_string(),
    };
    let bytes = Bytes::from(body);
    let length = bytes.len();
    let mut response = match reply.manner {
        Manner::Whole | Manner::Reset | Manner::Late(_) => Response::new(Body::from(bytes)),
        Manner::Truncated => {
            let half = bytes.slice(..length / 2);
            let end = stream::once(async {
                // Long enough for the first half to be on its way.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(std::io::Error::other("cut off on demand"))
            });
            Response::new(Body::from_stream(stream::iter([Ok(half)]).chain(end)))
        }
        Manner::Slow(over) => {
            let size = length.div_ceil(10).max(1);
            let pieces: Vec<Bytes> = (0..length)
                .step_by(size)
                .map(|from| bytes.slice(from..(from + size).min(length)))
                .collect();
            let pause = over / 10;
            let pieces = stream::iter(pieces).then(move |piece| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, std::io::Error>(piece)
            });
            Response::new(Body::from_stream(pieces))
        }
    };
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(seconds) = reply.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    match reply.manner {
        Manner::Reset => {
            response.extensions_mut().insert(Reset);
        }
        Manner::Late(delay) => {
            response.extensions_mut().insert(Late(delay));
        }
        Manner::Whole | Manner::Truncated | Manner::Slow(_) => {}
    }
    response
}

/// Marks a response that is to be held back for a while of real time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late(pub(super) Duration);
