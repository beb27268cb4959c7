//! Whether other users of the machine can change a file that holds a secret. Whoever can change it decides whose account
//! places the calls, or who may call. Knows nothing of the secret.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error(
    "other users of this machine can change {}, and with it the secret of this server; to prevent that: chmod go-w {}",
    path.display(),
    path.display()
)]
pub(crate) struct ChangeableByOthers {
    /// The file itself, or its folder.
    path: PathBuf,
}

/// Checks the file and its folder. A file that does not exist, or that cannot be examined, passes.
///
/// # Errors
/// The permissions let other users change the file or replace it.
#[cfg(unix)]
pub(crate) fn check_writers(file: &Path) -> Result<(), ChangeableByOthers> {
    use std::os::unix::fs::MetadataExt;

    const GROUP_WRITES: u32 = 0o020;
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let is_changeable = |path: &Path| {
        let Ok(metadata) = std::fs::metadata(path) else { return false };
        let mode = metadata.mode();
        // Many systems give each user a group of its own, with the same number and no other member.
        let has_members = metadata.gid() != metadata.uid();
        let is_open = mode & OTHERS_WRITE != 0 || mode & GROUP_WRITES != 0 && has_members;
        // In a sticky folder such as /tmp only the owner of a file can replace it.
        is_open && !(metadata.is_dir() && mode & STICKY != 0)
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match [Some(file), folder].into_iter().flatten().find(|path| is_changeable(path)) {
        Some(path) => Err(ChangeableByOthers { path: path.to_owned() }),
        None => Ok(()),
    }
}

/// Elsewhere the folders of a user are closed to others already.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(crate) fn check_writers(_: &Path) -> Result<(), ChangeableByOthers> {
    Ok(())
}
