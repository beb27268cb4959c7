//! A server that answers from a script, byte by byte, and remembers what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callingbox::{ApiClient, ApiKey, BaseUrl, ClientConfig, RetryPolicy, Timeouts};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const KEY: &str = "sk_live_not_a_real_key_0123456789";

/// What the server does with one request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Sends these bytes and keeps the connection.
    Raw(Vec<u8>),
    /// Sends these bytes and closes.
    Close(Vec<u8>),
    /// Sends these bytes and then nothing, with the connection open.
    Stall(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Resets the connection and takes no further ones.
    ResetAndLeave,
}

/// An answer with a JSON body.
pub(crate) fn json(status: u16, body: &Value) -> Reply {
    text(status, "", &body.to_string())
}

/// An answer with further header lines, each ended by CRLF, and a body.
pub(crate) fn text(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Raw(
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}").into(),
    )
}

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) connection: usize,
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Method and target, without the version.
    pub(crate) fn target(&self) -> &str {
        self.line.trim_end_matches(" HTTP/1.1")
    }
}

#[derive(Default)]
struct State {
    script: Vec<Reply>,
    seen: Vec<Seen>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Answers request after request with the script; when it has ended, with its last reply.
    pub(crate) async fn new(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { script, seen: Vec::new() }));
        let shared = state.clone();
        tokio::spawn(async move {
            let (leave, mut left) = tokio::sync::mpsc::channel::<()>(1);
            for connection in 0.. {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = left.recv() => return,
                };
                tokio::spawn(serve(connection, stream, shared.clone(), leave.clone()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn say(&self, reply: Reply) {
        self.state.lock().unwrap().script = vec![reply];
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.target().to_owned()).collect()
    }

    pub(crate) fn config(&self) -> ClientConfig {
        config(&format!("http://{}", self.address))
    }

    pub(crate) fn client(&self) -> ApiClient {
        ApiClient::new(self.config())
    }
}

/// A configuration that waits no longer than a test should.
pub(crate) fn config(base_url: &str) -> ClientConfig {
    let mut config = ClientConfig::new(
        BaseUrl::parse(base_url, false).unwrap(),
        ApiKey::new(KEY.to_owned()).unwrap(),
    );
    config.timeouts = Timeouts {
        connect: Duration::from_secs(2),
        request: Duration::from_secs(5),
        total: Duration::from_secs(10),
    };
    config.retry = RetryPolicy {
        max_attempts: 4,
        base: Duration::from_millis(1),
        ceiling: Duration::from_millis(1),
    };
    config
}

async fn serve(
    connection: usize,
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    leave: tokio::sync::mpsc::Sender<()>,
) {
    while let Some(seen) = read(connection, &mut stream).await {
        let reply = {
            let mut state = state.lock().unwrap();
            state.seen.push(seen);
            if state.script.len() > 1 { state.script.remove(0) } else { state.script[0].clone() }
        };
        match reply {
            Reply::Raw(bytes) => stream.write_all(&bytes).await.unwrap(),
            Reply::Close(bytes) => return stream.write_all(&bytes).await.unwrap(),
            Reply::Stall(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                return;
            }
            Reply::Reset => return stream.set_zero_linger().unwrap(),
            Reply::ResetAndLeave => {
                leave.send(()).await.unwrap();
                while TcpStream::connect(stream.local_addr().unwrap()).await.is_ok() {}
                return stream.set_zero_linger().unwrap();
            }
        }
    }
}

async fn read(connection: usize, stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen { connection, line, headers, body: String::new() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}
