//! LineTransport of standard input: each line reaches the server or is refused, at most once.

#![no_main]

use std::io::Cursor;

use callingbox_mcp::stdio::LineTransport;
use libfuzzer_sys::fuzz_target;
use rmcp::model::JsonRpcMessage;
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::io::{AsyncReadExt, duplex};
use tokio_util::sync::CancellationToken;

fuzz_target!(|input: &[u8]| {
    let lines = input.iter().filter(|byte| **byte == b'\n').count();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (requests, written) = runtime.block_on(async {
        // Larger than the error responses to any input of the fuzzer.
        let (output, mut responses) = duplex(16 * 1024 * 1024);
        let input = Cursor::new(input.to_vec());
        let mut transport = LineTransport::new(input, output, CancellationToken::new());
        let mut requests = 0;
        while let Some(message) = transport.receive().await {
            requests += usize::from(matches!(message, JsonRpcMessage::Request(_)));
        }
        drop(transport);
        let mut written = Vec::new();
        responses.read_to_end(&mut written).await.unwrap();
        (requests, written)
    });
    let errors: Vec<Value> = written
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(errors.iter().all(|error| error["error"]["code"].is_i64()));
    assert!(
        requests + errors.len() <= lines,
        "{requests} requests and {errors:?} of {lines} lines"
    );
});
