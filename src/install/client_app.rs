//! The table of clients: where each keeps its servers on each operating system, and under which keys. Looks for files
//! and folders, but reads and writes none.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::InstallError;
use crate::system::{Os, SystemFolders};

/// Where a user's files are.
#[derive(Debug, Clone)]
pub struct Machine {
    pub system: SystemFolders,
    pub project: PathBuf,
    /// `CLAUDE_CONFIG_DIR` moves Claude Code's file.
    pub claude_config_dir: Option<PathBuf>,
    /// `CODEX_HOME` moves Codex's file.
    pub codex_home: Option<PathBuf>,
    /// `OPENCLAW_HOME` is OpenClaw's home folder.
    pub openclaw_home: Option<PathBuf>,
    /// `OPENCLAW_STATE_DIR` is the folder of OpenClaw's file.
    pub openclaw_state_dir: Option<PathBuf>,
    /// `OPENCLAW_CONFIG_PATH` is OpenClaw's file.
    pub openclaw_config_path: Option<PathBuf>,
}

impl Machine {
    /// This machine, this user, and the current folder as the project. `None` without a home folder.
    #[must_use]
    pub fn this() -> Option<Self> {
        let variable = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        Some(Self {
            system: SystemFolders::this()?,
            project: std::env::current_dir().ok()?,
            claude_config_dir: variable("CLAUDE_CONFIG_DIR"),
            codex_home: variable("CODEX_HOME"),
            openclaw_home: variable("OPENCLAW_HOME"),
            openclaw_state_dir: variable("OPENCLAW_STATE_DIR"),
            openclaw_config_path: variable("OPENCLAW_CONFIG_PATH"),
        })
    }

    /// The files of Claude Desktop. On Windows it may be a package, which reads only the folder of its own, and a
    /// program of the usual kind may be installed beside it: then it has a file for each, that of the package first.
    fn claude_desktop_files(&self) -> Vec<PathBuf> {
        let usual = self.system.config.join("Claude");
        let packages = self.claude_packages().into_iter();
        let mut folders: Vec<PathBuf> = packages
            .map(|folder| folder.join("LocalCache").join("Roaming").join("Claude"))
            .collect();
        if folders.is_empty() || usual.is_dir() {
            folders.push(usual);
        }
        folders.into_iter().map(|folder| folder.join("claude_desktop_config.json")).collect()
    }

    /// The folders of Claude Desktop's packages: `Claude_` and a hash of the publisher.
    fn claude_packages(&self) -> Vec<PathBuf> {
        if self.system.os != Os::Windows {
            return Vec::new();
        }
        let folders =
            std::fs::read_dir(self.system.local_data.join("Packages")).into_iter().flatten();
        let mut found: Vec<PathBuf> = folders
            .flatten()
            .filter(|folder| folder.file_name().to_string_lossy().starts_with("Claude_"))
            .map(|folder| folder.path())
            .collect();
        found.sort_unstable();
        found
    }

    fn openclaw_file(&self) -> PathBuf {
        let home = self.openclaw_home.as_deref();
        let home = home
            .map_or_else(|| self.system.home.clone(), |home| expand_home(home, &self.system.home));
        if let Some(file) = &self.openclaw_config_path {
            return expand_home(file, &home);
        }
        let folder = self.openclaw_state_dir.as_deref();
        let folder =
            folder.map_or_else(|| home.join(".openclaw"), |folder| expand_home(folder, &home));
        folder.join("openclaw.json")
    }
}

/// A path that may begin with `~`, which OpenClaw itself expands.
fn expand_home(path: &Path, home: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.to_owned(), |rest| home.join(rest))
}

/// For whom a server is configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum InstallScope {
    /// For the user, in every project.
    #[default]
    User,
    /// For everyone in the current folder.
    Project,
}

/// A file in which a client keeps its servers, whether or not it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFile {
    pub client: ClientApp,
    pub path: PathBuf,
    /// The folder that the file must not leave by a link: that of the project, if the file belongs to one.
    pub(super) project: Option<PathBuf>,
}

impl ClientFile {
    #[must_use]
    pub fn scope(&self) -> InstallScope {
        match self.project {
            Some(_) => InstallScope::Project,
            None => InstallScope::User,
        }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON, in which a user may have written comments and trailing commas.
    Json,
    Json5,
    Toml,
}

/// An MCP client whose configuration can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientApp {
    ClaudeDesktop,
    Cursor,
    ClaudeCode,
    Vscode,
    Openclaw,
    Codex,
    Gemini,
    Windsurf,
}

impl fmt::Display for ClientApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::Cursor => "Cursor",
            Self::ClaudeCode => "Claude Code",
            Self::Vscode => "VS Code",
            Self::Openclaw => "OpenClaw",
            Self::Codex => "Codex",
            Self::Gemini => "Gemini CLI",
            Self::Windsurf => "Windsurf",
        })
    }
}

impl ClientApp {
    pub const ALL: [Self; 8] = [
        Self::ClaudeDesktop,
        Self::Cursor,
        Self::ClaudeCode,
        Self::Vscode,
        Self::Openclaw,
        Self::Codex,
        Self::Gemini,
        Self::Windsurf,
    ];

