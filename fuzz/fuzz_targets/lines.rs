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
    let (heard, written) = runtime.block_on(async {
        // No input of this size has longer answers.
        let (output, mut answers) = duplex(16 * 1024 * 1024);
        let input = Cursor::new(input.to_vec());
        let mut lines = LineTransport::new(input, output, CancellationToken::new());
        let mut heard = 0;
        while let Some(message) = lines.receive().await {
            heard += usize::from(matches!(message, JsonRpcMessage::Request(_)));
        }
        drop(lines);
        let mut written = Vec::new();
        answers.read_to_end(&mut written).await.unwrap();
        (heard, written)
    });
    let refused: Vec<Value> = written
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(refused.iter().all(|refused| refused["error"]["code"].is_i64()));
    assert!(heard + refused.len() <= lines, "{heard} heard and {refused:?} of {lines}");
});
