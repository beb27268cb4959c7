//! MCP over standard input and output: one JSON-RPC message a line.
//!
//! rmcp's own line reader drops what it cannot read without a word. A client that sends such a
//! line then waits for ever, so this one answers: -32700 for what is not JSON, -32600 for what is
//! not a message, with the request's id wherever it can be found (JSON-RPC 2.0, section 5.1). An answer
//! that it cannot read it only logs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::service::{RoleServer, ServerInitializeError, serve_server};
use rmcp::transport::Transport;
use rmcp::transport::io::stdio_pipes;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mcp::reply::text;
use crate::mcp::server::{Server, ServerOptions};

/// The longest line that is read. Longer ones are refused and skipped to their end.
pub const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// How long after the end of input answers under way may still be given, and dispatches be written
/// down: less than the 5 s in which the process is to end, of which rmcp's own limit would take the
/// whole. What is dialed for longer is in the ledger as an intent, and the next server settles it.
const DRAIN: Duration = Duration::from_secs(4);

/// Serves one client until its input ends or `stop`, then for a short while drains the answers under
/// way, and what is `under_way`, whoever asked for it; what waits for a call is answered with its present
/// state.
///
/// # Errors
/// The client never opened a session properly.
pub async fn serve(
    server: Server,
    options: ServerOptions,
    stop: impl Future<Output = ()>,
    under_way: &TaskTracker,
) -> Result<(), Box<ServerInitializeError>> {
    let (input, output) = stdio_pipes();
    let lines = LineTransport::new(input, output, options.draining.clone());
    let ended = options.draining.clone();
    let session = async {
        let running = match serve_server(server.with_options(options), lines).await {
            Ok(running) => running,
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(Box::new(error)),
        };
        if let Err(error) = running.waiting().await {
            tracing::error!(%error, "the session ended badly");
        }
        under_way.close();
        under_way.wait().await;
        Ok(())
    };
    let too_long = async {
        tokio::select! {
            () = stop => ended.cancel(),
            () = ended.cancelled() => {}
        }
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        outcome = session => outcome,
        () = too_long => {
            let dispatches = under_way.len();
            tracing::warn!(dispatches, "the session ended before all was done");
            Ok(())
        }
    }
}

/// A transport of lines.
pub struct LineTransport<R, W> {
    input: BufReader<R>,
    line: Vec<u8>,
    /// The rest of a line that was too long is being skipped.
    skipping: bool,
    /// A request has been seen; before that, everything else is noise that must not end the session.
    opened: bool,
    /// Canceled when there is no more input, or none is wanted.
    ended: CancellationToken,
    output: Arc<Mutex<Option<W>>>,
    /// A refusal on its way out. `receive` may be dropped at any await, a half-written line may not
    /// be: so a task of its own writes it, and the next line is not read before it is out.
    refusal: Option<JoinHandle<io::Result<()>>>,
}

/// What one line is.
#[derive(Debug)]
enum ParsedLine {
    Message(Box<ClientJsonRpcMessage>),
    /// Not a message; the answer it deserves, if it deserves one.
    Bad(Option<(ErrorData, Option<RequestId>)>),
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> LineTransport<R, W> {
    /// A transport over this input and output, which cancels `ended` at the end of input and reads no
    /// more once it is canceled.
    pub fn new(input: R, output: W, ended: CancellationToken) -> Self {
        Self {
            input: BufReader::with_capacity(64 * 1024, input),
            line: Vec::new(),
            skipping: false,
            opened: false,
            ended,
            output: Arc::new(Mutex::new(Some(output))),
            refusal: None,
        }
    }

    /// The next whole line in `self.line`, or false at the end of input.
    ///
    /// Nothing is lost when this future is dropped half-way: bytes are moved and consumed in one
    /// step, without a pause between.
    async fn next_line(&mut self) -> io::Result<Option<Result<(), ErrorData>>> {
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(available.len(), |at| at + 1);
            let mut too_long = false;
            if !self.skipping {
                if self.line.len() + taken > MAX_LINE_BYTES {
                    too_long = true;
                    self.skipping = true;
                    self.line = Vec::new();
                } else {
                    self.line.extend_from_slice(available.get(..taken).unwrap_or_default());
                }
            }
            self.input.consume(taken);
            let was_skipping = self.skipping;
            if newline.is_some() {
                self.skipping = false;
            }
            if too_long {
                return Ok(Some(Err(ErrorData::invalid_request(
                    format!(
                        "a message may have at most {MAX_LINE_BYTES} bytes; this one was skipped"
                    ),
                    None,
                ))));
            }
            if newline.is_some() && !was_skipping {
                return Ok(Some(Ok(())));
            }
        }
    }

