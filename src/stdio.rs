//! MCP over standard input and output: one JSON-RPC message a line.
//!
//! rmcp's own line reader drops invalid lines silently, and a client that sent such a line would wait forever. This one
//! answers with -32700 if a line is not JSON and with -32600 if it is not a message, under the id of the request if
//! there is one (JSON-RPC 2.0, section 5.1). An invalid response of the client is only logged.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use callingbox::json_text::strip_bom;
use rmcp::model::{ClientJsonRpcMessage, ErrorData, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::service::{RoleServer, ServerInitializeError, serve_server};
use rmcp::transport::Transport;
use rmcp::transport::io::stdio_pipes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::json_rpc;
use crate::mcp::server::{Server, ServerOptions};

/// A longer line is refused and skipped.
pub const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// How long the server may take to answer pending requests and to record dispatches after the end of input. The process
/// must end within 5 s, all of which rmcp's own limit would use. A dispatch that takes longer is in the ledger as an
/// intent, which the next server recovers.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(4);

/// Serves one client until its input ends or `stop` completes, then answers its pending requests and waits for the tasks
/// of `dispatches`, both within `MAX_DRAIN_TIME`. A request that waits for a call is answered with the current state.
///
/// # Errors
/// The client did not initialize the session.
pub async fn serve_stdio(
    server: Server,
    options: ServerOptions,
    stop: impl Future<Output = ()>,
    dispatches: &TaskTracker,
) -> Result<(), Box<ServerInitializeError>> {
    let (input, output) = stdio_pipes();
    let transport = LineTransport::new(input, output, options.draining.clone());
    let ended = options.draining.clone();
    let session = async {
        let running = match serve_server(server.with_options(options), transport).await {
            Ok(running) => running,
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(Box::new(error)),
        };
        if let Err(error) = running.waiting().await {
            tracing::error!(%error, "the session failed; its pending requests are not answered");
        }
        dispatches.close();
        dispatches.wait().await;
        Ok(())
    };
    let drain_timeout = async {
        tokio::select! {
            () = stop => ended.cancel(),
            () = ended.cancelled() => {}
        }
        tokio::time::sleep(MAX_DRAIN_TIME).await;
    };
    tokio::select! {
        result = session => result,
        () = drain_timeout => {
            let dispatches = dispatches.len();
            tracing::warn!(dispatches, "the session ended with unfinished work; the next server recovers it");
            Ok(())
        }
    }
}

/// A transport of one message a line.
pub struct LineTransport<R, W> {
    input: BufReader<R>,
    line: Vec<u8>,
    /// The rest of a line that is too long is being skipped.
    skipping: bool,
    /// A request has been received. Other messages before it are ignored: rmcp would end the session.
    opened: bool,
    /// Cancelled at the end of input; no more input is read once it is cancelled.
    ended: CancellationToken,
    output: Arc<Mutex<Option<W>>>,
    /// The task that writes an error response. `receive` may be dropped at any await, which must not leave a partial
    /// line. The next line is read when the task has ended.
    error_response: Option<JoinHandle<io::Result<()>>>,
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> LineTransport<R, W> {
    /// A transport over this input and output, which cancels `ended` at the end of input and stops reading once `ended`
    /// is cancelled.
    pub fn new(input: R, output: W, ended: CancellationToken) -> Self {
        Self {
            input: BufReader::with_capacity(64 * 1024, input),
            line: Vec::new(),
            skipping: false,
            opened: false,
            ended,
            output: Arc::new(Mutex::new(Some(output))),
            error_response: None,
        }
    }

    /// Reads the next line into `self.line`; `None` at the end of input, an error for a line that is too long.
    ///
    /// Cancel safe: bytes are copied and consumed without an await in between.
    async fn read_line(&mut self) -> io::Result<Option<Result<(), ErrorData>>> {
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let consumed = newline.map_or(available.len(), |index| index + 1);
            let too_long = !self.skipping && self.line.len() + consumed > MAX_LINE_BYTES;
            if too_long {
                self.line = Vec::new();
            } else if !self.skipping {
                self.line.extend_from_slice(available.get(..consumed).unwrap_or_default());
            }
            self.input.consume(consumed);
            let is_whole = newline.is_some() && !self.skipping;
            self.skipping = newline.is_none() && (self.skipping || too_long);
            if too_long {
                return Ok(Some(Err(ErrorData::invalid_request(
                    format!(
                        "a message may have at most {MAX_LINE_BYTES} bytes; this one was skipped"
                    ),
                    None,
                ))));
            }
            if is_whole {
                return Ok(Some(Ok(())));
            }
        }
    }

    /// The next message. Invalid lines before it are answered.
    async fn next_message(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(writing) = &mut self.error_response {
                let written = matches!(writing.await, Ok(Ok(())));
                self.error_response = None;
                if !written {
                    return None;
                }
            }
            let (error, id) = match self.read_line().await {
                Ok(Some(Ok(()))) => {
                    let line = strip_bom(self.line.trim_ascii());
                    let read = (!line.is_empty()).then(|| json_rpc::read_message(line));
                    self.line.clear();
                    match read {
                        None => continue,
                        Some(Ok(message)) => {
                            self.opened |= matches!(message, JsonRpcMessage::Request(_));
                            if self.opened {
                                return Some(message);
                            }
                            continue;
                        }
                        Some(Err(invalid)) if invalid.is_answered => (invalid.error, invalid.id),
                        Some(Err(_)) => {
                            tracing::debug!("an invalid notification or response is ignored");
                            continue;
                        }
                    }
                }
                Ok(Some(Err(too_long))) => (too_long, None),
                Ok(None) => return None,
                Err(error) => {
                    tracing::error!(%error, "standard input cannot be read; the session ends");
                    return None;
                }
            };
            tracing::warn!(code = error.code.0, "an invalid line was answered with an error");
            let output = Arc::clone(&self.output);
            self.error_response = Some(tokio::spawn(async move {
                write_message(&output, &ServerJsonRpcMessage::error(error, id)).await
            }));
        }
    }
}

async fn write_message<W: AsyncWrite + Unpin>(
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
        async move { write_message(&output, &message).await }
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
