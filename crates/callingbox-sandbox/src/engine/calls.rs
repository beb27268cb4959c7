//! How calls begin and advance.

use serde_json::Value;
use uuid::Uuid;

use super::deliveries::announce_event;
use crate::model::{Agenda, AgendaItem, CALL_HOLD, Call, CallOrder, CallStep, MilliCents};
use crate::store::OrgContext;

/// The calls that an organization keeps; beyond them the oldest is forgotten.
const MAX_CALLS: usize = 100_000;
/// The bytes of text that the calls of an organization keep; beyond them the oldest call is forgotten.
const MAX_CALL_BYTES: usize = 64 * 1024 * 1024;

/// The available credit does not cover the hold of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InsufficientCredit {
    pub(crate) available: MilliCents,
}

/// Begins a call: holds the credit and schedules the first step. Returns the call as the API shows it.
///
/// # Errors
/// [`InsufficientCredit`] when the credit does not cover the hold.
pub(crate) fn begin_call(
    context: &mut OrgContext<'_>,
    order: CallOrder,
) -> Result<Value, InsufficientCredit> {
    let available = context.org.available_credit();
    if available < CALL_HOLD {
        return Err(InsufficientCredit { available });
    }
    context.org.held = context.org.held.saturating_add(CALL_HOLD);
    let seed = context.settings.seed;
    let mut call = Call::new(context.next_id(), context.now, seed, order);
    let shown = call.to_json(seed, context.now);
    schedule_next_step(context.agenda, &mut call, context.org.id);
    context.org.call_bytes += call.order.bytes;
    context.org.calls.push(call);
    forget_oldest_calls(context);
    Ok(shown)
}

/// Takes the next step of a call, which is due now.
pub(super) fn take_step(context: &mut OrgContext<'_>, id: Uuid) {
    let Some(call) = context.org.calls.get_mut(id) else { return };
    let Some(step) = call.take_next_step() else { return };
    schedule_next_step(context.agenda, call, context.org.id);
    match step {
        CallStep::Settle => {
            call.settled = true;
            let charge = call.charge();
            context.org.settle_call(charge);
        }
        CallStep::Announce(event) => announce_event(context, id, event),
    }
}

fn schedule_next_step(agenda: &mut Agenda, call: &mut Call, org: Uuid) {
    if let Some(due_at) = call.next_step_at() {
        agenda.schedule(&mut call.agenda_key, due_at, org, AgendaItem::Call(call.id));
    }
}

fn forget_oldest_calls(context: &mut OrgContext<'_>) {
    let org = &mut *context.org;
    while org.calls.len() > MAX_CALLS || org.call_bytes > MAX_CALL_BYTES {
        let Some(mut oldest) = org.calls.remove_oldest() else { break };
        context.agenda.cancel(&mut oldest.agenda_key);
        org.call_bytes = org.call_bytes.saturating_sub(oldest.order.bytes);
        if !oldest.settled {
            org.settle_call(MilliCents::ZERO);
        }
    }
}
