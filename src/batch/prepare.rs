//! Prepares a batch before anything is called: checks the list and each row against the rules, estimates how long it
//! takes, and writes down everything that a yes covers.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::BatchError;
use super::list::{self, BatchRequest, ListProblems, Window, check_list, list_fingerprint};
use super::plan::{Plan, PlanInput, make_plan};
use super::template::Template;
use crate::account::Account;
use crate::dialing::clock::ClockReading;
use crate::dialing::confirm::{BatchConfirmContext, Confirmation, batch_confirmation_required};
use crate::dialing::destination::Destination;
use crate::dialing::dialer::Dialer;
use crate::dialing::disclosure::{DisclosureDecision, DisclosureRules};
use crate::dialing::ledger::{
    ASKED_LIFETIME, AccountRef, BatchId, BatchRecord, BatchState, BatchTask, Callee,
    DispatchLookup, EarlierDispatch, Fingerprint, Ledger, Person, RowRecord, RowState,
};
use crate::dialing::limits::OrderKind;
use crate::dialing::opt_outs::OPTED_OUT;
use crate::dialing::order::CALL_HOLD;
use crate::dialing::policy::{AttemptDecision, Decision, MetadataSource, PolicyInput};
use crate::dialing::rules::DialingRules;
use callingbox::{Agent, AgentId, E164, MilliCents};

/// A batch that is ready to be shown to a person, or started.
#[derive(Debug, Clone)]
pub struct PreparedBatch {
    pub record: BatchRecord,
    pub rows: Vec<RowRecord>,
    pub agent: Arc<Agent>,
    pub account: AccountRef,
    pub plan: Plan,
    pub now: ClockReading,
    /// Why rules ask for rows, each reason once.
    pub reasons: Vec<String>,
    /// What the calls say about the AI that calls, as it was set when the batch was prepared.
    pub disclosure: DisclosureRules,
    /// What the texts lack that tell the agent to say that it is an AI.
    pub disclosure_reminder: Option<String>,
    /// Whether a row is called by a record that a model wrote.
    pub has_model_record: bool,
    /// Whether a rule with `batch = true` allows each row.
    allows_batch: bool,
}

impl PreparedBatch {
    /// The rows that will be called.
    pub fn waiting_rows(&self) -> impl Iterator<Item = &RowRecord> {
        self.rows.iter().filter(|row| row.state == RowState::Waiting)
    }

    /// Whether the user must confirm the batch.
    #[must_use]
    pub fn confirmation(&self, account: &Account, client_can_ask: bool) -> Confirmation {
        let Ok(dialer) = account.dialer() else { return Confirmation::NotRequired };
        let rules = dialer.rules();
        batch_confirmation_required(
            rules.confirm,
            BatchConfirmContext {
                environment: account.environment(),
                people: self.waiting_rows().count(),
                has_reason: !self.reasons.is_empty(),
                has_model_record: self.has_model_record,
                allows_batch: self.allows_batch,
                client_can_ask,
                require_human: rules.require_human,
            },
        )
    }
}

/// Prepares a new batch. It is not in the ledger yet.
///
/// # Errors
/// The list has errors, or the agent, the ledger or the account cannot be read.
pub async fn prepare(
    account: &Account,
    request: BatchRequest,
) -> Result<PreparedBatch, BatchError> {
    let dialer = account.dialer()?;
    let agent = Arc::new(account.api()?.get_agent(&request.agent_id).await?);
    let now = dialer.now().await?;
    let rules = dialer.rules();
    let max_people = rules.policy.max_batch_size();
    let mut problems = ListProblems::default();
    let mut request = request;
    let window = Window::from_request(&request, now.dialing, &mut problems);
    let instructions = check_list(&request, &agent, max_people, &mut problems);
    check_hosts(&rules, &request.task, &agent, &mut problems);
    problems.into_result()?;
    fill_in_defaults(account, &mut request.task, &agent);
    let account_ref = dialer.account_of_agent(&request.agent_id).await?;
    let fingerprint = list_fingerprint(&request, &account_ref);
    let BatchRequest { agent_id, task, people, idempotency_key, caller, .. } = request;
    let record = BatchRecord {
        batch_id: BatchId::new(),
        account_id: account_ref.id().clone(),
        caller,
        fingerprint,
        idempotency_key,
        agent_id: agent_id.as_str().to_owned(),
        task: Some(task),
        size: u32::try_from(people.len()).unwrap_or(u32::MAX),
        state: BatchState::Asked,
        pause: None,
        confirmed_by: None,
        covered: String::new(),
        created_at: now.dialing,
        start_at: window.start_at,
        end_by: window.end_by,
        started_at: None,
        ended_at: None,
        erase_at: now.machine.checked_add(ASKED_LIFETIME).ok(),
        lease_expires_at: now.machine,
        generation: 0,
    };
    debug_assert_eq!(instructions.len(), people.len(), "each row has its instructions");
    let rows = people
        .into_iter()
        .zip(1..)
        .map(|((to, person), row)| new_row(&account_ref, row, to, person))
        .collect();
    check_rows(dialer, account_ref, record, rows, agent, now, true).await
}

