//! The program that an entry starts: where it is, and whether it stays there. Package runners keep programs in caches
//! that they empty, so a program from one is copied to a folder of the user's, one folder for each version, because
//! Windows cannot replace a program that runs. Knows no client.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;

use super::{InstallError, file};
use crate::config::UserFolders;
use crate::system::{Os, SystemFolders};

/// The name of this program, without `.exe`.
pub const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A program that downloads a package, runs it, and may remove it at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageRunner {
    Npx,
    PnpmDlx,
    Bunx,
    Uvx,
    PipxRun,
}

impl PackageRunner {
    /// The words that make it run this program.
    #[must_use]
    pub fn command(self) -> &'static [&'static str] {
        match self {
            Self::Npx => &["npx", "-y", PROGRAM],
            Self::PnpmDlx => &["pnpm", "dlx", PROGRAM],
            Self::Bunx => &["bunx", PROGRAM],
            Self::Uvx => &["uvx", PROGRAM],
            Self::PipxRun => &["pipx", "run", PROGRAM],
        }
    }
}

/// Where a program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramPlace {
    /// It stays until its user removes it.
    Permanent,
    /// The copy of this version, which `install` made.
    Copy(Version),
    Cache(PackageRunner),
    /// The folder of a bundle that Claude Desktop unpacked.
    Bundle,
    /// Homebrew's folder of one version, which the next upgrade removes.
    HomebrewCellar,
    TemporaryFolder,
}

impl fmt::Display for ProgramPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent => "a permanent folder",
            Self::Copy(version) => return write!(f, "the copy of version {version}"),
            Self::Cache(PackageRunner::Npx) => "the cache of npx",
            Self::Cache(PackageRunner::PnpmDlx) => "the cache of pnpm",
            Self::Cache(PackageRunner::Bunx) => "the cache of bunx",
            Self::Cache(PackageRunner::Uvx) => "the cache of uv",
            Self::Cache(PackageRunner::PipxRun) => "the cache of pipx",
            Self::Bundle => "a bundle of Claude Desktop",
            Self::HomebrewCellar => "Homebrew's folder of one version",
            Self::TemporaryFolder => "a temporary folder",
        })
    }
}

/// Consecutive names in the path of a cache or another known place; `*` is any end of a name. Every runner can be told to keep its cache
/// elsewhere, so the names count, and not the folder above them.
const CACHES: &[(&[&str], ProgramPlace)] = &[
    (&["_npx"], ProgramPlace::Cache(PackageRunner::Npx)),
    (&["pnpm", "dlx"], ProgramPlace::Cache(PackageRunner::PnpmDlx)),
    (&["pnpm-cache", "dlx"], ProgramPlace::Cache(PackageRunner::PnpmDlx)),
    (&["bunx-*"], ProgramPlace::Cache(PackageRunner::Bunx)),
    (&["archive-v*"], ProgramPlace::Cache(PackageRunner::Uvx)),
    (&["environments-v*"], ProgramPlace::Cache(PackageRunner::Uvx)),
    (&["builds-v*"], ProgramPlace::Cache(PackageRunner::Uvx)),
    (&["pipx", ".cache"], ProgramPlace::Cache(PackageRunner::PipxRun)),
    (&[".cache", "pipx"], ProgramPlace::Cache(PackageRunner::PipxRun)),
    (&["Caches", "pipx"], ProgramPlace::Cache(PackageRunner::PipxRun)),
    (&["pipx", "Cache"], ProgramPlace::Cache(PackageRunner::PipxRun)),
    (&["Cellar", PROGRAM], ProgramPlace::HomebrewCellar),
    (&["Claude Extensions"], ProgramPlace::Bundle),
];

/// Folders of temporary files beside the one that the environment names.
const MACOS_TEMPORARY: [&str; 3] = ["/tmp", "/private/tmp", "/private/var/folders"];

