//! What the tasks of a running simulator share: the state under one lock, and the signals between the tasks.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::store::SimulatorState;

#[derive(Debug)]
pub(crate) struct Simulator {
    state: Mutex<SimulatorState>,
    /// Wakes the webhook sender: an attempt may be due.
    pub(crate) sender_wakeup: Notify,
    /// Notifies those who wait for attempts that the webhook sender has made some.
    pub(crate) attempts_made: Notify,
    /// Wakes the task that saves the state: the state may have changed.
    pub(crate) state_changed: Notify,
    /// Held while the state file is written. A write runs to its end even if its task is aborted, and two must not
    /// overlap.
    pub(crate) file_lock: Mutex<()>,
    /// Cancelled at shutdown: requests end without an answer.
    pub(crate) shutdown: CancellationToken,
}

impl Simulator {
    pub(crate) fn new(state: SimulatorState) -> Self {
        Self {
            state: Mutex::new(state),
            sender_wakeup: Notify::new(),
            attempts_made: Notify::new(),
            state_changed: Notify::new(),
            file_lock: Mutex::default(),
            shutdown: CancellationToken::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, SimulatorState> {
        self.state.lock()
    }
}
