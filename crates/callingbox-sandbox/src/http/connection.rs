//! A handle on a client's connection, with which a handler can end it by a TCP reset.

use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::net::TcpStream;

#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// A second handle on the socket; `None` if the system had none left.
    socket: Option<Arc<Socket>>,
}

impl Connection {
    pub(super) fn new(stream: &TcpStream) -> Self {
        let socket = SockRef::from(stream);
        // Without it, an answer in two segments waits for an acknowledgment. A failure costs only time.
        let _ = socket.set_tcp_nodelay(true);
        Self { socket: socket.try_clone().ok().map(Arc::new) }
    }

    /// Makes the system end the connection with a reset, rather than in the ordinary way, once it is closed.
    pub(super) fn reset_on_close(&self) {
        if let Some(socket) = &self.socket {
            // If it fails, the connection still closes without an answer.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}
