//! Watches live calls to their end for everyone who waits for them, with few requests.
//!
//! One [`Watchers`] serves one account. Each live call is polled on one schedule, however many [`Follower`]s it has.
//! Many live calls are polled together by list requests, and all polls stay within one limit of requests per second.
//! Once webhooks arrive ([`Watchers::record_event`]), polling is hardly needed. An error of the API never ends a wait,
//! unless a retry cannot help (404, 401, 403).
//!
//! Knows the API client and nothing of MCP, HTTP servers or the sandbox. Ages are measured here, by this machine's clock
//! alone: the API's clock may differ, and a simulated one runs faster.

mod scheduler;
mod source;
mod subscription;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use scopeguard::ScopeGuard;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub use self::scheduler::CallProgress;
pub use self::source::{CallSource, polling_source};
pub use self::subscription::{
    FollowError, Follower, Snapshot, WaitLimits, WatchOptions, WatchSettings, WatchStatus,
};

use self::scheduler::RateLimiter;
use self::table::{PollJob, Ticket, WatchTable};
use callingbox::{Call, CallId};

const MAX_IN_FLIGHT: usize = 32;

/// Watches the live calls of one account, each once however many wait for it.
///
/// A task runs while calls are watched, and up to a minute longer while the snapshots of finished calls are kept.
pub struct Watchers {
    shared: Arc<Shared>,
    keep_alive: Arc<KeepAlive>,
}

struct Shared {
    source: Arc<dyn CallSource>,
    settings: WatchSettings,
    runtime: Handle,
    inner: Mutex<WatchInner>,
    /// Wakes the task: there may be something new to poll, or nothing left.
    wakeup: Notify,
}

struct WatchInner {
    table: WatchTable,
    is_running: bool,
}

/// Records the answer to a request.
type RecordAnswer = Box<dyn FnOnce(&mut WatchTable, Instant) + Send>;
type InFlight = BoxFuture<'static, RecordAnswer>;