    /// Its name on the command line, such as `claude-desktop`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "claude-desktop",
            Self::Cursor => "cursor",
            Self::ClaudeCode => "claude-code",
            Self::Vscode => "vscode",
            Self::Openclaw => "openclaw",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Windsurf => "windsurf",
        }
    }

    /// The files that hold its servers, whether or not they exist: one, or several that the same client may read.
    ///
    /// # Errors
    /// [`InstallError::NoProjectScope`].
    pub fn files(
        self,
        scope: InstallScope,
        machine: &Machine,
    ) -> Result<Vec<ClientFile>, InstallError> {
        let (paths, project) = match scope {
            InstallScope::User => (self.user_paths(machine), None),
            InstallScope::Project => {
                let path =
                    self.project_path().ok_or(InstallError::NoProjectScope { client: self })?;
                (vec![machine.project.join(path)], Some(machine.project.clone()))
            }
        };
        let file = |path| ClientFile { client: self, path, project: project.clone() };
        Ok(paths.into_iter().map(file).collect())
    }

    fn user_paths(self, machine: &Machine) -> Vec<PathBuf> {
        let SystemFolders { home, config, .. } = &machine.system;
        vec![match self {
            Self::ClaudeDesktop => return machine.claude_desktop_files(),
            Self::Cursor => home.join(".cursor").join("mcp.json"),
            Self::ClaudeCode => {
                machine.claude_config_dir.as_ref().unwrap_or(home).join(".claude.json")
            }
            Self::Vscode => config.join("Code").join("User").join("mcp.json"),
            Self::Openclaw => machine.openclaw_file(),
            Self::Codex => {
                let folder = machine.codex_home.clone().unwrap_or_else(|| home.join(".codex"));
                folder.join("config.toml")
            }
            Self::Gemini => home.join(".gemini").join("settings.json"),
            Self::Windsurf => home.join(".codeium").join("windsurf").join("mcp_config.json"),
        }]
    }

    /// Its file within a project.
    fn project_path(self) -> Option<PathBuf> {
        let (folder, file) = match self {
            Self::ClaudeDesktop | Self::Openclaw | Self::Windsurf => return None,
            Self::ClaudeCode => ("", ".mcp.json"),
            Self::Cursor => (".cursor", "mcp.json"),
            Self::Vscode => (".vscode", "mcp.json"),
            Self::Codex => (".codex", "config.toml"),
            Self::Gemini => (".gemini", "settings.json"),
        };
        Some(Path::new(folder).join(file))
    }

    /// Whether it leaves traces on this machine: its file, or the folder that is its own.
    #[must_use]
    pub fn is_present(self, machine: &Machine) -> bool {
        let files = self.user_paths(machine);
        files.iter().any(|file| file.exists())
            || match self {
                // Its file is in the home folder itself.
                Self::ClaudeCode => machine.system.home.join(".claude").is_dir(),
                // A package that was never opened has no file yet.
                Self::ClaudeDesktop if !machine.claude_packages().is_empty() => true,
                _ => files.iter().any(|file| file.parent().is_some_and(Path::is_dir)),
            }
    }

    pub(super) fn format(self) -> Format {
        match self {
            Self::Openclaw => Format::Json5,
            Self::Codex => Format::Toml,
            _ => Format::Json,
        }
    }

    /// The keys under which its servers are.
    #[must_use]
    pub fn servers_key(self) -> &'static [&'static str] {
        match self {
            Self::Vscode => &["servers"],
            Self::Openclaw => &["mcp", "servers"],
            Self::Codex => &["mcp_servers"],
            _ => &["mcpServers"],
        }
    }

    /// The value of `type` for a server over standard input and output, where the client has one.
    pub(super) fn stdio_type(self) -> Option<&'static str> {
        matches!(self, Self::ClaudeCode | Self::Vscode).then_some("stdio")
    }

    /// The keys of an entry for a server over HTTP, with their values.
    pub(super) fn http_words(self, url: &str) -> Result<Vec<(&'static str, String)>, InstallError> {
        let (word, beside) = match self {
            Self::ClaudeDesktop => return Err(InstallError::NoHttp { client: self }),
            Self::ClaudeCode | Self::Vscode | Self::Gemini => ("url", Some(("type", "http"))),
            // Without it OpenClaw takes a URL for the legacy SSE transport.
            Self::Openclaw => ("url", Some(("transport", "streamable-http"))),
            Self::Cursor | Self::Codex => ("url", None),
            Self::Windsurf => ("serverUrl", None),
        };
        let beside = beside.map(|(word, value)| (word, value.to_owned()));
        Ok(beside.into_iter().chain([(word, url.to_owned())]).collect())
    }

    /// How an entry refers to a variable of the client's own environment.
    pub(super) fn env_reference(self, variable: &str) -> String {
        match self {
            Self::Cursor | Self::Windsurf => format!("${{env:{variable}}}"),
            _ => format!("${{{variable}}}"),
        }
    }
}
