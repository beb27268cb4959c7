//! A proxy that breaks what passes through it: one request a connection, one fault a request.
//! What it breaks is drawn from a seed; what it broke is counted.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::chaos::random::Random;

/// What may go wrong with a request. `before` means that it never reaches the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    None,
    /// Nobody listens for a moment: the connection is refused.
    Refused,
    ResetBefore,
    ResetAfter,
    CutBody,
    CutHead,
    Garbage,
    GarbageBody,
    StatusBefore(u16, bool),
    /// A 502 in the API's own form: the provider could not place the call.
    ProviderBefore,
    ProviderAfter,
    StatusAfter(u16),
    /// The answer comes after the client has given up.
    LateAnswer,
    /// The request is carried out after the client has given up, within its search.
    Held,
    /// The same, after its search has ended, and perhaps after that of whoever asks again.
    HeldLong,
    SlowBody,
    /// So slow that the client gives up within the body.
    EndlessBody,
}

const FAULTS: [Fault; 24] = [
    Fault::Refused,
    Fault::ResetBefore,
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::ResetAfter,
    Fault::CutBody,
    Fault::CutHead,
    Fault::Garbage,
    Fault::GarbageBody,
    Fault::StatusBefore(500, false),
    Fault::StatusBefore(502, false),
    Fault::StatusBefore(503, false),
    Fault::StatusBefore(503, true),
    Fault::StatusBefore(429, true),
    Fault::ProviderBefore,
    Fault::ProviderAfter,
    Fault::StatusAfter(408),
    Fault::StatusAfter(500),
    Fault::StatusAfter(502),
    Fault::LateAnswer,
    Fault::Held,
    Fault::HeldLong,
    Fault::SlowBody,
    Fault::EndlessBody,
];

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    upstream: SocketAddr,
    random: Random,
    breaking: AtomicBool,
    /// Requests that are under way in it.
    busy: AtomicU64,
    counts: Mutex<BTreeMap<Fault, u64>>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr, seed: u64) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            upstream,
            random: Random::new(seed),
            breaking: AtomicBool::new(true),
            busy: AtomicU64::new(0),
            counts: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&proxy).listen(listener));
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on everything passes; what is held back still goes its way.
    pub(crate) fn heal(&self) {
        self.breaking.store(false, Ordering::SeqCst);
    }

    /// Waits until nothing is held back any more.
    pub(crate) async fn quiet(&self) {
        while self.busy.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        self.counts.lock().unwrap().clone()
    }

    async fn listen(self: Arc<Self>, mut listener: TcpListener) {
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            if self.breaking.load(Ordering::SeqCst) && self.random.percent(1) {
                drop(listener);
                self.count(Fault::Refused);
                let pause = 30 + self.random.below(120);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                listener = self.listen_again().await;
            }
            let proxy = Arc::clone(&self);
            self.busy.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                // A connection that breaks of itself is one fault more, and nobody's.
                let _ = proxy.serve(client).await;
                proxy.busy.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    async fn listen_again(&self) -> TcpListener {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            if socket.bind(self.address).is_ok()
                && let Ok(listener) = socket.listen(1024)
            {
                return listener;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn count(&self, fault: Fault) {
        *self.counts.lock().unwrap().entry(fault).or_default() += 1;
    }

    fn draw(&self, request: &[u8]) -> Fault {
        let post = request.starts_with(b"POST ");
        let likely = if post { 60 } else { 8 };
        let fault = if self.breaking.load(Ordering::SeqCst) && self.random.percent(likely) {
            FAULTS[usize::try_from(self.random.below(FAULTS.len() as u64)).unwrap()]
        } else {
            Fault::None
        };
        match fault {
            // Refusing is done where connections are taken.
            Fault::Refused => Fault::ResetBefore,
            // A search held back for long only slows the test down.
            Fault::HeldLong | Fault::EndlessBody if !post => Fault::CutBody,
            fault => fault,
        }
    }

    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let request = read_request(&mut client).await?;
        if request.is_empty() {
            return Ok(());
        }
        let fault = self.draw(&request);
        self.count(fault);
        let wait = async |from: u64, more: u64| {
            let wait = from + self.random.below(more);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        };
        match fault {
            Fault::ResetBefore => return reset(client),
            Fault::StatusBefore(status, later) => {
                return client.write_all(&refusal(status, later, "upstream trouble")).await;
            }
            Fault::ProviderBefore => {
                let body = r#"{"error":"the telephony provider could not place the call"}"#;
                return client.write_all(&refusal(502, false, body)).await;
            }
            Fault::Held => wait(1_100, 3_000).await,
            Fault::HeldLong => wait(9_000, 21_000).await,
            _ => {}
        }
        let answer = self.forward(&request).await?;
        // Nothing comes back when the simulator ends before its last requests do.
        let Some(head) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(()) };
        let head = head + 4;
        match fault {
            Fault::ResetAfter => reset(client),
            Fault::CutBody => client.write_all(&answer[..(head + answer.len()) / 2]).await,
            Fault::CutHead => client.write_all(&answer[..head / 2]).await,
            Fault::Garbage => client.write_all(b"\x16\x03\x01 not HTTP at all \xff\xfe\r\n").await,
            Fault::GarbageBody => {
                let body = "<html>{\"id\": 17, \"sta";
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length";
                client.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await
            }
            Fault::ProviderAfter => {
                let body = r#"{"error":"the telephony provider could not place the call"}"#;
                client.write_all(&refusal(502, false, body)).await
            }
            Fault::StatusAfter(status) => {
                client.write_all(&refusal(status, false, "<html>bad gateway</html>")).await
            }
            Fault::LateAnswer => {
                wait(1_050, 1_000).await;
                client.write_all(&answer).await
            }
            Fault::SlowBody | Fault::EndlessBody => {
                client.write_all(&answer[..head]).await?;
                let pause = if fault == Fault::SlowBody { 40 } else { 300 };
                for piece in answer[head..].chunks((answer.len() - head) / 8 + 1) {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    client.write_all(piece).await?;
                }
                Ok(())
            }
            _ => client.write_all(&answer).await,
        }
    }

    /// Takes the request to the simulator on a connection of its own; gives the whole answer.
    async fn forward(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(self.upstream).await?;
        let line = request.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
        upstream.write_all(&request[..line]).await?;
        upstream.write_all(b"connection: close\r\n").await?;
        upstream.write_all(&request[line..]).await?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

/// Head and body of one request; nothing at the end of the connection.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let head = request.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(head) = head {
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

fn refusal(status: u16, later: bool, body: &str) -> Vec<u8> {
    let later = if later { "retry-after: 0\r\n" } else { "" };
    let length = body.len();
    format!("HTTP/1.1 {status} Trouble\r\nconnection: close\r\n{later}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Ends the connection with a reset instead of an end.
fn reset(client: TcpStream) -> std::io::Result<()> {
    client.set_zero_linger()
}

/// The kinds of fault that did not happen.
pub(crate) fn missing(counts: &BTreeMap<Fault, u64>) -> Vec<Fault> {
    FAULTS.into_iter().filter(|fault| !counts.contains_key(fault)).collect()
}
