//! A client of the binary: whole JSON-RPC messages, line by line, in both eras of the protocol.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use callingbox_mcp::mcp::reply::text::SIMULATED;
use callingbox_sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::{Control, Home, simulator, soon};

/// How a session speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// `initialize` with this version.
    Legacy(&'static str),
    /// 2026-07-28: `_meta` with each request.
    Modern,
}

impl Era {
    /// The newest of each kind: what clients use today.
    pub(crate) const BOTH: [Self; 2] = [Self::Legacy("2025-11-25"), Self::Modern];

    /// The parameters of a request, as this era wants them.
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

/// The binary with its home, its simulator if it has one, and the client's side of the wire.
pub(crate) struct Session {
    era: Era,
    /// The answer to `initialize` or `server/discover`.
    pub(crate) opening: Value,
    next_id: i64,
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// Messages that came while another one was waited for.
    early: VecDeque<Value>,
    log: JoinHandle<String>,
    world: Option<(Sandbox, Control)>,
    /// What the client says that it can do.
    pub(crate) capabilities: Value,
    _home: Arc<Home>,
}

impl Session {
    /// A session on a simulator of its own.
    pub(crate) async fn on_simulator(era: Era, arguments: &[&str], options: Options) -> Self {
        let sandbox = simulator(options).await;
        let flag = format!("--sandbox={}", sandbox.url());
        let arguments: Vec<&str> =
            [flag.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        let control = Control::of(&sandbox);
        let mut session = Self::start(&arguments, &[]);
        session.world = Some((sandbox, control));
        session.open(era).await;
        session
    }

    /// The same with nothing special.
    pub(crate) async fn new(era: Era) -> Self {
        Self::on_simulator(era, &[], Options::default()).await
    }

    /// A session of `initialize`.
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

    /// Another process in the same home, on the same simulator: nothing has been said yet.
    pub(crate) fn beside(&self, arguments: &[&str]) -> Self {
        let flag = format!("--sandbox={}", self.world.as_ref().expect("a simulator").0.url());
        let arguments: Vec<&str> =
            [flag.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        Self::start_in(Arc::clone(&self._home), &arguments, &[])
    }

    /// The process alone: nothing has been said yet.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(Home::new()), arguments, environment)
    }

    /// The same in a home that others live in too.
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
        let mut stderr = process.stderr.take().unwrap();
        let log = tokio::spawn(async move {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).await.unwrap();
            String::from_utf8(text).unwrap()
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
            world: None,
            capabilities: json!({}),
            _home: home,
        }
    }

    /// Opens the session in this era.
    pub(crate) async fn open(&mut self, era: Era) {
        self.era = era;
        self.opening = match era {
            Era::Legacy(version) => {
                let client = json!({"name": "e2e", "version": "1"});
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
        &self.world.as_ref().expect("a simulator").1
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("an open input");
        soon("writing", async {
            input.write_all(bytes).await.unwrap();
            input.flush().await.unwrap();
        })
        .await;
    }

    /// Sends one line.
    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_bytes(format!("{message}\n").as_bytes()).await;
    }

    /// Sends a notification.
    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
    }

    /// Sends a request and gives its id; its answer is waited for with [`Self::answer`].
    pub(crate) async fn begin(&mut self, method: &str, params: Value) -> i64 {
        self.next_id += 1;
        let id = self.next_id;
        let mut params = self.era.parameters(params);
        if self.era == Era::Modern {
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                self.capabilities.clone();
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        id
    }

    /// The next message, whatever it is; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        if let Some(message) = self.early.pop_front() {
            return Some(message);
        }
        self.read().await
    }

    /// A message that came while another one was waited for, if there was one.
    pub(crate) fn early(&mut self) -> Option<Value> {
        self.early.pop_front()
    }

    async fn read(&mut self) -> Option<Value> {
        let line = soon("a message", self.output.next_line()).await.unwrap()?;
        Some(serde_json::from_str(&line).expect("only messages are written to standard output"))
    }

