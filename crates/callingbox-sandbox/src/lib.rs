//! A simulator of the CallingBox REST API on a real port: every endpoint, rule, error, life cycle,
//! charge, transcript, extraction and signed webhook of the contract, without an account, money or
//! a person who is rung. Shares no code with `api`: only the wire.
//!
//! - Any `Bearer sk_…` key is taken, and each key is an organization of its own with $5.00 credit.
//! - The destination chooses what happens (`scenario`): +1, any area code, 555 0100 to 555 0115.
//!   Scenario files go first (`scenario_file`).
//! - Time is simulated (`clock`): it runs at a speed, or only when `POST /sandbox/clock` moves it.
//! - Every record says `"simulated": true`, every answer `X-CallingBox-Sandbox: 1`.
//! - The same seed and the same requests give the same ids, numbers, lines, results and delays.
//!   The exceptions are `t` in a webhook's signature, which receivers compare with their own clock,
//!   and an organization's `incarnation`, which tells one that began anew from the one before it.
//! - No call ever leaves this process. **Webhooks do**: like the real service, the simulator sends
//!   them to the public HTTPS address that the caller gave, and to private or plain HTTP ones only
//!   when [`Options::allow_private_webhooks`] is set. In-call tools are never called.
//! - Limits for one organization: 100,000 calls and 64 MiB of their text (the oldest are
//!   forgotten), 10,000 deliveries (likewise), 10,000 agents, 1,000 webhook endpoints, 100 faults;
//!   1,000 organizations; bodies of 256 KiB.
//!
//! Control endpoints, JSON, unknown fields refused, with a key where they speak of an organization:
//! `GET /sandbox`, `GET` and `POST /sandbox/clock` (neither needs a key), `POST
//! /sandbox/inbound_calls`, `GET /sandbox/organization`, `GET /sandbox/dialed`, `GET` and `POST
//! /sandbox/credits`, `GET`, `POST` and `DELETE /sandbox/faults`, `GET` and `DELETE
//! /sandbox/requests`, `GET /sandbox/signing_secret`, `POST /sandbox/reset`.
#![warn(missing_docs)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

mod agents;
mod answer;
mod billing;
mod calls;
mod catalogue;
mod clock;
mod control;
mod conversation;
mod courier;
mod deliveries;
mod dispatch;
mod e164;
mod endpoints;
mod faults;
mod fields;
mod money;
mod numbers;
mod records;
mod request;
mod routes;
mod scenario;
mod scenario_file;
mod seed;
mod server;
mod state;
mod suggest;
mod tls;
mod tools;
mod webhook_url;
mod world;

pub use clock::ClockMode;

use clock::{Clock, Moment};
use world::{Settings, World};

/// How a sandbox behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How simulated time passes. Default: as fast as real time.
    pub clock: ClockMode,
    /// What everything that looks random is drawn from. A state file keeps its own. Default: 1.
    pub seed: u64,
    /// The simulated time at the start; a state file goes before it. Default: the real time.
    pub start_at: Option<jiff::Timestamp>,
    /// Where organizations are kept over a restart: read and written at the start, saved within a second
    /// after a change and by [`Sandbox::shutdown`]. Default: nowhere.
    pub state_file: Option<PathBuf>,
    /// TOML files with scenarios of your own, in order of precedence. Default: none.
    pub scenario_files: Vec<PathBuf>,
    /// Whether webhooks may go to plain HTTP and private addresses. Default: no.
    pub allow_private_webhooks: bool,
    /// Whether other machines may reach it: it takes any key. Default: no.
    pub allow_remote: bool,
    /// Real time for which the destination 555 0113 withholds its answer. Default: 60 seconds.
    pub late_answer: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: ClockMode::Speed(1.0),
            seed: 1,
            start_at: None,
            state_file: None,
            scenario_files: Vec::new(),
            allow_private_webhooks: false,
            allow_remote: false,
            late_answer: Duration::from_secs(60),
        }
    }
}

