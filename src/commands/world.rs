//! Opens the world that the command line asks for: the real account, or a simulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;

use crate::account::Account;
use crate::api::{self, ApiKey, BaseUrl, ClientConfig};
use crate::cli::Global;
use crate::config::{self, File, Folders};
use crate::sandbox::{ClockMode, Options, Sandbox};
use crate::simulator::{self, Simulator};

/// An open world.
pub(super) struct Open {
    account: Arc<Account>,
    embedded: Option<Sandbox>,
}

impl Open {
    /// The account in it.
    pub(super) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    /// Ends what was begun with it.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        if let Some(sandbox) = self.embedded {
            sandbox.shutdown().await?;
        }
        Ok(())
    }
}

/// Opens it.
pub(super) async fn open(global: &Global, file: &File, folders: &Folders) -> anyhow::Result<Open> {
    let wait = file.wait.clone();
    let Some(simulator) = &global.sandbox else {
        let env = |name: &str| std::env::var(name).ok();
        let found = config::credentials(file, &env, folders)?;
        let client =
            found.key.map(|(key, _)| api::Client::new(ClientConfig::new(found.base_url, key)));
        return Ok(Open { account: Arc::new(Account::real(client, wait)), embedded: None });
    };
    let (url, embedded) = match simulator {
        Some(url) => (url.clone(), None),
        None => {
            let options =
                Options { clock: ClockMode::Speed(global.sandbox_speed), ..Options::default() };
            let sandbox = Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options)
                .await
                .context("the embedded simulator could not start")?;
            (sandbox.url(), Some(sandbox))
        }
    };
    let base_url = BaseUrl::parse(&url, false).with_context(|| format!("--sandbox={url}"))?;
    anyhow::ensure!(
        base_url.is_loopback(),
        "--sandbox={url}: a simulator runs on this machine, and this address is elsewhere"
    );
    let key = ApiKey::new(simulator::KEY.to_owned())?;
    let simulator = Simulator::connect(base_url.clone(), key.clone()).await?;
    let client = api::Client::new(ClientConfig::new(base_url, key));
    Ok(Open { account: Arc::new(Account::sandbox(client, simulator, wait)), embedded })
}
