//! The control endpoints under `/sandbox`: the clock, credit, dialed calls, request counts. They exist only in the
//! simulator; the real API has no counterpart.

use serde_json::{Value, json};

use super::fields::InputFields;
use super::reply::{ApiError, HandlerResult, Reply};
use super::request::ApiRequest;
use crate::clock::{ClockMode, MAX_ADVANCE_SECONDS, MAX_SPEED};
use crate::engine::catch_up;
use crate::model::{Direction, MilliCents, Organization};
use crate::scenario::SCENARIOS;
use crate::simulator::Simulator;
use crate::store::{OrgContext, SimulatorState};

/// The largest balance that can be set: ten million dollars.
const MAX_BALANCE: u64 = 1_000_000_000_000;

/// GET /sandbox
pub(crate) fn describe_simulator(state: &SimulatorState) -> Value {
    let files: Vec<Value> = state.settings.scenarios.iter().map(|file| file.to_json()).collect();
    json!({
        "simulator": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "simulated": true,
        "now": state.clock.now().to_iso8601(),
        "clock": clock_mode_to_json(state),
        "seed": state.settings.seed,
        "scenarios": SCENARIOS.map(|scenario| scenario.to_json()),
        "scenario_files": files,
    })
}

/// GET /sandbox/clock
pub(crate) fn show_clock(state: &SimulatorState) -> Value {
    json!({
        "now": state.clock.now().to_iso8601(),
        "clock": clock_mode_to_json(state),
        "simulated": true,
    })
}

fn clock_mode_to_json(state: &SimulatorState) -> Value {
    match state.clock.mode() {
        ClockMode::Manual => json!({"mode": "manual", "speed": null}),
        ClockMode::Speed(speed) => json!({"mode": "speed", "speed": speed}),
    }
}

/// A change of the clock.
enum ClockCommand {
    Advance(f64),
    SetMode(ClockMode),
}

/// POST /sandbox/clock. An advance is answered once every webhook attempt that became due has been made; a change of
/// mode is answered immediately.
pub(crate) async fn set_clock(simulator: &Simulator, body: &[u8]) -> HandlerResult {
    let command = parse_clock_command(body)?;
    let waits_for_attempts = matches!(command, ClockCommand::Advance(_));
    {
        let mut state = simulator.state();
        match command {
            ClockCommand::Advance(seconds) => state.clock.advance(seconds),
            ClockCommand::SetMode(mode) => state.clock.set_mode(mode),
        }
        state.has_changed = true;
    }
    simulator.sender_wakeup.notify_one();
    loop {
        let attempts_made = simulator.attempts_made.notified();
        tokio::pin!(attempts_made);
        // Registered before the check, so that an attempt made in between is not missed.
        attempts_made.as_mut().enable();
        {
            let mut state = simulator.state();
            catch_up(&mut state);
            if !waits_for_attempts || state.is_idle() {
                return Ok(Reply::ok(show_clock(&state)));
            }
        }
        simulator.sender_wakeup.notify_one();
        attempts_made.await;
    }
}

fn parse_clock_command(body: &[u8]) -> Result<ClockCommand, ApiError> {
    let mut fields = InputFields::from_body(body)?;
    let advance = fields.take_value("advance_seconds");
    let speed = fields.take_value("speed");
    let manual = fields.take_value("manual");
    fields.reject_unknown()?;
    let as_number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
    match (advance, speed, manual) {
        (Some(seconds), None, None) => as_number(&seconds)
            .filter(|seconds| (0.0..=MAX_ADVANCE_SECONDS).contains(seconds))
            .map(ClockCommand::Advance)
            .ok_or_else(|| {
                let expected = format!("from 0 to {MAX_ADVANCE_SECONDS}");
                ApiError::invalid_value("advance_seconds", &expected)
            }),
        (None, Some(speed), None) => as_number(&speed)
            .map(ClockMode::Speed)
            .filter(|mode| mode.is_valid())
            .map(ClockCommand::SetMode)
            .ok_or_else(|| {
                ApiError::invalid_value("speed", &format!("above 0 and at most {MAX_SPEED}"))
            }),
        (None, None, Some(Value::Bool(true))) => Ok(ClockCommand::SetMode(ClockMode::Manual)),
        _ => Err(ApiError::bad_request(
            "give exactly one of advance_seconds (a number), speed (a number) and manual (true)",
        )),
    }
}

/// GET /sandbox/organization: its id and incarnation. The only answer that differs between two simulators with one seed.
pub(crate) fn show_organization(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    let Organization { id, incarnation, .. } = &*context.org;
    Ok(Reply::ok(json!({"id": id, "incarnation": incarnation, "simulated": true})))
}

/// GET /sandbox/dialed: every outbound call that was placed, oldest first.
pub(crate) fn list_dialed(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    let outbound =
        context.org.calls.iter().filter(|call| call.order.direction == Direction::Outbound);
    let shown = outbound.map(|call| {
        json!({
            "call_id": call.id,
            "to": call.order.to,
            "from": call.order.from,
            "agent_id": call.order.agent_id,
            "dialed_at": call.created_at.to_iso8601(),
            "metadata": call.order.metadata,
            "simulated": true,
        })
    });
    Ok(Reply::ok(json!({"data": shown.collect::<Vec<_>>()})))
}

/// GET /sandbox/credits
pub(crate) fn show_credits(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    Ok(Reply::ok(credits_to_json(context.org)))
}

/// POST /sandbox/credits
pub(crate) fn set_credits(context: &mut OrgContext<'_>, request: ApiRequest) -> HandlerResult {
    let mut fields = InputFields::from_body(&request.body)?;
    let balance = fields.take_integer("balance_milli_cents", 0..=MAX_BALANCE)?;
    fields.reject_unknown()?;
    let missing = || ApiError::bad_request("balance_milli_cents is required");
    context.org.balance = MilliCents(balance.ok_or_else(missing)?);
    Ok(Reply::ok(credits_to_json(context.org)))
}

fn credits_to_json(org: &Organization) -> Value {
    json!({
        "balance_milli_cents": org.balance,
        "held_milli_cents": org.held,
        "available_milli_cents": org.available_credit(),
        "simulated": true,
    })
}

/// GET /sandbox/signing_secret: the secret that signs webhooks to a `webhook_url`.
pub(crate) fn show_signing_secret(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    let secret = &context.org.signing_secret;
    Ok(Reply::ok(json!({"signing_secret": secret, "simulated": true})))
}

/// GET /sandbox/requests
pub(crate) fn list_requests(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    let counts = &context.org.request_counts;
    let shown = counts
        .iter()
        .map(|((path, method), count)| json!({"method": method, "path": path, "count": count}));
    Ok(Reply::ok(json!({
        "data": shown.collect::<Vec<_>>(),
        "total": counts.values().sum::<u64>(),
    })))
}

/// DELETE /sandbox/requests
pub(crate) fn clear_requests(context: &mut OrgContext<'_>, _: ApiRequest) -> HandlerResult {
    context.org.request_counts.clear();
    Ok(Reply::ok(json!({"data": [], "total": 0})))
}
