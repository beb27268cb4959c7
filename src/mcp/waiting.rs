//! Waits for a call on behalf of one request: for its end, for new transcript lines, or for one look at it. A client
//! that asked for progress is notified of every status change, every new line, and at least every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::request::context::ToolContext;

use crate::account::Account;
use crate::dialing::call_outcome::CallEnd;
use crate::mcp::call_details::CallDetails;
use crate::mcp::input::arguments::BoundedInteger;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::name::ToolName;
use crate::mcp::registry::surface::DataSurface;
use crate::mcp::reply::call_report::CallReport;
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text::{self, UntrustedFence};
use crate::mcp::request::progress::ProgressNotifier;
use crate::watch::{FollowError, Follower, Snapshot, WatchOptions, WatchStatus};
use callingbox::{Call, CallId, CallStatus, Error, TranscriptSegment};

/// Claude Code, Cursor and other clients extend their time-out on progress, so notifications must be more frequent.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long errors are tolerated before anything is known about the call. Later errors are waited out; an error from
/// the start more likely means a wrong key, address or network and is returned.
const ERROR_TOLERANCE: Duration = Duration::from_secs(5);

/// How long to wait for the first poll of a call, even if the requested wait is shorter. It is longer than the
/// time-out of one poll, because an answer without any state is useless.
const FIRST_POLL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a server that shuts down still waits for the first poll of a call.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The longest wait of a client that receives progress notifications.
pub const MAX_WAIT_SECONDS: u64 = 3_600;

/// How long a call stays followed after the answer to a client that will ask again.
const KEEP_TIME: Duration = Duration::from_secs(5);

/// The maximum length of one utterance in a progress message, in characters.
const MAX_LINE_CHARS: usize = 300;

/// How long a tool may wait that is asked to. A client without progress notifications times out early and would not receive
/// the answer.
#[must_use]
pub fn allowed_wait(
    cx: &ToolContext,
    requested: Option<BoundedInteger<0, MAX_WAIT_SECONDS>>,
    default_seconds: u64,
) -> Duration {
    let max = match cx.progress.is_requested() {
        true => MAX_WAIT_SECONDS,
        false => cx.account.wait_limits().max_seconds,
    };
    Duration::from_secs(requested.map_or(default_seconds, BoundedInteger::get).min(max))
}

/// The last known state of a call, and the error that prevented a newer one.
pub struct ObservedCall {
    /// The call.
    pub call: Call,
    /// The error since then.
    pub trouble: Option<Arc<Error>>,
}

impl ObservedCall {
    /// A call as it was read just now.
    #[must_use]
    pub fn new(call: Call) -> Self {
        Self { call, trouble: None }
    }

    /// The report on the call for a caller with these tools.
    pub async fn into_report(self, account: &Account, tools: &AvailableTools) -> CallReport {
        let details = CallDetails::load(account, tools, &self.call).await;
        CallReport::new(self.call, &details, tools).with_trouble(self.trouble)
    }
}

/// Waits until the call ends, the time is up, or the server shuts down, and returns the state at that moment.
///
/// # Errors
/// There is no such call, the key is rejected, or the API could not be read even once.
pub async fn wait_for_end(
    cx: &ToolContext,
    id: &CallId,
    wait: Duration,
) -> Result<ObservedCall, ToolError> {
    let until = Instant::now() + wait;
    let words = DataSurface::Transcript.is_visible(&cx.tools);
    let mut follower = follow_call(cx, id, words && cx.progress.is_requested())?;
    let reporter = ProgressReporter::new(&cx.progress, words);
    let snapshot = watch_until(reporter, &cx.draining, &mut follower, until, |_| false).await;
    observe(&snapshot)
}

/// The transcript of a call as far as it is known.
pub struct TranscriptWait {
    /// The call.
    pub call: Call,
    /// The lines.
    pub segments: Arc<[TranscriptSegment]>,
    /// Whether no lines will be added.
    pub is_final: bool,
    /// The error since then.
    pub trouble: Option<Arc<Error>>,
}

