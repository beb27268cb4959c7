//! A file of the user: read as a whole, backed up beside itself, and replaced in one step or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::InstallError;
use crate::protected_file::{can_others_read, make_private};
use crate::system::Os;
use callingbox::ApiKey;

/// More than any configuration has.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> InstallError {
    let path = path.to_owned();
    move |reason| InstallError::Io { path, action, reason }
}

/// The file at a path; for a symbolic link, its target, so that writing keeps the link.
///
/// # Errors
/// A link leads nowhere, or out of the project to which the path belongs: the folder of a project may come from anyone.
pub(super) fn resolve(path: &Path, project: Option<&Path>) -> Result<PathBuf, InstallError> {
    let resolved = match dunce::canonicalize(path) {
        Ok(resolved) => resolved,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(io(path, "following its symbolic link")(error));
            }
            path.to_owned()
        }
        Err(error) => return Err(io(path, "finding it")(error)),
    };
    if let Some(project) = project {
        let real_project = dunce::canonicalize(project).map_err(io(project, "finding it"))?;
        // A file that does not exist yet is made in the first folder above it that exists.
        let target = resolved.ancestors().find_map(|part| dunce::canonicalize(part).ok());
        let target = target.unwrap_or_default();
        if !target.starts_with(&real_project) {
            return Err(InstallError::OutsideProject { path: path.to_owned(), target });
        }
    }
    Ok(resolved)
}

/// The bytes of a file; `None` if it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path, "reading it")(error)),
    };
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(InstallError::Unexpected {
            path: path.to_owned(),
            message: "it is not a file, or over 16 MiB".to_owned(),
        });
    }
    fs::read(path).map(Some).map_err(io(path, "reading it"))
}

/// The backups of a file, newest first.
pub(super) fn backups(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) =
        (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|file| {
            file.file_name().to_str().is_some_and(|file| {
                file.strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix('.'))
                    .and_then(|rest| rest.strip_suffix(".bak"))
                    .is_some_and(|time| time.starts_with(|first: char| first.is_ascii_digit()))
            })
        })
        .map(|file| file.path())
        .collect();
    found.sort_unstable();
    found.reverse();
    found
}

/// Copies a file beside itself, with its permissions. The name of the copy contains the time (UTC).
pub(super) fn back_up(path: &Path, bytes: &[u8], now: Timestamp) -> Result<PathBuf, InstallError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let time = now.strftime("%Y%m%dT%H%M%S%6fZ");
    let backup = path.with_file_name(format!("{name}.{time}.bak"));
    put(&backup, bytes, Permissions::Of(path), false)?;
    Ok(backup)
}

/// Which permissions a written file has.
#[derive(Clone, Copy)]
pub(super) enum Permissions<'a> {
    /// Those of this file; if it does not exist, those of the user's umask.
    Of(&'a Path),
    /// Only the user can read and write it.
    Private,
}

/// Writes a file as a whole, or not at all: it is written beside the path and then moved there.
pub(super) fn put(
    path: &Path,
    bytes: &[u8],
    permissions: Permissions<'_>,
    replace: bool,
) -> Result<(), InstallError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io(path, "making its folder"))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".callingbox-mcp-");
    let kept = match permissions {
        Permissions::Of(file) => fs::metadata(file).ok().map(|metadata| metadata.permissions()),
        Permissions::Private => None,
    };
    #[cfg(unix)]
    if matches!(permissions, Permissions::Of(_)) && kept.is_none() {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(io(path, "writing beside it"))?;
    if matches!(permissions, Permissions::Private) {
        make_private(file.path());
    }
    file.write_all(bytes).map_err(io(path, "writing beside it"))?;
    if let Some(kept) = kept {
        file.as_file().set_permissions(kept).map_err(io(path, "keeping its permissions"))?;
    }
    file.as_file().sync_all().map_err(io(path, "writing beside it"))?;
    let mut file = Some(file);
    let mut move_there = || {
        let Some(new) = file.take() else { return Ok(()) };
        let moved = if replace { new.persist(path) } else { new.persist_noclobber(path) };
        moved.map(drop).map_err(|error| {
            file = Some(error.file);
            error.error
        })
    };
    retry_while_locked(Os::this(), HELD_PAUSE, &mut move_there).map_err(io(path, "replacing it"))
}

