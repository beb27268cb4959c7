//! The entries of MCP clients: is what a client would start there, and does it start. A server is
//! started as the client would start it, asked for its tools, and ended. A project's entry may come
//! from anyone; it is started only where it does nothing but serve with this very program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use rmcp::ServiceExt;
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::Command;

use super::Finding;
use crate::cli::{Cli, Command as Typed, Global, parse_server_name};
use crate::commands::install;
use crate::install::{self as clients, ClientApp, InstallScope, Installed, Machine};
use crate::mcp::reply::text::shorten_reason;

/// How long a server may take to start and to list its tools.
const LIMIT: Duration = Duration::from_secs(10);

/// The most of a server's output that is read.
const MOST_OUTPUT: u64 = 16 * 1024 * 1024;

/// The most of its complaints that is read.
const MOST_COMPLAINT: u64 = 16 * 1024;

/// The name under which `install` writes a server, if nothing else is said.
const NAME: &str = "callingbox";

/// One finding for each entry of ours, and for each client that is here without one, in the order of
/// the table of clients. An entry must give its server the key when `needs_key`; one that is not there yet
/// would be written with the flags of `global`.
pub(super) async fn all(global: &Global, needs_key: bool) -> Vec<Finding> {
    let Some(machine) = Machine::this() else {
        let why = "this user has no home folder";
        return vec![Finding::skipped("clients", why)];
    };
    let places: Vec<(ClientApp, InstallScope)> = ClientApp::ALL
        .into_iter()
        .flat_map(|client| [(client, InstallScope::User), (client, InstallScope::Project)])
        // In the home folder some of them are one and the same file.
        .filter(|(client, scope)| {
            let file = |scope| client.file(scope, &machine).ok();
            *scope == InstallScope::User || file(InstallScope::Project) != file(InstallScope::User)
        })
        .collect();
    let findings: Vec<Finding> = join_all(
        places.into_iter().map(|(client, scope)| one(client, scope, &machine, global, needs_key)),
    )
    .await
    .into_iter()
    .flatten()
    .collect();
    if findings.is_empty() {
        return vec![Finding::ok("clients", "no MCP client that this program knows is here")];
    }
    findings
}

async fn one(
    client: ClientApp,
    scope: InstallScope,
    machine: &Machine,
    global: &Global,
    needs_key: bool,
) -> Vec<Finding> {
    let suffix = match scope {
        InstallScope::User => "",
        InstallScope::Project => "-project",
    };
    let check = format!("{}{suffix}", client.id());
    let entries = match clients::entries(client, scope, machine) {
        Ok(entries) => entries,
        Err(clients::ClientError::NoProjectScope { .. }) => return Vec::new(),
        Err(error) => {
            let fix = "correct the file by hand, or with the client's own settings";
            return vec![Finding::fail(check, error.to_string(), fix)];
        }
    };
    let ours = entries.into_iter().filter(|(name, entry)| is_ours(name, entry));
    let findings = join_all(ours.map(async |(name, entry)| {
        let file = client.file(scope, machine).unwrap_or_default();
        let restart = format!("then restart {client}");
        let (check, fix) = match parse_server_name(&name) {
            _ if name == NAME => {
                (check.clone(), format!("{}, {restart}", again(client, scope, None, &entry)))
            }
            Ok(name) => {
                let install = again(client, scope, Some(&name), &entry);
                (format!("{check}/{name}"), format!("{install}, {restart}"))
            }
            // Nor would it be safe to type what a file says.
            Err(why) => {
                let rename = format!("rename the server in {} ({why}), {restart}", file.display());
                (format!("{check}/{name}"), rename)
            }
        };
        match examine(&entry, scope).await {
            Ok(Examined::NotStarted(why)) => {
                let look = format!("look at what {} has a client start", file.display());
                Finding::warn(check, format!("was not started: {why}"), format!("{look}; or {fix}"))
            }
            Ok(Examined::Well(message)) if needs_key && lacks_key(&entry) => {
                let lack = "but no key: CALLINGBOX_API_KEY is set in this terminal only";
                Finding::warn(check, format!("{message}, {lack}"), fix)
            }
            Ok(Examined::Well(message)) => Finding::ok(check, message),
            Err(error) => Finding::fail(check, format!("{error:#}"), fix),
        }
    }))
    .await;
    if findings.is_empty() && scope == InstallScope::User && client.is_present(machine) {
        // What stands in the way of them is told where the command is typed.
        let flags = global.to_flags().unwrap_or_default();
        let install = install::command(client, &flags);
        let message = format!("is here without an entry; `{install}` writes it");
        return vec![Finding::ok(check, message)];
    }
    findings
}

