//! Lists the organization's agents: `CALLINGBOX_API_KEY=sk_… cargo run --example list_agents`.
#![expect(clippy::print_stdout, reason = "an example may print")]

use callingbox::{ApiClient, ApiKey, BaseUrl, ClientConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base_url = std::env::var("CALLINGBOX_BASE_URL");
    let base_url = BaseUrl::parse(base_url.as_deref().unwrap_or(BaseUrl::DEFAULT), false)?;
    let key = ApiKey::new(std::env::var("CALLINGBOX_API_KEY")?)?;
    let client = ApiClient::new(ClientConfig::new(base_url, key));
    for agent in client.list_agents(None).await?.data {
        println!("{}  {}", agent.id, agent.name.as_deref().unwrap_or("(no name)"));
    }
    Ok(())
}
