//! `place_calls`: calls a list of people with one agent, after one yes.

mod input;
mod output;

use std::time::Duration;

use jiff::Timestamp;
use rmcp::model::JsonObject;

use self::input::{ListAction, PlaceCallsInput};
use self::output::PlaceCallsOutput;
use super::batch_text::describe_counts;
use crate::batch::list::{BatchRequest, ListProblems};
use crate::batch::prepare::{PreparedBatch, prepare, prepare_stored};
use crate::batch::preview::{BatchPreview, build_preview, describe_cost, describe_duration};
use crate::batch::report::{BatchReport, load_report};
use crate::batch::{self, BatchError, StopSignals};
use crate::dialing::confirm::Confirmation;
use crate::dialing::ledger::{BatchId, BatchRecord, BatchState, ConfirmedBy, CreateBatchResult};
use crate::mcp::confirmation::card::{
    self as card_question, CardAnswer, CardForm, CardVerdict, can_ask_in_card,
};
use crate::mcp::confirmation::open_question::{OpenQuestionWords, Question};
use crate::mcp::confirmation::preview::{Preview, PreviewField};
use crate::mcp::confirmation::{self, ConfirmOutcome, ConfirmedRequest};
use crate::mcp::reply::error::{ErrorCode, ToolError};
use crate::mcp::reply::next_step::{NextStep, with_steps};
use crate::mcp::tool::{
    Always, CardRole, Live, Reply, Sandbox, Sentence, Tool, ToolContext, ToolEffect, ToolExit,
    ToolName, With,
};
use crate::mcp::tools::ordering::{self, AnsweredOrder, ConfirmableTool};

/// How many people a client's form names; the text of an answer names all.
const MAX_FORM_PEOPLE: usize = 20;
/// How long the answer waits for the first calls to ring.
const FIRST_CALLS_WAIT: Duration = Duration::from_secs(1);

pub(in crate::mcp::tools) struct PlaceCalls;

/// Whether a confirmed batch starts or goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    Start,
    Resume,
}

async fn create_batch(
    cx: &ToolContext,
    request: BatchRequest,
) -> Result<Reply<PlaceCallsOutput>, ToolExit> {
    let prepared = prepare(&cx.account, request).await?;
    if prepared.waiting_rows().next().is_none() {
        return Err(nobody_to_call(&prepared).into());
    }
    match batch::create(&cx.account, &prepared).await? {
        CreateBatchResult::Created => confirm_and_begin(cx, prepared, None, Begin::Start).await,
        CreateBatchResult::KeyConflict(other) => {
            Err(BatchError::KeyConflict(other.batch_id).into())
        }
        // The same list is asked about once more: with another preview, or with the answer to the question.
        CreateBatchResult::Duplicate(record) if record.state == BatchState::Asked => {
            let prepared = prepare_known(cx, &record.batch_id).await?;
            confirm_and_begin(cx, prepared, None, Begin::Start).await
        }
        CreateBatchResult::Duplicate(record) => reply_with_duplicate(cx, record).await,
    }
}

async fn prepare_known(cx: &ToolContext, id: &BatchId) -> Result<PreparedBatch, ToolExit> {
    let (_, record, rows) = batch::find(&cx.account, id).await?;
    Ok(prepare_stored(&cx.account, record, rows).await?)
}

