//! The canned upstream of `benches/compare.py`: answers every read of a call with `call.json`, as
//! fast as it can. It knows no other endpoint and keeps no state.
//!
//! The standard library only, so that `rustc -O` alone builds it; one thread for each connection.
//! In Rust because one in Python is itself the bottleneck at 50 requests at once. `TCP_NODELAY` is
//! set: without it every client measures the 40 ms of a delayed acknowledgement.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

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
            let known = head.starts_with(b"GET /v1/calls/");
            stream.write_all(if known { &call } else { &nothing })?;
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
