//! Finds an agent that can place a call now, and the number that it calls from.

use callingbox::{Agent, AgentType, PhoneNumber};

pub(super) fn find_ready_agent<'a>(
    agents: &'a [Agent],
    owned: &'a [PhoneNumber],
) -> Option<(&'a Agent, &'a PhoneNumber)> {
    agents.iter().find_map(|agent| Some((agent, outbound_number(agent, owned)?)))
}

fn outbound_number<'a>(agent: &Agent, owned: &'a [PhoneNumber]) -> Option<&'a PhoneNumber> {
    let is_outbound = agent.r#type.as_ref().is_some_and(|r#type| r#type.is(&AgentType::Outbound));
    if !is_outbound || agent.archived_at.is_some() {
        return None;
    }
    // The list of agents may omit their numbers, so the list of numbers is searched too.
    let is_primary = |number: &&PhoneNumber| Some(&number.id) == agent.primary_number_id.as_ref();
    let is_attached = |number: &&PhoneNumber| {
        let names_agent = number.outbound_agent_ids.iter().flatten().any(|id| *id == agent.id);
        names_agent || agent.numbers.iter().flatten().any(|its| its.id == number.id)
    };
    owned.iter().find(is_primary).or_else(|| owned.iter().find(is_attached))
}
