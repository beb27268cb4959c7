//! Wires the program together: from the command line and the configuration it makes the API client, the ledger
//! and the account of one environment: live, or a simulator. Knows neither MCP nor HTTP servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::account::{Account, Environment};
use crate::cli::{self, Global, StateArgs};
use crate::config::{self, ConfigError, ConfigFile};
use crate::dialing::clock::DialingClock;
use crate::dialing::dialer::Dialer;
use crate::dialing::ledger::KeyRef;
use crate::dialing::ledger::LedgerLocation;
use crate::dialing::policy::Policy;
use crate::dialing::rules::{CardIsHuman, DialingRules, SharedRules};
use crate::env_var::read_env_var;
use crate::protected_file::check_writers;
use crate::settings::ProgramSettings;
use crate::simulator::{self, Simulator};
use crate::state::SharedState;
use crate::system::Os;
use crate::telemetry::metrics;
use crate::telemetry::traces::TRACE_HEADERS;
use crate::text_file::{FileStamp, read_stamp};
use callingbox::{ApiKey, BaseUrl, ClientConfig, InvalidBaseUrl, Timeouts};
use callingbox_sandbox::{ClockMode, Options, Sandbox};

/// How long the process waits at its end for dispatches to be recorded.
const DISPATCH_GRACE: Duration = Duration::from_secs(25);

/// The account of the command line, and everything that must be closed after it.
pub(crate) struct Runtime {
    account: Arc<Account>,
    embedded: Option<Sandbox>,
    accounts: AccountFactory,
}

/// Makes the accounts of one environment, one for each API key.
#[derive(Clone)]
pub(crate) struct AccountFactory {
    settings: ProgramSettings,
    base_url: BaseUrl,
    rules: SharedRules,
    rules_stamp: Arc<Mutex<Option<FileStamp>>>,
    extras: HttpExtras,
    dispatches: TaskTracker,
}

/// The parts of a runtime that only the command `http` has.
#[derive(Clone, Default)]
pub(crate) struct HttpExtras {
    /// The address of this server that receives the events of calls.
    pub(crate) webhook_url: Option<Url>,
    /// The Redis that several replicas share; it then holds the ledger.
    pub(crate) shared: Option<SharedState>,
    /// Whether this is the command `http`.
    pub(crate) over_http: bool,
}

impl HttpExtras {
    /// The rules by which the accounts of this command dial.
    fn rules(&self, settings: &ProgramSettings, policy: Policy) -> DialingRules {
        let policy = if self.over_http { policy.over_http() } else { policy };
        let mut rules = settings.file.dialing_rules(settings.environment(), policy);
        if self.over_http && settings.file.dialing.card_is_human.is_none() {
            rules.card_is_human = CardIsHuman::Never;
        }
        rules
    }
}

/// The ledger of this environment, which is in the Redis that several replicas share, if there is one.
pub(crate) fn ledger_location(
    settings: &ProgramSettings,
    shared: Option<SharedState>,
) -> LedgerLocation {
    let ProgramSettings { file, folders, .. } = settings;
    let local = || file.dialing.ledger_place(settings.environment(), folders);
    shared.map_or_else(local, LedgerLocation::Redis)
}

/// Opens the Redis that several replicas share, if one is named.
pub(crate) fn open_shared_state(
    args: &StateArgs,
    settings: &ProgramSettings,
) -> anyhow::Result<Option<SharedState>> {
    let Some(url) = &args.state else { return Ok(None) };
    anyhow::ensure!(
        settings.file.dialing.ledger.is_none(),
        "--state and `ledger` under [dialing] in the configuration both name a ledger; remove one of them"
    );
    Ok(Some(SharedState::open(url.expose_secret()).context("--state")?))
}

impl AccountFactory {
    /// Makes the account of an API key. In the sandbox, every key is an organization of its own.
    pub(crate) async fn open_account(&self, key: ApiKey) -> anyhow::Result<Account> {
        let simulator = match self.settings.environment() {
            Environment::Live => None,
            Environment::Sandbox => {
                Some(Simulator::connect(self.base_url.clone(), key.clone()).await?)
            }
        };
        Ok(self.build_account(key, simulator))
    }

