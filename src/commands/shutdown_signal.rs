//! The signals that end the program. Knows nothing of what has to be shut down.

/// Resolves at the first SIGTERM or SIGINT. Call it early: a signal that arrives before the call kills the process.
#[cfg(unix)]
pub(super) fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use anyhow::Context;
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves when the user presses Ctrl-C or Ctrl-Break, closes the console, or shuts the machine down. Call it early: an
/// event before the call ends the process. Windows waits a few seconds for the process to end.
#[cfg(windows)]
pub(super) fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use anyhow::Context;
    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
    const NO_EVENTS: &str = "cannot listen for the end of the console";
    let mut interrupt = ctrl_c().context(NO_EVENTS)?;
    let mut break_key = ctrl_break().context(NO_EVENTS)?;
    let mut close = ctrl_close().context(NO_EVENTS)?;
    let mut machine = ctrl_shutdown().context(NO_EVENTS)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = break_key.recv() => {}
            _ = close.recv() => {}
            _ = machine.recv() => {}
        }
    })
}
