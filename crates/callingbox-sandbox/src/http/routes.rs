//! The routes, and the way of a request through them: key, fault, body, handler, reply.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, RawPathParams, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{self, MethodFilter, on};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use uuid::Uuid;

use super::connection::Connection;
use super::host::is_local_request;
use super::response::{build_response, deliver};
use crate::engine::catch_up;
use crate::handlers::{
    ApiError, ApiRequest, HandlerResult, InputFields, Reply, agents, calls, control, faults,
    numbers, place_call, webhook_deliveries, webhook_endpoints,
};
use crate::model::FaultKind;
use crate::simulator::Simulator;
use crate::store::{OrgContext, SimulatorState};

const MAX_BODY_BYTES: usize = 256 * 1024;

type Handler = fn(&mut OrgContext<'_>, ApiRequest) -> HandlerResult;

/// A route that needs a key and works on its organization.
struct Route {
    method: &'static str,
    filter: MethodFilter,
    path: &'static str,
    handler: Handler,
    /// Whether the handler reads parameters of the query.
    has_query: bool,
}

impl Route {
    const fn with_query(self) -> Self {
        Self { has_query: true, ..self }
    }
}

const fn get(path: &'static str, handler: Handler) -> Route {
    Route { method: "GET", filter: MethodFilter::GET, path, handler, has_query: false }
}

const fn post(path: &'static str, handler: Handler) -> Route {
    Route { method: "POST", filter: MethodFilter::POST, path, handler, has_query: false }
}

const fn put(path: &'static str, handler: Handler) -> Route {
    Route { method: "PUT", filter: MethodFilter::PUT, path, handler, has_query: false }
}

const fn patch(path: &'static str, handler: Handler) -> Route {
    Route { method: "PATCH", filter: MethodFilter::PATCH, path, handler, has_query: false }
}

const fn delete(path: &'static str, handler: Handler) -> Route {
    Route { method: "DELETE", filter: MethodFilter::DELETE, path, handler, has_query: false }
}

static ROUTES: &[Route] = &[
    get("/v1/agents", agents::list_agents).with_query(),
    post("/v1/agents", agents::create_agent),
    get("/v1/agents/{id}", agents::get_agent),
    patch("/v1/agents/{id}", agents::update_agent),
    delete("/v1/agents/{id}", agents::archive_agent),
    post("/v1/agents/{id}/numbers", agents::attach_number),
    delete("/v1/agents/{id}/numbers/{number_id}", agents::detach_number),
    put("/v1/agents/{id}/primary-number", agents::set_primary_number),
    get("/v1/calls", calls::list_calls).with_query(),
    post("/v1/calls", place_call::place_call),
    get("/v1/calls/{id}", calls::get_call),
    get("/v1/calls/{id}/transcript", calls::get_transcript),
    get("/v1/numbers", numbers::list_numbers).with_query(),
    get("/v1/numbers/available", numbers::list_available_numbers).with_query(),
    post("/v1/numbers/purchase", numbers::purchase_number),
    get("/v1/webhook_endpoints", webhook_endpoints::list_endpoints),
    post("/v1/webhook_endpoints", webhook_endpoints::create_endpoint),
    get("/v1/webhook_endpoints/{id}", webhook_endpoints::get_endpoint),
    patch("/v1/webhook_endpoints/{id}", webhook_endpoints::update_endpoint),
    delete("/v1/webhook_endpoints/{id}", webhook_endpoints::delete_endpoint),
    post("/v1/webhook_endpoints/{id}/rotate_secret", webhook_endpoints::rotate_secret),
    get("/v1/webhook_deliveries", webhook_deliveries::list_deliveries).with_query(),
    get("/v1/webhook_deliveries/{id}", webhook_deliveries::get_delivery),
    post("/v1/webhook_deliveries/{id}/redeliver", webhook_deliveries::redeliver),
    post("/sandbox/inbound_calls", place_call::simulate_inbound_call),
    get("/sandbox/organization", control::show_organization),
    get("/sandbox/dialed", control::list_dialed),
    get("/sandbox/credits", control::show_credits),
    post("/sandbox/credits", control::set_credits),
    get("/sandbox/signing_secret", control::show_signing_secret),
    get("/sandbox/faults", faults::list_faults),
    post("/sandbox/faults", faults::add_fault),
    delete("/sandbox/faults", faults::clear_faults),
    get("/sandbox/requests", control::list_requests),
    delete("/sandbox/requests", control::clear_requests),
];

pub(super) fn build_router(simulator: Arc<Simulator>, allow_remote: bool) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let answer = move |State(simulator): State<Arc<Simulator>>,
                           ConnectInfo(connection): ConnectInfo<Connection>,
                           path: Result<RawPathParams, RawPathParamsRejection>,
                           request: Request| async move {
            let reply = handle_request(&simulator, route, path, request);
            deliver(&simulator, &connection, reply).await
        };
        router = router.route(route.path, on(route.filter, answer));
    }
    router = router
        .route("/sandbox", routing::get(describe_simulator))
        .route("/sandbox/clock", routing::get(show_clock).post(set_clock))
        .route("/sandbox/reset", routing::post(reset_organization))
        .method_not_allowed_fallback(reject_method)
        .fallback(reject_path);
    let check = (Arc::clone(&simulator), allow_remote);
    router.layer(middleware::from_fn_with_state(check, check_request)).with_state(simulator)
}

