//! A client of the binary: whole JSON-RPC messages, line by line, in both eras of the protocol.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use callingbox_mcp::mcp::reply::text::SIMULATED;
use callingbox_sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;

use super::{Control, Home, simulator, within_limit};

/// The protocol of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// `initialize` with this version.
    Legacy(&'static str),
    /// 2026-07-28: `_meta` with each request.
    Modern,
}

impl Era {
    /// The newest version of each era.
    pub(crate) const BOTH: [Self; 2] = [Self::Legacy("2025-11-25"), Self::Modern];

    /// The parameters of a request in this era.
    pub(crate) fn parameters(self, mut params: Value) -> Value {
        if self == Self::Modern {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
            params["_meta"]["io.modelcontextprotocol/clientInfo"] =
                json!({"name": "e2e", "version": "1"});
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        params
    }
}

/// A process of the binary, its home folder, its simulator if it has one, and the client that is connected to it.
pub(crate) struct Session {
    era: Era,
    /// The answer to `initialize` or `server/discover`.
    pub(crate) opening: Value,
    next_id: i64,
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// Messages that arrived before the one that was waited for.
    early: VecDeque<Value>,
    /// Closed at the end of the process.
    log: watch::Receiver<String>,
    simulator: Option<(Sandbox, Control)>,
    /// The capabilities that the client declares.
    pub(crate) capabilities: Value,
    /// The name that the client gives itself.
    pub(crate) client: &'static str,
    _home: Arc<Home>,
}

impl Session {
    /// A session on a simulator of its own.
    pub(crate) async fn on_simulator(era: Era, arguments: &[&str], options: Options) -> Self {
        let sandbox = simulator(options).await;
        let flag = format!("--sandbox={}", sandbox.url());
        let arguments: Vec<&str> =
            [flag.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        let control = Control::new(&sandbox);
        let mut session = Self::start(&arguments, &[]);
        session.simulator = Some((sandbox, control));
        session.open(era).await;
        session
    }

    /// The same with default flags and options.
    pub(crate) async fn new(era: Era) -> Self {
        Self::on_simulator(era, &[], Options::default()).await
    }

    /// A session of an older version.
    pub(crate) async fn legacy(version: &'static str) -> Self {
        Self::new(Era::Legacy(version)).await
    }

    /// A session of 2026-07-28.
    pub(crate) async fn modern() -> Self {
        Self::new(Era::Modern).await
    }

    /// A session without a simulator of its own.
    pub(crate) async fn with(era: Era, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut session = Self::start(arguments, environment);
        session.open(era).await;
        session
    }

    /// Another process in the same home folder, on the same simulator. Its session is not open yet.
    pub(crate) fn start_beside(&self, arguments: &[&str]) -> Self {
        let flag = format!("--sandbox={}", self.simulator_url());
        let arguments: Vec<&str> =
            [flag.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        Self::start_in(Arc::clone(&self._home), &arguments, &[])
    }

    /// A process whose session is not open yet.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(Home::new()), arguments, environment)
    }

    /// The same in a home folder that other processes use too.
    pub(crate) fn start_in(
        home: Arc<Home>,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut process = home
            .command(arguments, environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (sender, log) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                sender.send_modify(|log| *log += &format!("{line}\n"));
            }
        });
        Self {
            era: Era::Modern,
            opening: Value::Null,
            next_id: 0,
            process,
            input,
            output,
            early: VecDeque::new(),
            log,
            simulator: None,
            capabilities: json!({}),
            client: "e2e",
            _home: home,
        }
    }

    /// Opens the session.
    pub(crate) async fn open(&mut self, era: Era) {
        self.era = era;
        self.opening = match era {
            Era::Legacy(version) => {
                let client = json!({"name": self.client, "version": "1"});
                let params = json!({"protocolVersion": version, "capabilities": self.capabilities, "clientInfo": client});
                let answer = self.request("initialize", params).await;
                self.notify("notifications/initialized", json!({})).await;
                answer
            }
            Era::Modern => self.request("server/discover", json!({})).await,
        };
        assert!(self.opening.get("result").is_some(), "{}", self.opening);
    }

    /// The controls of the simulator.
    pub(crate) fn control(&self) -> &Control {
        &self.simulator.as_ref().expect("a simulator").1
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("an open input");
        within_limit("writing", async {
            input.write_all(bytes).await.unwrap();
            input.flush().await.unwrap();
        })
        .await;
    }