/// Asks the person where that is needed, and starts the batch.
async fn confirm_and_begin(
    cx: &ToolContext,
    prepared: PreparedBatch,
    token: Option<&str>,
    begin: Begin,
) -> Result<Reply<PlaceCallsOutput>, ToolExit> {
    let dialer = cx.account.dialer()?;
    let id = prepared.record.batch_id.clone();
    let was_confirmed = begin == Begin::Resume && is_covered_by_first_yes(cx, &prepared).await?;
    // A batch that goes on was confirmed before; the model carries the token of a second yes, unless only the user's own
    // answer counts.
    let counts_in_card = begin == Begin::Start || !prepared.has_model_record;
    let can_ask =
        cx.client.can_ask_human() || (counts_in_card && can_ask_in_card(cx, &dialer.rules()));
    let confirmed_by = match prepared.confirmation(&cx.account, can_ask) {
        _ if was_confirmed => prepared.record.confirmed_by.unwrap_or(ConfirmedBy::NotRequired),
        Confirmation::Refuse(refusal) => return Err(refusal.into()),
        Confirmation::NotRequired => ConfirmedBy::NotRequired,
        Confirmation::Ask(reason) => {
            let shown = build_preview(&prepared, cx.account.environment());
            let is_form = token.is_none() && cx.client.can_ask_human();
            let limit = if is_form { MAX_FORM_PEOPLE } else { usize::MAX };
            let question = Question::new(&reason, to_preview(&prepared, &shown, limit));
            let request = confirmed_request(&prepared);
            let yes = format!("Call {} people", prepared.waiting_rows().count());
            let form = (begin == Begin::Start).then(|| CardForm {
                yes: &yes,
                no: "Don’t call",
                arguments: JsonObject::from_iter([("batch_id".to_owned(), id.to_string().into())]),
                depends_on_model_record: prepared.has_model_record,
            });
            match confirmation::ask_human(cx, dialer, &request, token, &question, form).await {
                Ok(ConfirmOutcome::Confirmed(confirmed_by)) => {
                    let again = prepare_known(cx, &id).await?;
                    if again.record.covered != prepared.record.covered {
                        return Err(confirmation::outdated_confirmation().into());
                    }
                    confirmed_by
                }
                Ok(ConfirmOutcome::Open(open)) => {
                    return Ok(open.into_reply(&OPEN_LIST, |pending, note| {
                        PlaceCallsOutput::new(cx, &prepared, note)
                            .with_pending(pending)
                            .into_reply()
                    }));
                }
                Err(exit) => {
                    let is_no = matches!(&exit, ToolExit::Failed(error) if error.class() == ErrorCode::Declined);
                    // After a no the list is gone. A token that was not accepted is no answer of the person.
                    if is_no && token.is_none() && begin == Begin::Start {
                        batch::cancel(&cx.account, &id).await?;
                    }
                    return Err(exit);
                }
            }
        }
    };
    let stop = StopSignals { draining: cx.draining.clone(), revoked: cx.ended.clone() };
    let begun = match begin {
        Begin::Start => batch::start(&cx.account, &prepared, confirmed_by, stop).await,
        Begin::Resume => batch::resume(&cx.account, &prepared, confirmed_by, stop).await,
    };
    match begun {
        Ok(_) => reply_with_start(cx, &prepared).await,
        // Two requests confirmed the same list.
        Err(BatchError::WrongState { .. }) if begin == Begin::Start => {
            let (_, record, _) = batch::find(&cx.account, &id).await?;
            reply_with_duplicate(cx, record).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the first yes covers what is left of a batch: neither the agent nor the window changed, and no other rule asks.
async fn is_covered_by_first_yes(
    cx: &ToolContext,
    prepared: &PreparedBatch,
) -> Result<bool, ToolExit> {
    let (_, stored, rows) = batch::find(&cx.account, &prepared.record.batch_id).await?;
    let same_rules = prepared.waiting_rows().all(|row| {
        row.asked_by.is_none()
            || rows.iter().any(|stored| stored.row == row.row && stored.asked_by == row.asked_by)
    });
    Ok(stored.covered == prepared.record.covered && same_rules)
}

/// The preview as the confirmation shows it. The yes covers the whole list, whatever part of it a form has room for.
fn to_preview(prepared: &PreparedBatch, shown: &BatchPreview, limit: usize) -> Preview {
    let people = shown.people.iter().map(|person| {
        let name = person.name.as_deref().unwrap_or_default();
        let time = match person.local_time.as_str() {
            "" => String::new(),
            time if name.is_empty() => format!("({time} there)"),
            time => format!(" ({time} there)"),
        };
        format!("{}. {} {name}{time}", person.row, person.number)
    });
    let people = indent_lines(people, limit);
    let refused = shown.refused.iter();
    let refused = refused.map(|row| format!("{}. {}: {}", row.row, row.number, row.reason));
    let refused = indent_lines(refused, limit);
    let common = shown.fields.iter().map(|(name, value)| (*name, Some(value.clone())));
    let lists =
        [("People", Some(people)), ("Not called", (!shown.refused.is_empty()).then_some(refused))];
    let fields = common
        .chain(lists)
        .filter_map(|(name, value)| Some(PreviewField { name, value: value?, is_covered: false }));
    Preview {
        title: shown.title.clone(),
        fields: fields.collect(),
        covered: format!("{} {}", prepared.record.covered, prepared.reasons.join("; ")),
    }
}

/// The first of these lines, and how many follow.
fn indent_lines(lines: impl ExactSizeIterator<Item = String>, limit: usize) -> String {
    let more = lines.len().saturating_sub(limit);
    let more = (more > 0).then(|| format!("and {more} more"));
    let shown = lines.take(limit).chain(more).map(|line| format!("\n  {line}"));
    shown.collect::<Vec<_>>().concat()
}

const OPEN_LIST: OpenQuestionWords = OpenQuestionWords {
    nothing_done: "Nobody was called",
    repeat: "place_calls again with batch_id and confirmation_token alone",
    after_card: "",
};

/// The subject of a yes to a list. The list is kept under its id.
fn confirmed_request(prepared: &PreparedBatch) -> ConfirmedRequest {
    ConfirmedRequest {
        tool: ToolName::PLACE_CALLS,
        account: prepared.account.clone(),
        arguments: prepared.record.batch_id.to_string(),
    }
}

impl ConfirmableTool for PlaceCalls {
    async fn run_as_answered(
        input: Self::Input,
        answer: CardAnswer<'_>,
        cx: &ToolContext,
    ) -> Result<AnsweredOrder<Reply<Self::Output>>, ToolExit> {
        let missing = || ToolError::invalid_argument("`batch_id` is missing");
        let id = input.batch_id.ok_or_else(missing)?;
        let id = BatchId::parse(id.as_str())
            .map_err(|error| ToolError::invalid_argument(format!("`batch_id`: {error}")))?;
        let dialer = cx.account.dialer()?;
        if let Some(accepted) = card_question::find_earlier_answer(dialer, answer.token).await? {
            return reply_as_answered_before(cx, &id, accepted).await;
        }
        let prepared = prepare_known(cx, &id).await?;
        if answer.accept == Some(true)
            && let Confirmation::Refuse(refusal) = prepared.confirmation(&cx.account, true)
        {
            return Err(refusal.into());
        }
        let shown = build_preview(&prepared, cx.account.environment());
        let question =
            Question { reason: String::new(), preview: to_preview(&prepared, &shown, usize::MAX) };
        let request = confirmed_request(&prepared);
        match card_question::read_card_answer(cx, dialer, &request, &question, answer).await? {
            CardVerdict::Confirmed => {
                let stop = StopSignals { draining: cx.draining.clone(), revoked: cx.ended.clone() };
                batch::start(&cx.account, &prepared, ConfirmedBy::Card, stop).await?;
                Ok(AnsweredOrder::Confirmed(reply_with_start(cx, &prepared).await?))
            }
            CardVerdict::Declined => {
                batch::cancel(&cx.account, &id).await?;
                Ok(AnsweredOrder::Declined)
            }
            CardVerdict::Unanswered => Ok(AnsweredOrder::Unanswered),
            CardVerdict::AnsweredBefore { accepted } => {
                reply_as_answered_before(cx, &id, accepted).await
            }
        }
    }
}

async fn reply_as_answered_before(
    cx: &ToolContext,
    id: &BatchId,
    accepted: bool,
) -> Result<AnsweredOrder<Reply<PlaceCallsOutput>>, ToolExit> {
    if !accepted {
        return Ok(AnsweredOrder::Declined);
    }
    let (_, record, _) = batch::find(&cx.account, id).await?;
    Ok(AnsweredOrder::Confirmed(reply_with_duplicate(cx, record).await?))
}

async fn reply_with_start(
    cx: &ToolContext,
    prepared: &PreparedBatch,
) -> Result<Reply<PlaceCallsOutput>, ToolExit> {
    let id = &prepared.record.batch_id;
    let report = wait_for_first_calls(cx, id).await?;
    let mut note = format!(
        "{}. {}. Cost {}.",
        describe_counts(&report),
        sentence_case(&describe_duration(prepared)),
        describe_cost(prepared)
    );
    if cx.tenant.is_none() {
        note.push_str(" It runs as long as this client keeps the server; if that ends, resume it with place_calls.");
    }
    let step = NextStep::tool(ToolName::GET_BATCH, "with wait_seconds waits for the results");
    let mut output = PlaceCallsOutput::new(cx, prepared, with_steps(&note, &[step], &cx.tools));
    output.apply_report(&report);
    let reply = output.into_reply();
    Ok(if report.is_finished() { reply } else { reply.followed_by(id.clone()) })
}

/// The state of a batch that has just started, once a call is on its way or after a second.
async fn wait_for_first_calls(cx: &ToolContext, id: &BatchId) -> Result<BatchReport, ToolExit> {
    let changes = cx.account.dialer()?.batches().changes(id);
    let deadline = tokio::time::Instant::now() + FIRST_CALLS_WAIT;
    loop {
        let report = load_report(&cx.account, id).await?;
        let is_calling = report.rows.iter().any(|row| row.record.call_id.is_some());
        let Some(mut changes) = changes.clone().filter(|_| !is_calling) else { return Ok(report) };
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(deadline) => return Ok(report),
        }
        if report.is_finished() {
            return Ok(report);
        }
    }
}

async fn reply_with_duplicate(
    cx: &ToolContext,
    record: BatchRecord,
) -> Result<Reply<PlaceCallsOutput>, ToolExit> {
    let id = record.batch_id.clone();
    let report = load_report(&cx.account, &id).await?;
    let note = format!(
        "The same list was started before: this is that batch, and nothing rang now. {}. To call the same people again, set allow_repeat.",
        describe_counts(&report)
    );
    let step = NextStep::tool(ToolName::GET_BATCH, "returns its results");
    let note = with_steps(&note, &[step], &cx.tools);
    let mut output = PlaceCallsOutput::empty(cx, id.to_string(), report.state, note);
    output.duplicate_of = Some(id.to_string());
    output.apply_report(&report);
    Ok(output.into_reply())
}

fn sentence_case(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// The rules refuse every row.
fn nobody_to_call(prepared: &PreparedBatch) -> ToolError {
    let mut problems = ListProblems::default();
    let mut reasons: Vec<(&str, Vec<usize>)> = Vec::new();
    for (index, row) in prepared.rows.iter().enumerate() {
        let reason = row.reason.as_deref().unwrap_or("it is refused");
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, rows)) => rows.push(index),
            None => reasons.push((reason, vec![index])),
        }
    }
    for (reason, rows) in reasons {
        problems.add_rows(reason, rows);
    }
    ToolError::new(
        ErrorCode::RefusedByPolicy,
        format!("every person on the list is refused. {problems}"),
    )
}

