//! `callingbox-mcp demo`: the main job in one minute: a real MCP client session on the simulator buys a number, makes
//! an agent, places a call, follows the conversation, and reads the typed result.

use std::sync::Arc;

use anyhow::{Context, bail};
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation,
    ProgressNotificationParam, ProgressToken, RequestMetaObject, RequestParamsMeta,
};
use rmcp::service::{NotificationContext, RoleClient, RunningService};
use rmcp::{ClientHandler, ServiceExt};
use serde_json::{Value, json};

use super::status_line::StatusLine;
use super::style::Style;
use crate::cli::Global;
use crate::config::{ConfigFile, DialingConfig, UserFolders};
use crate::mcp::catalogue::Catalogue;
use crate::mcp::registry::selection::Selection;
use crate::mcp::server::Server;
use crate::mcp::waiting::SAID;
use crate::runtime::Runtime;
use crate::settings::ProgramSettings;

/// The MCP client of the demo; prints progress notifications.
struct DemoClient {
    style: Style,
    line: StatusLine,
}

impl ClientHandler for DemoClient {
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
            let line = match message.split_once(SAID) {
                Some((role, words)) => self.style.utterance(role, &strip_fence(words)),
                None => format!("  {}\n", self.style.paint("2", &message)),
            };
            // If standard output is closed, the demo itself continues.
            let _ = self.line.print(line);
        }
    }
}

/// Removes the fence around untrusted words: the reader here is a person, not a model.
fn strip_fence(words: &str) -> String {
    match words.split_once("<<<") {
        Some((_, fenced)) => {
            let words = fenced.split(' ').skip(1);
            words.take_while(|word| !word.ends_with(">>>")).collect::<Vec<_>>().join(" ")
        }
        None => words.to_owned(),
    }
}

struct DemoSession {
    client: RunningService<RoleClient, DemoClient>,
    style: Style,
    line: StatusLine,
}

impl DemoSession {
    async fn call_tool(&self, tool: &'static str, arguments: Value) -> anyhow::Result<Value> {
        let name = self.style.paint("1;36", tool);
        self.line.print(format!("{name} {}\n", self.style.paint("2", &arguments.to_string())))?;
        let mut request = CallToolRequestParams::new(tool);
        request.arguments = arguments.as_object().cloned();
        let mut meta = RequestMetaObject::default();
        meta.set_progress_token(ProgressToken(rmcp::model::NumberOrString::String(tool.into())));
        request.set_meta(meta);
        let status = self.line.show(tool);
        let result: CallToolResult =
            self.client.call_tool(request).await.with_context(|| format!("{tool} failed"))?;
        drop(status);
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
            self.line.print(format!("  {line}\n"))?;
        }
        result.structured_content.with_context(|| format!("{tool} returned no structured content"))
    }
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("{pointer} is missing in the result"))
}

pub(super) async fn run(settings: &ProgramSettings) -> anyhow::Result<()> {
    // The demo always runs on a simulator, whatever the command line says.
    let sandbox = Some(settings.global.sandbox.clone().flatten());
    let global = Global { sandbox, ..settings.global.clone() };
    // Rules, limits and confirmations for live calls do not apply. The demo's calls are recorded in the sandbox ledger.
    let ledger = settings.file.dialing.ledger.clone();
    let dialing = DialingConfig { ledger, ..DialingConfig::default() };
    let file = ConfigFile { dialing, ..ConfigFile::default() };
    let folders = UserFolders { config: None, ..UserFolders::from_system() };
    let runtime = Runtime::open(&ProgramSettings { global, file, folders }).await?;
    let selection = Selection { sandbox: true, ..Selection::default() };
    let server = Server::new(Arc::new(Catalogue::new()), Arc::new(selection), runtime.account());
    let (client_end, server_end) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move { server.serve(server_end).await });
    let style = Style::from_terminal();
    let line = StatusLine::new(style);
    let client = DemoClient { style, line: line.clone() };
    let client = client.serve(client_end).await.context("the MCP session could not start")?;
    let server = serving.await?.context("the MCP session could not start")?;
    let session = DemoSession { client, style, line };

    session.line.print(format!(
        "{}\n\n",
        style.paint(
            "1",
            "A simulated call, from start to finish. No telephone rings, nothing is charged."
        )
    ))?;
    let offers =
        session.call_tool("search_numbers", json!({"area_code": "415", "limit": 3})).await?;
    let number = text_at(&offers, "/numbers/0/phone_number")?;
    let number = session.call_tool("purchase_number", json!({"phone_number": number})).await?;
    let agent = session
        .call_tool(
            "create_agent",
            json!({
                "name": "Appointment reminders",
                "type": "outbound",
                "persona": "You are Mia, a calm assistant of Northside Dental.",
                "instructions": "Remind the patient of the appointment tomorrow at 10 and ask whether it still suits.",
                "returns": {"confirmed": "boolean", "new_time": "string", "notes": "string"},
                "number_ids": [text_at(&number, "/number/number_id")?],
            }),
        )
        .await?;
    let call = session
        .call_tool(
            "place_call",
            json!({
                "agent_id": text_at(&agent, "/agent_id")?,
                "to": "+13105550100",
                "context": {"patient": "Sam Doe", "appointment": "tomorrow at 10 am"},
            }),
        )
        .await?;
    let call_id = text_at(&call, "/call_id")?;
    let report = session
        .call_tool("get_call_result", json!({"call_id": call_id, "wait_seconds": 120}))
        .await?;
    let outcome = text_at(&report, "/outcome")?;
    session.line.print(format!(
        "\n{} {}\n",
        style.paint("1;32", &format!("{outcome}:")),
        report.get("result").unwrap_or(&Value::Null)
    ))?;
    if outcome != "completed" {
        bail!("the demo's call ended with {outcome} instead of completed");
    }
    session.client.cancel().await?;
    server.waiting().await?;
    runtime.close().await
}
