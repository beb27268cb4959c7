//! Safe dialing, end to end: the real binary, several of them on one ledger, a human who is asked in
//! the three ways, the calling rules. Held against what the simulator really dialed.

use crate::harness;

mod asked;
mod card;
mod carried;
mod hostile;
mod hosts;
mod human;
mod lawful;
mod once;
mod opt_outs;
mod policies;
mod rounds;
mod rules;
#[cfg(unix)]
mod stopped;

use std::sync::Arc;

use callingbox_sandbox::{Options, Sandbox};
use serde_json::{Value, json};

use harness::{Control, Era, Home, Session, simulator};

pub(crate) const LEGACY: Era = Era::Legacy("2025-11-25");

/// A simulator with one agent, and a home in which servers share a configuration and a ledger.
pub(crate) struct DialingFixture {
    sandbox: Sandbox,
    control: Control,
    home: Arc<Home>,
    agent: String,
}

impl DialingFixture {
    /// With these files; an empty one is left out.
    pub(crate) async fn new(config: &str, policy: &str) -> Self {
        let sandbox = simulator(Options::default()).await;
        let control = Control::new(&sandbox);
        let home = Arc::new(Home::new());
        for (name, text) in [("config", config), ("policy", policy)] {
            if !text.is_empty() {
                home.write(&format!(".config/callingbox-mcp/{name}.toml"), text);
            }
        }
        // The agent is made in another home: the ledger of this one begins empty.
        let flag = format!("--sandbox={}", sandbox.url());
        let mut session = Session::with(LEGACY, &[&flag], &[]).await;
        let agent = session.outbound_agent(json!({"answered": "boolean"})).await;
        session.finish_well().await;
        control.credit(100_000_000).await;
        Self { sandbox, control, home, agent }
    }

    /// A server of this home, with a client that can do this.
    pub(crate) async fn session(&self, era: Era, capabilities: Value) -> Session {
        self.session_at(&self.sandbox.url(), era, capabilities).await
    }

    /// The same by another address of the simulator.
    async fn session_at(&self, url: &str, era: Era, capabilities: Value) -> Session {
        let flag = format!("--sandbox={url}");
        let mut session = Session::start_in(Arc::clone(&self.home), &[&flag], &[]);
        session.capabilities = capabilities;
        session.open(era).await;
        session
    }

    /// The arguments of a call that differs from others by its task.
    pub(crate) fn call(&self, to: &str, task: &str) -> Value {
        json!({"agent_id": self.agent, "to": to, "instructions": task})
    }

    /// How many calls were really dialed.
    pub(crate) async fn dialed(&self) -> usize {
        self.control.dialed().await.len()
    }

    /// The receipts, newest first.
    async fn receipts(&self, arguments: &[&str]) -> Vec<Value> {
        let flag = format!("--sandbox={}", self.sandbox.url());
        let arguments: Vec<&str> =
            ["receipts", "--json", &flag].into_iter().chain(arguments.iter().copied()).collect();
        let text = self.home.print(&arguments).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The call, placed even if the same agent called the same number a moment ago.
fn repeated(mut call: Value) -> Value {
    call["allow_repeat"] = json!(true);
    call
}

/// A client that can ask its human.
fn can_ask() -> Value {
    json!({"elicitation": {}})
}

pub(crate) fn cannot_ask() -> Value {
    json!({})
}

/// A client that cannot ask its human and shows the call card.
pub(crate) fn shows_card() -> Value {
    json!({"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}})
}

/// What a failure says of itself.
fn failure(answer: &Value) -> (&str, &str, &str) {
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let error = &answer["result"]["_meta"]["callingbox-mcp/error"];
    let text = |name: &str| error[name].as_str().unwrap_or_else(|| panic!("{answer}"));
    (text("class"), text("done"), text("message"))
}

/// The structured content of a success.
fn data(answer: &Value) -> &Value {
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    &answer["result"]["structuredContent"]
}
