//! Checks the entries of MCP clients: whether the server that a client would start exists and works. Each server is
//! started as the client would start it, asked for its tools, and stopped. A project's entry may come from anyone, so it
//! is started only if it does nothing but serve with this very program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use rmcp::ServiceExt;
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::Command;

use super::finding::Finding;
use crate::cli::{self, Cli, parse_server_name};
use crate::commands::client_changes::known_files;
use crate::commands::install::install_command;
use crate::config::{self, UserFolders};
use crate::env_var::NotUtf8;
use crate::install::{
    ClientFile, DEFAULT_NAME, InstallScope, InstalledEntry, Machine, ProgramCopies,
};
use crate::mcp::card;
use crate::mcp::reply::text::shorten_reason;
use crate::own_command::own_command;
use crate::runtime;
use crate::settings::ProgramSettings;

/// How long a server may take to start and to list its tools.
const START_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_OUTPUT_BYTES: u64 = 16 * 1024 * 1024;

/// How much of a server's standard error is read.
const MAX_STDERR_BYTES: u64 = 16 * 1024;

/// One finding for each entry of this server, and for each installed client without one, in the order of the clients'
/// table. With `needs_key`, an entry must give its server the API key. For a client without an entry, the command to
/// install one has the global flags.
pub(super) async fn check_clients(settings: &ProgramSettings, needs_key: bool) -> Vec<Finding> {
    let Some(machine) = Machine::this() else {
        let why = "the user has no home folder";
        return vec![Finding::skipped("clients", why)];
    };
    let mut files = known_files(&machine);
    // By client, a client's own files first.
    files.sort_by_key(|file| file.client);
    let context = ClientChecks { machine: &machine, settings, needs_key };
    let checks = files.iter().map(|file| context.check_file(file));
    let findings: Vec<Finding> = join_all(checks).await.into_iter().flatten().collect();
    if findings.is_empty() {
        return vec![Finding::info("clients", "no supported MCP client found")];
    }
    findings
}

struct ClientChecks<'a> {
    machine: &'a Machine,
    settings: &'a ProgramSettings,
    needs_key: bool,
}

impl ClientChecks<'_> {
    async fn check_file(&self, file: &ClientFile) -> Vec<Finding> {
        let (client, scope) = (file.client, file.scope());
        let check = match scope {
            InstallScope::User => client.id().to_owned(),
            InstallScope::Project => format!("{}-project", client.id()),
        };
        let entries = match file.read_entries() {
            Ok(entries) => entries,
            Err(error) => {
                let fix = "correct the file by hand, or in the client's own settings";
                return vec![Finding::fail(check, error.to_string(), fix)];
            }
        };
        let own_entries = entries.into_iter().filter(|(name, entry)| entry.is_own(name));
        let findings =
            join_all(own_entries.map(async |(name, entry)| {
                self.check_own_entry(file, &check, &name, &entry).await
            }))
            .await;
        if findings.is_empty() && scope == InstallScope::User && client.is_present(self.machine) {
            // If the flags cannot be written, `install` itself reports why.
            let flags = self.settings.global.to_flags().unwrap_or_default();
            let install = install_command(client, &flags);
            let message = format!("found, but not configured: `{install}` adds this server");
            return vec![Finding::info(check, message)];
        }
        findings
    }

    async fn check_own_entry(
        &self,
        file: &ClientFile,
        check: &str,
        name: &str,
        entry: &InstalledEntry,
    ) -> Finding {
        let (client, scope) = (file.client, file.scope());
        let path = file.path.display();
        let restart = format!("then restart {client}");
        let (check, fix) = match parse_server_name(name) {
            _ if name == DEFAULT_NAME => {
                (check.to_owned(), format!("{}, {restart}", reinstall_command(file, None, entry)))
            }
            Ok(name) => {
                let install = reinstall_command(file, Some(&name), entry);
                (format!("{check}/{name}"), format!("{install}, {restart}"))
            }
            // A name from a file may be unsafe to type in a shell.
            Err(why) => (
                format!("{check}/{name}"),
                format!("rename the server in {path} ({why}), {restart}"),
            ),
        };
        let copies = ProgramCopies::new(&self.machine.system);
        let outdated = entry.command.as_deref().and_then(|command| copies.find_outdated(command));
        let upgrade = format!("{}, {restart}", upgrade_command(scope));
        match check_entry(entry, scope).await {
            Ok(Checked::NotStarted(why)) => Finding::warn(
                check,
                format!("was not started: {why}"),
                format!("review what {path} makes a client start; or {fix}"),
            ),
            Ok(Checked::Works(message)) => {
                let message = match describe_environment(entry, &self.settings.folders) {
                    Some(environment) => format!("{message}; {environment}"),
                    None => message,
                };
                if self.needs_key && lacks_key(entry) {
                    let lack = "but no API key: CALLINGBOX_API_KEY is set in this terminal only";
                    Finding::warn(check, format!("{message}, {lack}"), fix)
                } else if let Some(why) = outdated {
                    Finding::warn(check, format!("{message}; but {why}"), upgrade)
                } else {
                    Finding::ok(check, message)
                }
            }
            Err(error) if outdated.is_some() => Finding::fail(check, format!("{error:#}"), upgrade),
            Err(error) => Finding::fail(check, format!("{error:#}"), fix),
        }
    }
}

