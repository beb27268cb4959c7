//! Whether other users of the machine can change a file that holds a secret or rules. Whoever can change it decides whose
//! account places the calls, who may call, or who may be called. Knows nothing of the content.

use std::path::{Path, PathBuf};

/// Other users can change the file, or replace it.
#[derive(Debug, thiserror::Error)]
#[error(
    "other users of this machine can change {}, and with it who calls or who may be called; to prevent that: chmod go-w {}",
    path.display(),
    path.display()
)]
pub struct ChangeableByOthers {
    /// The file itself, or its folder.
    path: PathBuf,
}

/// Checks the file and its folder. A file that does not exist, or that cannot be examined, passes.
///
/// # Errors
/// The permissions let other users change the file or replace it.
#[cfg(unix)]
pub fn check_writers(file: &Path) -> Result<(), ChangeableByOthers> {
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
        is_open && !(metadata.is_dir() && mode & STICKY != 0) && !is_on_read_only_mount(path)
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match [Some(file), folder].into_iter().flatten().find(|path| is_changeable(path)) {
        Some(path) => Err(ChangeableByOthers { path: path.to_owned() }),
        None => Ok(()),
    }
}

/// Whether nobody can change the file here, whatever its permissions say: containers mount files of settings in open
/// folders and read-only. Setting the permissions that are there shows it.
#[cfg(unix)]
fn is_on_read_only_mount(path: &Path) -> bool {
    let same = std::fs::metadata(path).map(|metadata| metadata.permissions());
    let result = same.and_then(|same| std::fs::set_permissions(path, same));
    result.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

/// Elsewhere the folders of a user are closed to others already.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn check_writers(_: &Path) -> Result<(), ChangeableByOthers> {
    Ok(())
}
