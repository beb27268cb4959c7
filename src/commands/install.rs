//! `callingbox-mcp install`: writes this server into a client's configuration, and shows the change; never an API key.

use std::path::Path;

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::output::{print, print_wrapped};
use crate::cli::{self, ClientName, Global};
use crate::config::{self, ConfigFile, KeySource, UserFolders};
use crate::env_var::read_env_var;
use crate::install::{
    self, ClientApp, ClientFile, InstallPlan, InstallScope, KeyDelivery, Machine, ServerEntry,
};
use crate::suggest::UnknownName;

/// What an entry needs to know beside its client.
struct EntrySources<'a> {
    args: &'a cli::InstallArgs,
    global: &'a Global,
    file: &'a ConfigFile,
    folders: &'a UserFolders,
}

pub(super) fn run(
    args: &cli::InstallArgs,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    let machine = Machine::this().context("the user has no home folder")?;
    let sources = EntrySources { args, global, file, folders };
    let client = match &args.client {
        None => return print_wrapped(list_clients(&machine, &args.name, &global.to_flags()?)),
        Some(ClientName::Other(name)) if args.print => return print_for_any_client(name, &sources),
        Some(ClientName::Other(name)) => bail!(
            "{}. For any other client, `callingbox-mcp install {name} --print` prints the entry to paste into its \
             configuration",
            UnknownName::new(
                "client",
                name,
                ClientApp::ALL.iter().map(|client| client.id().to_owned())
            )
        ),
        Some(ClientName::Known(client)) => *client,
    };
    let files = client.files(args.scope, &machine)?;
    if args.uninstall {
        return uninstall(client, &files, &args.name);
    }
    let NewEntry { server, key, notes } = sources.new_entry(client)?;
    if args.print {
        let paths: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
        let block = server.example_file(client, &args.name)?;
        let notes = notes + &missing_key_file_note(&server);
        print(format!("In {}:\n\n{block}", paths.join(" and in ")))?;
        return print_wrapped(set_apart(&notes));
    }

    let plans: Vec<InstallPlan> = files
        .iter()
        .map(|file| file.plan_install(&args.name, &server))
        .collect::<Result<_, _>>()?;
    // The entry names the key file, so write that first.
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
    if !is_changed {
        return Ok(());
    }
    let source = key.as_ref().map(|(_, source)| source);
    print_wrapped(format!("{notes}{}Restart {client}.\n", key_hint(client, &server, source)))
}

fn uninstall(client: ClientApp, files: &[ClientFile], name: &str) -> anyhow::Result<()> {
    let plans: Vec<InstallPlan> =
        files.iter().map(|file| file.plan_uninstall(name)).collect::<Result<_, _>>()?;
    let is_changed = apply_plans(&plans, "Removed from", |path| {
        format!("{client} has no server {name} in {}; nothing changed.\n", path.display())
    })?;
    if is_changed { print(format!("Restart {client}.\n")) } else { Ok(()) }
}

/// Shows and makes the changes. Returns whether there were any.
fn apply_plans(
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

/// An entry to write, the API key that was found, and what the user must know about the entry.
struct NewEntry {
    server: ServerEntry,
    key: Option<(callingbox::ApiKey, KeySource)>,
    notes: String,
}

impl EntrySources<'_> {
    fn new_entry(&self, client: ClientApp) -> anyhow::Result<NewEntry> {
        let Self { args, global, file, folders } = self;
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
        let key = if sandbox {
            None
        } else {
            config::find_credentials(file, &read_env_var, folders)?.key
        };
        let key_file = folders.api_key_file().context("the user has no configuration folder")?;
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
        let server = ServerEntry::Stdio {
            command: path_text(&std::env::current_exe()?)?,
            args: std::iter::once("stdio".to_owned()).chain(global.to_flags()?).collect(),
            key: delivery,
            base_url,
        };
        Ok(NewEntry { server, key, notes })
    }
}

fn print_for_any_client(name: &str, sources: &EntrySources<'_>) -> anyhow::Result<()> {
    let NewEntry { server, key, notes } = sources.new_entry(ClientApp::ClaudeDesktop)?;
    let block = server.generic_file(&sources.args.name)?;
    let source = key.as_ref().map(|(_, source)| source);
    let notes = notes
        + &missing_key_file_note(&server)
        + &key_hint(ClientApp::ClaudeDesktop, &server, source);
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
    let mut text = String::new();
    for client in ClientApp::ALL.into_iter().filter(|client| client.is_present(machine)) {
        let files = client.files(InstallScope::User, machine).unwrap_or_default();
        let entries: Result<Vec<_>, _> = files.iter().map(ClientFile::read_entries).collect();
        let is_installed = entries.map(|entries| {
            entries.iter().all(|entries| entries.iter().any(|(found, _)| found == name))
        });
        let state = match is_installed {
            Ok(true) => "installed".to_owned(),
            Ok(false) => install_command(client, flags),
            Err(error) => error.to_string(),
        };
        text.push_str(&format!("{client:<16}{state}\n"));
    }
    if text.is_empty() {
        let ids: Vec<_> = ClientApp::ALL.iter().map(|client| client.id()).collect();
        return format!(
            "No supported MCP client found. Supported clients: {}. For any other client, `callingbox-mcp install NAME \
             --print` prints the entry to paste into its configuration.\n",
            ids.join(", ")
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
fn key_hint(client: ClientApp, server: &ServerEntry, source: Option<&KeySource>) -> String {
    const SETUP: &str = "No API key was found: `callingbox-mcp setup` asks for it, checks it and stores it where the \
                         server finds it. Or add --sandbox, which needs no key.\n";
    match (server, source) {
        (ServerEntry::Http { token_env: None, .. }, _) => String::new(),
        (ServerEntry::Http { token_env: Some(_), .. }, _) if client == ClientApp::Vscode => {
            "The client asks for the token when it connects.\n".to_owned()
        }
        (ServerEntry::Http { token_env: Some(variable), .. }, _) => format!(
            "The client reads the token from {variable}, so start the client where that is set.\n"
        ),
        (ServerEntry::Stdio { key, .. }, source) => match (key, source) {
            (KeyDelivery::Prompt, _) => {
                "The client asks for the API key when it starts the server.\n".to_owned()
            }
            (KeyDelivery::Unchanged | KeyDelivery::EnvReference(_), None) => SETUP.to_owned(),
            (KeyDelivery::EnvReference(_), Some(_)) => {
                "The client passes CALLINGBOX_API_KEY on, so start the client where that is set.\n"
                    .to_owned()
            }
            _ => String::new(),
        },
    }
}

/// The command that installs this server with these flags.
pub(super) fn install_command(client: ClientApp, flags: &[String]) -> String {
    let words = ["callingbox-mcp", "install", client.id()].into_iter();
    words.chain(flags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not Unicode", path.display()))
}
