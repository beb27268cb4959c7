//! A canned CallingBox API for `compare.py` and `waits.py`: it answers each read of a call with `call.json`, in
//! progress for ids that begin with `live-`, and has one agent, which names the organization. It keeps no state.
//!
//! It uses the standard library only, so that `rustc -O` alone builds it. It is written in Rust because a Python one
//! would be the bottleneck at 50 concurrent requests.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

const CALL: &str = include_str!("call.json");
const AGENT: &str =
    r#"{"id":"0b8f5c52-7d1e-4a36-8f0b-5a1d3c9e7f21","org_id":"org_1","name":"Reminders","type":"outbound"}"#;

/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || serve_connection(stream));
    }
    Ok(())
}

fn serve_connection(mut stream: TcpStream) -> io::Result<()> {
    // Without TCP_NODELAY each client measures the 40 ms of a delayed acknowledgement.
    stream.set_nodelay(true)?;
    let ended = format_response("200 OK", CALL.trim());
    let agents = format_response("200 OK", &format!(r#"{{"data":[{AGENT}],"has_more":false}}"#));
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 || head.len() > MAX_HEAD {
            return Ok(());
        }
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let request = String::from_utf8_lossy(head.get(..end).unwrap_or_default());
            let path = request.split(' ').nth(1).unwrap_or_default();
            match path.strip_prefix("/v1/calls/") {
                Some(id) if id.starts_with("live-") => stream.write_all(&live_call(id))?,
                Some(_) => stream.write_all(&ended)?,
                None if path.starts_with("/v1/agents/") => stream.write_all(&format_response("200 OK", AGENT))?,
                None if path.starts_with("/v1/agents") => stream.write_all(&agents)?,
                None => stream.write_all(&format_response("404 Not Found", r#"{"error":"not found"}"#))?,
            }
            head.drain(..end + 4);
        }
    }
}

/// The call under this id, in progress.
fn live_call(id: &str) -> Vec<u8> {
    let call = CALL.trim().replace(r#""status":"completed""#, r#""status":"in_progress""#);
    let rest = call.split_once("\",").map_or("", |(_, rest)| rest);
    format_response("200 OK", &format!("{{\"id\":\"{id}\",{rest}"))
}

fn format_response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}
