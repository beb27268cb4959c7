//! Waiting for a call on behalf of one request: for its end, for more to be said, or only to know of it.
//! Whoever follows
//! progress hears of every change of status, of every new line of the conversation, and at least
//! every ten seconds that the wait goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::mcp::reply::error::{ErrorCode, Retry, ToolError};
use crate::mcp::request::context::ToolContext;

use crate::account::Account;
use crate::dialing::call_outcome::CallEnd;
use crate::mcp::registry::name::ToolName;
use crate::mcp::registry::surface::DataSurface;
use crate::mcp::reply::next_step::NextStep;
use crate::mcp::reply::text::{self, UntrustedFence};
use crate::mcp::request::progress::ProgressNotifier;
use crate::watch::{FollowError, Follower, Snapshot, WatchOptions, WatchStatus};
use callingbox::{Call, CallId, CallStatus, Error, TranscriptSegment};

/// Claude Code, Cursor and others renew their time-out on progress; silence must stay below theirs.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long the API may be unreadable when nothing at all is known of the call yet. Later trouble is
/// waited out; trouble from the start is more likely a wrong key, address or network, and is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the first look at a call is waited for, however short the wait: somewhat longer than the
/// watchers give one look. An answer that knows nothing helps nobody.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// How long a server that is about to end still waits for the first word about a call.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The longest wait that a client gets who follows progress.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The most characters of one utterance in a progress message.
const LINE: usize = 300;

/// The wait that this request may have. A client that does not follow progress gives up on its own
/// before long, and would never hear the answer.
#[must_use]
pub fn allowed_wait(cx: &ToolContext, asked: Duration) -> Duration {
    let most = if cx.progress.is_requested() {
        LONGEST
    } else {
        Duration::from_secs(cx.account.wait_limits().max_seconds)
    };
    asked.min(most)
}

/// A call as it was last seen, and why it could not be seen since.
pub struct ObservedCall {
    /// The call.
    pub call: Call,
    /// What has gone wrong since.
    pub trouble: Option<Arc<Error>>,
}

/// Waits for the end of a call, until time is up, or until the server is about to end; then the
/// present state is the answer.
///
/// # Errors
/// There is no such call, the key is not taken, or the API could not be read even once.
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

/// What was said on a call, as far as it is known.
pub struct TranscriptWait {
    /// The call.
    pub call: Call,
    /// The lines.
    pub segments: Arc<[TranscriptSegment]>,
    /// Whether they are all that was said.
    pub is_final: bool,
    /// What has gone wrong since.
    pub trouble: Option<Arc<Error>>,
}

/// Waits until something was said after `after`, all that was said is known, or time is up.
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
    // Once the call is over, the last lines may still be on their way.
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

/// Whether a line comes after this number. Without one every line does, also those whose own number
/// cannot be read.
#[must_use]
pub fn is_after(segment: &TranscriptSegment, after: Option<u64>) -> bool {
    after.is_none_or(|after| segment.sequence_no > Some(after))
}

/// What is known of a call that somebody asks about again and again, or else the first look at it. It
/// stays followed for as long as `kept` says: whoever comes back by then asks the API nothing more. Where
/// too many calls are followed, it is looked at alone.
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
            return Ok(ObservedCall { call: account.api()?.get_call(id).await?, trouble: None });
        }
    };
    let known = |snapshot: &Snapshot| snapshot.call.is_some();
    let nobody = ProgressNotifier::default();
    let reporter = ProgressReporter::new(&nobody, false);
    let snapshot = watch_until(reporter, draining, &mut follower, Instant::now(), known).await;
    let seen = observe(&snapshot)?;
    if !snapshot.state.is_over() {
        watchers.keep_alive(id, follower, kept(&seen.call));
    }
    Ok(seen)
}

/// Tells the ledger how a call ended, once it has.
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

/// Follows until the call is over, `enough` says so, time is up, or the server is about to end. Time is
/// not up before anything is known, within limits.
async fn watch_until(
    mut reporter: ProgressReporter<'_>,
    draining: &CancellationToken,
    follower: &mut Follower,
    mut until: Instant,
    enough: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let patience = Instant::now() + PATIENCE;
    let mut first_look = Instant::now() + FIRST_LOOK;
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        let snapshot = follower.snapshot();
        reporter.report_changes(&snapshot).await;
        let nothing_known = snapshot.call.is_none();
        let hopeless = nothing_known && snapshot.trouble.is_some() && Instant::now() >= patience;
        let parked = ending && !nothing_known;
        let end = if nothing_known { until.max(first_look) } else { until };
        if snapshot.state.is_over() || enough(&snapshot) || hopeless || parked {
            return snapshot;
        }
        tokio::select! {
            changed = follower.changed() => if changed.is_none() {
                return follower.snapshot();
            },
            _ = heartbeat.tick() => reporter.report_heartbeat(&snapshot).await,
            () = sleep_until(patience), if nothing_known && Instant::now() < patience => {}
            () = draining.cancelled(), if !ending => {
                ending = true;
                let parting = Instant::now() + SHUTDOWN_GRACE;
                (until, first_look) = (until.min(parting), first_look.min(parting));
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

/// Turns snapshots into progress messages, each thing once.
struct ProgressReporter<'a> {
    progress: &'a ProgressNotifier,
    /// Whether what is said is told too.
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
            let role = text::one_line(segment.role.as_deref().unwrap_or("unknown"), 40);
            let words = self.fence.wrap_line(&segment.text, LINE);
            self.progress.report(format!("{role} said: {words}")).await;
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
