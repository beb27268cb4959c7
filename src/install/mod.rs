//! The configuration of MCP clients: where each keeps it, and how this server is written into it.
//!
//! - [`client_app`]: which client keeps its servers where, and under which keys.
//! - [`entry`]: what is written, as a merge patch (RFC 7396), and how the server gets the API key.
//! - `json_config`, `toml_config`: edit a text and keep everything else in it.
//! - [`program`]: where the program is that an entry starts, and its copies in a place that stays.
//! - [`change`]: plans one change of one file, shows it, and makes it.
//! - `file`: reads, backs up, and writes atomically.
//!
//! Knows neither MCP nor the API nor the environments. It handles the path of a key file or the name of a variable,
//! and never a key, except in [`store_key`].

pub mod change;
pub mod client_app;
mod document;
pub mod entry;
mod file;
mod json_config;
pub mod program;
mod toml_config;

use std::path::PathBuf;

pub use change::{DEFAULT_NAME, InstallPlan, InstalledEntry};
pub use client_app::{ClientApp, ClientFile, InstallScope, Machine};
pub use entry::{KeyDelivery, ServerEntry};
pub use file::{store_key, write_new, write_private};
pub use program::{
    LastingPath, OutdatedProgram, PackageRunner, ProgramCopies, ProgramPlace, this_version,
};

/// Why a client's configuration was not changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("{client} has no configuration per project; remove --scope project")]
    NoProjectScope { client: ClientApp },
    #[error(
        "{client} takes servers over HTTP from its own settings (Connectors), not from its file; remove --http to let \
         it start this program"
    )]
    NoHttp { client: ClientApp },
    /// The text is not valid in its format; the message does not quote it.
    #[error("{} cannot be parsed, so it was not changed: {message}", path.display())]
    Unparsable { path: PathBuf, message: String },
    /// The text is valid, but does not have the structure of a configuration.
    #[error("{} was not changed: {message}", path.display())]
    Unexpected { path: PathBuf, message: String },
    #[error("{} was changed by another program just now; run this again", path.display())]
    ChangedMeanwhile { path: PathBuf },
    #[error(
        "{} was not changed: a symbolic link leads out of the project, to {}; write to that place directly, or remove \
         the link",
        path.display(),
        target.display()
    )]
    OutsideProject { path: PathBuf, target: PathBuf },
    #[error("{}: {action} failed, and nothing was changed: {reason}", path.display())]
    Io { path: PathBuf, action: &'static str, reason: std::io::Error },
    #[error("{} is not Unicode, so it cannot be written into a configuration", path.display())]
    NotUnicode { path: PathBuf },
}
