//! `callingbox-mcp sandbox`: serves the simulated API until a signal ends the program.

use super::output::print;
use super::shutdown_signal::shutdown_signal;
use crate::cli;
use callingbox_sandbox::{ClockMode, Options, Sandbox};

pub(super) async fn run(args: cli::SandboxArgs) -> anyhow::Result<()> {
    let shutdown = shutdown_signal()?;
    let clock = if args.manual { ClockMode::Manual } else { ClockMode::Speed(args.speed) };
    let sandbox = Sandbox::start(
        args.listen,
        Options {
            clock,
            seed: args.seed,
            credit_milli_cents: args.credit.0,
            state_file: args.state,
            scenario_files: args.scenarios,
            allow_private_webhooks: args.allow_private_webhooks,
            ..Options::default()
        },
    )
    .await?;
    print(format!("listening on {}\n", sandbox.url()))?;
    shutdown.await;
    sandbox.shutdown().await?;
    Ok(())
}