    /// Whether the money that calls may cost in a day is limited.
    pub(crate) fn limits_spending(&self) -> bool {
        self.rules.get().policy.enforced_limits().spend_per_day.is_some()
    }

    /// Reads the calling rules again, for every account of this factory, if their file has changed, or in any case if
    /// `force` is set. If that fails, the rules loaded before stay in force. Blocks on file access.
    pub(crate) fn reload_rules_if_changed(&self, force: bool) {
        let stamp = rules_stamp(&self.settings);
        let has_changed = std::mem::replace(&mut *self.rules_stamp.lock(), stamp.clone()) != stamp;
        if !has_changed && !force {
            return;
        }
        match self.reload_rules() {
            Ok(()) => tracing::info!("calling rules reloaded"),
            Err(error) => {
                tracing::error!(%error, "calling rules not reloaded; the rules loaded before stay in force");
            }
        }
    }

    fn reload_rules(&self) -> Result<(), ConfigError> {
        let rules = |policy| self.extras.rules(&self.settings, policy);
        let had_file = self.rules.get().policy != rules(Policy::default()).policy;
        let ProgramSettings { file, folders, .. } = &self.settings;
        self.rules.set(rules(config::reload_policy(file, folders, had_file)?));
        Ok(())
    }

    fn build_account(&self, key: ApiKey, simulator: Option<Simulator>) -> Account {
        let Self { settings, base_url, rules, extras, dispatches, .. } = self;
        let ledger = ledger_location(settings, extras.shared.clone());
        let key_ref = key_ref(&key, base_url, simulator.as_ref());
        let timeouts = api_timeouts(&settings.file);
        let client = callingbox::ApiClient::new(ClientConfig {
            timeouts,
            ..client_config(base_url.clone(), key)
        });
        let clock = simulator.as_ref().map_or_else(DialingClock::machine, Simulator::dialing_clock);
        let dialer =
            Dialer::new(client.clone(), key_ref, settings.environment(), ledger, rules.clone())
                .with_clock(clock);
        let dialer = Arc::new(dialer.tracked_by(dispatches.clone()));
        let wait = settings.file.wait.clone();
        let webhook_url = extras.webhook_url.clone().map(String::from);
        Account::new(client, dialer, simulator, wait, webhook_url)
    }
}

impl Runtime {
    pub(crate) async fn open(settings: &ProgramSettings) -> anyhow::Result<Self> {
        Self::open_with(settings, HttpExtras::default(), None).await
    }

    /// A `key` takes the place of the one that is set.
    pub(crate) async fn open_with(
        settings: &ProgramSettings,
        extras: HttpExtras,
        key: Option<ApiKey>,
    ) -> anyhow::Result<Self> {
        let stamp = rules_stamp(settings);
        let policy = settings.load_policy()?;
        for path in settings.rule_files() {
            warn_of_writers(&path);
        }
        let factory = |base_url| AccountFactory {
            settings: settings.clone(),
            base_url,
            rules: extras.rules(settings, policy).into(),
            rules_stamp: Arc::new(Mutex::new(stamp)),
            extras,
            dispatches: TaskTracker::new(),
        };
        let (accounts, account, embedded) = match &settings.global.sandbox {
            None => {
                let found = settings.find_credentials()?;
                for problem in config::check_network_variables(Os::this(), &read_env_var) {
                    tracing::warn!("{problem}");
                }
                let accounts = factory(found.base_url);
                let set_key = || {
                    let (key, source) = found.key?;
                    source.path().into_iter().for_each(warn_of_writers);
                    Some(key)
                };
                let account = match key.or_else(set_key) {
                    Some(key) => accounts.open_account(key).await?,
                    None => Account::without_key(settings.file.wait.clone()),
                };
                (accounts, account, None)
            }
            Some(url) => {
                let SimulatorConnection { base_url, key, simulator, embedded } =
                    connect_simulator(url.as_deref(), &settings.global).await?;
                let accounts = factory(base_url);
                let account = accounts.build_account(key, Some(simulator));
                (accounts, account, embedded)
            }
        };
        Ok(Self { account: Arc::new(account), embedded, accounts })
    }

    pub(crate) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    pub(crate) fn account_factory(&self) -> AccountFactory {
        self.accounts.clone()
    }