/// Waits until there is a line after `after`, the transcript is complete, or the time is up.
///
/// # Errors
/// As [`wait_for_end`].
pub async fn wait_for_transcript(
    cx: &ToolContext,
    id: &CallId,
    after: Option<u64>,
    wait: Duration,
) -> Result<TranscriptWait, ToolError> {
    let until = Instant::now() + wait;
    let mut follower = follow_call(cx, id, true)?;
    // After the end of a call, its last lines may still be missing.
    let enough = |snapshot: &Snapshot| match &snapshot.call {
        Some(call) if call.status.is_terminal() => snapshot.segments_final,
        _ => snapshot.segments.iter().any(|segment| is_after(segment, after)),
    };
    let reporter = ProgressReporter::new(&cx.progress, true);
    let snapshot = watch_until(reporter, &cx.draining, &mut follower, until, enough).await;
    let ObservedCall { call, trouble } = observe(&snapshot)?;
    Ok(TranscriptWait {
        call,
        segments: Arc::clone(&snapshot.segments),
        is_final: snapshot.segments_final,
        trouble: snapshot.segments_trouble.clone().or(trouble),
    })
}

/// Waits until `changed` is true of a call's state, the call is over, or the time is up. The call stays followed for a
/// moment, so that a client that asks again immediately needs no request to the API.
///
/// # Errors
/// As [`wait_for_end`].
pub async fn wait_for_change(
    cx: &ToolContext,
    id: &CallId,
    wait: Duration,
    changed: impl Fn(&Snapshot) -> bool,
) -> Result<(ObservedCall, Arc<Snapshot>), ToolError> {
    let until = Instant::now() + wait;
    let mut follower = follow_call(cx, id, DataSurface::Transcript.is_visible(&cx.tools))?;
    let nobody = ProgressNotifier::default();
    let reporter = ProgressReporter::new(&nobody, false);
    let snapshot = watch_until(reporter, &cx.draining, &mut follower, until, changed).await;
    let observed = observe(&snapshot)?;
    if !snapshot.state.is_over() {
        cx.account.watchers()?.keep_alive(id, follower, KEEP_TIME);
    }
    Ok((observed, snapshot))
}

/// Whether a line comes after this number. Without a number, every line does, even one without a readable number of
/// its own.
#[must_use]
pub fn is_after(segment: &TranscriptSegment, after: Option<u64>) -> bool {
    after.is_none_or(|after| segment.sequence_no > Some(after))
}

/// The known state of a call that a client polls, or else the first poll of it. The call stays followed for the time
/// that `kept` returns, so that the client's next poll needs no request to the API. If too many calls are followed,
/// the call is read once.
///
/// # Errors
/// As [`wait_for_end`].
pub async fn poll_once(
    account: &Account,
    draining: &CancellationToken,
    id: &CallId,
    kept: impl Fn(&Call) -> Duration,
) -> Result<ObservedCall, ToolError> {
    let watchers = account.watchers()?;
    let mut follower = match watchers.follow(id, WatchOptions::default()) {
        Ok(follower) => follower,
        Err(FollowError::TooMany { .. }) => {
            return Ok(ObservedCall::new(account.api()?.get_call(id).await?));
        }
    };
    let known = |snapshot: &Snapshot| snapshot.call.is_some();
    let nobody = ProgressNotifier::default();
    let reporter = ProgressReporter::new(&nobody, false);
    let snapshot = watch_until(reporter, draining, &mut follower, Instant::now(), known).await;
    let observed = observe(&snapshot)?;
    if !snapshot.state.is_over() {
        watchers.keep_alive(id, follower, kept(&observed.call));
    }
    Ok(observed)
}

/// Records in the ledger how a call ended, if it has.
pub async fn record_call_end(account: &Account, call: &Call) {
    if CallEnd::from_call(call).is_some()
        && let Ok(dialer) = account.dialer()
    {
        dialer.record_call_end(call).await;
    }
}

fn follow_call(cx: &ToolContext, id: &CallId, transcript: bool) -> Result<Follower, ToolError> {
    cx.account.watchers()?.follow(id, WatchOptions { transcript }).map_err(|error| {
        ToolError::new(ErrorCode::RateLimited, error.to_string())
            .with_retry(Retry::Later)
            .with_next([NextStep::tool(
                ToolName::GET_CALL_RESULT,
                "with wait_seconds 0 still answers",
            )])
    })
}

