//! `callingbox-mcp install`: writes this server into a client's configuration, and shows what it
//! writes; never a key.

use std::path::Path;

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::output::print;
use crate::cli::{self, Global};
use crate::config::{self, ConfigFile, KeySource, UserFolders};
use crate::env_var::read_env_var;
use crate::install::{self, ClientApp, InstallScope, Machine, Secret, Server};

pub(super) fn run(
    options: &cli::InstallArgs,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    let machine = Machine::this().context("this user has no home folder")?;
    let Some(client) = options.client else {
        return print(list(&machine, &options.name, &global.to_flags()?));
    };
    let cli::InstallArgs { scope, name, .. } = options;
    if options.uninstall {
        let plan = install::uninstall(client, *scope, &machine, name)?;
        if plan.is_done() {
            return print(format!(
                "{client} has no server {name} in {}; nothing was changed.\n",
                plan.path().display()
            ));
        }
        print(plan.diff())?;
        let backup = plan.apply(Timestamp::now())?;
        return print(format!(
            "{}Restart {client}.\n",
            report("Removed from", &plan, backup.as_deref())
        ));
    }
    if options.http.is_some() && global.selects_sandbox_or_tools() {
        bail!(
            "the sandbox and the tools of a server over HTTP are decided where it is started; leave those flags (and the variables CALLINGBOX_MCP_…) away"
        );
    }

    let sandbox = global.sandbox.is_some();
    // What needs no key is not stopped by one that cannot be read.
    let found = if sandbox || options.http.is_some() {
        None
    } else {
        config::find_credentials(file, &read_env_var, folders)?.key
    };
    let key_file = folders.api_key_file().context("this user has no configuration folder")?;
    let source = found.as_ref().map(|(_, source)| source);
    let secret = Secret::choose(client, sandbox, source, &key_file);
    let server = match &options.http {
        Some(url) => Server::Http { url: url.clone(), token_env: options.http_token_env.clone() },
        None => Server::Stdio {
            command: text(&std::env::current_exe()?)?,
            args: std::iter::once("stdio".to_owned()).chain(global.to_flags()?).collect(),
            secret: match &secret {
                Secret::File(path) => Secret::File(std::path::absolute(path)?),
                other => other.clone(),
            },
            base_url: if sandbox { None } else { read_env_var("CALLINGBOX_BASE_URL")? },
        },
    };
    if options.print {
        return print(format!(
            "In {}:\n\n{}",
            client.file(*scope, &machine)?.display(),
            server.example(client, name)?
        ));
    }

    let plan = install::install(client, *scope, &machine, name, &server)?;
    // The entry names the key file, so the file is there first.
    let kept = match (&server, &found) {
        (Server::Stdio { secret: Secret::File(path), .. }, Some((key, KeySource::EnvVar)))
            if install::store_key(path, key)? =>
        {
            format!("Kept the key of CALLINGBOX_API_KEY in {}.\n", path.display())
        }
        _ => String::new(),
    };
    if plan.is_done() {
        return print(format!(
            "{kept}{client} already has this entry in {}; nothing was changed.\n",
            plan.path().display()
        ));
    }
    print(plan.diff())?;
    let backup = plan.apply(Timestamp::now())?;
    print(format!(
        "{kept}{}{}Restart {client}.\n",
        report("Written to", &plan, backup.as_deref()),
        advice(client, &server, source)
    ))
}

/// The clients found here, and what they say about this server.
fn list(machine: &Machine, name: &str, flags: &[String]) -> String {
    let mut text = String::new();
    for client in ClientApp::ALL.into_iter().filter(|client| client.is_present(machine)) {
        let state = match install::find(client, InstallScope::User, machine, name) {
            Ok(Some(_)) => "installed".to_owned(),
            Ok(None) => command(client, flags),
            Err(error) => error.to_string(),
        };
        text.push_str(&format!("{client:<16}{state}\n"));
    }
    if text.is_empty() {
        let ids: Vec<_> = ClientApp::ALL.iter().map(|client| client.id()).collect();
        return format!("No MCP client was found here. Known are: {}.\n", ids.join(", "));
    }
    text
}

fn report(done: &str, plan: &install::Plan, backup: Option<&Path>) -> String {
    let backup =
        backup.map(|backup| format!("As it was: {}\n", backup.display())).unwrap_or_default();
    format!("{done} {}\n{backup}", plan.path().display())
}

/// What is still to be done so that the server has a key, or gets its token.
fn advice(client: ClientApp, server: &Server, source: Option<&KeySource>) -> String {
    let secret = match server {
        Server::Stdio { secret, .. } => secret,
        Server::Http { token_env: None, .. } => return String::new(),
        Server::Http { token_env: Some(_), .. } if client == ClientApp::Vscode => {
            return "The client asks for the token when it connects.\n".to_owned();
        }
        Server::Http { token_env: Some(variable), .. } => {
            return format!(
                "The client takes the token from {variable}, so start it where that is set.\n"
            );
        }
    };
    let text = match (secret, source) {
        (Secret::Unchanged, _) => {
            "No API key was found. Set CALLINGBOX_API_KEY and run this again, or add --sandbox, which needs none.\n"
        }
        (Secret::Reference(_), _) => {
            "The client passes on CALLINGBOX_API_KEY, so start it where that is set.\n"
        }
        (Secret::Prompt, _) => "The client asks for the API key when it starts the server.\n",
        (Secret::NotNeeded | Secret::File(_), _) => "",
    };
    text.to_owned()
}

/// The command that writes an entry with these flags.
pub(super) fn command(client: ClientApp, flags: &[String]) -> String {
    let words = ["callingbox-mcp", "install", client.id()].into_iter();
    words.chain(flags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn text(path: &std::path::Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not Unicode", path.display()))
}