/// The names in a path. On Windows, case does not matter.
fn names(path: &Path, os: Os) -> Vec<String> {
    let text = path.to_string_lossy();
    let (text, separators) = match os {
        Os::Linux | Os::MacOs => (text.into_owned(), &['/'][..]),
        Os::Windows => (text.to_lowercase(), &['/', '\\'][..]),
    };
    text.split(separators).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether a name fits a pattern.
fn fits(name: &str, pattern: &str, os: Os) -> bool {
    let pattern = match os {
        Os::Linux | Os::MacOs => pattern.to_owned(),
        Os::Windows => pattern.to_lowercase(),
    };
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// The version of the running program.
#[must_use]
pub fn this_version() -> Version {
    // Cargo accepts no other version.
    Version::parse(VERSION).unwrap_or(Version::new(0, 0, 0))
}

/// The copies of this program: `bin/VERSION/callingbox-mcp` in its data folder.
#[derive(Debug, Clone)]
pub struct ProgramCopies {
    system: SystemFolders,
    folder: PathBuf,
}

impl ProgramCopies {
    #[must_use]
    pub fn new(system: &SystemFolders) -> Self {
        let folder = UserFolders::new(system).data_file("bin").unwrap_or_default();
        Self { system: system.clone(), folder }
    }

    /// The folder of all copies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of the copy of a version, whether or not it exists.
    #[must_use]
    pub fn path(&self, version: &Version) -> PathBuf {
        let file = match self.system.os {
            Os::Linux | Os::MacOs => PROGRAM.to_owned(),
            Os::Windows => format!("{PROGRAM}.exe"),
        };
        self.folder.join(version.to_string()).join(file)
    }

    /// Where a program is. Files are not examined.
    #[must_use]
    pub fn locate(&self, program: &Path) -> ProgramPlace {
        let os = self.system.os;
        let parts = names(program, os);
        if let [version, _] = self.below(&self.folder, &parts)
            && let Ok(version) = Version::parse(version)
        {
            return ProgramPlace::Copy(version);
        }
        let cache = CACHES.iter().find(|(pattern, _)| {
            parts.windows(pattern.len()).any(|window| {
                window.iter().zip(*pattern).all(|(name, pattern)| fits(name, pattern, os))
            })
        });
        if let Some((_, place)) = cache {
            return place.clone();
        }
        let own = Some(self.system.temp.as_path());
        let others = MACOS_TEMPORARY.map(Path::new);
        let others = if os == Os::MacOs { &others[..] } else { &[] };
        let mut temporary = own.into_iter().chain(others.iter().copied());
        let is_temporary = temporary.any(|folder| {
            // The home folder of a container or of a test may be in a temporary folder itself.
            let is_home_inside = names(&self.system.home, os).starts_with(&names(folder, os));
            let is_in_home = !self.below(&self.system.home, &parts).is_empty();
            let is_below = !self.below(folder, &parts).is_empty();
            is_below && !(is_home_inside && is_in_home)
        });
        if is_temporary { ProgramPlace::TemporaryFolder } else { ProgramPlace::Permanent }
    }

    /// What a person types for a program whose name alone they cannot type, because only a package runner or a client
    /// finds it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Option<String> {
        match self.locate(program) {
            ProgramPlace::Cache(runner) => Some(runner.command().join(" ")),
            ProgramPlace::Copy(_) | ProgramPlace::Bundle => {
                let path = program.to_str()?;
                Some(if path.contains(' ') { format!("\"{path}\"") } else { path.to_owned() })
            }
            ProgramPlace::Permanent
            | ProgramPlace::HomebrewCellar
            | ProgramPlace::TemporaryFolder => None,
        }
    }

    /// The names of a path below a folder; none if it is elsewhere.
    fn below<'a>(&self, folder: &Path, path: &'a [String]) -> &'a [String] {
        let folder = names(folder, self.system.os);
        path.strip_prefix(folder.as_slice()).unwrap_or_default()
    }

    /// The path of a program that stays, and whether the program must be copied there first.
    #[must_use]
    pub fn lasting_path(&self, program: &Path) -> LastingPath {
        let place = self.locate(program);
        let lasting = match place {
            ProgramPlace::Permanent | ProgramPlace::Copy(_) | ProgramPlace::Bundle => {
                Some(program.to_owned())
            }
            ProgramPlace::HomebrewCellar => homebrew_link(program),
            ProgramPlace::Cache(_) | ProgramPlace::TemporaryFolder => None,
        };
        match lasting {
            Some(path) => LastingPath { path, copied_from: None },
            None => LastingPath {
                path: self.path(&this_version()),
                copied_from: Some((program.to_owned(), place)),
            },
        }
    }

    /// Removes the copies that no entry names, except this version's and the newest of the others. A copy that cannot be
    /// removed, because it runs, is removed another time.
    pub fn remove_unused(&self, named: &[PathBuf]) {
        let versions = self.versions();
        let this = this_version();
        let newest = versions.iter().filter(|version| **version != this).max().cloned();
        let named: Vec<ProgramPlace> = named.iter().map(|program| self.locate(program)).collect();
        for version in versions {
            let is_kept = version == this
                || Some(&version) == newest.as_ref()
                || named.contains(&ProgramPlace::Copy(version.clone()));
            if !is_kept {
                let _ = fs::remove_dir_all(self.folder.join(version.to_string()));
            }
        }
    }

    fn versions(&self) -> Vec<Version> {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        folders.filter_map(|folder| Version::parse(folder.file_name().to_str()?).ok()).collect()
    }

    /// Removes all copies. Returns whether there were any.
    ///
    /// # Errors
    /// A copy runs on Windows, or the system refused for another reason. Others may be removed.
    pub fn remove_all(&self) -> std::io::Result<bool> {
        if self.versions().is_empty() {
            return Ok(false);
        }
        fs::remove_dir_all(&self.folder)?;
        Ok(true)
    }
}