/// How often, and how long apart, a file is replaced again that another program holds: a virus scanner that reads what was
/// just written, or a client that reads its configuration.
const MAX_HELD_ATTEMPTS: usize = 20;
const HELD_PAUSE: Duration = Duration::from_millis(50);

/// Tries again while Windows refuses because another program has the file open. Other systems replace open files.
fn retry_while_locked(
    os: Os,
    pause: Duration,
    attempt: &mut dyn FnMut() -> std::io::Result<()>,
) -> std::io::Result<()> {
    for _ in 1..MAX_HELD_ATTEMPTS {
        match attempt() {
            Err(error)
                if os == Os::Windows && error.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                std::thread::sleep(pause);
            }
            result => return result,
        }
    }
    attempt()
}

/// Copies a program as a whole, or not at all. Returns whether the file changed.
pub(super) fn copy_program(program: &Path, path: &Path) -> Result<bool, InstallError> {
    let bytes = fs::read(program).map_err(io(program, "reading it"))?;
    if fs::read(path).is_ok_and(|copy| copy == bytes) {
        return Ok(false);
    }
    put(path, &bytes, Permissions::Of(program), true)?;
    Ok(true)
}

/// Writes a new file as a whole, or not at all.
///
/// # Errors
/// [`InstallError::Io`]: it exists already, or the operating system refused.
pub fn write_new(path: &Path, text: &str) -> Result<(), InstallError> {
    put(path, text.as_bytes(), Permissions::Of(path), false)
}

/// Removes a file.
pub(super) fn remove(path: &Path) -> Result<(), InstallError> {
    fs::remove_file(path).map_err(io(path, "removing it"))
}

/// Stores an API key in a file that only the user can read (mode 0600 on Unix, a list of one on Windows).
/// Returns whether the file changed.
///
/// # Errors
/// [`InstallError::Io`]; the file is unchanged.
pub fn store_key(path: &Path, key: &ApiKey) -> Result<bool, InstallError> {
    let wanted = format!("{}\n", key.expose());
    if read(path)?.is_some_and(|stored| stored == wanted.as_bytes()) && !can_others_read(path) {
        return Ok(false);
    }
    write_private(path, &wanted)?;
    Ok(true)
}

/// Writes a file that only its user can read, as a whole or not at all.
///
/// # Errors
/// [`InstallError::Io`]; the file is unchanged.
pub fn write_private(path: &Path, text: &str) -> Result<(), InstallError> {
    put(path, text.as_bytes(), Permissions::Private, true)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_readable_by_the_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/api-key");
        let key = ApiKey::new("sk_test_a".to_owned()).unwrap();
        assert!(store_key(&path, &key).unwrap());
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), mode(&path)),
            ("sk_test_a\n", 0o600)
        );
        assert!(!store_key(&path, &key).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(store_key(&path, &key).unwrap());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn permissions_are_kept_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, "1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let backup = back_up(&path, b"1", now).unwrap();
        put(&path, b"2", Permissions::Of(&path), true).unwrap();
        assert_eq!(backup, folder.path().join("a.json.20260102T030405678000Z.bak"));
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"2".to_vec(), 0o640));
        assert_eq!((fs::read(&backup).unwrap(), mode(&backup)), (b"1".to_vec(), 0o640));
        assert_eq!(backups(&path), [backup]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_file_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/a.toml");
        write_new(&path, "1").unwrap();
        let taken = write_new(&path, "2").unwrap_err().to_string();
        assert!(taken.contains("a.toml: replacing it failed"), "{taken}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn a_locked_file_on_windows_is_tried_again() {
        let attempts = |os, held: usize, kind: std::io::ErrorKind| {
            let mut made = 0;
            let result = retry_while_locked(os, Duration::ZERO, &mut || {
                made += 1;
                if made <= held { Err(kind.into()) } else { Ok(()) }
            });
            (made, result.is_ok())
        };
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        assert_eq!(attempts(Os::Windows, 2, PermissionDenied), (3, true));
        assert_eq!(attempts(Os::Windows, usize::MAX, PermissionDenied), (20, false));
        assert_eq!(attempts(Os::Windows, 1, NotFound), (1, false));
        assert_eq!(attempts(Os::Linux, 1, PermissionDenied), (1, false));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(matches!(resolve(&link, None), Err(InstallError::Io { .. })));
    }
}
