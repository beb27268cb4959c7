//! Finds the account of the ledger that an API key belongs to: that of its organization, so that a second key has the same
//! account.
//!
//! CallingBox names the organization in its agents, webhook endpoints and webhook deliveries. It is read once, and the
//! ledger remembers it for each key. **Without it nothing is dialed**: under an account of the key alone, a call that
//! another key placed would be dialed again. One exception is safe: an organization that owns nothing may buy its first
//! number under an account of the key, since without an agent it has placed no call, and a number is sold once.

use super::ledger::{AccountRef, KeyRef, Ledger, LedgerError};
use callingbox::{AgentId, ApiClient, Error};

/// Why the account of a key is not known.
#[derive(Debug, thiserror::Error)]
pub enum UnknownAccount {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// CallingBox refused the request that asks for it, or was not reached.
    #[error(transparent)]
    Api(#[from] Error),
    /// No record of the organization names it.
    #[error(
        "the organization of this API key is not known yet, because it has no agent; create an agent first. Until then \
         nothing more is dialed or bought, because limits and repeated calls are counted by organization"
    )]
    NoAgent,
}

/// The account of a key, from the ledger or from CallingBox. `agent` is one that the order names.
///
/// # Errors
/// The account is not known; then nothing may be dialed.
pub async fn find_account(
    ledger: &dyn Ledger,
    api: &ApiClient,
    key: &KeyRef,
    agent: Option<&AgentId>,
) -> Result<AccountRef, UnknownAccount> {
    let secret = ledger.secret().await?;
    let key_hash = key.hash(&secret);
    if let Some(account) = ledger.find_account_of_key(&key_hash).await? {
        return Ok(AccountRef::new(&secret, account));
    }
    let organization = find_organization(api, agent).await?.ok_or(UnknownAccount::NoAgent)?;
    let account = key.organization_account(&secret, &organization);
    ledger.record_account_of_key(&key_hash, account.id()).await?;
    Ok(account)
}

/// The id of the key's organization; `None` if it has no record that names it.
async fn find_organization(
    api: &ApiClient,
    agent: Option<&AgentId>,
) -> Result<Option<String>, Error> {
    if let Some(agent) = agent
        && let Some(organization) = api.get_agent(agent).await?.org_id
    {
        return Ok(Some(organization));
    }
    let agents = api.list_agents(None).await?.data;
    if let Some(organization) = agents.into_iter().find_map(|agent| agent.org_id) {
        return Ok(Some(organization));
    }
    let endpoints = api.list_webhooks().await?.data;
    Ok(endpoints.into_iter().find_map(|endpoint| endpoint.org_id))
}
