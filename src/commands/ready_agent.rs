//! Finds an agent that can place a call now, and the number that it calls from; on a simulator, makes one.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::mcp::reply::text::one_line;
use callingbox::{Agent, AgentCreate, AgentType, ApiClient, NumberSearch, PhoneNumber, ReturnType};

pub(super) fn find_ready_agent<'a>(
    agents: &'a [Agent],
    owned: &'a [PhoneNumber],
) -> Option<(&'a Agent, &'a PhoneNumber)> {
    agents.iter().find_map(|agent| Some((agent, outbound_number(agent, owned)?)))
}

/// The name and the id of an agent.
pub(super) fn describe_agent(agent: &Agent) -> String {
    let name = agent.name.as_deref().unwrap_or("unnamed");
    format!("{} ({})", one_line(name, 80), agent.id)
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

/// Buys a number on a simulator and makes an agent that reminds people of appointments.
pub(super) async fn make_ready_agent(simulator: &ApiClient) -> anyhow::Result<Agent> {
    let search = NumberSearch { limit: Some(1), ..NumberSearch::default() };
    let offers = simulator.search_numbers(&search).await?.data;
    let offer = offers.first().context("the simulator sells no number")?;
    let number = simulator.purchase_number(&offer.phone_number).await?;
    let returns = [("confirmed", ReturnType::Boolean), ("new_time", ReturnType::String)];
    let agent = AgentCreate {
        persona: Some("You are Mia, a calm assistant of Northside Dental.".to_owned()),
        instructions: Some(
            "Remind the patient of the appointment and ask whether it still suits.".to_owned(),
        ),
        returns: Some(BTreeMap::from(returns.map(|(name, kind)| (name.to_owned(), kind)))),
        number_ids: Some(vec![number.id.clone()]),
        ..AgentCreate::new("Appointment reminders".to_owned(), AgentType::Outbound)
    };
    Ok(simulator.create_agent(&agent).await?)
}