/// The command that writes an entry anew, with the flags that it has: what is simulated or read-only
/// stays so.
fn again(client: ClientApp, scope: InstallScope, name: Option<&str>, entry: &Installed) -> String {
    let mut words = Vec::new();
    if scope == InstallScope::Project {
        words.extend(["--scope".to_owned(), "project".to_owned()]);
    }
    if let Some(name) = name {
        words.extend(["--name".to_owned(), name.to_owned()]);
    }
    let line = ["callingbox-mcp"].into_iter().chain(entry.args.iter().map(String::as_str));
    let flags = Cli::parse_without_env(line).ok().and_then(|cli| cli.global.to_flags().ok());
    match flags {
        Some(flags) if flags.iter().all(|flag| flag.chars().all(is_plain)) => {
            words.extend(flags);
            install::command(client, &words)
        }
        _ => format!(
            "{} with what of its entry's flags shall stay (--sandbox, --read-only and so on)",
            install::command(client, &words)
        ),
    }
}

/// Whether a letter means nothing but itself to a shell: a file's words may come from anyone.
fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_=,.:/@+".contains(letter)
}

/// Whether an entry is this server's: by its name, or because it starts this program.
fn is_ours(name: &str, entry: &Installed) -> bool {
    let program = |command: &String| {
        let stem = Path::new(command).file_stem();
        stem.is_some_and(|stem| stem == env!("CARGO_PKG_NAME"))
    };
    name == NAME || entry.command.as_ref().is_some_and(program)
}

/// Whether the server of an entry needs a key that the entry does not give it.
fn lacks_key(entry: &Installed) -> bool {
    let simulated = entry.args.iter().any(|arg| arg.starts_with("--sandbox"));
    let given =
        |name: &str| name.starts_with("CALLINGBOX_API_KEY") || name == "CALLINGBOX_MCP_SANDBOX";
    entry.command.is_some() && !simulated && !entry.env.iter().any(|(name, _)| given(name))
}

/// What came of looking at an entry that is not wrong.
enum Examined {
    /// This works.
    Well(String),
    /// It was not tried, for this reason.
    NotStarted(String),
}

async fn examine(entry: &Installed, scope: InstallScope) -> anyhow::Result<Examined> {
    match (&entry.command, &entry.url) {
        (Some(command), _) => {
            let program = find(command, entry)?;
            if scope == InstallScope::Project
                && let Some(why) = strange(command, &program, entry)
            {
                return Ok(Examined::NotStarted(why));
            }
            let tools = match tokio::time::timeout(LIMIT, start(&program, entry)).await {
                Ok(tools) => tools?,
                Err(_) => bail!("{command} starts, but did not list its tools within 10 s"),
            };
            anyhow::ensure!(tools > 0, "{command} starts, but has no tools");
            Ok(Examined::Well(format!("{command} starts and has {tools} tools")))
        }
        (None, Some(url)) => {
            let url: url::Url =
                url.parse().ok().context("its entry holds no address of a server")?;
            let host = url.host_str().context("its entry holds no address of a server")?;
            anyhow::ensure!(
                matches!(url.scheme(), "http" | "https"),
                "its entry holds an address that begins neither http:// nor https://"
            );
            Ok(Examined::Well(format!("connects to a server at {host}, which was not asked")))
        }
        (None, None) => bail!("its entry names neither a command nor an address"),
    }
}

