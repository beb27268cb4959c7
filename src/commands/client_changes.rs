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

/// The files in which clients may keep their servers here, the user's own first.
pub(super) fn known_files(machine: &Machine) -> Vec<ClientFile> {
    let files = |scope| {
        ClientApp::ALL
            .into_iter()
            .filter_map(move |client| client.files(scope, machine).ok())
            .flatten()
    };
    let mut known: Vec<ClientFile> = files(InstallScope::User).collect();
    // In the home folder, some project files are the user's own files.
    let is_other = |file: &ClientFile| known.iter().all(|own| own.path != file.path);
    let of_project: Vec<ClientFile> = files(InstallScope::Project).filter(is_other).collect();
    known.extend(of_project);
    known
}

/// An entry of this program.
pub(super) struct OwnEntry {
    pub(super) file: ClientFile,
    pub(super) name: String,
    entry: InstalledEntry,
}

/// Every entry of this program in the files that are known here, whatever its name; `None` if a file cannot be read.
pub(super) fn own_entries(machine: &Machine) -> Option<Vec<OwnEntry>> {
    let mut found = Vec::new();
    for file in known_files(machine) {
        let entries = file.read_entries().ok()?.into_iter();
        let own = entries.filter(|(name, entry)| entry.is_own(name));
        found.extend(own.map(|(name, entry)| OwnEntry { file: file.clone(), name, entry }));
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
