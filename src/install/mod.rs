//! The configuration of MCP clients: where each keeps it, and how this server is written into it.
//!
//! - [`client_app`]: which client keeps its servers where, under which key, and in which words.
//! - [`entry`]: what is written, as a merge patch (RFC 7396), and how the API key is given.
//! - `json_config`, `toml_config`: edit a text and keep everything else in it.
//! - [`change`]: plans one change of one file, shows it, and makes it.
//! - `file`: reads, backs up, and writes atomically.
//!
//! Knows nothing of MCP, of the API, or of any world: a key is a file's path or a name here, never a
//! value, except in [`store_key`].

pub mod change;
pub mod client_app;
mod document;
pub mod entry;
mod file;
mod json_config;
mod toml_config;

use std::path::PathBuf;

pub use change::{
    InstallPlan, InstalledEntry, find_entry, plan_install, plan_uninstall, read_entries,
};
pub use client_app::{ClientApp, InstallScope, Machine, Os};
pub use entry::{KeyDelivery, ServerEntry};
pub use file::{store_key, write_new};

/// Why a client's configuration was not changed. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The client has no such place.
    #[error("{client} has no configuration per project; leave --scope project away")]
    NoProjectScope {
        /// Which client.
        client: ClientApp,
    },
    /// The client takes no server over HTTP from its file.
    #[error(
        "{client} takes servers over HTTP in its own settings (Connectors), not from its file; leave --http away to let it start this program"
    )]
    NoHttp {
        /// Which client.
        client: ClientApp,
    },
    /// The file is not what its format says.
    #[error("{} cannot be parsed, so it was left as it is: {message}", path.display())]
    Unparsable {
        /// Which file.
        path: PathBuf,
        /// Where and why, without the text.
        message: String,
    },
    /// Something else is where servers belong.
    #[error("{} was left as it is: {message}", path.display())]
    Unexpected {
        /// Which file.
        path: PathBuf,
        /// What is where.
        message: String,
    },
    /// The file changed between reading and writing.
    #[error("{} was changed by another program just now; run this again", path.display())]
    ChangedMeanwhile {
        /// Which file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{} was left as it is: {doing}: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        reason: std::io::Error,
    },
    /// A path that is not Unicode cannot stand in a client's file.
    #[error("{} is not Unicode and cannot be written into a configuration", path.display())]
    NotUnicode {
        /// Which path.
        path: PathBuf,
    },
}
