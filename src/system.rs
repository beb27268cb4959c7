//! The operating system, and the folders that it gives a user. All of it is computed from values, so that each system is
//! tested on any. Knows none of this program's own files.

use std::path::{Path, PathBuf};

/// An operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// Linux and other Unix systems.
    Linux,
    MacOs,
    Windows,
}

impl Os {
    #[must_use]
    pub const fn this() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Linux
        }
    }

    /// The variable that names the home folder.
    #[must_use]
    pub const fn home_variable(self) -> &'static str {
        match self {
            Self::Linux | Self::MacOs => "HOME",
            Self::Windows => "USERPROFILE",
        }
    }
}

/// Reads an environment variable that names a folder.
pub type FolderReader<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// Where the system keeps a user's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFolders {
    pub os: Os,
    pub home: PathBuf,
    /// Configuration files: `~/.config`, `~/Library/Application Support`, `%APPDATA%`.
    pub config: PathBuf,
    /// Data of this machine: `~/.local/share`, `~/Library/Application Support`, `%LOCALAPPDATA%`.
    pub local_data: PathBuf,
    /// `~/.config`, which some programs use on macOS too.
    pub dot_config: PathBuf,
    /// Temporary files.
    pub temp: PathBuf,
}

impl SystemFolders {
    /// Those of this user; `None` without a home folder.
    #[must_use]
    pub fn this() -> Option<Self> {
        let variable = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty())?;
        Some(Self::new(Os::this(), &home, std::env::temp_dir(), &variable))
    }

    /// Those of a user with this home folder and this environment.
    ///
    /// On Windows the variables count, and not the folders that the system knows, because MCP clients follow them.
    #[must_use]
    pub fn new(os: Os, home: &Path, temp: PathBuf, variable: FolderReader) -> Self {
        let home = match os {
            Os::Windows => variable("USERPROFILE").unwrap_or_else(|| home.to_owned()),
            Os::Linux | Os::MacOs => home.to_owned(),
        };
        // The XDG specification lets programs ignore relative paths.
        let xdg = |name| variable(name).filter(|folder| folder.is_absolute());
        let dot_config = xdg("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let (config, local_data) = match os {
            Os::Linux => (
                dot_config.clone(),
                xdg("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local").join("share")),
            ),
            Os::MacOs => {
                let support = home.join("Library").join("Application Support");
                (support.clone(), support)
            }
            Os::Windows => {
                let app_data = home.join("AppData");
                (
                    variable("APPDATA").unwrap_or_else(|| app_data.join("Roaming")),
                    variable("LOCALAPPDATA").unwrap_or_else(|| app_data.join("Local")),
                )
            }
        };
        Self { os, home, config, local_data, dot_config, temp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(os: Os, variables: &[(&str, &str)]) -> [String; 4] {
        let read = |name: &str| {
            let found = variables.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let found = SystemFolders::new(os, Path::new("/h"), "/t".into(), &read);
        [found.home, found.config, found.local_data, found.dot_config]
            .map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn each_system_has_its_folders() {
        assert_eq!(folders(Os::Linux, &[]), ["/h", "/h/.config", "/h/.local/share", "/h/.config"]);
        let support = "/h/Library/Application Support";
        assert_eq!(folders(Os::MacOs, &[]), ["/h", support, support, "/h/.config"]);
        assert_eq!(
            folders(Os::Windows, &[]),
            ["/h", "/h/AppData/Roaming", "/h/AppData/Local", "/h/.config"]
        );
    }

    #[test]
    fn variables_move_them() {
        let xdg = [("XDG_CONFIG_HOME", "/c"), ("XDG_DATA_HOME", "/d"), ("USERPROFILE", "/no")];
        assert_eq!(folders(Os::Linux, &xdg), ["/h", "/c", "/d", "/c"]);
        let support = "/h/Library/Application Support";
        assert_eq!(folders(Os::MacOs, &xdg), ["/h", support, support, "/c"]);
        let relative = [("XDG_CONFIG_HOME", "c"), ("XDG_DATA_HOME", "d")];
        assert_eq!(folders(Os::Linux, &relative), folders(Os::Linux, &[]));
        let windows = [("USERPROFILE", "/u"), ("APPDATA", "/a"), ("LOCALAPPDATA", "/l")];
        assert_eq!(folders(Os::Windows, &windows), ["/u", "/a", "/l", "/u/.config"]);
        assert_eq!(
            folders(Os::Windows, &windows[..1]),
            ["/u", "/u/AppData/Roaming", "/u/AppData/Local", "/u/.config"]
        );
    }
}
