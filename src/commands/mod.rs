//! What each command does. Each command prints its result and returns errors for `main` to report.

mod batch;
mod catalogue;
mod client_changes;
mod completions;
mod config;
mod demo;
mod doctor;
mod healthcheck;
mod http;
mod install;
mod oauth;
mod optout;
mod output;
mod policy;
mod prompt;
mod ready_agent;
mod receipts;
mod reload;
mod sandbox;
mod setup;
mod shutdown_signal;
mod status_line;
mod style;
mod token;
mod upgrade;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use crate::cli::{Cli, Command, Global};
use crate::config::{UserFolders, load_config};
use crate::env_var::read_env_var;
use crate::install::ProgramCopies;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::server::{Server, ServerOptions};
use crate::own_command::{own_command, set_own_command};
use crate::runtime::Runtime;
use crate::settings::ProgramSettings;
use crate::stdio;
use crate::system::SystemFolders;
use crate::telemetry::Telemetry;

pub use self::output::wrap_error;
use self::reload::{Sighup, spawn_reloads};

/// The default log filter.
const LOG_FILTER: &str = "warn";
/// The default log filter of `http`: one line per tool call.
const HTTP_LOG_FILTER: &str = "warn,callingbox_mcp=info";

/// Runs one command, and returns the exit code.
///
/// # Errors
/// Why the command failed, for the user.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Some(system) = SystemFolders::this()
        && let Ok(program) = std::env::current_exe()
        && let Some(command) = ProgramCopies::new(&system).command(&program)
    {
        set_own_command(command);
    }
    match cli.command {
        // `doctor` reads the configuration itself, because that may be the part that is wrong.
        Some(Command::Doctor(options)) => doctor::run(options, cli.global).await,
        // An invalid configuration does not make a running server unhealthy.
        Some(Command::Healthcheck(options)) => {
            healthcheck::run(options).await.map(|()| ExitCode::SUCCESS)
        }
        command => run_configured(command, cli.global).await.map(|()| ExitCode::SUCCESS),
    }
}

/// The exit code for an error: 130 after Ctrl-C, as in a shell, 3 if people of a list were not called, else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let unfinished = error.downcast_ref::<setup::Unfinished>().map(|unfinished| unfinished.reason);
    let stopped = unfinished.or_else(|| error.downcast_ref::<prompt::Stopped>().copied());
    if stopped == Some(prompt::Stopped::Interrupted) {
        ExitCode::from(130)
    } else if error.is::<batch::NotDone>() {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

/// The hint for a user who types the command that only clients run.
fn stdio_hint() -> String {
    let program = own_command();
    format!(
        "This serves MCP to a client, which normally starts it (see {program} install), and now waits for one. Press \
         Ctrl-C to end it; {program} --help lists the commands."
    )
}

async fn run_configured(command: Option<Command>, mut global: Global) -> anyhow::Result<()> {
    global.apply_sandbox_variable(read_env_var("CALLINGBOX_MCP_SANDBOX")?)?;
    // The demo always runs on a simulator.
    let has_simulator = global.sandbox.is_some() || matches!(command, Some(Command::Demo));
    for (is_set, flag) in
        [(global.sandbox_speed.is_some(), "speed"), (global.sandbox_credit.is_some(), "credit")]
    {
        anyhow::ensure!(
            has_simulator || !is_set,
            "--sandbox-{flag} is for the simulator inside this program, and this command is live: add --sandbox (the \
             command `sandbox` has --{flag} instead)"
        );
    }
    let folders = UserFolders::from_system();
    let file = load_config(global.config.as_deref(), &folders)?;
    let settings = ProgramSettings { global, file, folders };
    let format = settings.log_format();
    let default_filter = match command {
        Some(Command::Http(_)) => HTTP_LOG_FILTER,
        _ => LOG_FILTER,
    };
    let filter = settings.log_filter().unwrap_or(default_filter);
    let serves = matches!(command, None | Some(Command::Stdio | Command::Http(_)));
    let telemetry = Telemetry::start(format, filter, serves)?;
    let selection = settings.selection();
    let catalogue = Catalogue::new();
    selection.check(catalogue.index())?;
    if serves && catalogue.offered(&selection).next().is_none() {
        tracing::warn!(
            "no tool is offered; check --toolsets, --tools, --exclude-tools and --read-only (the toolset `sandbox` needs \
             --sandbox)"
        );
    }
    match command {
        None | Some(Command::Stdio) => {
            let shutdown = shutdown_signal::shutdown_signal()?;
            let runtime = Runtime::open(&settings).await?;
            let log_arguments = settings.logs_arguments();
            let server = Server::new(Arc::new(catalogue), Arc::new(selection), runtime.account());
            let options = ServerOptions { log_arguments, ..ServerOptions::default() };
            if std::io::stdin().is_terminal() {
                // Standard output belongs to the protocol. If standard error cannot be written, only the hint is lost.
                let _ = writeln!(std::io::stderr(), "{}", stdio_hint());
            }
            let reloading = spawn_reloads(runtime.account_factory(), None, Sighup::default());
            stdio::serve_stdio(server, options, shutdown, &runtime.dispatches())
                .await
                .context("the MCP session could not start")?;
            reloading.abort();
            telemetry.shut_down().await;
            runtime.close().await
        }
        Some(Command::Http(options)) => {
            let result = http::run(&options, &settings, catalogue, selection).await;
            telemetry.shut_down().await;
            result
        }
        Some(Command::Token(command)) => token::run(command, &settings),
        Some(Command::Sandbox(options)) => sandbox::run(options).await,
        Some(Command::Demo) => demo::run(&settings).await,
        Some(Command::Batch(command)) => batch::run(&command, &settings).await,
        Some(Command::Catalogue(options)) => catalogue::run(&options, &catalogue, &selection),
        Some(Command::Config(options)) => config::run(&options, &settings),
        Some(Command::Receipts(options)) => receipts::run(&options, &settings).await,
        Some(Command::Policy(command)) => policy::run(&command, &settings).await,
        Some(Command::OptOut(options)) => optout::run(&options, &settings).await,
        Some(Command::Install(options)) => install::run(&options, &settings),
        Some(Command::Setup) => setup::run(&settings).await,
        Some(Command::Doctor(options)) => doctor::run(options, settings.global).await.map(|_| ()),
        Some(Command::Healthcheck(options)) => healthcheck::run(options).await,
        Some(Command::Completions(options)) => completions::print_completions(&options),
        Some(Command::Man(options)) => completions::write_manual(&options),
    }
}