/// Prepares a stored batch once more, as the rules and the agent are now.
///
/// # Errors
/// The agent, the ledger or the account cannot be read, or the people were erased.
pub async fn prepare_stored(
    account: &Account,
    record: BatchRecord,
    rows: Vec<RowRecord>,
) -> Result<PreparedBatch, BatchError> {
    let dialer = account.dialer()?;
    let agent_id = AgentId::new(record.agent_id.clone());
    let agent = Arc::new(account.api()?.get_agent(&agent_id).await?);
    let now = dialer.now().await?;
    if record.end_by <= now.dialing {
        return Err(BatchError::WindowClosed(record.batch_id));
    }
    if record.task.is_none() {
        return Err(BatchError::Erased(record.batch_id));
    }
    let account_ref = dialer.account_of_agent(&agent_id).await?;
    let is_new = !record.has_started();
    check_rows(dialer, account_ref, record, rows, agent, now, is_new).await
}

fn new_row(account: &AccountRef, row: u32, to: E164, person: Person) -> RowRecord {
    RowRecord {
        row,
        callee: Callee::new(account, &to),
        number: Some(to),
        person: Some(person),
        state: RowState::Waiting,
        reason: None,
        asked_by: None,
        attempts: 0,
        due_at: None,
        dispatch_id: None,
        call_id: None,
        outcome: None,
    }
}

fn check_hosts(rules: &DialingRules, task: &BatchTask, agent: &Agent, problems: &mut ListProblems) {
    let own = agent.webhook_url.as_deref().filter(|_| task.webhook_url.is_none());
    let tools = agent.tools.as_ref().and_then(Value::as_array).into_iter().flatten();
    let tools = tools.filter_map(|tool| tool.get("url")?.as_str());
    let mut urls = task.webhook_url.as_deref().into_iter().chain(own).chain(tools);
    if let Err(error) = urls.try_for_each(|url| rules.webhook_hosts.check_url(url)) {
        problems.add(format!("the calling rule `dialing.webhook_hosts` refuses it: {error}"));
    }
}

/// The caller ID, so that the yes covers it, and this server's webhook address, unless the agent has its own.
fn fill_in_defaults(account: &Account, task: &mut BatchTask, agent: &Agent) {
    if task.from_number.is_none() {
        let numbers = || agent.numbers.iter().flatten();
        let primary = numbers().find(|number| Some(&number.id) == agent.primary_number_id.as_ref());
        task.from_number =
            primary.or_else(|| numbers().next()).and_then(|number| number.e164.clone());
    }
    if task.webhook_url.is_none() && agent.webhook_url.is_none() {
        task.webhook_url = account.webhook_url().map(str::to_owned);
    }
}

