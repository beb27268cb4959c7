//! How events become deliveries, and deliveries become attempts with an outcome. The attempts themselves are made
//! elsewhere.

use uuid::Uuid;

use crate::model::{AgendaItem, CallWebhook, Delivery, DeliveryOutcome, DeliveryStatus, EventType};
use crate::store::{DueAttempt, OrgContext, SimulatorState};

/// The deliveries that an organization keeps; beyond them the oldest is forgotten.
const MAX_DELIVERIES: usize = 10_000;

/// One HTTP request to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryAttempt {
    pub(crate) due: DueAttempt,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) event: EventType,
    pub(crate) call_id: Uuid,
    pub(crate) body: String,
}

/// Creates a delivery of a call's event for each of its destinations.
pub(super) fn announce_event(context: &mut OrgContext<'_>, call_id: Uuid, event: EventType) {
    let Some(call) = context.org.calls.get(call_id) else { return };
    let own_url = call.order.webhook_url.clone().map(|url| (None, url));
    let endpoints = context.org.endpoints.iter().filter(|endpoint| endpoint.accepts_event(event));
    let endpoint_urls = endpoints.map(|endpoint| (Some(endpoint.id), endpoint.url.clone()));
    let destinations: Vec<_> = own_url.into_iter().chain(endpoint_urls).collect();
    if destinations.is_empty() {
        return;
    }
    let shown = call.to_json(context.settings.seed, context.now);
    for destination in destinations {
        let id = context.next_id();
        let mut delivery = Delivery::new(id, call_id, &shown, event, destination, context.now);
        let item = AgendaItem::Delivery(id);
        let key = &mut delivery.agenda_key;
        context.agenda.schedule(key, context.now, context.org.id, item);
        context.org.deliveries.push(delivery);
        if context.org.deliveries.len() > MAX_DELIVERIES
            && let Some(mut oldest) = context.org.deliveries.remove_oldest()
        {
            context.agenda.cancel(&mut oldest.agenda_key);
        }
    }
}

/// Prepares an attempt that is due; `None` when it is no longer wanted.
pub(crate) fn prepare_attempt(
    state: &mut SimulatorState,
    due: DueAttempt,
) -> Option<DeliveryAttempt> {
    let org = state.organizations.get_mut(&due.org)?;
    let delivery = org.deliveries.get(due.delivery)?;
    if delivery.next_attempt_at() != Some(due.due_at) {
        return None;
    }
    let secret = match delivery.endpoint_id {
        None => Ok(org.signing_secret.clone()),
        Some(id) => match org.endpoint(id) {
            None => Err("the endpoint was deleted"),
            Some(endpoint) if !endpoint.is_enabled() => Err("the endpoint is disabled"),
            Some(endpoint) => Ok(endpoint.secret.clone()),
        },
    };
    match secret {
        Ok(secret) => Some(DeliveryAttempt {
            due,
            url: delivery.url.clone(),
            secret,
            event: delivery.event,
            call_id: delivery.call_id,
            body: delivery.body.clone(),
        }),
        Err(reason) => {
            // Without a receiver the delivery ends without an attempt, and is no failure of the endpoint.
            org.deliveries.get_mut(due.delivery)?.give_up(reason, due.due_at);
            state.has_changed = true;
            None
        }
    }
}

/// Records the outcome of an attempt and schedules the next one.
pub(crate) fn record_outcome(
    state: &mut SimulatorState,
    due: DueAttempt,
    outcome: DeliveryOutcome,
) {
    let seed = state.settings.seed;
    let Some(context) = state.org_context(due.org, due.due_at) else { return };
    let Some(delivery) = context.org.deliveries.get_mut(due.delivery) else { return };
    if delivery.next_attempt_at() != Some(due.due_at) {
        // A redelivery was requested while this attempt was in flight; only its own outcome counts.
        return;
    }
    let was_automatic = delivery.record_attempt(outcome, seed, due.due_at);
    if let Some(next) = delivery.next_attempt_at() {
        let item = AgendaItem::Delivery(delivery.id);
        context.agenda.schedule(&mut delivery.agenda_key, next, due.org, item);
    }
    let (status, error) = (delivery.status, delivery.last_error.clone());
    let (endpoint_id, call_id, event) = (delivery.endpoint_id, delivery.call_id, delivery.event);
    if let Some(id) = endpoint_id {
        if let Some(endpoint) = context.org.endpoint_mut(id) {
            match status {
                DeliveryStatus::Delivered => endpoint.record_success(),
                DeliveryStatus::Exhausted if was_automatic => endpoint.record_failure(due.due_at),
                DeliveryStatus::Exhausted | DeliveryStatus::Pending => {}
            }
        }
    } else if event.is_terminal()
        && let Some(call) = context.org.calls.get_mut(call_id)
    {
        call.webhook = CallWebhook::new(status, error, due.due_at);
    }
    state.has_changed = true;
}