/// The link that Homebrew moves to each new version: `PREFIX/opt/NAME/bin/NAME`.
fn homebrew_link(program: &Path) -> Option<PathBuf> {
    let cellar = program.ancestors().find(|folder| folder.ends_with("Cellar"))?;
    let link = cellar.parent()?.join("opt").join(PROGRAM).join("bin").join(PROGRAM);
    let is_same = dunce::canonicalize(&link).ok()? == dunce::canonicalize(program).ok()?;
    is_same.then_some(link)
}

/// A path for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastingPath {
    pub path: PathBuf,
    /// The program to copy there, and where it is.
    pub copied_from: Option<(PathBuf, ProgramPlace)>,
}

impl LastingPath {
    /// Copies the program, unless it needs no copy or has the same one already. Returns whether it did.
    ///
    /// # Errors
    /// [`InstallError::Io`]; an earlier copy is intact.
    pub fn provide(&self) -> Result<bool, InstallError> {
        match &self.copied_from {
            Some((program, _)) => file::copy_program(program, &self.path),
            None => Ok(false),
        }
    }
}

/// Why an entry should start another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutdatedProgram {
    /// A copy of an earlier version than this.
    EarlierVersion(Version),
    /// A place where it does not stay.
    Vanishing(ProgramPlace),
    /// The copy, or the program in a cache, is gone.
    Missing,
}

impl fmt::Display for OutdatedProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EarlierVersion(version) => {
                write!(f, "it starts version {version}, and this is version {VERSION}")
            }
            Self::Vanishing(place) => write!(f, "its program is in {place} and may vanish"),
            Self::Missing => f.write_str("its program does not exist"),
        }
    }
}

impl ProgramCopies {
    /// Whether an entry's command should be another one. Only absolute paths of this program can be outdated.
    #[must_use]
    pub fn find_outdated(&self, command: &str) -> Option<OutdatedProgram> {
        let path = Path::new(command);
        let os = self.system.os;
        let file = names(path, os).pop()?;
        let stem = if os == Os::Windows { file.trim_end_matches(".exe") } else { &file };
        if stem != PROGRAM || !is_absolute(command, os) {
            return None;
        }
        match self.locate(path) {
            ProgramPlace::Copy(version) if version < this_version() => {
                Some(OutdatedProgram::EarlierVersion(version))
            }
            ProgramPlace::Permanent | ProgramPlace::Bundle => None,
            _ if !path.exists() => Some(OutdatedProgram::Missing),
            ProgramPlace::Copy(_) => None,
            place => Some(OutdatedProgram::Vanishing(place)),
        }
    }
}

fn is_absolute(path: &str, os: Os) -> bool {
    match os {
        Os::Linux | Os::MacOs => path.starts_with('/'),
        Os::Windows => {
            path.starts_with('\\')
                || path.get(1..3).is_some_and(|drive| drive == ":\\" || drive == ":/")
        }
    }
}
