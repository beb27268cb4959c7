//! The watchers with a scripted account on tokio's paused clock: no test waits for real time.

mod api;
mod figures;
mod followers;
mod scheduler;
