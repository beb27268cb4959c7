//! The canned upstream of `benches/compare.py` and `curves.py`: answers reads of calls with `call.json`, as
//! fast as it can. It keeps no state; what it answers stands in the path:
//!
//! | Path | Answer |
//! |---|---|
//! | `/v1/calls/live-…` | the call, in progress |
//! | `/v1/calls/{id}` | the call, ended |
//! | `/v1/calls/lines-N/transcript` | a transcript of N lines |
//! | `/v1/calls?limit=N` | N calls, and that there are more |
//!
//! The standard library only, so that `rustc -O` alone builds it; one thread for each connection.
//! In Rust because one in Python is itself the bottleneck at 50 requests at once. `TCP_NODELAY` is
//! set: without it every client measures the 40 ms of a delayed acknowledgement.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};

const CALL: &str = include_str!("call.json");

/// The longest head of a request that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that goes away is no concern of the others.
        std::thread::spawn(move || drop(serve(stream)));
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let call = answer("200 OK", CALL.trim());
    let live = CALL.trim().replace(r#""status":"completed""#, r#""status":"in_progress""#);
    let live = answer("200 OK", &live);
    let nothing = answer("404 Not Found", r#"{"error":"not found"}"#);
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 || head.len() > MAX_HEAD {
            return Ok(());
        }
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let line = head.get(..end).unwrap_or_default();
            let line = line.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let path = line.strip_prefix(b"GET /v1/calls").unwrap_or_default();
            if let Some(of) = path.strip_prefix(b"/live-") {
                // Each under its own id, or they would be one call.
                let id = String::from_utf8_lossy(
                    of.split(|byte| *byte == b' ').next().unwrap_or_default(),
                );
                stream.write_all(&with_id(&live, &format!("live-{id}")))?;
            } else if path.starts_with(b"/lines-") && path.windows(12).any(|w| w == b"/transcript ")
            {
                stream.write_all(&large(path, transcript))?;
            } else if path.starts_with(b"/") {
                stream.write_all(&call)?;
            } else if path.starts_with(b"?") {
                stream.write_all(&large(path, list))?;
            } else {
                stream.write_all(&nothing)?;
            }
            head.drain(..end + 4);
        }
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The same under another id.
fn with_id(answer_to: &[u8], id: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer_to);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let rest = body.split_once("\",").map_or("", |(_, rest)| rest);
    answer("200 OK", &format!("{{\"id\":\"{id}\",{rest}"))
}

/// The large answer to this path, made once.
fn large(path: &[u8], make: fn(&str) -> String) -> Arc<Vec<u8>> {
    type Answers = HashMap<Vec<u8>, Arc<Vec<u8>>>;
    static MADE: OnceLock<Mutex<Answers>> = OnceLock::new();
    let mut made =
        MADE.get_or_init(Mutex::default).lock().unwrap_or_else(|broken| broken.into_inner());
    let path = path.split(|byte| *byte == b' ').next().unwrap_or_default();
    let text = String::from_utf8_lossy(path);
    Arc::clone(
        made.entry(path.to_vec()).or_insert_with(|| Arc::new(answer("200 OK", &make(&text)))),
    )
}

/// The number after `name` in a path.
fn number(path: &str, name: &str) -> usize {
    let rest = path.split_once(name).map_or("", |(_, rest)| rest);
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_default()
}

fn transcript(path: &str) -> String {
    let lines = (1..=number(path, "lines-")).map(|at| {
        let role = if at % 2 == 0 { "agent" } else { "user" };
        format!(
            r#"{{"sequence_no":{at},"role":"{role}","text":"Yes, that is right, and we would come on Tuesday at three.","started_at":"2026-04-15T14:30:16Z","ended_at":"2026-04-15T14:30:19Z","duration_ms":2900,"source":"speech"}}"#
        )
    });
    format!(r#"{{"call_id":"c","segments":[{}]}}"#, lines.collect::<Vec<_>>().join(","))
}

fn list(path: &str) -> String {
    let first = number(path, "starting_after=c") + 1;
    let rest = CALL.trim().split_once("\",").map_or("", |(_, rest)| rest);
    let calls =
        (first..first + number(path, "limit=")).map(|at| format!("{{\"id\":\"c{at}\",{rest}"));
    format!(r#"{{"data":[{}],"has_more":true}}"#, calls.collect::<Vec<_>>().join(","))
}
