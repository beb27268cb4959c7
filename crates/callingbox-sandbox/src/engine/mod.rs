//! What happens over time: calls take their steps and deliveries become due. Works on the state alone; knows nothing of
//! locks or HTTP.

mod calls;
mod deliveries;

pub(crate) use calls::{InsufficientCredit, begin_call};
pub(crate) use deliveries::{DeliveryAttempt, prepare_attempt, record_outcome};

use crate::clock::Moment;
use crate::model::AgendaItem;
use crate::store::{DueAttempt, SimulatorState};

/// Carries out everything that is due by now, and returns the time.
pub(crate) fn catch_up(state: &mut SimulatorState) -> Moment {
    let now = state.clock.now();
    while let Some((due_at, org, item)) = state.agenda.pop_due(now) {
        match item {
            AgendaItem::Call(call) => {
                state.has_changed = true;
                if let Some(mut context) = state.org_context(org, due_at) {
                    calls::take_step(&mut context, call);
                }
            }
            AgendaItem::Delivery(delivery) => {
                let organization = state.organizations.get(&org);
                let found = organization.and_then(|org| org.deliveries.get(delivery));
                if let Some(url) = found.map(|delivery| delivery.url.clone()) {
                    let attempt = DueAttempt { org, delivery, due_at };
                    state.due_attempts.entry(url).or_default().push_back(attempt);
                }
            }
        }
    }
    now
}
