//! The connection of one replica to Redis, which a test can hold or cut while the replica reaches everything else.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Open,
    /// Connections last, and nothing gets through.
    Held,
    Cut,
}

pub(crate) struct RedisLink {
    address: SocketAddr,
    state: watch::Sender<LinkState>,
}

impl RedisLink {
    /// A link to the Redis server on this port of the machine.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(LinkState::Open);
        let receiver = state.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, port, receiver.clone()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Ends every connection and each new one, or lets them pass again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.set(LinkState::Cut, is_cut);
    }

    /// Lets nothing get through for a while.
    pub(crate) fn hold(&self, is_held: bool) {
        self.set(LinkState::Held, is_held);
    }

    /// Brings the link into a state, or out of it.
    fn set(&self, state: LinkState, is_on: bool) {
        self.state.send_if_modified(|now| {
            let next = match (is_on, *now == state) {
                (true, _) => state,
                (false, true) => LinkState::Open,
                (false, false) => *now,
            };
            std::mem::replace(now, next) != next
        });
    }
}

async fn forward(mut client: TcpStream, port: u16, mut state: watch::Receiver<LinkState>) {
    let mut forward = pin!(async {
        let mut redis = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        copy_bidirectional(&mut client, &mut redis).await
    });
    loop {
        let is_open = match *state.borrow_and_update() {
            LinkState::Cut => return,
            LinkState::Held => false,
            LinkState::Open => true,
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            _ = &mut forward, if is_open => return,
        }
    }
}
