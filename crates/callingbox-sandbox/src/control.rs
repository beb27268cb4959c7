//! The control endpoints under `/sandbox`: the clock, credit, what was dialed, what was asked.
//! They exist only in the simulator; nothing of the real API is like them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Refusal, Reply};
use super::calls::Direction;
use super::clock::{ClockMode, MAX_ADVANCE_SECONDS, MAX_SPEED};
use super::fields::Fields;
use super::request::Request;
use super::scenario;
use super::world::{Org, Scope, World};
use crate::money::MilliCents;

/// The largest balance that can be set: ten million dollars.
const MAX_BALANCE: u64 = 1_000_000_000_000;

/// GET /sandbox
pub(super) fn describe(world: &World) -> Value {
    let files: Vec<Value> = world.settings.scenarios.iter().map(|file| file.show()).collect();
    json!({
        "simulator": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "simulated": true,
        "now": world.clock.now().text(),
        "clock": mode(world),
        "seed": world.settings.seed,
        "scenarios": scenario::listing(),
        "scenario_files": files,
    })
}

/// GET /sandbox/clock
pub(super) fn clock(world: &World) -> Value {
    json!({"now": world.clock.now().text(), "clock": mode(world), "simulated": true})
}

fn mode(world: &World) -> Value {
    match world.clock.mode() {
        ClockMode::Manual => json!({"mode": "manual", "speed": null}),
        ClockMode::Speed(speed) => json!({"mode": "speed", "speed": speed}),
    }
}

/// POST /sandbox/clock. Advancing is answered once every webhook attempt that fell due has been
/// made; a change of speed at once.
pub(super) async fn set_clock(shared: &Arc<Shared>, body: &[u8]) -> Answer {
    let mut fields = Fields::parse(body)?;
    let advance = fields.value("advance_seconds");
    let speed = fields.value("speed");
    let manual = fields.value("manual");
    fields.end()?;
    let waits = advance.is_some();
    let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
    {
        let mut world = shared.world();
        match (advance, speed, manual) {
            (Some(seconds), None, None) => {
                let seconds = number(&seconds).filter(|s| (0.0..=MAX_ADVANCE_SECONDS).contains(s));
                world.clock.advance(seconds.ok_or_else(|| {
                    Refusal::bad(format!("advance_seconds must be from 0 to {MAX_ADVANCE_SECONDS}"))
                })?);
            }
            (None, Some(speed), None) => {
                let mode = number(&speed).map(ClockMode::Speed).filter(|mode| mode.is_sound());
                world.clock.set_mode(mode.ok_or_else(|| {
                    Refusal::bad(format!("speed must be above 0 and at most {MAX_SPEED}"))
                })?);
            }
            (None, None, Some(Value::Bool(true))) => world.clock.set_mode(ClockMode::Manual),
            _ => {
                return Err(Refusal::bad(
                    "give exactly one of advance_seconds (a number), speed (a number) and manual (true)",
                ));
            }
        }
        world.changed = true;
    }
    shared.wake.notify_one();
    loop {
        let progress = shared.progress.notified();
        tokio::pin!(progress);
        // Registered before the look, so that an attempt made in between is not missed.
        progress.as_mut().enable();
        {
            let mut world = shared.world();
            world.catch_up();
            if !waits || world.is_quiet() {
                return Ok(Reply::ok(clock(&world)));
            }
        }
        shared.wake.notify_one();
        progress.await;
    }
}

/// GET /sandbox/organization: which one it is, and which life of it. The only answer that differs
/// between two simulators of one seed.
pub(super) fn organization(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let Org { id, incarnation, .. } = &*scope.org;
    Ok(Reply::ok(json!({"id": id, "incarnation": incarnation, "simulated": true})))
}

/// GET /sandbox/dialed: every outbound call that was really placed, oldest first.
pub(super) fn dialed(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let outbound = scope.org.calls.iter().filter(|call| call.direction == Direction::Outbound);
    let shown = outbound.map(|call| {
        json!({
            "call_id": call.id,
            "to": call.to,
            "from": call.from,
            "agent_id": call.agent_id,
            "dialed_at": call.created.text(),
            "metadata": call.metadata,
            "simulated": true,
        })
    });
    Ok(Reply::ok(json!({"data": shown.collect::<Vec<_>>()})))
}

/// GET /sandbox/credits
pub(super) fn credits(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    Ok(Reply::ok(show_credits(scope)))
}

/// POST /sandbox/credits
pub(super) fn set_credits(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let balance = fields.whole("balance_milli_cents", 0..=MAX_BALANCE)?;
    fields.end()?;
    let missing = || Refusal::bad("balance_milli_cents is required");
    scope.org.balance = MilliCents(balance.ok_or_else(missing)?);
    Ok(Reply::ok(show_credits(scope)))
}

fn show_credits(scope: &Scope<'_>) -> Value {
    json!({
        "balance_milli_cents": scope.org.balance,
        "held_milli_cents": scope.org.held,
        "available_milli_cents": scope.org.available(),
        "simulated": true,
    })
}

/// GET /sandbox/signing_secret: what signs the webhooks to a `webhook_url`.
pub(super) fn signing_secret(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    Ok(Reply::ok(json!({"signing_secret": scope.org.signing_secret, "simulated": true})))
}

/// GET /sandbox/requests
pub(super) fn requests(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let counts = &scope.org.requests;
    let shown = counts
        .iter()
        .map(|((path, method), count)| json!({"method": method, "path": path, "count": count}));
    Ok(Reply::ok(json!({
        "data": shown.collect::<Vec<_>>(),
        "total": counts.values().sum::<u64>(),
    })))
}

/// DELETE /sandbox/requests
pub(super) fn forget_requests(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    scope.org.requests.clear();
    Ok(Reply::ok(json!({"data": [], "total": 0})))
}