/// Whether calls by the server that an entry starts are simulated or live, and at which URL. `None` if the entry starts
/// no server, or another program.
fn describe_environment(entry: &InstalledEntry, folders: &UserFolders) -> Option<String> {
    let line = [entry.command.as_deref()?].into_iter().chain(entry.args.iter().map(String::as_str));
    let mut global = Cli::parse_without_env(line).ok()?.global;
    // The client may have been started elsewhere, so the variables of this terminal do not count.
    let read_env = |name: &str| -> Result<Option<String>, NotUtf8> {
        let value = entry.env.iter().find(|(set, _)| set == name).map(|(_, value)| value);
        let value = value.map(|value| value.expose_secret().to_owned());
        Ok(value.filter(|value| !value.trim().is_empty()))
    };
    global.apply_sandbox_variable(read_env("CALLINGBOX_MCP_SANDBOX").ok()?).ok()?;
    Some(match &global.sandbox {
        Some(None) => "its calls are simulated".to_owned(),
        Some(Some(url)) => {
            format!("its calls are simulated, at {}", runtime::parse_simulator_url(url).ok()?)
        }
        None => {
            let variable = read_env("CALLINGBOX_MCP_CONFIG").ok()?.map(PathBuf::from);
            let named = global.config.or(variable);
            let file = config::load_config(named.as_deref(), folders).ok()?;
            let base_url = config::find_base_url(&file, &read_env, folders).ok()?;
            format!("its calls are live, at {base_url}")
        }
    })
}

/// The command that lets entries start this version.
fn upgrade_command(scope: InstallScope) -> String {
    let scope = if scope == InstallScope::Project { " --scope project" } else { "" };
    format!("{} install --upgrade{scope}", own_command())
}

/// The command that writes an entry again with its present flags, so that a simulated or read-only entry stays so.
fn reinstall_command(file: &ClientFile, name: Option<&str>, entry: &InstalledEntry) -> String {
    let client = file.client;
    let mut words = Vec::new();
    if file.scope() == InstallScope::Project {
        words.extend(["--scope".to_owned(), "project".to_owned()]);
    }
    if let Some(name) = name {
        words.extend(["--name".to_owned(), name.to_owned()]);
    }
    let line = ["callingbox-mcp"].into_iter().chain(entry.args.iter().map(String::as_str));
    let flags = Cli::parse_without_env(line).ok().and_then(|cli| cli.global.to_flags().ok());
    match flags {
        Some(flags) if flags.iter().all(|flag| flag.chars().all(is_shell_safe)) => {
            words.extend(flags);
            install_command(client, &words)
        }
        _ => format!(
            "{} with the flags to keep from its entry (--sandbox, --read-only and so on)",
            install_command(client, &words)
        ),
    }
}

/// Whether a shell gives this character no special meaning: the words of a file may come from anyone.
fn is_shell_safe(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_=,.:/@+".contains(letter)
}

/// Whether an entry starts a live server without giving it an API key.
fn lacks_key(entry: &InstalledEntry) -> bool {
    let is_simulated = entry.args.iter().any(|arg| arg.starts_with("--sandbox"));
    let sets_key =
        |name: &str| name.starts_with("CALLINGBOX_API_KEY") || name == "CALLINGBOX_MCP_SANDBOX";
    entry.command.is_some() && !is_simulated && !entry.env.iter().any(|(name, _)| sets_key(name))
}

enum Checked {
    /// What works.
    Works(String),
    /// Why the server was not started.
    NotStarted(String),
}

async fn check_entry(entry: &InstalledEntry, scope: InstallScope) -> anyhow::Result<Checked> {
    match (&entry.command, &entry.url) {
        (Some(command), _) => {
            let program = find_program(command, entry)?;
            if scope == InstallScope::Project
                && let Some(why) = reason_not_to_start(command, &program, entry)
            {
                return Ok(Checked::NotStarted(why));
            }
            let tools =
                match tokio::time::timeout(START_TIMEOUT, count_tools(&program, entry)).await {
                    Ok(tools) => tools?,
                    Err(_) => bail!("{command} starts, but does not list its tools within 10 s"),
                };
            anyhow::ensure!(tools > 0, "{command} starts, but has no tools");
            Ok(Checked::Works(format!("{command} starts and has {tools} tools")))
        }
        (None, Some(url)) => {
            let url: url::Url = url.parse().ok().context("its entry has no valid server URL")?;
            let host = url.host_str().context("its entry has no valid server URL")?;
            anyhow::ensure!(
                matches!(url.scheme(), "http" | "https"),
                "its entry has a URL that begins with neither http:// nor https://"
            );
            Ok(Checked::Works(format!(
                "connects to a server at {host}, which was not checked, and which decides whether calls are live"
            )))
        }
        (None, None) => bail!("its entry has neither a command nor a URL"),
    }
}