/// Why starting an entry could do more than serve, if it could. Whoever wrote it may have chosen the
/// program, what it is told to do, or a variable that the system's loader obeys; and what is started
/// gets this user's environment, with the key.
fn strange(command: &str, program: &Path, entry: &Installed) -> Option<String> {
    let this = std::env::current_exe().and_then(std::fs::canonicalize);
    let is_this = this.is_ok_and(|this| std::fs::canonicalize(program).is_ok_and(|it| it == this));
    if !is_this {
        return Some(format!("its entry starts {command}, which is not this program"));
    }
    let line = std::iter::once(command).chain(entry.args.iter().map(String::as_str));
    let serves =
        matches!(Cli::parse_without_env(line), Ok(Cli { command: None | Some(Typed::Stdio), .. }));
    if !serves {
        return Some("its entry has this program do something else than serve".to_owned());
    }
    let mut names = entry.env.iter().map(|(name, _)| name);
    let other = names.find(|name| !name.starts_with("CALLINGBOX_"))?;
    Some(format!("its entry sets {other}, which is no variable of this program"))
}

/// The program that a command means: itself, or found on the path that the client gives or inherits.
fn find(command: &str, entry: &Installed) -> anyhow::Result<PathBuf> {
    let path = Path::new(command);
    if path.components().count() > 1 {
        anyhow::ensure!(path.exists(), "its entry starts {command}, which does not exist");
        anyhow::ensure!(is_executable(path), "its entry starts {command}, which is not executable");
        return Ok(path.to_owned());
    }
    let given = entry.env.iter().find(|(name, _)| name == "PATH");
    let folders = given
        .map(|(_, value)| value.expose_secret().into())
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_default();
    std::env::split_paths(&folders)
        .flat_map(|dir| [dir.join(command), dir.join(format!("{command}.exe"))])
        .find(|path| is_executable(path))
        .with_context(|| format!("its entry starts {command}, which is not on the path"))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

/// Starts the server and counts its tools. The process ends with this.
async fn start(program: &Path, entry: &Installed) -> anyhow::Result<usize> {
    let mut process = Command::new(program)
        .args(&entry.args)
        .envs(entry.env.iter().map(|(name, value)| (name, value.expose_secret())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("it does not start")?;
    let output = process.stdout.take().context("it has no output")?.take(MOST_OUTPUT);
    let input = process.stdin.take().context("it has no input")?;
    let complaint = process.stderr.take().context("it has no output for errors")?;
    let complaint = tokio::spawn(last_words(complaint));
    let tools = async {
        let client = ().serve((BufReader::new(output), input)).await.ok()?;
        let tools = client.list_all_tools().await.ok()?.len();
        // The count is known; how the session ends changes nothing.
        let _ = client.cancel().await;
        Some(tools)
    };
    match tools.await {
        Some(tools) => Ok(tools),
        None => {
            // It has been asked to end, or has; what holds on to its output is not waited for.
            let _ = process.start_kill();
            let said = tokio::time::timeout(Duration::from_secs(1), complaint).await;
            let said = said.ok().and_then(Result::ok).unwrap_or_default();
            bail!("it starts and breaks off: {}", shorten_reason(&without_secrets(&said, entry)))
        }
    }
}

/// What a program says on its way out.
async fn last_words(complaint: tokio::process::ChildStderr) -> String {
    let mut bytes = Vec::new();
    // What could be read is enough.
    let _ = complaint.take(MOST_COMPLAINT).read_to_end(&mut bytes).await;
    match String::from_utf8_lossy(&bytes).trim() {
        "" => "it said nothing".to_owned(),
        said => said.to_owned(),
    }
}

/// The words of a program without the values that its entry gives it.
fn without_secrets(said: &str, entry: &Installed) -> String {
    let secrets = entry.env.iter().map(|(_, value)| value.expose_secret());
    secrets
        .filter(|value| value.len() >= 6 && !Path::new(value).is_absolute())
        .fold(said.to_owned(), |said, value| said.replace(value, "…"))
}