    /// The dispatches in progress, of all accounts.
    pub(crate) fn dispatches(&self) -> TaskTracker {
        self.accounts.dispatches.clone()
    }

    /// Waits until every dispatch is recorded, even if its caller is gone.
    pub(crate) async fn finish_dispatches(&self) {
        let dispatches = &self.accounts.dispatches;
        dispatches.close();
        if tokio::time::timeout(DISPATCH_GRACE, dispatches.wait()).await.is_err() {
            tracing::warn!(
                unfinished = dispatches.len(),
                "dispatches did not finish before the process ended; their outcome is not in the ledger"
            );
        }
    }

    /// Stops the embedded simulator, if there is one.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Some(sandbox) = self.embedded {
            sandbox.shutdown().await?;
        }
        Ok(())
    }
}

fn rules_stamp(settings: &ProgramSettings) -> Option<FileStamp> {
    read_stamp(&settings.policy_path()?)
}

fn warn_of_writers(path: &Path) {
    if let Err(problem) = check_writers(path) {
        tracing::warn!("{problem}");
    }
}

/// A simulator that answered.
pub(crate) struct SimulatorConnection {
    pub(crate) base_url: BaseUrl,
    pub(crate) key: ApiKey,
    pub(crate) simulator: Simulator,
    /// The simulator itself, if it runs in this process.
    pub(crate) embedded: Option<Sandbox>,
}

/// Parses the URL of `--sandbox=URL`.
pub(crate) fn parse_simulator_url(url: &str) -> anyhow::Result<BaseUrl> {
    // `connect_simulator` refuses every host but this machine, so plain http is safe here.
    BaseUrl::parse(url, true).map_err(|error| match error {
        InvalidBaseUrl::NotAnUrl => {
            anyhow::anyhow!("not a URL; write the simulator's URL like {}", cli::SIMULATOR_URL)
        }
        other => other.into(),
    })
}

/// Connects to the simulator at `url`, or starts one in this process.
pub(crate) async fn connect_simulator(
    url: Option<&str>,
    global: &Global,
) -> anyhow::Result<SimulatorConnection> {
    let (url, embedded) = match url {
        Some(url) => (url.to_owned(), None),
        None => {
            let speed = global.sandbox_speed.unwrap_or(cli::DEFAULT_SANDBOX_SPEED);
            let mut options = Options { clock: ClockMode::Speed(speed), ..Options::default() };
            if let Some(credit) = global.sandbox_credit {
                options.credit_milli_cents = credit.0;
            }
            let sandbox = Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options)
                .await
                .context("the embedded simulator did not start")?;
            (sandbox.url(), Some(sandbox))
        }
    };
    let base_url = parse_simulator_url(&url).with_context(|| format!("--sandbox={url}"))?;
    anyhow::ensure!(
        base_url.is_loopback(),
        "--sandbox={url}: the host is not this machine, and a simulator must run on this machine"
    );
    let key = ApiKey::new(simulator::KEY.to_owned())?;
    let simulator = Simulator::connect(base_url.clone(), key.clone()).await?;
    Ok(SimulatorConnection { base_url, key, simulator, embedded })
}

/// The key as the ledger knows it.
pub(crate) fn key_ref(key: &ApiKey, base_url: &BaseUrl, simulator: Option<&Simulator>) -> KeyRef {
    match simulator {
        None => KeyRef::new(key.clone(), base_url),
        Some(simulator) => KeyRef::for_simulator(key.clone(), base_url, simulator.incarnation()),
    }
}

/// The configuration of an API client of this server.
pub(crate) fn client_config(base_url: BaseUrl, key: ApiKey) -> ClientConfig {
    ClientConfig {
        user_agent: concat!("callingbox-mcp/", env!("CARGO_PKG_VERSION")).to_owned(),
        trace_headers: TRACE_HEADERS,
        observe_attempt: Some(metrics::api_attempt),
        ..ClientConfig::new(base_url, key)
    }
}

pub(crate) fn api_timeouts(file: &ConfigFile) -> Timeouts {
    let default = Timeouts::default();
    file.request_timeout_seconds.map_or(default, |seconds| {
        let request = Duration::from_secs(seconds.clamp(1, 600));
        Timeouts { request, total: request.mul_f64(1.5), ..default }
    })
}