/// Why starting an entry could do more than serve. Its author may have chosen the program, its arguments, or a variable
/// that the system's loader obeys, and the program would get this user's environment, API key included.
fn reason_not_to_start(command: &str, program: &Path, entry: &InstalledEntry) -> Option<String> {
    let this = std::env::current_exe().and_then(std::fs::canonicalize);
    let is_this_program =
        this.is_ok_and(|this| std::fs::canonicalize(program).is_ok_and(|path| path == this));
    if !is_this_program {
        return Some(format!("its entry starts {command}, which is not this program"));
    }
    let line = std::iter::once(command).chain(entry.args.iter().map(String::as_str));
    let only_serves = matches!(
        Cli::parse_without_env(line),
        Ok(Cli { command: None | Some(cli::Command::Stdio), .. })
    );
    if !only_serves {
        return Some("its entry makes this program do something other than serve".to_owned());
    }
    let mut names = entry.env.iter().map(|(name, _)| name);
    let other = names.find(|name| !name.starts_with("CALLINGBOX_"))?;
    Some(format!("its entry sets {other}, which is not a variable of this program"))
}

/// The program of a command: a path, or found on the PATH that the entry sets or the client inherits.
fn find_program(command: &str, entry: &InstalledEntry) -> anyhow::Result<PathBuf> {
    let set_path = entry.env.iter().find(|(name, _)| name == "PATH");
    let folders = set_path
        .map(|(_, value)| value.expose_secret().into())
        .or_else(|| std::env::var_os("PATH"));
    let path = Path::new(command);
    which::which_in(command, folders, std::env::current_dir()?).with_context(|| {
        let problem = match path.components().count() > 1 {
            false => "is not on the PATH",
            true if path.exists() => "is not executable",
            true => "does not exist",
        };
        format!("its entry starts {command}, which {problem}")
    })
}

/// Starts the server and counts its tools. The process is killed when this returns.
async fn count_tools(program: &Path, entry: &InstalledEntry) -> anyhow::Result<usize> {
    let mut process = Command::new(program)
        .args(&entry.args)
        .envs(entry.env.iter().map(|(name, value)| (name, value.expose_secret())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("its entry's program does not start")?;
    let output =
        process.stdout.take().context("the program has no standard output")?.take(MAX_OUTPUT_BYTES);
    let input = process.stdin.take().context("the program has no standard input")?;
    let stderr = process.stderr.take().context("the program has no standard error")?;
    let stderr = tokio::spawn(read_stderr(stderr));
    let tools = async {
        let client = ().serve((BufReader::new(output), input)).await.ok()?;
        let tools = client.list_all_tools().await.ok()?;
        let tools = tools.iter().filter(|tool| !card::is_app_only(tool)).count();
        // The count is known, so an error at the end of the session does not matter.
        let _ = client.cancel().await;
        Some(tools)
    };
    match tools.await {
        Some(tools) => Ok(tools),
        None => {
            // A child process may keep standard error open, so do not wait for its end.
            let _ = process.start_kill();
            let message = tokio::time::timeout(Duration::from_secs(1), stderr).await;
            let message = message.ok().and_then(Result::ok).unwrap_or_default();
            bail!(
                "the server starts but does not list its tools: {}",
                shorten_reason(&remove_secrets(&message, entry))
            )
        }
    }
}

async fn read_stderr(stderr: tokio::process::ChildStderr) -> String {
    let mut bytes = Vec::new();
    // After an error, the text read so far is enough.
    let _ = stderr.take(MAX_STDERR_BYTES).read_to_end(&mut bytes).await;
    match String::from_utf8_lossy(&bytes).trim() {
        "" => "no message on standard error".to_owned(),
        message => message.to_owned(),
    }
}

/// Removes the values of the entry's environment from a message.
fn remove_secrets(message: &str, entry: &InstalledEntry) -> String {
    let secrets = entry.env.iter().map(|(_, value)| value.expose_secret());
    secrets
        .filter(|value| value.len() >= 6 && !Path::new(value).is_absolute())
        .fold(message.to_owned(), |message, value| message.replace(value, "…"))
}
