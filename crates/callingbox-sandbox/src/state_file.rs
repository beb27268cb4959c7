//! The state file: everything that organizations own, kept over a restart. It is written whole to a neighboring file,
//! synced and renamed, so that a crash leaves either the old state or the new one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::model::Organization;
use crate::options::SandboxError;
use crate::simulator::Simulator;
use crate::store::SimulatorState;

/// The shortest time between two saves.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
const FORMAT: u32 = 2;
/// Shows a person who opens the file what it is.
const KIND: &str = "callingbox-mcp sandbox state";

/// The contents of a state file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedState<O = Organization> {
    kind: String,
    format: u32,
    pub(crate) seed: u64,
    pub(crate) now: Moment,
    pub(crate) organizations: Vec<O>,
}

/// Saves the present state. If several tasks save at the same time, the file ends up with the newest state.
///
/// # Errors
/// [`SandboxError::State`] when the file cannot be written.
pub(crate) fn save_state(simulator: &Simulator, path: &Path) -> Result<(), SandboxError> {
    let _writing = simulator.file_lock.lock();
    write_state(simulator, path)
}

/// Saves a change, unless the simulator ends: a late save must not replace the file after `shutdown`.
fn save_change(simulator: &Simulator, path: &Path) -> Result<(), SandboxError> {
    let _writing = simulator.file_lock.lock();
    if simulator.shutdown.is_cancelled() { Ok(()) } else { write_state(simulator, path) }
}

fn write_state(simulator: &Simulator, path: &Path) -> Result<(), SandboxError> {
    let bytes = encode_state(&simulator.state()).map_err(|error| SandboxError::State {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    write_file(path, &bytes)
}

/// Saves the state soon after each change. If a save fails, it is logged and tried again after the next change.
pub(crate) async fn save_changes(simulator: Arc<Simulator>, path: PathBuf) {
    loop {
        simulator.state_changed.notified().await;
        if !std::mem::take(&mut simulator.state().has_changed) {
            continue;
        }
        let (simulator, path) = (Arc::clone(&simulator), path.clone());
        let saved = tokio::task::spawn_blocking(move || save_change(&simulator, &path));
        if let Ok(Err(error)) = saved.await {
            tracing::warn!(%error, "sandbox state not saved; retrying after the next change");
        }
        tokio::time::sleep(SAVE_INTERVAL).await;
    }
}

/// Reads a state file; `None` when it does not exist yet.
///
/// # Errors
/// [`SandboxError::State`] when the file exists but cannot be read whole. It is left unchanged.
pub(crate) fn load_state(path: &Path) -> Result<Option<SavedState>, SandboxError> {
    let fail = |reason: String| SandboxError::State { path: path.to_owned(), reason };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(format!("cannot be read: {error}"))),
    };
    let saved: SavedState = serde_json::from_slice(&bytes)
        .map_err(|error| fail(format!("is not a state file of the sandbox: {error}")))?;
    if saved.kind != KIND || saved.format != FORMAT {
        return Err(fail(format!("is not a state file of format {FORMAT}")));
    }
    Ok(Some(saved))
}

fn encode_state(state: &SimulatorState) -> Result<Vec<u8>, serde_json::Error> {
    let mut organizations: Vec<&Organization> = state.organizations.values().collect();
    organizations.sort_by_key(|org| org.id);
    serde_json::to_vec(&SavedState {
        kind: KIND.to_owned(),
        format: FORMAT,
        seed: state.settings.seed,
        now: state.clock.now(),
        organizations,
    })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let fail = |error: std::io::Error| SandboxError::State {
        path: path.to_owned(),
        reason: match folder {
            Some(folder) if !folder.exists() => {
                format!("cannot be written: the folder {} does not exist", folder.display())
            }
            _ => format!("cannot be written: {error}"),
        },
    };
    let mut new_name = path.file_name().unwrap_or_default().to_owned();
    new_name.push(".new");
    let new_path = path.with_file_name(new_name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // The file contains signing secrets.
        options.mode(0o600);
    }
    let mut file = options.open(&new_path).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    fs::rename(&new_path, path).map_err(fail)?;
    // Makes the rename durable. Not every system can sync a directory.
    if let Some(directory) = path.parent().and_then(|directory| fs::File::open(directory).ok()) {
        let _ = directory.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ClockMode};
    use crate::model::MilliCents;
    use crate::store::SimulatorSettings;

    #[test]
    fn concurrent_saves_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let settings = SimulatorSettings {
            seed: 1,
            credit: MilliCents::ZERO,
            allow_private_webhooks: false,
            late_answer: Duration::ZERO,
            scenarios: Vec::new(),
        };
        let clock = Clock::new(ClockMode::Manual, jiff::Timestamp::UNIX_EPOCH.into());
        let simulator = Simulator::new(SimulatorState::new(settings, clock));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        save_state(&simulator, &path).unwrap();
                    }
                });
            }
        });
        assert!(load_state(&path).unwrap().is_some());
    }
}
