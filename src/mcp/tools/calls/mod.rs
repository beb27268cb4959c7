//! The toolset `calls`: placing calls, and reading what became of them.

mod batch_text;
mod cancel_batch;
mod get_batch;
mod list;
mod place;
mod place_calls;
mod record_opt_out;
mod result;
mod transcript;

pub(super) use cancel_batch::CancelBatch;
pub(super) use get_batch::{GetBatch, follow_batch};
pub(in crate::mcp) use get_batch::{RowSelection, batch_reply};
pub(super) use list::ListCalls;
pub(super) use place::PlaceCall;
pub(super) use place_calls::PlaceCalls;
pub(super) use record_opt_out::RecordOptOut;
pub(super) use result::GetCallResult;
pub(super) use transcript::GetCallTranscript;
