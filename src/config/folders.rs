//! The user's folders, and the files of this program in them.

use std::path::{Path, PathBuf};

/// The user's folders, as the operating system reports them; `None` for a user without a home folder.
#[derive(Debug, Clone, Default)]
pub struct UserFolders {
    /// Configuration files, such as `~/.config`.
    pub config: Option<PathBuf>,
    /// Data files, such as `~/.local/share`.
    pub data: Option<PathBuf>,
    /// Configuration files of CallingBox's own command line: `~/.config` on Unix, macOS included.
    pub official_config: Option<PathBuf>,
}

impl UserFolders {
    #[must_use]
    pub fn from_system() -> Self {
        directories::BaseDirs::new().map_or_else(Self::default, |base| Self {
            config: Some(base.config_dir().to_owned()),
            data: Some(base.data_local_dir().to_owned()),
            official_config: Some(if cfg!(windows) {
                base.config_dir().to_owned()
            } else {
                std::env::var_os("XDG_CONFIG_HOME")
                    .filter(|dir| !dir.is_empty())
                    .map_or_else(|| base.home_dir().join(".config"), PathBuf::from)
            }),
        })
    }

    /// A configuration file of this program.
    #[must_use]
    pub fn config_file(&self, name: &str) -> Option<PathBuf> {
        join_own_folder(self.config.as_deref(), name)
    }

    /// The file in which `setup` and `install` keep the API key.
    #[must_use]
    pub fn api_key_file(&self) -> Option<PathBuf> {
        self.config_file("api-key")
    }

    /// A data file of this program.
    #[must_use]
    pub fn data_file(&self, name: &str) -> Option<PathBuf> {
        join_own_folder(self.data.as_deref(), name)
    }

    /// The configuration file of CallingBox's own command line.
    pub(super) fn official_config_file(&self) -> Option<PathBuf> {
        self.official_config.as_ref().map(|folder| folder.join("callingbox").join("config.toml"))
    }
}

fn join_own_folder(folder: Option<&Path>, name: &str) -> Option<PathBuf> {
    folder.map(|folder| folder.join("callingbox-mcp").join(name))
}
