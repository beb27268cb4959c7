//! What a user types for this program. Knows no command of it.

use crate::install::{PackageRunner, ProgramCopies, ProgramPlace};
use crate::system::SystemFolders;

/// `callingbox-mcp`, or the command of the package runner that started it: then it is not on the user's path.
pub(super) fn own_command() -> String {
    match find_runner() {
        Some(runner) => runner.command().join(" "),
        None => env!("CARGO_PKG_NAME").to_owned(),
    }
}

fn find_runner() -> Option<PackageRunner> {
    let copies = ProgramCopies::new(&SystemFolders::this()?);
    match copies.locate(&std::env::current_exe().ok()?) {
        ProgramPlace::Cache(runner) => Some(runner),
        _ => None,
    }
}
