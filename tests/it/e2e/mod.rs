//! End to end: the real binary over standard input and output, against the simulator on a real
//! port. One test binary, because each one costs a link.

mod bad_input;
mod batch_trouble;
mod batches;
mod client_requests;
mod commands;
#[cfg(unix)]
mod completions;
mod doctor;
mod env_vars;
mod every_tool;
mod failures;
mod following;
mod job;
mod life;
mod opening;
mod reading;
mod scenarios;
#[cfg(unix)]
mod secrets;
mod setup;
mod situations;
mod take_over;
#[cfg(target_os = "linux")]
mod terminal;