/// Why a sandbox cannot start or end well.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address is not a loopback address and nobody allowed that.
    #[error("the sandbox listens on loopback only, and {0} is not: it takes any key")]
    NotLoopback(SocketAddr),
    /// The port cannot be used.
    #[error("the sandbox cannot listen on {address}: {reason}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The speed of the clock makes no sense.
    #[error("the speed of the sandbox clock must be above 0 and at most 1000000")]
    Speed,
    /// A scenario file cannot be used.
    #[error("scenario file {}: {reason}", path.display())]
    Scenario {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The state file cannot be used. It is left as it is.
    #[error("state file {}: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the tasks of a sandbox share.
#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    /// Wakes the courier: something may have fallen due.
    wake: Notify,
    /// Tells whoever waits for attempts that some were made.
    progress: Notify,
    /// Wakes whoever saves the state: something may have changed.
    touched: Notify,
    /// Held by who writes the state file: a write that was begun is not ended with its task.
    writing: Mutex<()>,
}

impl Shared {
    /// The world. A panic under the lock leaves it in order: each change is made whole.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running simulator. Dropping it ends it and all its tasks; [`Sandbox::shutdown`] saves first.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    state_file: Option<PathBuf>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a simulator on a port of its own; port 0 chooses a free one.
    ///
    /// # Errors
    /// [`SandboxError`] when the address, the clock, a scenario file or the state file is no good.
    pub async fn start(listen: SocketAddr, options: Options) -> Result<Self, SandboxError> {
        if !listen.ip().is_loopback() && !options.allow_remote {
            return Err(SandboxError::NotLoopback(listen));
        }
        if !options.clock.is_sound() {
            return Err(SandboxError::Speed);
        }
        let (world, state_file) = blocking(move || prepare(options)).await?;
        let failed = |reason| SandboxError::Listen { address: listen, reason };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            wake: Notify::new(),
            progress: Notify::new(),
            touched: Notify::new(),
            writing: Mutex::default(),
        });
        if let Some(path) = state_file.clone() {
            // What cannot be kept is told before anything is done that would be lost.
            let shared = Arc::clone(&shared);
            blocking(move || state::save(&shared, &path)).await?;
        }
        let router = routes::router(Arc::clone(&shared));
        let mut tasks = vec![
            tokio::spawn(server::serve(listener, router)),
            tokio::spawn(courier::run(Arc::clone(&shared))),
        ];
        if let Some(path) = state_file.clone() {
            tasks.push(tokio::spawn(state::keep(Arc::clone(&shared), path)));
        }
        Ok(Self { address, shared, state_file, tasks })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients, such as `http://127.0.0.1:4010`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it: connections are closed, attempts under way are given up, the state is saved.
    ///
    /// # Errors
    /// [`SandboxError::State`] when the state cannot be saved.
    pub async fn shutdown(mut self) -> Result<(), SandboxError> {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // It ends as canceled; only that it has ended matters.
            let _ = task.await;
        }
        let Some(path) = self.state_file.take() else { return Ok(()) };
        self.shared.world().catch_up();
        let shared = Arc::clone(&self.shared);
        blocking(move || state::save(&shared, &path)).await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Reads the files that the options name.
fn prepare(options: Options) -> Result<(World, Option<PathBuf>), SandboxError> {
    let mut scenarios = Vec::new();
    for path in &options.scenario_files {
        scenarios.extend(scenario_file::load(path)?);
    }
    let loaded = match &options.state_file {
        Some(path) => state::load(path)?,
        None => None,
    };
    let real: Moment = jiff::Timestamp::now().into();
    let start = match (&loaded, options.clock) {
        // A clock that runs has run on meanwhile; one that is moved by hand has not.
        (Some(loaded), ClockMode::Speed(_)) => loaded.now.max(real),
        (Some(loaded), ClockMode::Manual) => loaded.now,
        (None, _) => options.start_at.map_or(real, Moment::from),
    };
    let settings = Settings {
        seed: loaded.as_ref().map_or(options.seed, |loaded| loaded.seed),
        allow_private_webhooks: options.allow_private_webhooks,
        late_answer: options.late_answer,
        scenarios,
    };
    let mut world = World::new(settings, Clock::new(options.clock, start));
    for org in loaded.into_iter().flat_map(|loaded| loaded.organizations) {
        world.adopt(org);
    }
    Ok((world, options.state_file))
}

/// Runs what touches the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
