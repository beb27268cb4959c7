//! Whether other users of the machine can change a file that holds a secret or rules. Whoever can change it decides whose
//! account places the calls, who may call, or who may be called. Knows nothing of the content.

use std::path::{Path, PathBuf};

use crate::system::Os;
#[cfg(windows)]
use crate::system::SystemFolders;
#[cfg(windows)]
use crate::windows_acl::read_shared_access;
use crate::windows_acl::restrict_arguments;

/// Other users can change the file, or replace it.
#[derive(Debug, thiserror::Error)]
#[error(
    "other users of this machine can change {}, and with it who calls or who may be called; to prevent that: {}",
    path.display(),
    close_command(Os::this(), path)
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

/// Checks the file and its folder. A file that does not exist, or that cannot be examined, passes.
///
/// # Errors
/// The lists of Windows let every user change the file or replace it.
#[cfg(windows)]
pub fn check_writers(file: &Path) -> Result<(), ChangeableByOthers> {
    if is_in_profile(file) {
        return Ok(());
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if read_shared_access(file).is_some_and(|access| access.writes) {
        return Err(ChangeableByOthers { path: file.to_owned() });
    }
    match folder
        .filter(|folder| read_shared_access(folder).is_some_and(|access| access.replaces_files))
    {
        Some(folder) => Err(ChangeableByOthers { path: folder.to_owned() }),
        None => Ok(()),
    }
}

/// Windows closes the profile of a user to others.
#[cfg(windows)]
fn is_in_profile(file: &Path) -> bool {
    SystemFolders::this().is_some_and(|system| file.starts_with(system.home))
}

/// Whether other users of the machine can read the file.
#[cfg(unix)]
#[must_use]
pub fn can_others_read(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

/// Whether other users of the machine can read the file.
#[cfg(windows)]
#[must_use]
pub fn can_others_read(file: &Path) -> bool {
    !is_in_profile(file) && read_shared_access(file).is_some_and(|access| access.reads)
}

/// The command that takes from other users what they may do with a file or a folder beside reading.
fn close_command(os: Os, path: &Path) -> String {
    match os {
        Os::Linux | Os::MacOs => format!("chmod go-w {}", path.display()),
        Os::Windows => hide_command(os, path),
    }
}

/// The command that leaves a file to its user.
#[must_use]
pub fn hide_command(os: Os, path: &Path) -> String {
    match os {
        Os::Linux | Os::MacOs => format!("chmod 600 {}", path.display()),
        Os::Windows => {
            let [inheritance, grant, user] = restrict_arguments(r"%USERDOMAIN%\%USERNAME%");
            format!("icacls \"{}\" {inheritance} {grant} \"{user}\"", path.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_has_its_command() {
        let path = Path::new("/k y");
        assert_eq!(close_command(Os::MacOs, path), "chmod go-w /k y");
        assert_eq!(hide_command(Os::Linux, path), "chmod 600 /k y");
        let windows = "icacls \"/k y\" /inheritance:r /grant:r \"%USERDOMAIN%\\%USERNAME%:F\"";
        assert_eq!(close_command(Os::Windows, path), windows);
    }
}