impl Tool for PlaceCalls {
    const NAME: ToolName = ToolName::PLACE_CALLS;
    const TITLE: &'static str = "Call a list of people";
    const DESCRIPTION: &'static [Sentence] = &[
        Live(
            "Calls up to 500 people with one agent after one yes of the user: real telephones ring, several at a time.",
        ),
        Sandbox(
            "Calls up to 500 people with one agent on the simulator: no telephone rings and nothing is charged.",
        ),
        Always(
            "Use it for 2 people or more. It keeps the hours and limits of the calling rules, and calls each person at most once for each attempt. It may answer with a preview to show to the user; then call it again with batch_id and confirmation_token alone. The same list within 10 minutes returns the first batch. batch_id with resume goes on with an interrupted or paused batch.",
        ),
        With(ToolName::GET_BATCH, "get_batch returns the results."),
    ];
    const EFFECT: ToolEffect = ToolEffect::RingsPhone;
    const OPEN_WORLD: bool = true;
    const CARD: CardRole = CardRole::ShowsResult;
    type Input = PlaceCallsInput;
    type Output = PlaceCallsOutput;

    fn deadline(_input: &Self::Input, cx: &ToolContext) -> Duration {
        ordering::order_deadline(cx)
    }

    async fn run(input: Self::Input, cx: &ToolContext) -> Result<Reply<Self::Output>, ToolExit> {
        match input.into_action(cx)? {
            ListAction::Create(request) => create_batch(cx, *request).await,
            ListAction::Confirm(id, token) => {
                let (_, record, rows) = batch::find(&cx.account, &id).await?;
                if record.has_started() {
                    return reply_with_duplicate(cx, record).await;
                }
                if record.state == BatchState::Canceled {
                    let text =
                        format!("the user declined {id}, or it was canceled. Nobody was called");
                    return Err(ToolError::new(ErrorCode::Declined, text).into());
                }
                let prepared = prepare_stored(&cx.account, record, rows).await?;
                confirm_and_begin(cx, prepared, Some(&token), Begin::Start).await
            }
            ListAction::Resume(id, token) => {
                let (_, record, rows) = batch::find(&cx.account, &id).await?;
                let state = record.state_at(Timestamp::now());
                if !matches!(state, BatchState::Interrupted | BatchState::Paused) {
                    return Err(BatchError::WrongState { batch_id: id, state }.into());
                }
                let prepared = prepare_stored(&cx.account, record, rows).await?;
                confirm_and_begin(cx, prepared, token.as_deref(), Begin::Resume).await
            }
        }
    }
}