    /// The next message; lines that are none are answered on the way.
    async fn next_message(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(refusal) = &mut self.refusal {
                let written = matches!(refusal.await, Ok(Ok(())));
                self.refusal = None;
                if !written {
                    return None;
                }
            }
            let bad = match self.next_line().await {
                Ok(Some(Ok(()))) => {
                    let line = self.line.trim_ascii();
                    let read = (!line.is_empty()).then(|| read(line));
                    self.line.clear();
                    match read {
                        None | Some(ParsedLine::Bad(None)) => continue,
                        Some(ParsedLine::Message(message)) => {
                            self.opened |= matches!(*message, JsonRpcMessage::Request(_));
                            if self.opened {
                                return Some(*message);
                            }
                            continue;
                        }
                        Some(ParsedLine::Bad(Some(bad))) => bad,
                    }
                }
                Ok(Some(Err(too_long))) => (too_long, None),
                Ok(None) => return None,
                Err(error) => {
                    tracing::error!(%error, "standard input cannot be read");
                    return None;
                }
            };
            tracing::warn!(code = bad.0.code.0, "a line was refused");
            let (error, id) = bad;
            let output = Arc::clone(&self.output);
            self.refusal = Some(tokio::spawn(async move {
                write(&output, &ServerJsonRpcMessage::error(error, id)).await
            }));
        }
    }
}

/// Reads one line as a message.
fn read(line: &[u8]) -> ParsedLine {
    let problem = match serde_json::from_slice::<ClientJsonRpcMessage>(line) {
        Ok(message) => return ParsedLine::Message(Box::new(message)),
        Err(problem) => problem,
    };
    let unreadable =
        |text: String| ParsedLine::Bad(Some((ErrorData::parse_error(text, None), None)));
    if let Err(problem) = std::str::from_utf8(line) {
        return unreadable(format!("this line is not UTF-8: {problem}"));
    }
    let value = match serde_json::from_slice::<Value>(line) {
        Ok(value) => value,
        Err(problem) => return unreadable(format!("this line is not JSON: {problem}")),
    };
    let invalid =
        |text: String, id| ParsedLine::Bad(Some((ErrorData::invalid_request(text, None), id)));
    match &value {
        Value::Array(_) => {
            invalid("batches were removed in 2025-06-18: send one message a line".to_owned(), None)
        }
        Value::Object(object) => {
            let id = object.get("id").and_then(|id| RequestId::deserialize(id).ok());
            let method = object.get("method").and_then(Value::as_str);
            let broken =
                |what: &str| invalid(format!("not a JSON-RPC 2.0 message: {what}"), id.clone());
            match method {
                // A notification is never answered (JSON-RPC 2.0, section 4.1).
                Some(_) if !object.contains_key("id") => ParsedLine::Bad(None),
                // Nor is an answer: its id is one of the server's own, and a request of the client may
                // have the same.
                None if ["result", "error"].iter().any(|name| object.contains_key(*name))
                    && !object.contains_key("method") =>
                {
                    tracing::warn!("an answer of the client cannot be read");
                    ParsedLine::Bad(None)
                }
                _ if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") => {
                    broken("`jsonrpc` must be \"2.0\"")
                }
                None => broken("`method` must be a text"),
                Some(_) if id.is_none() => broken("`id` must be a text or a whole number"),
                Some(method) => {
                    let text = unreadable_params(method, object.get("params"), &problem);
                    ParsedLine::Bad(Some((ErrorData::invalid_params(text, None), id)))
                }
            }
        }
        _ => invalid("a message is a JSON object".to_owned(), None),
    }
}

/// What is wrong with the parameters of a request that is sound otherwise.
fn unreadable_params(method: &str, params: Option<&Value>, problem: &serde_json::Error) -> String {
    let method = text::one_line(method, 80);
    match params {
        Some(params) if !params.is_object() => {
            format!("the parameters of {method} cannot be read: `params` must be an object")
        }
        _ => format!("the parameters of {method} cannot be read: {problem}"),
    }
}

async fn write<W: AsyncWrite + Unpin>(
    output: &Mutex<Option<W>>,
    message: &ServerJsonRpcMessage,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut output = output.lock().await;
    let output = output.as_mut().ok_or(io::ErrorKind::NotConnected)?;
    output.write_all(&line).await?;
    output.flush().await
}

impl<R, W> Transport<RoleServer> for LineTransport<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let output = Arc::clone(&self.output);
        async move { write(&output, &message).await }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let ended = self.ended.clone();
        let message = tokio::select! {
            message = self.next_message() => message,
            () = ended.cancelled() => None,
        };
        if message.is_none() {
            self.ended.cancel();
        }
        message
    }

    async fn close(&mut self) -> io::Result<()> {
        drop(self.output.lock().await.take());
        Ok(())
    }
}
