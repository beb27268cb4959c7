//! What each command does. The only place that writes to standard output on purpose.

mod catalogue;
mod completions;
mod config;
mod demo;
mod doctor;
mod healthcheck;
mod http;
mod install;
mod oauth;
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

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use crate::cli::{Cli, Command, Global};
use crate::config::{self as configuration, UserFolders};
use crate::env_var::read_env_var;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::server::{Server, ServerOptions};
use crate::runtime::Runtime;
use crate::{stdio, telemetry};

/// Which log lines are written, unless something else is asked for.
const LOG: &str = "warn";
/// The same of `http`: a server of many has one line for each tool call.
const LOG_OF_HTTP: &str = "warn,callingbox_mcp=info";

/// What is said to a person who starts the server as only clients do.
const WAITS: &str = "This serves MCP to a client, which starts it by itself (callingbox-mcp install), and waits for \
                     one now. Ctrl-C ends it; callingbox-mcp --help shows what a person can do here.";

/// Runs what the command line asks for, and gives the code to exit with.
///
/// # Errors
/// With the reason, for the person at the keyboard.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        // It looks at the configuration itself: that may be what is wrong.
        Some(Command::Doctor(options)) => doctor::run(options, cli.global).await,
        // A configuration that was broken since the start does not make a running server ill.
        Some(Command::Healthcheck(options)) => {
            healthcheck::run(options).await.map(|()| ExitCode::SUCCESS)
        }
        command => run_configured(command, cli.global).await.map(|()| ExitCode::SUCCESS),
    }
}

/// The code to exit with after this error: that of a shell after Ctrl-C, else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<setup::Unfinished>() {
        Some(unfinished) if unfinished.why == prompt::Stopped::Interrupted => ExitCode::from(130),
        _ => ExitCode::FAILURE,
    }
}

async fn run_configured(command: Option<Command>, mut global: Global) -> anyhow::Result<()> {
    global.apply_sandbox_variable(read_env_var("CALLINGBOX_MCP_SANDBOX")?)?;
    // Who gives it wants a simulator; the demo is one in any case.
    let speed_of_nothing = global.sandbox_speed.is_some() && global.sandbox.is_none();
    anyhow::ensure!(
        !speed_of_nothing || matches!(command, Some(Command::Demo)),
        "--sandbox-speed is that of the simulator inside this program, and what is asked for here is real: \
         add --sandbox (of the command `sandbox` it is --speed)"
    );
    let folders = UserFolders::from_system();
    let file = configuration::load_config(global.config.as_deref(), &folders)?;
    let format = global.log_format(&file);
    let usual = match command {
        Some(Command::Http(_)) => LOG_OF_HTTP,
        _ => LOG,
    };
    let filter = global.log_filter(&file).unwrap_or(usual);
    telemetry::init(format, filter)?;
    let selection = global.selection(&file);
    let catalogue = Catalogue::new();
    selection.check(catalogue.index())?;
    let serves = matches!(command, None | Some(Command::Stdio | Command::Http(_)));
    if serves && catalogue.offered(&selection).next().is_none() {
        tracing::warn!(
            "no tool is offered: see --toolsets, --tools, --exclude-tools and --read-only; the toolset \
             `sandbox` is there only with --sandbox"
        );
    }
    match command {
        None | Some(Command::Stdio) => {
            let stop = shutdown_signal::signal()?;
            let traces = telemetry::traces::begin()?;
            let world = Runtime::open(&global, &file, &folders).await?;
            let log_arguments = global.logs_arguments(&file);
            let server = Server::new(Arc::new(catalogue), Arc::new(selection), world.account());
            let options = ServerOptions { log_arguments, ..ServerOptions::default() };
            if std::io::stdin().is_terminal() {
                // Nothing is lost if it cannot be said; standard output is the protocol's.
                let _ = writeln!(std::io::stderr(), "{WAITS}");
            }
            stdio::serve_stdio(server, options, stop, &world.dispatches())
                .await
                .context("the MCP session could not begin")?;
            traces.end().await;
            world.close().await
        }
        Some(Command::Http(options)) => {
            let traces = telemetry::traces::begin()?;
            let served = http::run(&options, &global, &file, &folders, catalogue, selection).await;
            traces.end().await;
            served
        }
        Some(Command::Token(command)) => token::run(command, &global, &folders),
        Some(Command::Sandbox(options)) => sandbox::run(options).await,
        Some(Command::Demo) => demo::run(&global, &file).await,
        Some(Command::Catalogue(options)) => catalogue::run(&options, &catalogue, &selection),
        Some(Command::Config(options)) => config::run(&options, &global, &file, &folders),
        Some(Command::Receipts(options)) => receipts::run(&options, &global, &file, &folders).await,
        Some(Command::Policy(command)) => policy::run(&command, &global, &file, &folders).await,
        Some(Command::Install(options)) => install::run(&options, &global, &file, &folders),
        Some(Command::Setup) => setup::run(&global, &file, &folders).await,
        Some(Command::Doctor(options)) => doctor::run(options, global).await.map(|_| ()),
        Some(Command::Healthcheck(options)) => healthcheck::run(options).await,
        Some(Command::Completions(options)) => completions::completions(&options),
        Some(Command::Man(options)) => completions::manual(&options),
    }
}
