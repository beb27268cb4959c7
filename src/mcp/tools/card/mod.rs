//! The tools that only the call card calls. They belong to no toolset of their own: each goes with the tools that it serves.
//!
//! A tool whose order the user can confirm in the card is a `ConfirmableTool` (`ordering.rs`). Its `run` answers with a question
//! (`OrderOutcome::AskedInCard`), whose `arguments` come back to its `run_as_answered` with the user's answer.
//! To add one: implement the trait, set `CARD` to `CardRole::ShowsResult`, and add it to `OrderTool` in `confirm.rs`.

mod confirm;
mod follow;

pub(super) use confirm::ConfirmCall;
pub(super) use follow::FollowCall;
