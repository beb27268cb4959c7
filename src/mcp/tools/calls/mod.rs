//! The toolset `calls`: placing calls, and reading what became of them.

mod list;
mod place;
mod preview;
mod result;
mod transcript;

pub(super) use list::ListCalls;
pub(super) use place::PlaceCall;
pub(super) use result::GetCallResult;
pub(super) use transcript::GetCallTranscript;
