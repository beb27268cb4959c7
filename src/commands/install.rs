//! `callingbox-mcp install`: writes this server into a client's configuration, and shows the change; never an API key.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::client_changes::{
    OwnEntry, apply_plans, named_programs, own_entries, path_text, provide_program,
    remove_unused_copies, unknown_client,
};
use super::output::{print, print_wrapped};
use super::upgrade;
use crate::cli::{self, ClientName, parse_server_name};
use crate::config::KeySource;
use crate::env_var::read_env_var;
use crate::install::{
    self, ClientApp, ClientFile, DEFAULT_NAME, InstallPlan, InstallScope, KeyDelivery, Machine,
    PackageRunner, ProgramCopies, ProgramPlace, ServerEntry,
};
use crate::own_command::own_command;
use crate::settings::ProgramSettings;
use crate::system::Os;

pub(super) fn run(args: &cli::InstallArgs, settings: &ProgramSettings) -> anyhow::Result<()> {
    let machine = Machine::this().context("the user has no home folder")?;
    let copies = ProgramCopies::new(&machine.system);
    if args.upgrade {
        return upgrade::run(args, &machine, &copies);
    }
    let client = match &args.client {
        None => {
            return print_wrapped(list_clients(&machine, &args.name, &settings.global.to_flags()?));
        }
        Some(ClientName::Other(name)) if args.print => {
            let start =
                StartCommand::for_print(&std::env::current_exe()?, &copies, machine.system.os)?;
            return print_for_any_client(name, args, settings, start);
        }
        Some(ClientName::Other(name)) => bail!(
            "{}. For any other client, `{} install {name} --print` prints the entry to paste into its configuration",
            unknown_client(name),
            own_command()
        ),
        Some(ClientName::Known(client)) => *client,
    };
    let files = client.files(args.scope, &machine)?;
    if args.uninstall {
        return uninstall(client, &files, &args.name, &machine, &copies);
    }
    let program = std::env::current_exe()?;
    if args.print {
        let start = StartCommand::for_print(&program, &copies, machine.system.os)?;
        let NewEntry { server, notes, .. } = new_entry(args, settings, client, start)?;
        let paths: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
        let block = server.example_file(client, &args.name)?;
        let notes = notes + &missing_key_file_note(&server);
        print(format!("In {}:\n\n{block}", paths.join(" and in ")))?;
        return print_wrapped(set_apart(&notes));
    }

    let lasting = copies.lasting_path(&program);
    let start = StartCommand::new(vec![path_text(&lasting.path)?]);
    let NewEntry { server, key, notes } = new_entry(args, settings, client, start)?;
    let plans: Vec<InstallPlan> = files
        .iter()
        .map(|file| file.plan_install(&args.name, &server))
        .collect::<Result<_, _>>()?;
    // The entry names the program and the key file, so write those first.
    if args.http.is_none() {
        provide_program(&lasting)?;
    }
    if let (ServerEntry::Stdio { key: KeyDelivery::KeyFile(path), .. }, Some((key, source))) =
        (&server, &key)
        && *source == KeySource::EnvVar
        && install::store_key(path, key)?
    {
        print(format!("Stored the key of CALLINGBOX_API_KEY in {}.\n", path.display()))?;
    }
    let is_changed = apply_plans(&plans, "Written to", |path| {
        format!("{client} already has this entry in {}; nothing changed.\n", path.display())
    })?;
    remove_unused_copies(&machine, &copies);
    if !is_changed {
        return Ok(());
    }
    let hint = key_hint(client, &server, key.is_some());
    print_wrapped(format!("{notes}{hint}Restart {client}.\n"))
}

/// Removes the copies of this program if no entry names one any more.
fn remove_last_copies(machine: &Machine, copies: &ProgramCopies) -> anyhow::Result<()> {
    let is_named = |program: &PathBuf| matches!(copies.locate(program), ProgramPlace::Copy(_));
    if named_programs(machine).is_none_or(|named| named.iter().any(is_named)) {
        return Ok(());
    }
    let folder = copies.folder().display();
    match copies.remove_all() {
        Ok(false) => Ok(()),
        Ok(true) => print_wrapped(format!("Removed the copies of this program in {folder}\n")),
        // Windows does not remove a program that runs.
        Err(error) => print_wrapped(format!(
            "The copies of this program in {folder} could not be removed ({error}). Delete the folder when no client runs \
             them.\n"
        )),
    }
}