/// Refuses requests from elsewhere and compressed bodies.
async fn check_request(
    State((simulator, allow_remote)): State<(Arc<Simulator>, bool)>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let identity = HeaderValue::from_static("identity");
    let (status, message) = if !allow_remote && !is_local_request(request.uri(), headers) {
        let message = "the simulator answers only under a loopback name such as 127.0.0.1, and to no foreign web page";
        (StatusCode::FORBIDDEN, message)
    } else if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != identity) {
        let message = "the body is compressed: send it without Content-Encoding";
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    } else {
        return next.run(request).await;
    };
    build_response(ApiError::new(status, message).into(), &simulator)
}

async fn handle_request(
    simulator: &Simulator,
    route: &Route,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Reply {
    let (parts, body) = request.into_parts();
    let admitted = {
        let mut state = simulator.state();
        catch_up(&mut state);
        authenticate(&mut state, &parts.headers).map(|id| {
            let org = state.organizations.get_mut(&id);
            let org = org.filter(|_| route.path.starts_with("/v1/"));
            (id, org.and_then(|org| org.count_request(route.method, route.path, parts.uri.path())))
        })
    };
    let (org, fault) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return error.into(),
    };
    if let Some(fault) = fault.as_ref().filter(|fault| fault.is_before_effect) {
        if let FaultKind::Delay(delay) = fault.kind {
            tokio::time::sleep(delay).await;
        } else if let Some(reply) = fault.reply_without_effect() {
            return reply;
        }
    }
    let path_params = path.map_or_else(
        |_| Vec::new(),
        |params| params.iter().map(|(_, value)| value.to_owned()).collect(),
    );
    let query = parts.uri.query().unwrap_or_default();
    let result = read_body(body).await.and_then(|body| {
        let query = InputFields::from_query(query)?;
        if !route.has_query {
            query.reject_unknown()?;
        }
        let request = ApiRequest { path_params, query, body };
        run_handler(simulator, org, route.handler, request, parts.method != Method::GET)
    });
    let reply = result.unwrap_or_else(Reply::from);
    match fault {
        Some(fault) if !fault.is_before_effect => fault.apply(reply),
        _ => reply,
    }
}

fn run_handler(
    simulator: &Simulator,
    org: Uuid,
    handler: Handler,
    request: ApiRequest,
    may_change: bool,
) -> HandlerResult {
    let mut state = simulator.state();
    let now = catch_up(&mut state);
    let mut context = state.org_context(org, now).ok_or_else(ApiError::unauthorized)?;
    let result = handler(&mut context, request);
    // What is due immediately, such as the first event of a call, happens before the answer.
    catch_up(&mut state);
    if may_change {
        state.has_changed = true;
        simulator.sender_wakeup.notify_one();
    }
    result
}

fn authenticate(state: &mut SimulatorState, headers: &HeaderMap) -> Result<Uuid, ApiError> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = value.and_then(|text| text.split_once(' '));
    let key = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, key) = key.ok_or_else(ApiError::unauthorized)?;
    Ok(state.organization_for_key(key.trim())?)
}

async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        ApiError::bad_request(format!("the body is cut off or longer than {MAX_BODY_BYTES} bytes"))
    })
}

async fn describe_simulator(State(simulator): State<Arc<Simulator>>) -> Response {
    let body = control::describe_simulator(&simulator.state());
    build_response(Reply::ok(body), &simulator)
}

async fn show_clock(State(simulator): State<Arc<Simulator>>) -> Response {
    let body = control::show_clock(&simulator.state());
    build_response(Reply::ok(body), &simulator)
}

async fn set_clock(
    State(simulator): State<Arc<Simulator>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Body,
) -> Response {
    let reply = async {
        let result = match read_body(body).await {
            Ok(body) => control::set_clock(&simulator, &body).await,
            Err(error) => Err(error),
        };
        result.unwrap_or_else(Reply::from)
    };
    deliver(&simulator, &connection, reply).await
}

async fn reset_organization(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
) -> Response {
    let reply = {
        let mut state = simulator.state();
        catch_up(&mut state);
        match authenticate(&mut state, &headers) {
            Ok(org) => {
                state.reset_organization(org);
                Reply::ok(json!({"reset": true, "simulated": true}))
            }
            Err(error) => error.into(),
        }
    };
    simulator.sender_wakeup.notify_one();
    build_response(reply, &simulator)
}

async fn reject_method(State(simulator): State<Arc<Simulator>>) -> Response {
    let message = "this path does not know the method";
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message);
    build_response(error.into(), &simulator)
}

async fn reject_path(State(simulator): State<Arc<Simulator>>) -> Response {
    let error = ApiError::new(StatusCode::NOT_FOUND, "no such path");
    build_response(error.into(), &simulator)
}
