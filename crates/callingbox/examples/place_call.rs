//! Places a call and waits for its result. A telephone rings, and credit is spent:
//! `CALLINGBOX_API_KEY=sk_… cargo run --example place_call AGENT_ID +14155550100`.
#![expect(clippy::print_stdout, reason = "an example may print")]

use std::time::Duration;

use callingbox::{AgentId, ApiClient, ApiKey, BaseUrl, CallCreate, ClientConfig, E164, Effect};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(agent_id), Some(number)) = (arguments.next(), arguments.next()) else {
        return Err("usage: place_call AGENT_ID NUMBER".into());
    };
    let base_url = std::env::var("CALLINGBOX_BASE_URL");
    let base_url = BaseUrl::parse(base_url.as_deref().unwrap_or(BaseUrl::DEFAULT), false)?;
    let key = ApiKey::new(std::env::var("CALLINGBOX_API_KEY")?)?;
    let client = ApiClient::new(ClientConfig::new(base_url, key));

    let order = CallCreate::new(AgentId::new(agent_id), E164::parse(&number)?);
    let mut call = match client.place_call(&order).await {
        Ok(call) => call,
        Err(error) if error.effect() == Effect::Nothing => return Err(error.into()),
        // The telephone may be ringing: look at the recent calls before you call again.
        Err(error) => return Err(format!("the call may have been placed: {error}").into()),
    };
    while !call.status.is_terminal() {
        tokio::time::sleep(Duration::from_secs(2)).await;
        call = client.get_call(&call.id).await?;
        println!("{}", call.status);
    }
    println!("{}", call.result.unwrap_or_default());
    Ok(())
}