    /// The answer to one request; what comes before it is kept.
    pub(crate) async fn answer(&mut self, id: i64) -> Value {
        if let Some(at) = self.early.iter().position(|message| message["id"] == id) {
            return self.early.remove(at).unwrap();
        }
        loop {
            let message = self.read().await.expect("an answer before the end of output");
            if message["id"] == id {
                return message;
            }
            self.early.push_back(message);
        }
    }

    /// The same for an answer that takes one time-out of the API client longer.
    pub(crate) async fn patient_answer(&mut self, id: i64) -> Value {
        let limit = Duration::from_secs(55);
        let line = tokio::time::timeout(limit, self.output.next_line()).await;
        let line = line.expect("an answer within its limit").unwrap().expect("an answer");
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["id"], id, "{message}");
        message
    }

    /// The whole answer to one request.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        self.answer(id).await
    }

    /// Calls a tool.
    pub(crate) async fn begin_call(&mut self, tool: &str, arguments: Value) -> i64 {
        self.begin("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// The whole answer of a tool.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin_call(tool, arguments).await;
        self.answer(id).await
    }

    /// The structured content of a tool that must succeed.
    pub(crate) async fn data(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer["result"]["isError"], false, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// The failure of a tool that must fail: what `_meta` says. The text must say the same.
    pub(crate) async fn failure(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        let result = &answer["result"];
        assert_eq!(result["isError"], true, "{tool}: {answer}");
        assert_eq!(result.get("structuredContent"), None, "{tool}: {answer}");
        let error = result["_meta"]["callingbox-mcp/error"].clone();
        let text = result["content"][0]["text"].as_str().unwrap();
        let class = error["class"].as_str().unwrap();
        let message = error["message"].as_str().unwrap().trim_end_matches('.');
        // Nobody is to take a failure of the simulator for one of the real account, or the other way.
        let simulated = self.opening.to_string().contains("CallingBox telephone (sandbox)");
        assert_eq!(error.get("simulated"), simulated.then_some(&json!(true)), "{tool}: {answer}");
        let marked = text.strip_prefix(SIMULATED).and_then(|text| text.strip_prefix('\n'));
        assert_eq!(marked.is_some(), simulated, "{tool}: {answer}");
        let text = marked.unwrap_or(text);
        assert!(text.starts_with(&format!("{class}: {message}.")), "{tool}: {answer}");
        error
    }

    /// A number and an outbound agent that has it.
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

    /// Tells the process to end (SIGTERM).
    pub(crate) async fn terminate(&self) {
        let id = self.process.id().unwrap().to_string();
        let told = tokio::process::Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(told.unwrap().success());
    }

    /// Ends the input and waits for the end: what still came, how it ended, and its log.
    pub(crate) async fn finish(mut self) -> (Vec<Value>, ExitStatus, String) {
        self.end_input();
        let mut rest = Vec::new();
        while let Some(message) = self.next().await {
            rest.push(message);
        }
        let status = soon("the end of the process", self.process.wait()).await.unwrap();
        let log = soon("the end of the log", &mut self.log).await.unwrap();
        (rest, status, log)
    }

    /// Is gone all at once, as a program that is closed: how the process ends then, and its log.
    pub(crate) async fn vanish(self) -> (ExitStatus, String) {
        let Self { mut process, input, output, log, world: _world, _home, .. } = self;
        drop((input, output));
        let status = soon("the end of the process", process.wait()).await.unwrap();
        (status, soon("the end of the log", log).await.unwrap())
    }

    /// The same as [`Self::finish`] for a session in which answers to dispatches went missing: that, and
    /// only that, is logged, once for each, and never with a whole number.
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

    /// The same for a session in which all went well: nothing more comes, exit code 0, no log.
    pub(crate) async fn finish_well(self) {
        let (rest, status, log) = self.finish().await;
        assert_eq!((rest, status.code(), log.as_str()), (vec![], Some(0), ""));
    }
}