    /// Sends one line.
    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_bytes(format!("{message}\n").as_bytes()).await;
    }

    /// The address of the simulator.
    pub(crate) fn simulator_url(&self) -> String {
        self.simulator.as_ref().expect("a simulator").0.url()
    }

    /// Sends a notification.
    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
    }

    /// Sends a request and returns its id, for [`Self::answer`].
    pub(crate) async fn begin(&mut self, method: &str, params: Value) -> i64 {
        self.next_id += 1;
        let id = self.next_id;
        let mut params = self.era.parameters(params);
        if self.era == Era::Modern {
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                self.capabilities.clone();
            params["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] = json!(self.client);
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        id
    }

    /// The next message of any kind; `None` at the end of the output.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        if let Some(message) = self.early.pop_front() {
            return Some(message);
        }
        self.read().await
    }

    /// Takes a message that arrived before the one that was waited for.
    pub(crate) fn take_early(&mut self) -> Option<Value> {
        self.early.pop_front()
    }

    async fn read(&mut self) -> Option<Value> {
        let line = within_limit("a message", self.output.next_line()).await.unwrap()?;
        Some(serde_json::from_str(&line).expect("only messages are written to standard output"))
    }

    /// Waits for the answer to a request, and keeps the messages that arrive before it.
    pub(crate) async fn answer(&mut self, id: i64) -> Value {
        if let Some(index) = self.early.iter().position(|message| message["id"] == id) {
            return self.early.remove(index).unwrap();
        }
        loop {
            let message = self.read().await.expect("an answer before the end of output");
            if message["id"] == id {
                return message;
            }
            self.early.push_back(message);
        }
    }

    /// The same for an answer that comes only after a time-out of the API client.
    pub(crate) async fn slow_answer(&mut self, id: i64) -> Value {
        let message = self.slow_message().await;
        assert_eq!(message["id"], id, "{message}");
        message
    }

    /// The next message, which comes only after a time-out of the API client.
    pub(crate) async fn slow_message(&mut self) -> Value {
        let limit = Duration::from_secs(55);
        let line = tokio::time::timeout(limit, self.output.next_line()).await;
        let line = line.expect("an answer within its limit").unwrap().expect("an answer");
        serde_json::from_str(&line).unwrap()
    }

    /// Sends a request and returns its whole answer.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        self.answer(id).await
    }

    /// Sends a tool call and returns its id.
    pub(crate) async fn begin_call(&mut self, tool: &str, arguments: Value) -> i64 {
        self.begin("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// Calls a tool and returns the whole answer.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin_call(tool, arguments).await;
        self.answer(id).await
    }

    /// Calls a tool that must succeed and returns its structured content.
    pub(crate) async fn data(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer["result"]["isError"], false, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// Calls a tool that must fail and returns the error in `_meta`; the text must say the same.
    pub(crate) async fn failure(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        let result = &answer["result"];
        assert_eq!(result["isError"], true, "{tool}: {answer}");
        assert_eq!(result.get("structuredContent"), None, "{tool}: {answer}");
        let error = result["_meta"]["callingbox-mcp/error"].clone();
        let text = result["content"][0]["text"].as_str().unwrap();
        let class = error["class"].as_str().unwrap();
        let message = error["message"].as_str().unwrap().trim_end_matches('.');
        // A simulated failure must not be mistaken for one of the live account, nor the reverse.
        let simulated = self.opening.to_string().contains("CallingBox telephone (sandbox)");
        assert_eq!(error.get("simulated"), simulated.then_some(&json!(true)), "{tool}: {answer}");
        let marked = text.strip_prefix(SIMULATED).and_then(|text| text.strip_prefix('\n'));
        assert_eq!(marked.is_some(), simulated, "{tool}: {answer}");
        let text = marked.unwrap_or(text);
        assert!(text.starts_with(&format!("{class}: {message}.")), "{tool}: {answer}");
        error
    }

    /// Buys a number, creates an outbound agent that calls from it, and returns its id.
    pub(crate) async fn outbound_agent(&mut self, returns: Value) -> String {
        let offers = self.data("search_numbers", json!({"limit": 1})).await;
        let number = offers["numbers"][0]["phone_number"].clone();
        let number = self.data("purchase_number", json!({"phone_number": number})).await;
        let agent = json!({
            "name": "Reminders",
            "type": "outbound",
            "persona": "You are Mia of Northside Dental.",
            "instructions": "Remind of the appointment.",
            "returns": returns,
            "number_ids": [number["number"]["number_id"]],
        });
        let agent = self.data("create_agent", agent).await;
        agent["agent_id"].as_str().unwrap().to_owned()
    }

    /// Ends the input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Waits until the process has exited.
    pub(crate) async fn wait_for_exit(&mut self) {
        within_limit("the end of the process", self.process.wait()).await.unwrap();
    }

    /// The id of the process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id().expect("the process runs")
    }

    /// Sends SIGTERM.
    pub(crate) async fn terminate(&self) {
        let id = self.process.id().unwrap().to_string();
        let status = tokio::process::Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(status.unwrap().success());
    }

    /// Ends the input and waits until the process exits. Returns the remaining messages, the exit status and the log.
    pub(crate) async fn finish(mut self) -> (Vec<Value>, ExitStatus, String) {
        self.end_input();
        let mut rest = Vec::new();
        while let Some(message) = self.next().await {
            rest.push(message);
        }
        let status = within_limit("the end of the process", self.process.wait()).await.unwrap();
        let log = read_to_end(self.log.clone()).await;
        (rest, status, log)
    }

    /// Closes both pipes, as a client that exits does. Returns the exit status and the log.
    pub(crate) async fn close(self) -> (ExitStatus, String) {
        let Self { mut process, input, output, log, simulator: _simulator, _home, .. } = self;
        drop((input, output));
        let status = within_limit("the end of the process", process.wait()).await.unwrap();
        (status, read_to_end(log).await)
    }

    /// Waits until the log has this part.
    pub(crate) async fn wait_for_log(&mut self, part: &str) {
        let logged = self.log.wait_for(|log| log.contains(part));
        within_limit(part, logged).await.unwrap();
    }

    /// [`Self::finish`], with exactly one log line for each lost answer to a dispatch, without a full number.
    pub(crate) async fn finish_after_missing_answers(self, missing: usize) {
        let (rest, status, log) = self.finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(0)));
        assert_eq!(log.lines().count(), missing, "{log}");
        for line in log.lines() {
            assert!(
                line.contains("no usable answer to a dispatch; searching for its result"),
                "{log}"
            );
            assert!(!line.contains("+1310555"), "{log}");
        }
    }

    /// [`Self::finish`], without remaining messages, with exit code 0 and an empty log.
    pub(crate) async fn finish_well(self) {
        let (rest, status, log) = self.finish().await;
        assert_eq!((rest, status.code(), log.as_str()), (vec![], Some(0), ""));
    }
}

async fn read_to_end(mut log: watch::Receiver<String>) -> String {
    within_limit("the end of the log", async { while log.changed().await.is_ok() {} }).await;
    log.borrow().clone()
}
