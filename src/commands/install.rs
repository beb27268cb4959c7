//! `callingbox-mcp install`: writes this server into a client's configuration, and shows the change; never an API key.

use std::path::Path;

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::output::print;
use crate::cli::{self, Global};
use crate::config::{self, ConfigFile, KeySource, UserFolders};
use crate::env_var::read_env_var;
use crate::install::{self, ClientApp, InstallScope, KeyDelivery, Machine, ServerEntry};

pub(super) fn run(
    args: &cli::InstallArgs,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    let machine = Machine::this().context("the user has no home folder")?;
    let Some(client) = args.client else {
        return print(list_clients(&machine, &args.name, &global.to_flags()?));
    };
    let cli::InstallArgs { scope, name, .. } = args;
    if args.uninstall {
        let plan = install::plan_uninstall(client, *scope, &machine, name)?;
        if plan.is_done() {
            return print(format!(
                "{client} has no server {name} in {}; nothing changed.\n",
                plan.path().display()
            ));
        }
        print(plan.diff())?;
        let backup = plan.apply(Timestamp::now())?;
        return print(format!(
            "{}Restart {client}.\n",
            describe_change("Removed from", &plan, backup.as_deref())
        ));
    }
    if args.http.is_some() && global.selects_sandbox_or_tools() {
        bail!(
            "a server over HTTP selects the sandbox and its tools when it starts; remove those flags (or unset the variables CALLINGBOX_MCP_…)"
        );
    }

    let sandbox = global.sandbox.is_some();
    // An invalid key must not stop a command that needs no key.
    let found = if sandbox || args.http.is_some() {
        None
    } else {
        config::find_credentials(file, &read_env_var, folders)?.key
    };
    let key_file = folders.api_key_file().context("the user has no configuration folder")?;
    let source = found.as_ref().map(|(_, source)| source);
    let key_delivery = KeyDelivery::choose(client, sandbox, source, &key_file);
    let server = match &args.http {
        Some(url) => ServerEntry::Http { url: url.clone(), token_env: args.http_token_env.clone() },
        None => ServerEntry::Stdio {
            command: path_text(&std::env::current_exe()?)?,
            args: std::iter::once("stdio".to_owned()).chain(global.to_flags()?).collect(),
            key: match &key_delivery {
                KeyDelivery::KeyFile(path) => KeyDelivery::KeyFile(std::path::absolute(path)?),
                other => other.clone(),
            },
            base_url: if sandbox { None } else { read_env_var("CALLINGBOX_BASE_URL")? },
        },
    };
    if args.print {
        return print(format!(
            "In {}:\n\n{}",
            client.file(*scope, &machine)?.display(),
            server.example_file(client, name)?
        ));
    }

    let plan = install::plan_install(client, *scope, &machine, name, &server)?;
    // The entry names the key file, so write that first.
    let stored = match (&server, &found) {
        (
            ServerEntry::Stdio { key: KeyDelivery::KeyFile(path), .. },
            Some((key, KeySource::EnvVar)),
        ) if install::store_key(path, key)? => {
            format!("Stored the key of CALLINGBOX_API_KEY in {}.\n", path.display())
        }
        _ => String::new(),
    };
    if plan.is_done() {
        return print(format!(
            "{stored}{client} already has this entry in {}; nothing changed.\n",
            plan.path().display()
        ));
    }
    print(plan.diff())?;
    let backup = plan.apply(Timestamp::now())?;
    print(format!(
        "{stored}{}{}Restart {client}.\n",
        describe_change("Written to", &plan, backup.as_deref()),
        key_hint(client, &server, source)
    ))
}

/// The clients found on this machine, and whether each has this server.
fn list_clients(machine: &Machine, name: &str, flags: &[String]) -> String {
    let mut text = String::new();
    for client in ClientApp::ALL.into_iter().filter(|client| client.is_present(machine)) {
        let state = match install::find_entry(client, InstallScope::User, machine, name) {
            Ok(Some(_)) => "installed".to_owned(),
            Ok(None) => install_command(client, flags),
            Err(error) => error.to_string(),
        };
        text.push_str(&format!("{client:<16}{state}\n"));
    }
    if text.is_empty() {
        let ids: Vec<_> = ClientApp::ALL.iter().map(|client| client.id()).collect();
        return format!("No supported MCP client found. Supported clients: {}.\n", ids.join(", "));
    }
    text
}

fn describe_change(action: &str, plan: &install::InstallPlan, backup: Option<&Path>) -> String {
    let backup = backup.map(|backup| format!("Backup: {}\n", backup.display())).unwrap_or_default();
    format!("{action} {}\n{backup}", plan.path().display())
}

/// What the user still has to do so that the server has an API key, or the client a token.
fn key_hint(client: ClientApp, server: &ServerEntry, source: Option<&KeySource>) -> String {
    let secret = match server {
        ServerEntry::Stdio { key, .. } => key,
        ServerEntry::Http { token_env: None, .. } => return String::new(),
        ServerEntry::Http { token_env: Some(_), .. } if client == ClientApp::Vscode => {
            return "The client asks for the token when it connects.\n".to_owned();
        }
        ServerEntry::Http { token_env: Some(variable), .. } => {
            return format!(
                "The client reads the token from {variable}, so start the client where that is set.\n"
            );
        }
    };
    let text = match (secret, source) {
        (KeyDelivery::Unchanged, _) => {
            "No API key was found. Set CALLINGBOX_API_KEY and run this again, or add --sandbox, which needs none.\n"
        }
        (KeyDelivery::EnvReference(_), _) => {
            "The client passes CALLINGBOX_API_KEY on, so start the client where that is set.\n"
        }
        (KeyDelivery::Prompt, _) => "The client asks for the API key when it starts the server.\n",
        (KeyDelivery::NotNeeded | KeyDelivery::KeyFile(_), _) => "",
    };
    text.to_owned()
}

/// The command that installs this server with these flags.
pub(super) fn install_command(client: ClientApp, flags: &[String]) -> String {
    let words = ["callingbox-mcp", "install", client.id()].into_iter();
    words.chain(flags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not Unicode", path.display()))
}
