//! Lines of standard input: each reaches the server or is refused, at most once; and what is read as a plain
//! call at first sight, rmcp reads as the same request.

#![no_main]

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use callingbox_mcp::transport::plain::PlainCall;
use callingbox_mcp::transport::stdio::Lines;
use libfuzzer_sys::fuzz_target;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::{Value, to_value};
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

/// Output that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Kept {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fuzz_target!(|input: &[u8]| {
    let lines = input.iter().filter(|byte| **byte == b'\n').count();
    for line in input.split(|byte| *byte == b'\n') {
        if let Some(call) = PlainCall::read(line) {
            let theirs: ClientJsonRpcMessage = serde_json::from_slice(line).unwrap();
            assert_eq!(to_value(call.into_message()).unwrap(), to_value(theirs).unwrap());
        }
    }

    let output = Kept::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let heard = runtime.block_on(async {
        let input = io::Cursor::new(input.to_vec());
        let mut lines = Lines::new(input, output.clone(), CancellationToken::new());
        let mut heard = 0;
        while let Some(message) = lines.receive().await {
            heard += usize::from(matches!(message, JsonRpcMessage::Request(_)));
        }
        heard
    });
    let written = output.0.lock().unwrap();
    let refused: Vec<Value> = written
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(refused.iter().all(|refused| refused["error"]["code"].is_i64()));
    assert!(heard + refused.len() <= lines, "{heard} heard and {refused:?} of {lines}");
});
