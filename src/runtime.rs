//! Opens the world that the command line asks for: the real account, or a simulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::account::{Account, Environment};
use crate::cli::{self, Global, State};
use crate::config::{self, ConfigError, File, Folders};
use crate::dialing::dispatch::{Dialer, LedgerPlace};
use crate::dialing::ledger::Tenant;
use crate::dialing::rules::LiveRules;
use crate::environment::variable;
use crate::simulator::{self, Simulator};
use crate::state::SharedState;
use callingbox::{self, ApiKey, BaseUrl, ClientConfig, InvalidBaseUrl, Timeouts};
use callingbox_sandbox::{ClockMode, Options, Sandbox};

/// An open world.
pub(crate) struct Open {
    account: Arc<Account>,
    embedded: Option<Sandbox>,
    maker: Maker,
}

/// Makes accounts of one world, for keys that others bring.
#[derive(Clone)]
pub(crate) struct Maker {
    environment: Environment,
    base_url: BaseUrl,
    file: File,
    rules: LiveRules,
    folders: Folders,
    more: More,
    under_way: TaskTracker,
}

/// How long dispatches that nobody waits for any more may take to be written down, before the process ends.
const GRACE: Duration = Duration::from_secs(25);

/// What `http` adds.
#[derive(Clone, Default)]
pub(crate) struct More {
    /// An address for the events of calls.
    pub(crate) webhook_url: Option<Url>,
    /// Where several replicas keep their ledger.
    pub(crate) shared: Option<SharedState>,
}

impl More {
    /// Where the ledger of this world is.
    pub(crate) fn ledger(
        &self,
        file: &File,
        environment: Environment,
        folders: &Folders,
    ) -> LedgerPlace {
        let own = || file.dialing.place(environment, folders);
        self.shared.clone().map_or_else(own, LedgerPlace::Redis)
    }
}

/// What is shared with other replicas.
pub(crate) fn shared(options: &State, file: &File) -> anyhow::Result<Option<SharedState>> {
    let Some(address) = &options.state else { return Ok(None) };
    anyhow::ensure!(
        file.dialing.ledger.is_none(),
        "--state and `ledger` under [dialing] in the configuration both say where the ledger is; take one of them out"
    );
    Ok(Some(SharedState::open(address.expose_secret()).context("--state")?))
}

impl Maker {
    /// The account of a key. In the sandbox every key is an organization of its own.
    pub(crate) async fn account(&self, key: ApiKey) -> anyhow::Result<Account> {
        let simulator = match self.environment {
            Environment::Live => None,
            Environment::Sandbox => {
                Some(Simulator::connect(self.base_url.clone(), key.clone()).await?)
            }
        };
        Ok(self.account_on(key, simulator))
    }

    /// Reads the calling rules again, for every account that it made. When they cannot be read, those of
    /// before still hold.
    ///
    /// # Errors
    /// Why they cannot be read, with file and line.
    pub(crate) fn reload_rules(&self) -> Result<(), ConfigError> {
        let before = self.rules.get();
        let policy = config::policy_again(&self.file, &self.folders, &before.policy)?;
        self.rules.set(self.file.dialing.rules(self.environment, policy));
        Ok(())
    }

    fn account_on(&self, key: ApiKey, simulator: Option<Simulator>) -> Account {
        let Self { environment, base_url, file, rules, folders, more, under_way } = self;
        let place = more.ledger(file, *environment, folders);
        let tenant = tenant(&key, base_url, simulator.as_ref());
        let client = client(base_url.clone(), key, file);
        let dialer = Dialer::new(client.clone(), tenant, *environment, place, rules.clone());
        let dialer = Arc::new(dialer.tracked_by(under_way.clone()));
        let wait = file.wait.clone();
        let account = match simulator {
            None => Account::real(Some((client, dialer)), wait),
            Some(simulator) => Account::sandbox(client, dialer, simulator, wait),
        };
        account.with_webhook_url(more.webhook_url.clone().map(String::from))
    }
}

impl Open {
    /// The account in it.
    pub(crate) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    /// What makes more accounts in it.
    pub(crate) fn maker(&self) -> Maker {
        self.maker.clone()
    }

    /// What its accounts have under way.
    pub(crate) fn under_way(&self) -> TaskTracker {
        self.maker.under_way.clone()
    }

    /// Waits until what was being dialed is done and written down, whoever asked for it and is gone.
    pub(crate) async fn finish(&self) {
        let under_way = &self.maker.under_way;
        under_way.close();
        if tokio::time::timeout(GRACE, under_way.wait()).await.is_err() {
            tracing::warn!(
                dispatches = under_way.len(),
                "what became of a dispatch is not written down"
            );
        }
    }

