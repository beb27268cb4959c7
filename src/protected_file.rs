//! Files that hold a secret, rules, or a record of calls: closes them to other users of the machine, and finds out whether
//! others can change or read them. Who can change such a file decides whose account places the calls, who may call, or who
//! may be called. Knows nothing of the content.

use std::fs::{File, OpenOptions};
use std::io::Result as IoResult;
use std::path::{Path, PathBuf};

use crate::system::Os;
#[cfg(windows)]
use crate::system::SystemFolders;
use crate::windows_acl::restrict_arguments;
#[cfg(windows)]
use crate::windows_acl::{read_shared_access, restrict_to_user};

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

/// Whether no user can change the file here, whatever its permissions say: containers mount files of settings in open
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

/// Opens a file for writing. A file or a folder that does not exist is created for this user alone; what exists keeps its
/// content and its permissions, because it may be another program's.
///
/// # Errors
/// The system refuses to create or to open it.
pub fn create_private(path: &Path) -> IoResult<File> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let is_new = cfg!(windows) && !path.exists();
    let file = options.open(path)?;
    if is_new {
        make_private(path);
    }
    Ok(file)
}

#[cfg(unix)]
fn create_private_folder(folder: &Path) -> IoResult<()> {
    use std::os::unix::fs::DirBuilderExt;

    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The folders inside a new one inherit its list.
#[cfg(windows)]
fn create_private_folder(folder: &Path) -> IoResult<()> {
    let new = folder.ancestors().take_while(|folder| !folder.exists()).last();
    std::fs::create_dir_all(folder)?;
    if let Some(new) = new.filter(|new| !new.as_os_str().is_empty()) {
        make_private(new);
    }
    Ok(())
}

/// Closes a file that other users can read; on Windows also a folder, and the files created in it. If the system refuses,
/// because it is another user's, or its disk has no permissions, the log says so.
pub fn make_private(path: &Path) {
    #[cfg(unix)]
    let close =
        || std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600));
    #[cfg(windows)]
    let close = || restrict_to_user(path);
    if can_others_read(path)
        && let Err(error) = close()
    {
        tracing::warn!(%error, path = %path.display(), "other users of this machine can read the file, and it cannot be closed to them");
    }
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
            let [inheritance, grant, user] =
                restrict_arguments(r"%USERDOMAIN%\%USERNAME%", path.is_dir());
            format!("icacls \"{}\" {inheritance} {grant} \"{user}\"", path.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_new_or_named_files_are_restricted() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key");
        create_private(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o600, 0o700));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        create_private(&path).unwrap();
        assert_eq!(mode(&path), 0o644);
        make_private(&path);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn each_system_has_its_command() {
        let path = Path::new("/k y");
        assert_eq!(close_command(Os::MacOs, path), "chmod go-w /k y");
        assert_eq!(hide_command(Os::Linux, path), "chmod 600 /k y");
        let windows = "icacls \"/k y\" /inheritance:r /grant:r \"%USERDOMAIN%\\%USERNAME%:F\"";
        assert_eq!(close_command(Os::Windows, path), windows);
    }
}
