//! The connection of one replica to Redis, which a test can cut while the replica reaches everything else.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct RedisLink {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl RedisLink {
    /// A link to the Redis server on this port of the machine.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = watch::Sender::new(false);
        let receiver = is_cut.subscribe();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut is_cut = receiver.clone();
                tokio::spawn(async move {
                    let forward = async {
                        let mut redis = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                        copy_bidirectional(&mut client, &mut redis).await
                    };
                    tokio::select! {
                        _ = is_cut.wait_for(|is_cut| *is_cut) => {}
                        _ = forward => {}
                    }
                });
            }
        });
        Self { address, is_cut }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Ends every connection and each new one, or lets them pass again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}
