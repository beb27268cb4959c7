//! `callingbox-mcp demo`: the main job in a minute, through a real MCP client session on the
//! simulator: number, agent, call, live conversation, typed result.

use std::sync::Arc;

use anyhow::{Context, bail};
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation,
    ProgressNotificationParam, ProgressToken, RequestMetaObject, RequestParamsMeta,
};
use rmcp::service::{NotificationContext, RoleClient, RunningService};
use rmcp::{ClientHandler, ServiceExt};
use serde_json::{Value, json};

use super::status_line::Live;
use super::style::Style;
use crate::cli::Global;
use crate::config::{ConfigFile, DialingConfig, UserFolders};
use crate::mcp::catalogue::Catalogue;
use crate::mcp::registry::selection::Selection;
use crate::mcp::server::Server;
use crate::runtime::Runtime;

/// The client of the demo: shows progress as it comes.
struct Viewer {
    style: Style,
    live: Live,
}

impl ClientHandler for Viewer {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("callingbox-mcp demo", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn on_progress(
        &self,
        progress: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        if let Some(message) = progress.message {
            // The demo goes on when nobody reads it any more.
            let _ = self
                .live
                .print(format!("  {}\n", self.style.paint("33", &without_fence(&message))));
        }
    }
}

/// The words without the fence around them: here a person reads, not a model.
fn without_fence(message: &str) -> String {
    match message.split_once("<<<") {
        Some((before, fenced)) => {
            let words = fenced.split(' ').skip(1);
            let words: Vec<&str> = words.take_while(|word| !word.ends_with(">>>")).collect();
            format!("{before}{}", words.join(" "))
        }
        None => message.to_owned(),
    }
}

struct Session {
    client: RunningService<RoleClient, Viewer>,
    style: Style,
    live: Live,
}

impl Session {
    async fn call(&self, tool: &'static str, arguments: Value) -> anyhow::Result<Value> {
        let name = self.style.paint("1;36", tool);
        self.live.print(format!("{name} {}\n", self.style.paint("2", &arguments.to_string())))?;
        let mut request = CallToolRequestParams::new(tool);
        request.arguments = arguments.as_object().cloned();
        let mut meta = RequestMetaObject::default();
        meta.set_progress_token(ProgressToken(rmcp::model::NumberOrString::String(tool.into())));
        request.set_meta(meta);
        let waiting = self.live.wait(tool);
        let result: CallToolResult =
            self.client.call_tool(request).await.with_context(|| format!("{tool} failed"))?;
        drop(waiting);
        let text: String = result
            .content
            .iter()
            .filter_map(|block| block.as_text())
            .map(|text| text.text.as_str())
            .collect();
        if result.is_error == Some(true) {
            bail!("{tool}: {text}");
        }
        for line in text.lines() {
            self.live.print(format!("  {line}\n"))?;
        }
        result.structured_content.with_context(|| format!("{tool} gave no structured content"))
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no {pointer} in the answer"))
}

pub(super) async fn run(global: &Global, file: &ConfigFile) -> anyhow::Result<()> {
    // Whatever else is asked for, the demo never leaves the simulator.
    let global = Global { sandbox: Some(global.sandbox.clone().flatten()), ..global.clone() };
    // Nor is it stopped by rules, waits or questions that are meant for real calls. What it dials is
    // written down where everything simulated is.
    let dialing = DialingConfig { ledger: file.dialing.ledger.clone(), ..DialingConfig::default() };
    let file = ConfigFile { dialing, ..ConfigFile::default() };
    let folders = UserFolders { config: None, ..UserFolders::from_system() };
    let world = Runtime::open(&global, &file, &folders).await?;
    let selection = Selection { sandbox: true, ..Selection::default() };
    let server = Server::new(Arc::new(Catalogue::new()), Arc::new(selection), world.account());
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move { server.serve(far).await });
    let style = Style::of_terminal();
    let live = Live::new(style);
    let viewer = Viewer { style, live: live.clone() };
    let client = viewer.serve(near).await.context("the MCP session could not begin")?;
    let server = serving.await?.context("the MCP session could not begin")?;
    let session = Session { client, style, live };

    session.live.print(format!(
        "{}\n\n",
        style.paint(
            "1",
            "A simulated call, from nothing to its result. No telephone rings, nothing is charged."
        )
    ))?;
    let offers = session.call("search_numbers", json!({"area_code": "415", "limit": 3})).await?;
    let number = text(&offers, "/numbers/0/phone_number")?;
    let number = session.call("purchase_number", json!({"phone_number": number})).await?;
    let agent = session
        .call(
            "create_agent",
            json!({
                "name": "Appointment reminders",
                "type": "outbound",
                "persona": "You are Mia, a calm assistant of Northside Dental.",
                "instructions": "Remind the patient of the appointment tomorrow at 10 and ask whether it still suits.",
                "returns": {"confirmed": "boolean", "new_time": "string", "party_size": "number"},
                "number_ids": [text(&number, "/number/number_id")?],
            }),
        )
        .await?;
    let call = session
        .call(
            "place_call",
            json!({
                "agent_id": text(&agent, "/agent_id")?,
                "to": "+13105550100",
                "context": {"patient": "Sam Doe", "appointment": "tomorrow at 10:00"},
            }),
        )
        .await?;
    let call_id = text(&call, "/call_id")?;
    let report =
        session.call("get_call_result", json!({"call_id": call_id, "wait_seconds": 120})).await?;
    session.call("get_call_transcript", json!({"call_id": call_id})).await?;
    let outcome = text(&report, "/outcome")?;
    session.live.print(format!(
        "\n{} {}\n",
        style.paint("1;32", &format!("{outcome}:")),
        report.get("result").unwrap_or(&Value::Null)
    ))?;
    if outcome != "completed" {
        bail!("the demo's call should have been completed");
    }
    session.client.cancel().await?;
    server.waiting().await?;
    world.close().await
}
