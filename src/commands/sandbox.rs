//! `callingbox-mcp sandbox`: the simulated API alone, until it is told to end.

use super::output::print;
use super::shutdown_signal;
use crate::cli;
use callingbox_sandbox::{ClockMode, Options, Sandbox};

pub(super) async fn run(options: cli::SandboxArgs) -> anyhow::Result<()> {
    let stop = shutdown_signal::signal()?;
    let clock = if options.manual { ClockMode::Manual } else { ClockMode::Speed(options.speed) };
    let sandbox = Sandbox::start(
        options.listen,
        Options {
            clock,
            seed: options.seed,
            state_file: options.state,
            scenario_files: options.scenarios,
            allow_private_webhooks: options.allow_private_webhooks,
            ..Options::default()
        },
    )
    .await?;
    print(format!("listening on {}\n", sandbox.url()))?;
    stop.await;
    sandbox.shutdown().await?;
    Ok(())
}
