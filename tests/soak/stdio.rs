//! A client over stdio: concurrent requests through one process, each answered exactly once.

use std::collections::HashMap;
use std::process;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::TIMEOUT;
use crate::observed::Log;

/// Requests without an answer; a cancelled one has no receiver, and may still be answered.
#[derive(Default)]
struct Pending {
    waiting: HashMap<i64, Option<oneshot::Sender<Value>>>,
    next: i64,
    /// Answers to unknown requests, and second answers.
    strays: Vec<Value>,
}

pub(crate) struct Stdio {
    child: Mutex<Child>,
    input: tokio::sync::Mutex<Option<ChildStdin>>,
    open: Arc<Mutex<Pending>>,
    reader: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
}

impl Stdio {
    /// Starts a process and opens its session.
    pub(crate) async fn start(mut program: Command, log: &Log) -> Self {
        let mut child =
            program.stdin(process::Stdio::piped()).stdout(process::Stdio::piped()).spawn().unwrap();
        log.read(child.stderr.take().unwrap());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let open = Arc::new(Mutex::new(Pending::default()));
        let shared = Arc::clone(&open);
        let reader = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                let message: Value = serde_json::from_str(&line).unwrap();
                let mut open = shared.lock().unwrap();
                // Notifications have no id.
                let Some(id) = message.get("id") else { continue };
                match id.as_i64().and_then(|id| open.waiting.remove(&id)) {
                    Some(waiting) => drop(waiting.map(|waiting| waiting.send(message))),
                    None => open.strays.push(message),
                }
            }
        });
        let pid = child.id().unwrap();
        let input = tokio::sync::Mutex::new(child.stdin.take());
        let (child, reader) = (Mutex::new(child), Mutex::new(Some(reader)));
        let this = Self { child, input, open, reader, pid };
        let opening = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "soak", "version": "0"},
        });
        assert!(this.request("initialize", opening).await.get("result").is_some());
        this.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        this
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    async fn send(&self, message: &Value) {
        let line = format!("{message}\n");
        let mut input = self.input.lock().await;
        input.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    }

    async fn begin(
        &self,
        method: &str,
        params: Value,
        answer: Option<oneshot::Sender<Value>>,
    ) -> i64 {
        let id = {
            let mut open = self.open.lock().unwrap();
            open.next += 1;
            let id = open.next;
            open.waiting.insert(id, answer);
            id
        };
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        id
    }

    /// Sends a request and returns its answer.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Value {
        let (answer, waiting) = oneshot::channel();
        self.begin(method, params, Some(answer)).await;
        tokio::time::timeout(TIMEOUT, waiting).await.expect("an answer").unwrap()
    }

    /// Sends a request and cancels it immediately.
    pub(crate) async fn cancel(&self, method: &str, params: Value) {
        let id = self.begin(method, params, None).await;
        let params = json!({"requestId": id, "reason": "soak"});
        self.send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}),
        )
        .await;
    }

    /// Ends the input; the process must exit, with every request answered unless it was cancelled.
    pub(crate) async fn finish(&self) {
        drop(self.input.lock().await.take());
        let reader = self.reader.lock().unwrap().take().unwrap();
        tokio::time::timeout(TIMEOUT, reader).await.expect("the end of output").unwrap();
        let open = self.open.lock().unwrap();
        let lost = open.waiting.values().filter(|waiting| waiting.is_some()).count();
        assert_eq!((lost, &open.strays), (0, &Vec::new()));
        drop(open);
        let status = self.child.lock().unwrap().try_wait();
        assert!(status.is_ok(), "{status:?}");
    }
}
