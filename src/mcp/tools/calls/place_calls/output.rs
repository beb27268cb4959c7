//! The answer of `place_calls`: the state of the batch, its costs and the people who are not called.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::account::Environment;
use crate::batch::prepare::PreparedBatch;
use crate::batch::report::BatchReport;
use crate::dialing::ledger::{BatchState, RowRecord, RowState};
use crate::mcp::confirmation::open_question::PendingFields;
use crate::mcp::confirmation::preview::PreviewField;
use crate::mcp::reply::text;
use crate::mcp::tool::{Reply, ToolContext};
use callingbox::{CallId, MilliCents};

/// What became of the list.
#[skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct PlaceCallsOutput {
    batch_id: String,
    state: BatchState,
    /// How many calls are on their way or in progress.
    calling: usize,
    waiting: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::mcp::input::arguments::Object>")]
    refused: Vec<RefusedRow>,
    #[schemars(skip)]
    max_cost_milli_cents: MilliCents,
    #[schemars(skip)]
    expected_cost_milli_cents: MilliCents,
    /// How many will not be reached before end_by.
    unreached: usize,
    /// The same list was started before: nothing rang now.
    pub(super) duplicate_of: Option<String>,
    /// What to show the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::mcp::input::arguments::Object>")]
    preview: Vec<PreviewField>,
    /// To be brought back with batch_id once the user agreed.
    confirmation_token: Option<String>,
    #[schemars(skip)]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
    note: String,
}

#[derive(Serialize)]
struct RefusedRow {
    row: u32,
    to: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
}

impl PlaceCallsOutput {
    pub(super) fn empty(
        cx: &ToolContext,
        batch_id: String,
        state: BatchState,
        note: String,
    ) -> Self {
        Self {
            batch_id,
            state,
            calling: 0,
            waiting: 0,
            refused: Vec::new(),
            max_cost_milli_cents: MilliCents::ZERO,
            expected_cost_milli_cents: MilliCents::ZERO,
            unreached: 0,
            duplicate_of: None,
            preview: Vec::new(),
            confirmation_token: None,
            expires_at: None,
            simulated: cx.account.environment() == Environment::Sandbox,
            note,
        }
    }

    pub(super) fn new(cx: &ToolContext, prepared: &PreparedBatch, note: String) -> Self {
        let PreparedBatch { record, plan, rows, .. } = prepared;
        let refused = rows.iter().filter(|row| row.state == RowState::Refused);
        Self {
            waiting: prepared.waiting_rows().count(),
            refused: refused.map(RefusedRow::new).collect(),
            max_cost_milli_cents: plan.max_cost,
            expected_cost_milli_cents: plan.expected_cost,
            unreached: plan.unreached,
            ..Self::empty(cx, record.batch_id.to_string(), record.state, note)
        }
    }

    pub(super) fn with_pending(self, pending: PendingFields) -> Self {
        let PendingFields { preview, confirmation_token, expires_at } = pending;
        Self { preview, confirmation_token, expires_at, ..self }
    }

    /// Takes over what the ledger says now.
    pub(super) fn apply_report(&mut self, report: &BatchReport) {
        let count = |state| report.rows.iter().filter(|row| row.record.state == state).count();
        self.state = report.state;
        self.calling = count(RowState::Calling);
        self.waiting = count(RowState::Waiting);
        let refused = report.rows.iter().filter(|row| row.record.state == RowState::Refused);
        self.refused = refused.map(|row| RefusedRow::new(&row.record)).collect();
    }

    pub(super) fn into_reply(self) -> Reply<Self> {
        let mut text = format!("batch_id: {}. {}", self.batch_id, self.note);
        // Writing to a String cannot fail.
        if self.preview.is_empty() {
            for row in &self.refused {
                let _ = write!(text, "\nNot called: row {} ({}): {}", row.row, row.to, row.reason);
                if let Some(call) = &row.call_id {
                    let _ = write!(text, " (call_id {call})");
                }
            }
        }
        if let Some(token) = &self.confirmation_token {
            let _ = write!(text, "\nconfirmation_token: {token}");
        }
        Reply::new(self, text)
    }
}

impl RefusedRow {
    fn new(row: &RowRecord) -> Self {
        let number = row.number.as_ref();
        Self {
            row: row.row,
            to: number
                .map_or_else(|| row.callee.masked.clone(), |number| number.as_str().to_owned()),
            reason: text::one_line(row.reason.as_deref().unwrap_or_default(), 300),
            call_id: row.call_id.clone(),
        }
    }
}
