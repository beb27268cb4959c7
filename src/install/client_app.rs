//! The table of clients: where each keeps its configuration on each operating system, and which
//! words it uses in it. Reads and writes no file.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

use super::InstallError;

/// An operating system; a parameter, so that all three are tested on any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// Linux and other Unix systems.
    Linux,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

/// Where a user's files are.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The operating system.
    pub os: Os,
    /// The home folder.
    pub home: PathBuf,
    /// Where programs keep configuration: `~/.config`, `~/Library/Application Support`, `%APPDATA%`.
    pub config: PathBuf,
    /// The folder of the project.
    pub project: PathBuf,
    /// `CLAUDE_CONFIG_DIR`, which moves Claude Code's file.
    pub claude_config_dir: Option<PathBuf>,
    /// `CODEX_HOME`, which moves Codex's.
    pub codex_home: Option<PathBuf>,
    /// `OPENCLAW_CONFIG_PATH`, which names OpenClaw's file.
    pub openclaw_config_path: Option<PathBuf>,
}

impl Machine {
    /// This machine, this user, and the current folder as the project. None without a home folder.
    #[must_use]
    pub fn this() -> Option<Self> {
        let base = directories::BaseDirs::new()?;
        let set = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        Some(Self {
            os: if cfg!(windows) {
                Os::Windows
            } else if cfg!(target_os = "macos") {
                Os::MacOs
            } else {
                Os::Linux
            },
            home: base.home_dir().to_owned(),
            config: base.config_dir().to_owned(),
            project: std::env::current_dir().ok()?,
            claude_config_dir: set("CLAUDE_CONFIG_DIR"),
            codex_home: set("CODEX_HOME"),
            openclaw_config_path: set("OPENCLAW_CONFIG_PATH"),
        })
    }
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

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON; comments and trailing commas are kept where a user wrote them.
    Json,
    /// JSON5, as OpenClaw reads it.
    Json5,
    /// TOML.
    Toml,
}

/// How an API key that is in the environment reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyStyle {
    /// The client asks for it, once, and keeps it.
    Prompt,
    /// The client puts an environment variable in.
    Reference(&'static str),
    /// By a file that only the user can read.
    File,
}

/// How a bearer token that is in the environment reaches a server over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenStyle {
    /// The client asks for it, once, and keeps it.
    Prompt,
    /// The client puts the variable into the header `Authorization`.
    Header(String),
    /// The client is told the variable's name.
    Variable,
}

/// An MCP client whose configuration can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum ClientApp {
    /// Claude Desktop.
    ClaudeDesktop,
    /// Cursor.
    Cursor,
    /// Claude Code.
    ClaudeCode,
    /// Visual Studio Code.
    Vscode,
    /// OpenClaw.
    Openclaw,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// Windsurf.
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
    /// All of them.
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

    /// What is typed for it, such as `claude-desktop`.
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

    /// The file that holds its servers, there or not.
    ///
    /// # Errors
    /// [`InstallError::NoProjectScope`].
    pub fn file(self, scope: InstallScope, machine: &Machine) -> Result<PathBuf, InstallError> {
        let Machine { home, config, project, .. } = machine;
        Ok(match (self, scope) {
            (Self::ClaudeDesktop, InstallScope::User) => {
                config.join("Claude").join("claude_desktop_config.json")
            }
            (Self::Cursor, InstallScope::User) => home.join(".cursor").join("mcp.json"),
            (Self::Cursor, InstallScope::Project) => project.join(".cursor").join("mcp.json"),
            (Self::ClaudeCode, InstallScope::User) => {
                machine.claude_config_dir.as_ref().unwrap_or(home).join(".claude.json")
            }
            (Self::ClaudeCode, InstallScope::Project) => project.join(".mcp.json"),
            (Self::Vscode, InstallScope::User) => config.join("Code").join("User").join("mcp.json"),
            (Self::Vscode, InstallScope::Project) => project.join(".vscode").join("mcp.json"),
            (Self::Openclaw, InstallScope::User) => machine
                .openclaw_config_path
                .clone()
                .unwrap_or_else(|| home.join(".openclaw").join("openclaw.json")),
            (Self::Codex, InstallScope::User) => machine
                .codex_home
                .clone()
                .unwrap_or_else(|| home.join(".codex"))
                .join("config.toml"),
            (Self::Codex, InstallScope::Project) => project.join(".codex").join("config.toml"),
            (Self::Gemini, InstallScope::User) => home.join(".gemini").join("settings.json"),
            (Self::Gemini, InstallScope::Project) => project.join(".gemini").join("settings.json"),
            (Self::Windsurf, InstallScope::User) => {
                home.join(".codeium").join("windsurf").join("mcp_config.json")
            }
            (Self::ClaudeDesktop | Self::Openclaw | Self::Windsurf, InstallScope::Project) => {
                return Err(InstallError::NoProjectScope { client: self });
            }
        })
    }

    /// Whether it leaves traces on this machine: its file, or the folder that is its own.
    #[must_use]
    pub fn is_present(self, machine: &Machine) -> bool {
        let Ok(file) = self.file(InstallScope::User, machine) else { return false };
        let folder = match self {
            Self::ClaudeCode => Some(machine.home.join(".claude")),
            _ => file.parent().map(PathBuf::from),
        };
        file.exists() || folder.is_some_and(|folder| folder.is_dir())
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

    /// The words for a server over HTTP.
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

    /// How a key that is in the environment is given to the server. Only what a client itself can
    /// fill in keeps the key off the disk; clients with a window see no shell's environment.
    pub(super) fn key_style(self) -> KeyStyle {
        match self {
            Self::Vscode => KeyStyle::Prompt,
            Self::Cursor => KeyStyle::Reference("${env:CALLINGBOX_API_KEY}"),
            _ => KeyStyle::File,
        }
    }

    /// How a bearer token is given to a server over HTTP: each client's own way to take it from
    /// `variable` of its environment, or from its user.
    pub(super) fn token_style(self, variable: &str) -> TokenStyle {
        match self {
            Self::Vscode => TokenStyle::Prompt,
            Self::Codex => TokenStyle::Variable,
            Self::Cursor | Self::Windsurf => {
                TokenStyle::Header(format!("Bearer ${{env:{variable}}}"))
            }
            Self::ClaudeCode | Self::ClaudeDesktop | Self::Gemini | Self::Openclaw => {
                TokenStyle::Header(format!("Bearer ${{{variable}}}"))
            }
        }
    }
}