fn uninstall(
    client: ClientApp,
    files: &[ClientFile],
    name: &str,
    machine: &Machine,
    copies: &ProgramCopies,
) -> anyhow::Result<()> {
    let plans: Vec<InstallPlan> =
        files.iter().map(|file| file.plan_uninstall(name)).collect::<Result<_, _>>()?;
    let is_changed = apply_plans(&plans, "Removed from", |path| {
        format!("{client} has no server {name} in {}; nothing changed.\n", path.display())
    })?;
    if is_changed {
        remove_last_copies(machine, copies)?;
    }
    print(list_remaining(machine))?;
    if is_changed { print(format!("Restart {client}.\n")) } else { Ok(()) }
}

/// The entries of this program that other names or other clients have, and how to remove each.
fn list_remaining(machine: &Machine) -> String {
    let entries = own_entries(machine).unwrap_or_default();
    let mut text = String::new();
    for OwnEntry { file, name, .. } in &entries {
        let client = file.client;
        let mut flags = vec!["--uninstall".to_owned()];
        if file.scope() == InstallScope::Project {
            flags.extend(["--scope", "project"].map(str::to_owned));
        }
        if name != DEFAULT_NAME {
            flags.extend(["--name".to_owned(), name.clone()]);
        }
        let removal = match parse_server_name(name) {
            Ok(_) => install_command(client, &flags),
            Err(_) => {
                let name = callingbox::shown_text::one_line(name, 60);
                format!("remove the entry `{name}` from {}", file.path.display())
            }
        };
        text.push_str(&format!("  {client}: {removal}\n"));
    }
    if text.is_empty() { text } else { format!("Still there:\n{text}") }
}

/// The words that start this program, and what the user must know about them.
struct StartCommand {
    words: Vec<String>,
    note: String,
}

impl StartCommand {
    fn new(words: Vec<String>) -> Self {
        Self { words, note: String::new() }
    }

    /// For an entry that is only printed: nothing is copied, so the package runner starts the program again.
    fn for_print(program: &Path, copies: &ProgramCopies, os: Os) -> anyhow::Result<Self> {
        let place = copies.locate(program);
        let lasting = copies.lasting_path(program);
        Ok(match (&place, lasting.copied_from) {
            (ProgramPlace::Cache(runner), _) => Self::new(runner_words(*runner, os)),
            (_, None) => Self::new(vec![path_text(&lasting.path)?]),
            (_, Some(_)) => Self {
                words: vec![path_text(program)?],
                note: format!(
                    "The program is in {place}, where it may vanish: move it elsewhere, and write the new path into \
                     the entry.\n"
                ),
            },
        })
    }
}

/// On Windows, npx and pnpm are scripts, which many clients cannot start without a shell.
fn runner_words(runner: PackageRunner, os: Os) -> Vec<String> {
    let is_script = matches!(runner, PackageRunner::Npx | PackageRunner::PnpmDlx);
    let shell: &[&str] = if os == Os::Windows && is_script { &["cmd", "/c"] } else { &[] };
    shell.iter().chain(runner.command()).map(|word| (*word).to_owned()).collect()
}

/// An entry to write, the API key that was found, and what the user must know about the entry.
struct NewEntry {
    server: ServerEntry,
    key: Option<(callingbox::ApiKey, KeySource)>,
    notes: String,
}

fn new_entry(
    args: &cli::InstallArgs,
    settings: &ProgramSettings,
    client: ClientApp,
    start: StartCommand,
) -> anyhow::Result<NewEntry> {
    let global = &settings.global;
    if let Some(url) = &args.http {
        if global.selects_sandbox_or_tools() {
            bail!(
                "a server over HTTP selects the sandbox and its tools when it starts; remove those flags (or unset the variables CALLINGBOX_MCP_…)"
            );
        }
        let token_env = args.http_token_env.clone();
        let server = ServerEntry::Http { url: url.clone(), token_env };
        return Ok(NewEntry { server, key: None, notes: String::new() });
    }
    let sandbox = global.sandbox.is_some();
    // An invalid key must not stop a command that needs no key.
    let key = if sandbox { None } else { settings.find_credentials()?.key };
    let key_file =
        settings.folders.api_key_file().context("the user has no configuration folder")?;
    let source = key.as_ref().map(|(_, source)| source);
    let delivery = match KeyDelivery::choose(client, sandbox, source, &key_file) {
        KeyDelivery::KeyFile(path) => KeyDelivery::KeyFile(std::path::absolute(path)?),
        other => other,
    };
    let base_url = if sandbox { None } else { read_env_var("CALLINGBOX_BASE_URL")? };
    let notes = base_url.as_ref().map_or_else(String::new, |url| {
            format!(
                "The entry sets CALLINGBOX_BASE_URL to {url}, as in this terminal. To use CallingBox itself, unset the \
                 variable here, remove it from the entry, and run this again.\n"
            )
        });
    let mut words = start.words.into_iter();
    let command = words.next().context("no command starts this program")?;
    let server = ServerEntry::Stdio {
        command,
        args: words.chain(["stdio".to_owned()]).chain(global.to_flags()?).collect(),
        key: delivery,
        base_url,
    };
    Ok(NewEntry { server, key, notes: start.note + &notes })
}

