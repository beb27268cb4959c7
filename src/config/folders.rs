//! The folders of this program, and its files in them.

use std::path::PathBuf;

use crate::system::{Os, SystemFolders};

/// The folders of this program; `None` for a user without a home folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFolders {
    /// Its configuration files, such as `~/.config/callingbox-mcp`.
    pub config: Option<PathBuf>,
    /// Its data files, such as `~/.local/share/callingbox-mcp`.
    pub data: Option<PathBuf>,
    /// The configuration files of CallingBox's own command line.
    pub official_config: Option<PathBuf>,
}

/// The name of this program's folder among those of other programs.
const NAME: &str = "callingbox-mcp";

impl UserFolders {
    #[must_use]
    pub fn from_system() -> Self {
        SystemFolders::this().as_ref().map_or_else(Self::default, Self::new)
    }

    /// On Windows both are one folder outside AppData: what a packaged client, and every program that it starts, creates
    /// under AppData ends up in that package's own folder, and other programs would have another ledger.
    #[must_use]
    pub fn new(system: &SystemFolders) -> Self {
        let (config, data, official) = match system.os {
            Os::Windows => {
                let own = system.home.join(".callingbox-mcp");
                (own.clone(), own, &system.config)
            }
            Os::Linux | Os::MacOs => {
                (system.config.join(NAME), system.local_data.join(NAME), &system.dot_config)
            }
        };
        Self {
            config: Some(config),
            data: Some(data),
            official_config: Some(official.join("callingbox")),
        }
    }

    /// A configuration file of this program.
    #[must_use]
    pub fn config_file(&self, name: &str) -> Option<PathBuf> {
        self.config.as_ref().map(|folder| folder.join(name))
    }

    /// The file in which `setup` and `install` keep the API key.
    #[must_use]
    pub fn api_key_file(&self) -> Option<PathBuf> {
        self.config_file("api-key")
    }

    /// A data file of this program.
    #[must_use]
    pub fn data_file(&self, name: &str) -> Option<PathBuf> {
        self.data.as_ref().map(|folder| folder.join(name))
    }

    /// The configuration file of CallingBox's own command line.
    pub(super) fn official_config_file(&self) -> Option<PathBuf> {
        self.official_config.as_ref().map(|folder| folder.join("config.toml"))
    }
}

/// The files of this program in folders where no server reads them, because an early version or a packaged client put
/// them there. Only Windows has such folders.
#[must_use]
pub fn find_stray_files(system: &SystemFolders) -> Vec<PathBuf> {
    const NAMES: [&str; 5] =
        ["ledger.sqlite3", "ledger.sandbox.sqlite3", "config.toml", "policy.toml", "api-key"];
    if system.os != Os::Windows {
        return Vec::new();
    }
    let packages = std::fs::read_dir(system.local_data.join("Packages")).into_iter().flatten();
    let mut packages: Vec<PathBuf> = packages.flatten().map(|package| package.path()).collect();
    packages.sort_unstable();
    let private = packages.into_iter().flat_map(|package| {
        ["Roaming", "Local"].map(|folder| package.join("LocalCache").join(folder))
    });
    let folders = [system.config.clone(), system.local_data.clone()].into_iter().chain(private);
    folders
        .flat_map(|folder| NAMES.map(|name| folder.join(NAME).join(name)))
        .filter(|file| file.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn system(os: Os, home: &Path) -> SystemFolders {
        SystemFolders::new(os, home, "/t".into(), &|_| None)
    }

    #[test]
    fn on_windows_nothing_is_below_app_data() {
        let place = |os, name: &str| {
            let folders = UserFolders::new(&system(os, Path::new("/h")));
            let found = match name {
                "official" => folders.official_config_file(),
                "ledger" => folders.data_file("ledger.sqlite3"),
                _ => folders.api_key_file(),
            };
            found.unwrap().to_str().unwrap().to_owned()
        };
        for (os, key, ledger, official) in [
            (
                Os::Linux,
                "/h/.config/callingbox-mcp/api-key",
                "/h/.local/share/callingbox-mcp/ledger.sqlite3",
                "/h/.config/callingbox/config.toml",
            ),
            (
                Os::MacOs,
                "/h/Library/Application Support/callingbox-mcp/api-key",
                "/h/Library/Application Support/callingbox-mcp/ledger.sqlite3",
                "/h/.config/callingbox/config.toml",
            ),
            (
                Os::Windows,
                "/h/.callingbox-mcp/api-key",
                "/h/.callingbox-mcp/ledger.sqlite3",
                "/h/AppData/Roaming/callingbox/config.toml",
            ),
        ] {
            let found = ["key", "ledger", "official"].map(|name| place(os, name));
            assert_eq!(found, [key, ledger, official], "{os:?}");
        }
    }

    #[test]
    fn files_that_a_package_keeps_to_itself_are_found() {
        let home = tempfile::tempdir().unwrap();
        let package = "AppData/Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming";
        let strays = [
            "AppData/Roaming/callingbox-mcp/config.toml".to_owned(),
            "AppData/Local/callingbox-mcp/ledger.sqlite3".to_owned(),
            format!("{package}/callingbox-mcp/ledger.sqlite3"),
        ];
        for file in strays.iter().map(String::as_str).chain([
            ".callingbox-mcp/ledger.sqlite3",
            "AppData/Roaming/callingbox-mcp/other",
            "AppData/Roaming/callingbox/config.toml",
        ]) {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = find_stray_files(&system(Os::Windows, home.path()));
        assert_eq!(found, strays.map(|file| home.path().join(file)));
        assert_eq!(find_stray_files(&system(Os::Linux, home.path())), [""; 0].map(PathBuf::from));
    }
}
