//! The program: parses the command line and runs one command.

use std::io::Write;
use std::process::ExitCode;

use callingbox_mcp::cli::{Cli, Command};
use callingbox_mcp::commands;
use mimalloc::MiMalloc;

/// A tool call makes 240 allocations; with the C library's allocator they take a fifth of its time (see `benches/`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse_with_env(std::env::args_os()).unwrap_or_else(|error| error.exit());
    // A tool call spends nearly all of its time waiting for the network, and switching threads costs more than the
    // work itself (see `benches/`).
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
        Err(error) => return report_failure(&anyhow::Error::from(error)),
    };
    let result = runtime.block_on(commands::run(cli));
    // Do not wait for the thread that reads standard input: it cannot be interrupted.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => report_failure(&error),
    }
}

fn report_failure(error: &anyhow::Error) -> ExitCode {
    // The error may quote a file, and clients write standard error into files of their own.
    let text = format!("callingbox-mcp: {error:#}");
    // If standard error cannot be written, the failure cannot be reported at all.
    let text = commands::wrap_error(&callingbox_mcp::telemetry::redact(&text));
    let _ = writeln!(std::io::stderr(), "{text}");
    commands::exit_code(error)
}
