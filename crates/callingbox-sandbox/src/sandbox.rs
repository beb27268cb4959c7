//! Starts and stops a simulator: reads its files, opens its port, and runs its tasks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::clock::{Clock, ClockMode, Moment};
use crate::model::MilliCents;
use crate::options::{Options, SandboxError};
use crate::scenario::load_scenarios;
use crate::simulator::Simulator;
use crate::store::{SimulatorSettings, SimulatorState};
use crate::{engine, http, state_file, webhook_sender};

/// A running simulator. Dropping it ends it and all its tasks; [`Sandbox::shutdown`] saves its state first.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    simulator: Arc<Simulator>,
    state_file: Option<PathBuf>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a simulator on a port; port 0 chooses a free one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SandboxError`] when the address, the clock, a scenario file or the state file cannot be used.
    pub async fn start(listen: SocketAddr, options: Options) -> Result<Self, SandboxError> {
        let allow_remote = options.allow_remote;
        if !listen.ip().is_loopback() && !allow_remote {
            return Err(SandboxError::NotLoopback(listen));
        }
        if !options.clock.is_valid() {
            return Err(SandboxError::Speed);
        }
        let state_file = options.state_file.clone();
        let state = run_blocking(move || prepare_state(options)).await?;
        let fail = |reason| SandboxError::Listen { address: listen, reason };
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let simulator = Arc::new(Simulator::new(state));
        if let Some(path) = state_file.clone() {
            // Reports a file that cannot be written before there is anything to lose.
            let simulator = Arc::clone(&simulator);
            run_blocking(move || state_file::save_state(&simulator, &path)).await?;
        }
        let mut tasks = vec![
            tokio::spawn(http::serve(listener, Arc::clone(&simulator), allow_remote)),
            tokio::spawn(webhook_sender::send_webhooks(Arc::clone(&simulator))),
        ];
        if let Some(path) = state_file.clone() {
            tasks.push(tokio::spawn(state_file::save_changes(Arc::clone(&simulator), path)));
        }
        Ok(Self { address, simulator, state_file, tasks })
    }

    /// The address that the sandbox listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients, such as `http://127.0.0.1:4010`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the sandbox: closes its connections, gives up webhook attempts in flight and saves the state.
    ///
    /// # Errors
    /// [`SandboxError::State`] when the state cannot be saved.
    pub async fn shutdown(mut self) -> Result<(), SandboxError> {
        self.simulator.shutdown.cancel();
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // The task ends as cancelled; it matters only that it has ended.
            let _ = task.await;
        }
        let Some(path) = self.state_file.take() else { return Ok(()) };
        engine::catch_up(&mut self.simulator.state());
        let simulator = Arc::clone(&self.simulator);
        run_blocking(move || state_file::save_state(&simulator, &path)).await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.simulator.shutdown.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Reads the files that the options name and builds the state from them.
fn prepare_state(options: Options) -> Result<SimulatorState, SandboxError> {
    let mut scenarios = Vec::new();
    for path in &options.scenario_files {
        let loaded = load_scenarios(path)
            .map_err(|reason| SandboxError::Scenario { path: path.clone(), reason })?;
        scenarios.extend(loaded);
    }
    let saved = options.state_file.as_deref().map(state_file::load_state).transpose()?.flatten();
    let real_now: Moment = jiff::Timestamp::now().into();
    let start = match (&saved, options.clock) {
        // A running clock went on while the simulator was down; a manual one did not.
        (Some(saved), ClockMode::Speed(_)) => saved.now.max(real_now),
        (Some(saved), ClockMode::Manual) => saved.now,
        (None, _) => options.start_at.map_or(real_now, Moment::from),
    };
    let settings = SimulatorSettings {
        seed: saved.as_ref().map_or(options.seed, |saved| saved.seed),
        credit: MilliCents(options.credit_milli_cents),
        allow_private_webhooks: options.allow_private_webhooks,
        late_answer: options.late_answer,
        scenarios,
    };
    let mut state = SimulatorState::new(settings, Clock::new(options.clock, start));
    for org in saved.into_iter().flat_map(|saved| saved.organizations) {
        state.restore_organization(org);
    }
    Ok(state)
}

/// Runs disk access on a thread where it may block.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and with it the task that waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