/// Follows the call until it is over, `enough` returns true, the time is up, or the server shuts down. Within limits,
/// it waits longer while nothing is known yet.
async fn watch_until(
    mut reporter: ProgressReporter<'_>,
    draining: &CancellationToken,
    follower: &mut Follower,
    mut until: Instant,
    enough: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let tolerated_until = Instant::now() + ERROR_TOLERANCE;
    let mut first_poll_until = Instant::now() + FIRST_POLL_TIMEOUT;
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        let snapshot = follower.snapshot();
        reporter.report_changes(&snapshot).await;
        let nothing_known = snapshot.call.is_none();
        let hopeless =
            nothing_known && snapshot.trouble.is_some() && Instant::now() >= tolerated_until;
        let parked = ending && !nothing_known;
        let end = if nothing_known { until.max(first_poll_until) } else { until };
        if snapshot.state.is_over() || enough(&snapshot) || hopeless || parked {
            return snapshot;
        }
        tokio::select! {
            changed = follower.changed() => if changed.is_none() {
                return follower.snapshot();
            },
            _ = heartbeat.tick() => reporter.report_heartbeat(&snapshot).await,
            () = sleep_until(tolerated_until), if nothing_known && Instant::now() < tolerated_until => {}
            () = draining.cancelled(), if !ending => {
                ending = true;
                let grace_ends = Instant::now() + SHUTDOWN_GRACE;
                (until, first_poll_until) = (until.min(grace_ends), first_poll_until.min(grace_ends));
            }
            () = sleep_until(end) => return follower.snapshot(),
        }
    }
}

fn observe(snapshot: &Snapshot) -> Result<ObservedCall, ToolError> {
    match (&snapshot.call, &snapshot.trouble, snapshot.state) {
        (_, Some(trouble), WatchStatus::NotFound | WatchStatus::Unauthorized) => {
            Err(Error::clone(trouble).into())
        }
        (Some(call), trouble, _) => {
            Ok(ObservedCall { call: Call::clone(call), trouble: trouble.clone() })
        }
        (None, Some(trouble), _) => Err(Error::clone(trouble).into()),
        (None, None, _) => Err(ToolError::new(
            ErrorCode::TimedOut,
            "the API did not answer within the time of the wait",
        )
        .with_retry(Retry::Later)),
    }
}

/// Between the role and the words of a line of the conversation in a progress message.
pub(crate) const SAID: &str = " said: ";

/// Turns snapshots into progress messages and reports each change once.
struct ProgressReporter<'a> {
    progress: &'a ProgressNotifier,
    /// Whether transcript lines are reported too.
    words: bool,
    fence: UntrustedFence,
    status: Option<CallStatus>,
    lines: usize,
}

impl<'a> ProgressReporter<'a> {
    fn new(progress: &'a ProgressNotifier, words: bool) -> Self {
        Self { progress, words, fence: UntrustedFence::new(), status: None, lines: 0 }
    }

    async fn report_changes(&mut self, snapshot: &Snapshot) {
        if !self.progress.is_requested() {
            return;
        }
        if let Some(call) = &snapshot.call
            && self.status.as_ref() != Some(&call.status)
        {
            self.status = Some(call.status.clone());
            self.progress.report(format!("The call is {}.", call.status)).await;
        }
        for segment in snapshot.segments.iter().skip(self.lines).filter(|_| self.words) {
            let direction = snapshot.call.as_ref().and_then(|call| call.direction.as_ref());
            let speaker = text::speaker_name(segment, direction);
            let words = self.fence.wrap_line(&segment.text, MAX_LINE_CHARS);
            self.progress.report(format!("{speaker}{SAID}{words}")).await;
        }
        self.lines = self.lines.max(snapshot.segments.len());
    }

    async fn report_heartbeat(&self, snapshot: &Snapshot) {
        let trouble = snapshot.trouble.as_ref().or(snapshot.segments_trouble.as_ref());
        let state = match (&snapshot.call, trouble) {
            (_, Some(_)) => "CallingBox cannot be read at the moment".to_owned(),
            (Some(call), None) => format!("the call is {}", call.status),
            (None, None) => "nothing is known yet".to_owned(),
        };
        self.progress.report(format!("Still waiting; {state}.")).await;
    }
}
