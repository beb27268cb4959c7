//! The watchers of one account: who may join, and the one task that asks the API for all of them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::follower::{Follower, Want};
use super::linger::Lingering;
use super::pace::Pace;
use super::pick::Job;
use super::roster::{Roster, Ticket};
use super::source::Source;
use callingbox::{Call, CallId, Error, Page, Transcript};

/// The most requests under way at a time.
const MOST_FLIGHTS: usize = 32;

/// The limits of one account's watchers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The most requests in any one second. The default of 16 leaves room below 20 for what the
    /// network bunches together.
    pub requests_per_second: u32,
    /// The most live calls that are followed.
    pub max_live: usize,
    /// How many times faster than life the API's time runs: 1 for the real API, its speed for a
    /// simulated one. Below 1 counts as 1.
    pub speed: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { requests_per_second: 16, max_live: 10_000, speed: 1.0 }
    }
}

/// Why a call cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The account's limit is reached.
    #[error(
        "{limit} live calls are followed already, which is the most for one account; the call goes on, \
         and can be asked for without waiting"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// Follows the live calls of one account, each once however many wait for it.
///
/// A task runs while a call is followed, and up to a minute longer while finished calls are kept for
/// those who come late.
pub struct Watchers {
    shared: Arc<Shared>,
    lingering: Arc<Lingering>,
}

struct Shared {
    source: Arc<dyn Source>,
    settings: Settings,
    runtime: Handle,
    desk: Mutex<Desk>,
    /// Rung when there may be something new to ask, or nothing left.
    bell: Notify,
}

struct Desk {
    roster: Roster,
    /// Whether the task runs.
    running: bool,
}

/// One follower's share in a watch; dropping it gives it back.
pub(super) struct Interest {
    shared: Arc<Shared>,
    id: CallId,
    generation: Ticket,
    want: Want,
}

enum Landing {
    Record(CallId, Box<Result<Call, Error>>),
    Transcript(CallId, Result<Transcript, Error>),
    Page(Result<Page<Call>, Error>),
}

type Flight = BoxFuture<'static, (Ticket, Landing)>;

