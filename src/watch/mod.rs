//! Follows live calls to their end for everyone who waits for them, with few requests.
//!
//! One [`Watchers`] stands for one account. Each live call is looked at by one schedule ([`schedule`])
//! however many [`Follower`]s it has; many live calls are looked at together by list requests; all of
//! them keep within one limit of requests a second; a webhook ([`Watchers::wake`]) makes looking all
//! but needless. API trouble never ends a wait, except where asking again cannot help (404, 401).
//!
//! Knows [`crate::api`] and nothing of MCP, HTTP servers or the sandbox. Ages are measured from here,
//! by this machine's clock alone: the API's clock need not agree, and a simulated one runs faster.

mod follower;
mod linger;
mod pace;
mod pick;
mod progress;
mod queue;
mod recent;
mod roster;
pub mod schedule;
mod source;
#[cfg(test)]
mod tests;
mod wait_limits;
mod watchers;

pub use follower::{Follower, Snapshot, State, Want};
pub use progress::Progress;
pub use source::{Source, source_of};
pub use wait_limits::WaitLimits;
pub use watchers::{FollowError, Settings, Watchers};
