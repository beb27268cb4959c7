//! What `install` and `install --upgrade` share: they show and make changes of clients' files, and provide the program
//! that an entry names.

use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;

use super::output::{print, print_wrapped};
use crate::install::{
    ClientApp, ClientFile, InstallPlan, InstallScope, InstalledEntry, LastingPath, Machine,
    ProgramCopies,
};
use crate::suggest::UnknownName;

/// Why a client's name is not accepted.
pub(super) fn unknown_client(name: &str) -> UnknownName {
    UnknownName::new("client", name, ClientApp::ALL.iter().map(|client| client.id().to_owned()))
}

/// Copies the program to the place that the entry will name, if it has to be copied.
pub(super) fn provide_program(lasting: &LastingPath) -> anyhow::Result<()> {
    if lasting.provide()?
        && let Some((_, place)) = &lasting.copied_from
    {
        print_wrapped(format!(
            "This program is in {place}, where it may vanish. Copied it to {}, which the entry names.\n",
            lasting.path.display()
        ))?;
    }
    Ok(())
}

/// An entry of this program.
pub(super) struct OwnEntry {
    pub(super) file: ClientFile,
    pub(super) scope: InstallScope,
    pub(super) name: String,
    entry: InstalledEntry,
}

/// Every entry of this program in the files that are known here, whatever its name; `None` if a file cannot be read.
pub(super) fn own_entries(machine: &Machine) -> Option<Vec<OwnEntry>> {
    let mut found: Vec<OwnEntry> = Vec::new();
    for scope in [InstallScope::User, InstallScope::Project] {
        let files =
            ClientApp::ALL.into_iter().filter_map(|client| client.files(scope, machine).ok());
        for file in files.flatten() {
            // In the home folder, some project files are the user's own files.
            if found.iter().any(|entry| entry.scope != scope && entry.file.path == file.path) {
                continue;
            }
            let entries = file.read_entries().ok()?.into_iter();
            found.extend(
                entries.filter(|(name, entry)| entry.is_own(name)).map(|(name, entry)| OwnEntry {
                    file: file.clone(),
                    scope,
                    name,
                    entry,
                }),
            );
        }
    }
    Some(found)
}

/// The programs that entries name; `None` if a file cannot be read, which may name any program.
pub(super) fn named_programs(machine: &Machine) -> Option<Vec<PathBuf>> {
    let entries = own_entries(machine)?.into_iter();
    Some(entries.filter_map(|own| own.entry.command.map(PathBuf::from)).collect())
}

/// Keeps one earlier copy beside that of this version, and each that an entry names.
pub(super) fn remove_unused_copies(machine: &Machine, copies: &ProgramCopies) {
    if let Some(named) = named_programs(machine) {
        copies.remove_unused(&named);
    }
}

/// Shows and makes the changes. Returns whether there were any.
pub(super) fn apply_plans(
    plans: &[InstallPlan],
    action: &str,
    describe_unchanged: impl Fn(&Path) -> String,
) -> anyhow::Result<bool> {
    for plan in plans {
        if plan.is_done() {
            print(describe_unchanged(plan.path()))?;
            continue;
        }
        print(plan.diff())?;
        let backup = plan.apply(Timestamp::now())?;
        print(format!("{action} {}\n", plan.path().display()))?;
        if let Some(backup) = backup {
            print(format!("Backup: {}\n", backup.display()))?;
        }
    }
    Ok(plans.iter().any(|plan| !plan.is_done()))
}

pub(super) fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not Unicode", path.display()))
}