impl Watchers {
    /// Watchers of the account behind `source`. To be called within a tokio runtime.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, settings: Settings) -> Arc<Self> {
        let desk = Desk { roster: Roster::new(settings, Instant::now()), running: false };
        let shared = Shared {
            source,
            settings,
            runtime: Handle::current(),
            desk: Mutex::new(desk),
            bell: Notify::new(),
        };
        Arc::new(Self { shared: Arc::new(shared), lingering: Arc::default() })
    }

    /// Follows a call until it is over or the follower is dropped. The first answer is on its way when
    /// this returns; a call that finished within the last minute is answered at once.
    ///
    /// # Errors
    /// [`FollowError::TooMany`] when the account's limit of live calls is reached.
    pub fn follow(&self, call_id: &CallId, want: Want) -> Result<Follower, FollowError> {
        let shared = &self.shared;
        let mut desk = shared.desk();
        let (receiver, generation) = desk.roster.join(call_id, want, Instant::now())?;
        if generation.is_some() && !desk.running {
            desk.running = true;
            shared.runtime.spawn(shared.clone().run());
        }
        drop(desk);
        shared.bell.notify_one();
        let interest = generation.map(|generation| Interest {
            shared: shared.clone(),
            id: call_id.clone(),
            generation,
            want,
        });
        Ok(Follower::new(receiver, interest))
    }

    /// Keeps a call followed for so long after its follower is done with it, for whoever comes back to
    /// ask again. However many keep the same call, it has one follower more.
    pub fn linger(&self, call_id: &CallId, follower: Follower, time: Duration) {
        let end = Instant::now() + time;
        self.lingering.keep(&self.shared.runtime, call_id, follower, end);
    }

    /// A verified webhook told of this call. A finished record is given to the followers as it is;
    /// anything else makes the watchers look at once. Calls that nobody follows are no matter.
    pub fn wake(&self, call_id: &CallId, call: Option<Call>) {
        self.shared.desk().roster.wake(call_id, call, Instant::now());
        self.shared.bell.notify_one();
    }

    /// How many live calls are followed.
    #[must_use]
    pub fn live(&self) -> usize {
        self.shared.desk().roster.live.len()
    }

    /// Whether the task that asks the API runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.desk().running
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("live", &self.live()).finish_non_exhaustive()
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks and takes answers until nothing is left to follow or to forget.
    async fn run(self: Arc<Self>) {
        let mut closing = Closing { shared: &self, armed: true };
        let mut pace = Pace::new(self.settings.requests_per_second);
        let mut flights: FuturesUnordered<Flight> = FuturesUnordered::new();
        while let Some(next) = self.depart(&mut pace, &mut flights) {
            let pause = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((ticket, landing)) = flights.next(), if !flights.is_empty() => {
                    self.land(ticket, landing);
                }
                () = self.bell.notified() => {}
                () = pause => {}
            }
        }
        closing.armed = false;
    }

    /// Makes the requests that are due, and says when to come back if nothing happens before.
    /// Nothing when the task is over.
    fn depart(
        &self,
        pace: &mut Pace,
        flights: &mut FuturesUnordered<Flight>,
    ) -> Option<Option<Instant>> {
        let now = Instant::now();
        let mut desk = self.desk();
        let forget = desk.roster.recent.forget(now);
        if desk.roster.live.is_empty() {
            flights.clear();
            desk.roster.sweep = None;
            desk.running = !desk.roster.recent.is_empty();
            return desk.running.then_some(forget);
        }
        let roster = &mut desk.roster;
        let next = loop {
            if flights.len() >= MOST_FLIGHTS {
                break None;
            }
            let ready = pace.urgent_at(now).max(roster.hold.unwrap_or(now));
            if ready > now {
                break Some(ready);
            }
            let ordinary = pace.ready_at(now);
            let picked = roster
                .pick_urgent()
                .or_else(|| if ordinary > now { None } else { roster.pick(now) });
            match picked {
                Some((ticket, job)) => {
                    pace.spend(now);
                    flights.push(self.fly(ticket, job));
                }
                None if ordinary > now => break Some(ordinary),
                None => break roster.next_due(now),
            }
        };
        Some([next, forget].into_iter().flatten().min())
    }

    fn fly(&self, ticket: Ticket, job: Job) -> Flight {
        let source = self.source.clone();
        Box::pin(async move {
            let landing = match job {
                Job::Record(id) => {
                    let answer = Box::new(source.get_call(&id).await);
                    Landing::Record(id, answer)
                }
                Job::Transcript(id) => {
                    let answer = source.get_transcript(&id).await;
                    Landing::Transcript(id, answer)
                }
                Job::Page(page) => Landing::Page(source.list_calls(&page).await),
            };
            (ticket, landing)
        })
    }

    fn land(&self, ticket: Ticket, landing: Landing) {
        let now = Instant::now();
        let roster = &mut self.desk().roster;
        match landing {
            Landing::Record(id, answer) => roster.land_record(&id, ticket, *answer, now),
            Landing::Transcript(id, answer) => roster.land_transcript(&id, ticket, answer, now),
            Landing::Page(answer) => roster.land_page(ticket, answer, now),
        }
    }
}

/// Should the task end before its work (a panic, the runtime's end), nobody waits for it forever, and
/// the next follower starts another.
struct Closing<'a> {
    shared: &'a Shared,
    armed: bool,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if self.armed {
            let mut desk = self.shared.desk();
            desk.running = false;
            desk.roster.abandon();
            if std::thread::panicking() {
                tracing::error!("following calls broke off; those who wait are told what is known");
            }
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let now = Instant::now();
        self.shared.desk().roster.leave(&self.id, self.generation, self.want, now);
        self.shared.bell.notify_one();
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").field("id", &self.id).field("want", &self.want).finish()
    }
}
