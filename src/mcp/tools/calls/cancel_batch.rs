//! `cancel_batch`: no more calls of a list start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch_text::describe_counts;
use crate::account::Environment;
use crate::batch::{self, report::load_report};
use crate::dialing::ledger::{BatchId, BatchState, RowState};
use crate::mcp::input::arguments::Text;
use crate::mcp::reply::error::ToolError;
use crate::mcp::tool::{
    Always, Reply, Sentence, Tool, ToolContext, ToolEffect, ToolExit, ToolName,
};
use callingbox::CallId;

pub(in crate::mcp::tools) struct CancelBatch;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct CancelBatchInput {
    /// The batch.
    #[schemars(with = "String")]
    batch_id: Text<1, 100>,
}

/// The batch after it was canceled.
#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct CancelBatchOutput {
    batch_id: String,
    #[schemars(with = "String")]
    state: BatchState,
    /// Calls that go on: they cannot be hung up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    running: Vec<CallId>,
    /// How many more may still ring.
    may_ring: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
    note: String,
}

impl Tool for CancelBatch {
    const NAME: ToolName = ToolName::CANCEL_BATCH;
    const TITLE: &'static str = "Cancel a batch of calls";
    const DESCRIPTION: &'static [Sentence] = &[Always(
        "Stops a list of calls: no new call starts. Calls in progress cannot be hung up.",
    )];
    const EFFECT: ToolEffect = ToolEffect::Writes { destructive: true, idempotent: true };
    const OPEN_WORLD: bool = false;
    type Input = CancelBatchInput;
    type Output = CancelBatchOutput;

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        let id = BatchId::parse(input.batch_id.as_str())
            .map_err(|error| ToolError::invalid_argument(format!("`batch_id`: {error}")))?;
        let was_canceled = match batch::cancel(&cx.account, &id).await {
            Ok(_) => false,
            Err(batch::BatchError::WrongState { state: BatchState::Canceled, .. }) => true,
            Err(error) => return Err(error.into()),
        };
        let report = load_report(&cx.account, &id).await?;
        let calling = || report.rows.iter().filter(|row| row.record.state == RowState::Calling);
        let running: Vec<CallId> = calling().filter_map(|row| row.record.call_id.clone()).collect();
        let may_ring = calling().filter(|row| row.record.call_id.is_none()).count();
        let mut note = match was_canceled {
            false => format!("{}. No new call starts.", describe_counts(&report)),
            true => format!("{}. It was canceled before.", describe_counts(&report)),
        };
        if !running.is_empty() {
            let ids: Vec<&str> = running.iter().map(CallId::as_str).collect();
            note.push_str(&format!(
                " {} in progress cannot be hung up: call_id {}.",
                match ids.len() {
                    1 => "1 call".to_owned(),
                    count => format!("{count} calls"),
                },
                ids.join(", ")
            ));
        }
        if may_ring > 0 {
            note.push_str(&format!(" {may_ring} may still ring: the request had left."));
        }
        let simulated = cx.account.environment() == Environment::Sandbox;
        let text = format!("batch_id: {id}. {note}");
        let batch_id = id.to_string();
        let output =
            CancelBatchOutput { batch_id, state: report.state, running, may_ring, simulated, note };
        Ok(Reply::new(output, text).with_simulated(simulated))
    }
}
