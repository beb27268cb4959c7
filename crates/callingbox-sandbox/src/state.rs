//! The state file: everything that organizations own, over a restart. Written whole to a
//! neighboring file, synced and renamed, so that a crash leaves the old state or the new one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::world::{Org, World};
use super::{SandboxError, Shared};

/// The state is saved at most this often.
const PAUSE: Duration = Duration::from_millis(200);
/// The form of the file.
const FORMAT: u32 = 1;
/// Says what the file is to a person who opens it.
const KIND: &str = "callingbox-mcp sandbox state";

#[derive(Serialize)]
struct Saved<'a> {
    kind: &'static str,
    format: u32,
    seed: u64,
    now: Moment,
    organizations: Vec<&'a Org>,
}

/// What a state file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Loaded {
    kind: String,
    format: u32,
    pub(super) seed: u64,
    pub(super) now: Moment,
    pub(super) organizations: Vec<Org>,
}

/// The bytes of a state file for the world as it is.
fn encode(world: &World) -> Result<Vec<u8>, serde_json::Error> {
    let mut organizations: Vec<&Org> = world.orgs.values().collect();
    organizations.sort_by_key(|org| org.id);
    let (seed, now) = (world.settings.seed, world.clock.now());
    serde_json::to_vec(&Saved { kind: KIND, format: FORMAT, seed, now, organizations })
}

/// Saves the world as it is now. Whoever writes last has the newest state, whatever order they began in.
///
/// # Errors
/// [`SandboxError::State`] that names the file.
pub(super) fn save(shared: &Shared, path: &Path) -> Result<(), SandboxError> {
    let _writing = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = encode(&shared.world()).map_err(|error| SandboxError::State {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    write(path, &bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let wrong = |error: std::io::Error| SandboxError::State {
        path: path.to_owned(),
        reason: match folder {
            Some(folder) if !folder.exists() => {
                format!("cannot be written: the folder {} does not exist", folder.display())
            }
            _ => format!("cannot be written: {error}"),
        },
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let next = path.with_file_name(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // It holds signing secrets.
        options.mode(0o600);
    }
    let mut file = options.open(&next).map_err(wrong)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(wrong)?;
    fs::rename(&next, path).map_err(wrong)?;
    // The rename itself must last too. Not every system can sync a directory.
    if let Some(directory) = path.parent().and_then(|directory| fs::File::open(directory).ok()) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// Saves the state soon after each change, until it is dropped. A failure is logged and tried
/// again with the next change.
pub(super) async fn keep(shared: Arc<Shared>, path: PathBuf) {
    loop {
        shared.touched.notified().await;
        if !std::mem::take(&mut shared.world().changed) {
            continue;
        }
        let (shared, path) = (Arc::clone(&shared), path.clone());
        let written = tokio::task::spawn_blocking(move || save(&shared, &path));
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "the sandbox state was not saved");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads a state file; `None` when there is none yet.
///
/// # Errors
/// [`SandboxError::State`] when it is there but cannot be read whole. It is left as it is.
pub(super) fn load(path: &Path) -> Result<Option<Loaded>, SandboxError> {
    let wrong = |reason: String| SandboxError::State { path: path.to_owned(), reason };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
    };
    let loaded: Loaded = serde_json::from_slice(&bytes)
        .map_err(|error| wrong(format!("is not a state file of the sandbox: {error}")))?;
    if loaded.kind != KIND || loaded.format != FORMAT {
        return Err(wrong(format!("is not a state file of format {FORMAT}")));
    }
    Ok(Some(loaded))
}

/// Writes what several records share once for each of them.
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    pub(in super::super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// The same for what may be absent.
pub(super) mod shared_option {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Arc<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Sandbox};

    #[tokio::test]
    async fn who_saves_at_the_same_time_as_others_saves_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let sandbox = Sandbox::start("127.0.0.1:0".parse().unwrap(), Options::default()).await;
        let sandbox = sandbox.unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        save(&sandbox.shared, &path).unwrap();
                    }
                });
            }
        });
        assert!(load(&path).unwrap().is_some());
        sandbox.shutdown().await.unwrap();
    }
}