    /// Ends what was begun with it.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Some(sandbox) = self.embedded {
            sandbox.shutdown().await?;
        }
        Ok(())
    }
}

/// A simulator that answers.
pub(crate) struct Simulated {
    /// Where it is.
    pub(crate) base_url: BaseUrl,
    /// The organization on it.
    pub(crate) key: ApiKey,
    /// Its controls.
    pub(crate) simulator: Simulator,
    /// It itself, where it runs in this process.
    pub(crate) embedded: Option<Sandbox>,
}

/// Opens it.
pub(crate) async fn open(global: &Global, file: &File, folders: &Folders) -> anyhow::Result<Open> {
    open_with(global, file, folders, More::default()).await
}

/// Opens it, with what `http` adds.
pub(crate) async fn open_with(
    global: &Global,
    file: &File,
    folders: &Folders,
    more: More,
) -> anyhow::Result<Open> {
    let wait = file.wait.clone();
    let policy = config::policy(file, folders)?;
    let Some(simulator) = &global.sandbox else {
        let found = config::credentials(file, &variable, folders)?;
        let maker = Maker {
            environment: Environment::Live,
            base_url: found.base_url,
            file: file.clone(),
            rules: file.dialing.rules(Environment::Live, policy).into(),
            folders: folders.clone(),
            more,
            under_way: TaskTracker::new(),
        };
        let account = match found.key {
            Some((key, _)) => maker.account(key).await?,
            None => Account::real(None, wait),
        };
        return Ok(Open { account: Arc::new(account), embedded: None, maker });
    };
    let Simulated { base_url, key, simulator, embedded } =
        simulate(simulator.as_deref(), global.sandbox_speed).await?;
    let maker = Maker {
        environment: Environment::Sandbox,
        base_url,
        file: file.clone(),
        rules: file.dialing.rules(Environment::Sandbox, policy).into(),
        folders: folders.clone(),
        more,
        under_way: TaskTracker::new(),
    };
    let account = Arc::new(maker.account_on(key, Some(simulator)));
    Ok(Open { account, embedded, maker })
}

/// The address of a simulator, as it is given with `--sandbox`.
pub(crate) fn simulator_url(url: &str) -> anyhow::Result<BaseUrl> {
    // Whatever is not on this machine is refused where it is opened, http or not.
    BaseUrl::parse(url, true).map_err(|error| match error {
        InvalidBaseUrl::NotAnUrl => {
            anyhow::anyhow!("the address of a simulator is written like {}", cli::SIMULATOR_URL)
        }
        other => other.into(),
    })
}

/// The simulator at this address, or one of this process's own.
pub(crate) async fn simulate(url: Option<&str>, speed: Option<f64>) -> anyhow::Result<Simulated> {
    let (url, embedded) = match url {
        Some(url) => (url.to_owned(), None),
        None => {
            let speed = speed.unwrap_or(cli::SANDBOX_SPEED);
            let options = Options { clock: ClockMode::Speed(speed), ..Options::default() };
            let sandbox = Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options)
                .await
                .context("the embedded simulator could not start")?;
            (sandbox.url(), Some(sandbox))
        }
    };
    let base_url = simulator_url(&url).with_context(|| format!("--sandbox={url}"))?;
    anyhow::ensure!(
        base_url.is_loopback(),
        "--sandbox={url}: a simulator runs on this machine, and this address is elsewhere"
    );
    let key = ApiKey::new(simulator::KEY.to_owned())?;
    let simulator = Simulator::connect(base_url.clone(), key.clone()).await?;
    Ok(Simulated { base_url, key, simulator, embedded })
}

/// The account's name in the ledger. The ledger outlives what a simulator knows: an organization that
/// began anew must not be taken for the one before it, whose calls and numbers are no more.
pub(crate) fn tenant(key: &ApiKey, base_url: &BaseUrl, simulator: Option<&Simulator>) -> Tenant {
    let key = key.expose().as_bytes();
    match simulator {
        None => Tenant::new(key, &base_url.to_string()),
        Some(simulator) => Tenant::new(key, &format!("{base_url}#{}", simulator.incarnation())),
    }
}

/// The API, asked with the patience of the configuration.
fn client(base_url: BaseUrl, key: ApiKey, file: &File) -> callingbox::Client {
    callingbox::Client::new(ClientConfig {
        timeouts: timeouts(file),
        ..ClientConfig::new(base_url, key)
    })
}

/// The patience of the configuration.
pub(crate) fn timeouts(file: &File) -> Timeouts {
    let usual = Timeouts::default();
    file.request_seconds.map_or(usual, |seconds| {
        let request = Duration::from_secs(seconds.clamp(1, 600));
        Timeouts { request, total: request.mul_f64(1.5), ..usual }
    })
}
