//! `callingbox-mcp install --upgrade`: lets the entries of this program start this version, from a place that stays. It
//! changes the program of an entry and nothing else.

use std::collections::BTreeSet;

use anyhow::bail;

use super::client_changes::{
    apply_plans, path_text, provide_program, remove_unused_copies, unknown_client,
};
use super::output::print_wrapped;
use crate::cli::{ClientName, InstallArgs};
use crate::install::{ClientApp, ClientFile, Machine, ProgramCopies};

pub(super) fn run(
    args: &InstallArgs,
    machine: &Machine,
    copies: &ProgramCopies,
) -> anyhow::Result<()> {
    let clients = match &args.client {
        None => ClientApp::ALL.to_vec(),
        Some(ClientName::Known(client)) => vec![*client],
        Some(ClientName::Other(name)) => bail!("{}", unknown_client(name)),
    };
    let files = clients.iter().filter_map(|client| client.files(args.scope, machine).ok());
    let mut changed = BTreeSet::new();
    let mut unread = Vec::new();
    for file in files.flatten() {
        match upgrade_file(&file, copies) {
            Ok(true) => {
                changed.insert(file.client);
            }
            Ok(false) => {}
            // The other clients can be upgraded nevertheless.
            Err(error) => unread.push(format!("{error:#}")),
        }
    }
    if changed.is_empty() && unread.is_empty() {
        print_wrapped(
            "Nothing to upgrade: no entry starts an earlier copy, or a program that may vanish.\n",
        )?;
    }
    if !changed.is_empty() {
        remove_unused_copies(machine, copies);
        let names: Vec<String> = changed.iter().map(ToString::to_string).collect();
        print_wrapped(format!("Restart {}.\n", names.join(", ")))?;
    }
    anyhow::ensure!(unread.is_empty(), "{}", unread.join("; "));
    Ok(())
}

/// Returns whether an entry of the file had to be upgraded.
fn upgrade_file(file: &ClientFile, copies: &ProgramCopies) -> anyhow::Result<bool> {
    let lasting = copies.lasting_path(&std::env::current_exe()?);
    let mut is_changed = false;
    for (name, entry) in file.read_entries()?.iter().filter(|(name, entry)| entry.is_own(name)) {
        let outdated = entry.command.as_deref().and_then(|command| copies.find_outdated(command));
        let Some(why) = outdated else { continue };
        let plan = file.plan_program(name, entry, &path_text(&lasting.path)?)?;
        print_wrapped(format!("{}, entry {name}: {why}.\n", file.client))?;
        provide_program(&lasting)?;
        apply_plans(&[plan], "Written to", |path| {
            format!("The entry in {} names the copy already.\n", path.display())
        })?;
        is_changed = true;
    }
    Ok(is_changed)
}
