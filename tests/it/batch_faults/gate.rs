//! A proxy before the simulator that holds a request of one process, or its answer, until the test lets it go on, or that
//! refuses connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::harness::within_limit;

/// Which requests are held, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Requests that begin with this, once they have arrived whole.
    Request(&'static str),
    /// Their answers, which the simulator has given.
    Answer(&'static str),
}

/// A request that is held.
pub(crate) struct Held(oneshot::Sender<bool>);

impl Held {
    /// Lets it go on. Returns once it has, or once its connection is gone.
    pub(crate) fn release(self) {
        let _ = self.0.send(true);
    }

    /// Ends its connection.
    pub(crate) fn cut(self) {
        let _ = self.0.send(false);
    }
}

pub(crate) struct Gate {
    address: SocketAddr,
    upstream: SocketAddr,
    /// Keeps the port while nobody listens on it.
    _port: TcpSocket,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// For which process, and what.
    hold: Mutex<Option<(u32, Hold)>>,
    hides_date: AtomicBool,
    sender: mpsc::UnboundedSender<Held>,
    held: tokio::sync::Mutex<mpsc::UnboundedReceiver<Held>>,
}

impl Gate {
    pub(crate) async fn start(upstream: SocketAddr) -> Arc<Self> {
        let port = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let (sender, held) = mpsc::unbounded_channel();
        let gate = Arc::new(Self {
            address: port.local_addr().unwrap(),
            upstream,
            _port: port,
            accepting: Mutex::default(),
            hold: Mutex::default(),
            hides_date: AtomicBool::default(),
            sender,
            held: tokio::sync::Mutex::new(held),
        });
        gate.accept();
        gate
    }

    /// Accepts connections.
    pub(crate) fn accept(self: &Arc<Self>) {
        let listener = bind(self.address).listen(1_024).unwrap();
        let gate = Arc::clone(self);
        let accepting = tokio::spawn(async move { gate.serve_all(listener).await });
        *self.accepting.lock().unwrap() = Some(accepting);
    }

    /// From now on new connections are refused. Those that are held go on.
    pub(crate) async fn refuse(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // Its listener is closed once it has ended.
            let _ = accepting.await;
        }
    }

    /// From now on answers do not say what time it is.
    pub(crate) fn hide_date(&self) {
        self.hides_date.store(true, Ordering::Relaxed);
    }

    async fn serve_all(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let gate = Arc::clone(&self);
            // A client that goes away is no concern of the gate.
            tokio::spawn(async move { drop(gate.serve(client).await) });
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on these requests of a process are held; `None`: none. Those that nobody has taken go on.
    pub(crate) fn hold(&self, hold: Option<(u32, Hold)>) {
        let mut now = self.hold.lock().unwrap();
        *now = hold;
        while let Ok(held) = self.held.try_lock().unwrap().try_recv() {
            held.release();
        }
    }

    /// Waits until a request is held.
    pub(crate) async fn next(&self) -> Held {
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
        let date = b"\r\ndate: ";
        if self.hides_date.load(Ordering::Relaxed)
            && let Some(header) = answer.windows(date.len()).position(|bytes| bytes == date)
        {
            answer[header + 2..][..4].copy_from_slice(b"none");
        }
        Ok(answer)
    }
}

/// A socket of this address, which another one of this process may have too.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
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
