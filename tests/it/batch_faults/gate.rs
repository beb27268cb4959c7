//! A proxy before the simulator that holds a request of one process, or its answer, until the test lets it go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::harness::within_limit;

/// Which requests are held, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Requests that begin with this, once they have arrived whole.
    Request(&'static str),
    /// Their answers, which the simulator has given.
    Answer(&'static str),
}

/// A request that is held.
pub(super) struct Held(oneshot::Sender<bool>);

impl Held {
    /// Lets it go on. Returns once it has, or once its connection is gone.
    pub(super) fn release(self) {
        let _ = self.0.send(true);
    }

    /// Ends its connection.
    pub(super) fn cut(self) {
        let _ = self.0.send(false);
    }
}

pub(super) struct Gate {
    address: SocketAddr,
    upstream: SocketAddr,
    /// For which process, and what.
    hold: Mutex<Option<(u32, Hold)>>,
    sender: mpsc::UnboundedSender<Held>,
    held: tokio::sync::Mutex<mpsc::UnboundedReceiver<Held>>,
}

impl Gate {
    pub(super) async fn start(upstream: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (sender, held) = mpsc::unbounded_channel();
        let gate = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            upstream,
            hold: Mutex::default(),
            sender,
            held: tokio::sync::Mutex::new(held),
        });
        let accepting = Arc::clone(&gate);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let gate = Arc::clone(&accepting);
                // A client that goes away is no concern of the gate.
                tokio::spawn(async move { drop(gate.serve(client).await) });
            }
        });
        gate
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on these requests of a process are held; `None`: none. Those that nobody has taken go on.
    pub(super) fn hold(&self, hold: Option<(u32, Hold)>) {
        let mut now = self.hold.lock().unwrap();
        *now = hold;
        while let Ok(held) = self.held.try_lock().unwrap().try_recv() {
            held.release();
        }
    }

    /// Waits until a request is held.
    pub(super) async fn next(&self) -> Held {
        let mut held = self.held.lock().await;
        within_limit("a held request", held.recv()).await.unwrap()
    }

    /// Whether this moment of a request is let through.
    async fn pass(&self, client: SocketAddr, matches: impl Fn(Hold) -> bool) -> bool {
        let verdict = {
            let hold = self.hold.lock().unwrap();
            let is_of = |process| owns_connection(process, client, self.address);
            if !hold.is_some_and(|(process, hold)| matches(hold) && is_of(process)) {
                return true;
            }
            let (sender, verdict) = oneshot::channel();
            let _ = self.sender.send(Held(sender));
            verdict
        };
        verdict.await.unwrap_or(true)
    }

    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let address = client.peer_addr()?;
        let request = read_request(&mut client).await?;
        let begins = |with: &str| request.starts_with(with.as_bytes());
        if request.is_empty()
            || !self.pass(address, |hold| matches!(hold, Hold::Request(with) if begins(with))).await
        {
            return Ok(());
        }
        let answer = self.forward(&request).await?;
        if self.pass(address, |hold| matches!(hold, Hold::Answer(with) if begins(with))).await {
            client.write_all(&answer).await?;
        }
        Ok(())
    }

    async fn forward(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(self.upstream).await?;
        let line = request.windows(2).position(|bytes| bytes == b"\r\n").unwrap() + 2;
        upstream.write_all(&request[..line]).await?;
        upstream.write_all(b"connection: close\r\n").await?;
        upstream.write_all(&request[line..]).await?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

/// Whether the connection between these addresses of this machine is one of the process.
fn owns_connection(process: u32, client: SocketAddr, server: SocketAddr) -> bool {
    let ends_with_port =
        |field: &str, of: SocketAddr| field.ends_with(&format!(":{:04X}", of.port()));
    let sockets = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    let socket = sockets.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (ends_with_port(fields[1], client) && ends_with_port(fields[2], server))
            .then(|| format!("socket:[{}]", fields[9]))
    });
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten();
    let mut files = files.filter_map(|file| file.ok()?.path().read_link().ok());
    socket.is_some_and(|socket| files.any(|file| file.as_os_str() == socket.as_str()))
}

/// Head and body of one request; nothing at the end of the connection.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        if let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if request.len() >= head + 4 + length {
                return Ok(request);
            }
        }
        if client.read_buf(&mut request).await? == 0 {
            return Ok(Vec::new());
        }
    }
}