impl Watchers {
    /// Watchers of the account behind `source`. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(source: Arc<dyn CallSource>, settings: WatchSettings) -> Arc<Self> {
        let inner =
            WatchInner { table: WatchTable::new(settings, Instant::now()), is_running: false };
        let shared = Shared {
            source,
            settings,
            runtime: Handle::current(),
            inner: Mutex::new(inner),
            wakeup: Notify::new(),
        };
        Arc::new(Self { shared: Arc::new(shared), keep_alive: Arc::default() })
    }

    /// Follows a call until it is over or the follower is dropped. The first poll has been requested when this returns;
    /// a call that finished within the last minute is answered without one.
    ///
    /// # Errors
    /// [`FollowError::TooMany`] when the account's limit of live calls is reached.
    pub fn follow(&self, id: &CallId, options: WatchOptions) -> Result<Follower, FollowError> {
        let mut inner = self.shared.inner.lock();
        let (receiver, generation) = inner.table.add_follower(id, options, Instant::now())?;
        if generation.is_some() && !inner.is_running {
            inner.is_running = true;
            self.shared.runtime.spawn(self.shared.clone().run());
        }
        drop(inner);
        self.shared.wakeup.notify_one();
        let guard = generation.map(|generation| {
            let (shared, id) = (self.shared.clone(), id.clone());
            let unfollow = move |()| shared.unfollow(&id, generation, options);
            scopeguard::guard((), Box::new(unfollow) as Box<dyn FnOnce(()) + Send + Sync>)
        });
        Ok(Follower { receiver, _guard: guard })
    }

    /// Keeps a call watched for some time after its follower is done, for a client that polls: the watch would
    /// otherwise end and begin again between two of its requests. A call is kept by at most one follower.
    pub fn keep_alive(&self, id: &CallId, follower: Follower, time: Duration) {
        let until = Instant::now() + time;
        self.keep_alive.keep_until(&self.shared.runtime, id, follower, until);
    }

    /// Records a verified webhook. A finished record reaches the followers as it is; any other causes a poll. A call that
    /// is not watched is ignored.
    pub fn record_event(&self, id: &CallId, call: Option<Call>) {
        self.shared.inner.lock().table.record_event(id, call, Instant::now());
        self.shared.wakeup.notify_one();
    }

    /// How many live calls are watched.
    #[must_use]
    pub fn watched_calls(&self) -> usize {
        self.shared.inner.lock().table.calls.len()
    }

    /// Whether the polling task runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.inner.lock().is_running
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("watched_calls", &self.watched_calls())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Polls until no call is watched and no snapshot is kept.
    async fn run(self: Arc<Self>) {
        let abandon_all = scopeguard::guard(&self, |shared| shared.abandon_all());
        let mut limiter = RateLimiter::new(self.settings.requests_per_second);
        let mut in_flight: FuturesUnordered<InFlight> = FuturesUnordered::new();
        while let Some(next) = self.start_due_polls(&mut limiter, &mut in_flight) {
            let pause = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(record) = in_flight.next(), if !in_flight.is_empty() => {
                    record(&mut self.inner.lock().table, Instant::now());
                }
                () = self.wakeup.notified() => {}
                () = pause => {}
            }
        }
        ScopeGuard::into_inner(abandon_all);
    }

    /// Makes the requests that are due and returns when to continue if nothing happens before; `None` when the task is
    /// done.
    fn start_due_polls(
        &self,
        limiter: &mut RateLimiter,
        in_flight: &mut FuturesUnordered<InFlight>,
    ) -> Option<Option<Instant>> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let next_expiry = inner.table.finished.purge_at(now);
        if inner.table.calls.is_empty() {
            in_flight.clear();
            inner.table.cancel_batch();
            inner.is_running = !inner.table.finished.is_empty();
            return inner.is_running.then_some(next_expiry);
        }
        let table = &mut inner.table;
        let next_poll = loop {
            if in_flight.len() >= MAX_IN_FLIGHT {
                break None;
            }
            let urgent_at = limiter.urgent_ready_at(now).max(table.paused_until.unwrap_or(now));
            if urgent_at > now {
                break Some(urgent_at);
            }
            let ordinary_at = limiter.ordinary_ready_at(now);
            let job = table
                .take_urgent_job()
                .or_else(|| if ordinary_at > now { None } else { table.take_due_job(now) });
            match job {
                Some((ticket, job)) => {
                    limiter.record_request(now);
                    in_flight.push(self.start_poll(ticket, job));
                }
                None if ordinary_at > now => break Some(ordinary_at),
                None => break table.next_due_at(now),
            }
        };
        Some([next_poll, next_expiry].into_iter().flatten().min())
    }

    fn start_poll(&self, ticket: Ticket, job: PollJob) -> InFlight {
        let source = self.source.clone();
        Box::pin(async move {
            let record: RecordAnswer = match job {
                PollJob::Record(id) => {
                    let answer = source.get_call(&id).await;
                    Box::new(move |table, now| table.record_call_answer(&id, ticket, answer, now))
                }
                PollJob::Transcript(id) => {
                    let answer = source.get_transcript(&id).await;
                    Box::new(move |table, now| {
                        table.record_transcript_answer(&id, ticket, answer, now);
                    })
                }
                PollJob::Page(page) => {
                    let answer = source.list_calls(&page).await;
                    Box::new(move |table, now| table.record_page_answer(ticket, answer, now))
                }
            };
            record
        })
    }

    /// If the task ends early (a panic, the end of the runtime), releases all followers and lets the next one start another
    /// task.
    fn abandon_all(&self) {
        let mut inner = self.inner.lock();
        inner.is_running = false;
        inner.table.abandon_all();
        if std::thread::panicking() {
            tracing::error!("polling task panicked; waits end with the last known state");
        }
    }

    fn unfollow(&self, id: &CallId, generation: Ticket, options: WatchOptions) {
        self.inner.lock().table.remove_follower(id, generation, options, Instant::now());
        self.wakeup.notify_one();
    }
}

/// Followers that outlast the requests that made them. Each call has at most one, and one timer, so that there are
/// never more of them than live calls.
#[derive(Default)]
struct KeepAlive {
    /// Until when each call is kept.
    until: Mutex<HashMap<CallId, Instant>>,
}

impl KeepAlive {
    /// Keeps the follower until a time, or until the call is over. If the call is kept already, it is kept until the
    /// later of both times.
    fn keep_until(
        self: &Arc<Self>,
        runtime: &Handle,
        id: &CallId,
        mut follower: Follower,
        until: Instant,
    ) {
        let mut kept = self.until.lock();
        if let Some(known) = kept.get_mut(id) {
            *known = until.max(*known);
            return;
        }
        kept.insert(id.clone(), until);
        drop(kept);
        let (keep_alive, id) = (Arc::clone(self), id.clone());
        runtime.spawn(async move {
            while let Some(until) = keep_alive.current_end(&id) {
                tokio::select! {
                    () = sleep_until(until) => {}
                    changed = follower.changed() => if changed.is_none() {
                        keep_alive.until.lock().remove(&id);
                        return;
                    }
                }
            }
        });
    }

    /// Until when a call is kept; `None`, and forgotten, once that time has passed.
    fn current_end(&self, id: &CallId) -> Option<Instant> {
        let mut kept = self.until.lock();
        let until = kept.get(id).copied().filter(|until| *until > Instant::now());
        if until.is_none() {
            kept.remove(id);
        }
        until
    }
}