fn print_for_any_client(
    name: &str,
    args: &cli::InstallArgs,
    settings: &ProgramSettings,
    start: StartCommand,
) -> anyhow::Result<()> {
    let client = ClientApp::ClaudeDesktop;
    let NewEntry { server, key, notes } = new_entry(args, settings, client, start)?;
    let block = server.generic_file(&args.name)?;
    let notes = notes + &missing_key_file_note(&server) + &key_hint(client, &server, key.is_some());
    print_wrapped(format!(
        "Into the configuration of {name}, whose manual names the file. Most clients read this form; some have another \
         key than mcpServers:\n\n"
    ))?;
    print(block)?;
    print_wrapped(set_apart(&notes))
}

/// A blank line before the text, if there is any.
fn set_apart(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\n{text}") }
}

/// The clients found on this machine, and whether each has this server.
fn list_clients(machine: &Machine, name: &str, flags: &[String]) -> String {
    let copies = ProgramCopies::new(&machine.system);
    let mut text = String::new();
    for client in ClientApp::ALL.into_iter().filter(|client| client.is_present(machine)) {
        let files = client.files(InstallScope::User, machine).unwrap_or_default();
        let entries: Result<Vec<_>, _> = files.iter().map(ClientFile::read_entries).collect();
        let state = match entries {
            Ok(entries) => {
                let found: Vec<_> = entries
                    .iter()
                    .filter_map(|entries| entries.iter().find(|(found, _)| found == name))
                    .collect();
                let commands = found.iter().filter_map(|(_, entry)| entry.command.as_deref());
                match commands.filter_map(|command| copies.find_outdated(command)).next() {
                    _ if found.len() < files.len() => install_command(client, flags),
                    Some(why) => {
                        format!("installed, but {why}: {} install --upgrade", own_command())
                    }
                    None => "installed".to_owned(),
                }
            }
            Err(error) => error.to_string(),
        };
        text.push_str(&format!("{client:<16}{state}\n"));
    }
    if text.is_empty() {
        let ids: Vec<_> = ClientApp::ALL.iter().map(|client| client.id()).collect();
        return format!(
            "No supported MCP client found. Supported clients: {}. For any other client, `{} install NAME --print` prints \
             the entry to paste into its configuration.\n",
            ids.join(", "),
            own_command()
        );
    }
    text
}

/// What the user still has to do if the file that holds the key does not exist.
fn missing_key_file_note(server: &ServerEntry) -> String {
    match server {
        ServerEntry::Stdio { key: KeyDelivery::KeyFile(path), .. } if !path.exists() => format!(
            "{} does not exist yet: write your CallingBox key into it, and let only yourself read it.\n",
            path.display()
        ),
        _ => String::new(),
    }
}

/// What the user still has to do so that the server has an API key, or the client a token.
fn key_hint(client: ClientApp, server: &ServerEntry, has_key: bool) -> String {
    match server {
        ServerEntry::Http { token_env: Some(_), .. } if client == ClientApp::Vscode => {
            "The client asks for the token when it connects.\n".to_owned()
        }
        ServerEntry::Http { token_env: Some(variable), .. } => format!(
            "The client reads the token from {variable}, so start the client where that is set.\n"
        ),
        ServerEntry::Stdio { key: KeyDelivery::Prompt, .. } => {
            "The client asks for the API key when it starts the server.\n".to_owned()
        }
        ServerEntry::Stdio { key: KeyDelivery::Unchanged | KeyDelivery::EnvReference, .. }
            if !has_key =>
        {
            format!(
                "No API key was found: `{} setup` asks for it, checks it and stores it where the server finds it. Or add \
                 --sandbox, which needs no key.\n",
                own_command()
            )
        }
        ServerEntry::Stdio { key: KeyDelivery::EnvReference, .. } => {
            "The client passes CALLINGBOX_API_KEY on, so start the client where that is set.\n"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// The command that installs this server with these flags.
pub(super) fn install_command(client: ClientApp, flags: &[String]) -> String {
    let program = own_command();
    let words = [program, "install", client.id()].into_iter();
    words.chain(flags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}
