//! Which agent could place a call now, and from which number.

use callingbox::{Agent, AgentType, PhoneNumber};

/// The first agent that can call, with the owned number that it calls from.
pub(super) fn ready<'a>(
    agents: &'a [Agent],
    owned: &'a [PhoneNumber],
) -> Option<(&'a Agent, &'a PhoneNumber)> {
    agents.iter().find_map(|agent| Some((agent, number_of(agent, owned)?)))
}

fn number_of<'a>(agent: &Agent, owned: &'a [PhoneNumber]) -> Option<&'a PhoneNumber> {
    let outbound = agent.r#type.as_ref().is_some_and(|kind| kind.is(&AgentType::Outbound));
    if !outbound || agent.archived_at.is_some() {
        return None;
    }
    // The list of agents may leave their numbers out; the list of numbers names their agents.
    let primary = |number: &&PhoneNumber| Some(&number.id) == agent.primary_number_id.as_ref();
    let attached = |number: &&PhoneNumber| {
        let named = number.outbound_agent_ids.iter().flatten().any(|id| *id == agent.id);
        named || agent.numbers.iter().flatten().any(|its| its.id == number.id)
    };
    owned.iter().find(primary).or_else(|| owned.iter().find(attached))
}