/// Checks each waiting row against the rules and earlier calls, and estimates the batch.
async fn check_rows(
    dialer: &Dialer,
    account: AccountRef,
    mut record: BatchRecord,
    mut rows: Vec<RowRecord>,
    agent: Arc<Agent>,
    now: ClockReading,
    is_new: bool,
) -> Result<PreparedBatch, BatchError> {
    let rules = dialer.rules();
    let ledger = dialer.ledger().await?.as_ref();
    let start_at = record.start_at.max(now.dialing);
    let destinations: Vec<Option<Destination>> =
        rows.iter().map(|row| row.number.as_ref().map(Destination::from_number)).collect();
    let usage = dialer.measure_usage(&record.caller).await?;
    let decide = |row: &RowRecord, destination: &Destination, at: Timestamp| {
        row.number.as_ref().map(|to| {
            rules.policy.evaluate_attempt(&PolicyInput {
                to,
                destination,
                agent_id: &record.agent_id,
                caller: &record.caller,
                is_batch: true,
                metadata: row.person.as_ref().and_then(|person| person.metadata.as_ref()),
                metadata_source: record
                    .task
                    .as_ref()
                    .map(|task| task.metadata_source)
                    .unwrap_or_default(),
                now: at,
                usage: &usage,
                hold: CALL_HOLD,
            })
        })
    };
    let hashes = rows.iter().map(|row| row.callee.hash.clone()).collect();
    let opted_out = ledger.are_opted_out(account.id(), hashes, now.dialing).await?;
    for (row, is_opted_out) in rows.iter_mut().zip(opted_out) {
        if is_opted_out && row.state == RowState::Waiting {
            refuse_row(row, OPTED_OUT.to_owned());
        }
    }
    let (mut reasons, mut allows_batch, mut has_model_record) = (Vec::new(), true, false);
    let is_of_model =
        record.task.as_ref().is_none_or(|task| task.metadata_source == MetadataSource::Model);
    let disclosure = rules.disclosure.clone();
    let mut disclosure_reminder = None;
    let never_asks =
        rules.confirm == crate::dialing::confirm::ConfirmMode::Never && !rules.require_human;
    for (row, destination) in rows.iter_mut().zip(&destinations) {
        let Some(destination) = destination else { continue };
        if row.state != RowState::Waiting {
            continue;
        }
        let Some(AttemptDecision { decision, quiet: _, allows_batch: allowed }) =
            decide(row, destination, start_at)
        else {
            continue;
        };
        let instructions = record
            .task
            .as_ref()
            .zip(row.person.as_ref())
            .and_then(|(task, who)| fill_in(task, who));
        match disclosure.decide(&agent, instructions.as_deref()) {
            DisclosureDecision::Unchanged | DisclosureDecision::Add(_) => {}
            DisclosureDecision::Remind(text) => disclosure_reminder = Some(text),
            DisclosureDecision::Refuse(refusal) => {
                refuse_row(row, refusal.reason);
                continue;
            }
        }
        let hangs_on_record = is_of_model && decision.depends_on_model_record();
        match decision.decision {
            Decision::Refuse(refusal) => refuse_row(row, refusal.reason),
            Decision::Ask(reason) if never_asks && !allowed => {
                refuse_row(row, format!("the user would have to be asked, and never is: {reason}"));
            }
            Decision::Ask(reason) => {
                has_model_record |= hangs_on_record;
                row.asked_by = Some(decision.rule.to_string());
                allows_batch = false;
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
            Decision::Allow => {
                row.asked_by = None;
                allows_batch &= allowed;
            }
        }
        if is_new && row.state == RowState::Waiting {
            check_earlier_call(ledger, dialer, &record, row, now).await?;
        }
    }
    let waiting: Vec<(&RowRecord, &Destination)> = rows
        .iter()
        .zip(&destinations)
        .filter(|(row, _)| row.state == RowState::Waiting)
        .filter_map(|(row, destination)| Some((row, destination.as_ref()?)))
        .collect();
    let quiet_until = |index: usize, at: Timestamp| {
        let (row, destination) = waiting.get(index)?;
        decide(row, destination, at)?.quiet.map(|quiet| quiet.until)
    };
    let task = record.task.as_ref();
    let plan = make_plan(&PlanInput {
        start_at,
        end_by: record.end_by,
        limits: &rules.policy.enforced_limits(),
        usage: &usage,
        missing_results: task.and_then(|task| task.stop_when.as_ref()).map(|stop| stop.count),
        max_attempts: task.map_or(1, |task| task.retry.max_attempts),
        quiet_until: &quiet_until,
        rows: waiting.len(),
    });
    if !waiting.is_empty() && plan.callable == 0 {
        let mut problems = ListProblems::default();
        problems.add(format!(
            "there are quiet hours for everybody from {} to {}: choose another `start_at` or a later `end_by`",
            list::format_time(start_at),
            list::format_time(record.end_by)
        ));
        problems.into_result()?;
    }
    let covered = covered_fingerprint(&account, &record, &rows, &agent, &disclosure);
    record.covered = covered.as_str().to_owned();
    Ok(PreparedBatch {
        record,
        rows,
        agent,
        account,
        plan,
        now,
        reasons,
        disclosure,
        disclosure_reminder,
        has_model_record,
        allows_batch,
    })
}

fn refuse_row(row: &mut RowRecord, reason: String) {
    row.state = RowState::Refused;
    row.reason = Some(reason);
}

/// Refuses a row whose number the same agent called a moment ago.
async fn check_earlier_call(
    ledger: &dyn Ledger,
    dialer: &Dialer,
    record: &BatchRecord,
    row: &mut RowRecord,
    now: ClockReading,
) -> Result<(), BatchError> {
    if record.task.as_ref().is_some_and(|task| task.allow_repeat) {
        return Ok(());
    }
    let window = dialer.rules().repeat_window;
    let earlier = ledger
        .find_earlier(DispatchLookup {
            account_id: record.account_id.clone(),
            fingerprint: record.fingerprint.clone(),
            idempotency_key: None,
            pair: Some((record.agent_id.clone(), row.callee.hash.clone())),
            now,
            repeats_since: now.dialing.checked_sub(window).unwrap_or(Timestamp::MIN),
            allow_repeat: false,
            attempt: Some(1),
        })
        .await?;
    if let Some(EarlierDispatch::SimilarCall(call)) = earlier {
        refuse_called_before(row, call.state.id());
    }
    Ok(())
}

/// Refuses a row for an earlier call by the same agent.
pub(super) fn refuse_called_before(row: &mut RowRecord, call: Option<&str>) {
    row.call_id = call.map(callingbox::CallId::new);
    refuse_row(
        row,
        "the same agent called this number recently, and allow_repeat is not set".to_owned(),
    );
}

/// The call of a row: its instructions filled in.
pub(super) fn fill_in(task: &BatchTask, person: &Person) -> Option<String> {
    let template = Template::parse(task.instructions.as_deref()?).ok()?;
    template.fill(person.name.as_deref(), person.context.as_ref()).ok()
}

/// Identifies everything that a yes covers: the people, the task, the window, the agent as it is, and what is added to its
/// instructions.
fn covered_fingerprint(
    account: &AccountRef,
    record: &BatchRecord,
    rows: &[RowRecord],
    agent: &Agent,
    disclosure: &DisclosureRules,
) -> Fingerprint {
    let people: Vec<Value> = rows
        .iter()
        .map(|row| json!([row.row, row.number.as_ref().map(E164::as_str), row.person]))
        .collect();
    let covered = json!({
        "batch_id": record.batch_id.as_str(),
        "task": record.task,
        "people": people,
        "start_at": record.start_at.as_millisecond(),
        "end_by": record.end_by.as_millisecond(),
        "agent": agent_fingerprint(account, agent).as_str(),
        "disclosure": disclosure,
    });
    Fingerprint::new(account, OrderKind::Call, &json!({"covered": covered}))
}

/// Identifies an agent as it is. When it was changed does not matter, and neither do its numbers: the caller ID is part of
/// the task.
pub(super) fn agent_fingerprint(account: &AccountRef, agent: &Agent) -> Fingerprint {
    let mut settings = serde_json::to_value(agent).unwrap_or_default();
    if let Some(settings) = settings.as_object_mut() {
        for passing in ["created_at", "updated_at", "numbers", "primary_number_id"] {
            settings.remove(passing);
        }
    }
    Fingerprint::new(account, OrderKind::Call, &json!({"agent": settings}))
}

/// The most that one call of a batch costs.
#[must_use]
pub const fn hold() -> MilliCents {
    CALL_HOLD
}
