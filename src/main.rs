//! The command line: parse it, run one subcommand.

use std::io::Write;
use std::process::ExitCode;

use callingbox_mcp::cli::{Cli, Command};
use callingbox_mcp::commands;
use mimalloc::MiMalloc;

/// A call is 240 allocations, and they are a fifth of its work with the C library's allocator: `benches/README.md`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse_with_env(std::env::args_os()).unwrap_or_else(|error| error.exit());
    // A call waits for the network nearly all its time, and a switch between threads costs more than
    // its work: `benches/README.md`.
    let threads = match &cli.command {
        Some(Command::Http(http)) => usize::from(http.threads),
        _ => 1,
    };
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error)),
    };
    let outcome = runtime.block_on(commands::run(cli));
    // Standard input is read by a thread that cannot be interrupted; do not wait for it.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // It may quote a file, and clients keep standard error in files of their own.
    let text = format!("callingbox-mcp: {error:#}");
    // Nothing is left to be done if even this cannot be written.
    let _ = writeln!(std::io::stderr(), "{}", callingbox_mcp::telemetry::redact(&text));
    commands::exit_code(error)
}
