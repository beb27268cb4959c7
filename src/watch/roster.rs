//! The calls that are followed, and what every answer, webhook, arrival and departure does to them.
//! Plain data under the watchers' lock: no I/O, no waiting. What is asked next is in `pick`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::follower::{Snapshot, State, Want};
use super::pick::Sweep;
use super::progress::Progress;
use super::queue::Queue;
use super::recent::Recent;
use super::schedule::{Look, Moment, RETRY_AFTER_CEILING, next_look};
use super::watchers::{FollowError, Settings};
use callingbox::{Call, CallId, Error, ErrorKind, Transcript};

/// How often the last transcript is asked for before the call is given out without it.
const LAST_TRIES: u32 = 5;

/// The shortest wait between two looks, however fast the API's time runs.
const SHORTEST: Duration = Duration::from_millis(50);

/// Requests and webhooks in the order in which they began: what is older never overwrites newer.
pub(super) type Ticket = u64;

pub(super) struct Roster {
    pub(super) live: HashMap<CallId, Live>,
    /// When each record is due. Calls that are being asked for are not in it.
    pub(super) records: Queue,
    /// The same for transcripts that are wanted.
    pub(super) transcripts: Queue,
    pub(super) recent: Recent,
    pub(super) sweep: Option<Sweep>,
    /// Until when lists are not used, since one could not be read.
    pub(super) lists_off: Option<Instant>,
    /// Until when the API asked for silence.
    pub(super) hold: Option<Instant>,
    /// Whether a transcript goes first when both are due.
    pub(super) transcripts_turn: bool,
    /// A time before all others: what is due then goes first.
    pub(super) urgent: Instant,
    last_ticket: Ticket,
    settings: Settings,
}

/// One call that is followed.
pub(super) struct Live {
    /// Tells this watch from an earlier one of the same call.
    generation: Ticket,
    sender: watch::Sender<Arc<Snapshot>>,
    followers: usize,
    /// How many of them want the transcript.
    wanting: usize,
    progress: Progress,
    /// Since when it has been there, as seen from here.
    since: Instant,
    /// When the conversation was first seen to be over, and by which answer.
    over: Option<(Instant, Ticket)>,
    /// Whether webhooks tell of this call.
    told: bool,
    /// Whether the next record is asked for because a webhook told.
    woken: bool,
    pub(super) record: Asking,
    pub(super) transcript: Asking,
    /// Until when it is not looked for in lists, since it was not found there.
    pub(super) alone: Option<Instant>,
}

/// The requests for one part of a call.
#[derive(Default)]
pub(super) struct Asking {
    /// The request or sweep under way.
    pub(super) flight: Option<Ticket>,
    /// Whether to ask again at once when it has landed.
    again: bool,
    /// The newest answer that was taken.
    applied: Ticket,
    failures: u32,
    trouble: Option<Arc<Error>>,
}

impl Roster {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            live: HashMap::new(),
            records: Queue::default(),
            transcripts: Queue::default(),
            recent: Recent::default(),
            sweep: None,
            lists_off: None,
            hold: None,
            transcripts_turn: false,
            urgent: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
            last_ticket: 0,
            settings,
        }
    }

    /// Lets everyone go. Tickets go on, so that an earlier watch is never taken for a later one.
    pub(super) fn abandon(&mut self) {
        self.live.clear();
        self.records = Queue::default();
        self.transcripts = Queue::default();
        self.sweep = None;
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Counts one more follower. The ticket names its watch; there is none for a call that has
    /// finished already.
    pub(super) fn join(
        &mut self,
        id: &CallId,
        want: Want,
        now: Instant,
    ) -> Result<(watch::Receiver<Arc<Snapshot>>, Option<Ticket>), FollowError> {
        if let Some(live) = self.live.get_mut(id) {
            live.followers += 1;
            live.wanting += usize::from(want.transcript);
            let joined = (live.sender.subscribe(), Some(live.generation));
            if want.transcript && live.wanting == 1 {
                self.begin_transcript(id, now);
            }
            return Ok(joined);
        }
        let known = self.recent.get(id, now);
        if let Some(known) = &known
            && (known.segments_final || !want.transcript)
        {
            return Ok((watch::channel(known.clone()).1, None));
        }
        let limit = self.settings.max_live;
        if self.live.len() >= limit {
            return Err(FollowError::TooMany { limit });
        }
        let generation = self.ticket();
        let finished = known.is_some();
        let mut snapshot = known.map_or_else(Snapshot::default, |known| (*known).clone());
        snapshot.state = State::Watching;
        let (sender, receiver) = watch::channel(Arc::new(snapshot));
        self.live.insert(
            id.clone(),
            Live {
                generation,
                sender,
                followers: 1,
                wanting: usize::from(want.transcript),
                progress: if finished { Progress::Finished } else { Progress::Unknown },
                since: now,
                over: finished.then_some((now, generation)),
                told: false,
                woken: false,
                record: Asking::default(),
                transcript: Asking::default(),
                alone: None,
            },
        );
        if finished {
            self.begin_transcript(id, now);
        } else {
            self.records.set(id, now);
        }
        Ok((receiver, Some(generation)))
    }

    /// Takes one follower away, and the watch with the last one.
    pub(super) fn leave(&mut self, id: &CallId, generation: Ticket, want: Want, now: Instant) {
        let Some(live) = self.live.get_mut(id).filter(|live| live.generation == generation) else {
            return;
        };
        live.followers = live.followers.saturating_sub(1);
        live.wanting = live.wanting.saturating_sub(usize::from(want.transcript));
        if live.followers == 0 {
            self.remove(id);
        } else if live.wanting == 0 {
            self.transcripts.remove(id);
            self.conclude(id, now);
        }
    }

    /// A webhook told of a change. A finished record is taken as it is; events may come late and out
    /// of order, so that any other is only a reason to look.
    pub(super) fn wake(&mut self, id: &CallId, call: Option<Call>, now: Instant) {
        let ticket = self.ticket();
        let Some(live) = self.live.get_mut(id) else { return };
        live.told = true;
        live.woken = true;
        if live.progress == Progress::Finished {
            return;
        }
        let fresh = call.filter(|call| {
            let progress = Progress::of(call, Duration::ZERO, jiff::Timestamp::now());
            call.id == *id && progress == Progress::Finished
        });
        if let Some(call) = fresh {
            self.take_record(id, ticket, call, now);
            return;
        }
        let sweep = self.sweep.as_mut().filter(|sweep| live.record.flight == Some(sweep.ticket));
        if let Some(sweep) = sweep {
            sweep.missing.remove(id);
            live.record.flight = None;
        }
        if live.record.flight.is_some() {
            live.record.again = true;
        } else {
            self.records.set(id, self.urgent);
        }
    }

    /// The answer to a request for one record.
    pub(super) fn land_record(
        &mut self,
        id: &CallId,
        ticket: Ticket,
        answer: Result<Call, Error>,
        now: Instant,
    ) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.record.landed(ticket);
        match answer {
            Ok(call) => self.take_record(id, ticket, call, now),
            Err(error) => self.fail_record(id, ticket, &Arc::new(error), now),
        }
        if let Some(live) = self.live.get_mut(id)
            && live.record.flight.is_none()
            && std::mem::take(&mut live.record.again)
            && live.progress != Progress::Finished
        {
            self.records.set(id, self.urgent);
        }
    }

    /// Takes a record from whatever told it, unless a newer one was taken already, and plans the next
    /// look.
    pub(super) fn take_record(&mut self, id: &CallId, ticket: Ticket, call: Call, now: Instant) {
        let Some(live) = self.live.get_mut(id) else { return };
        let over_for = live.over.map_or(Duration::ZERO, |(since, _)| now.duration_since(since));
        let progress = Progress::of(&call, over_for, jiff::Timestamp::now());
        // A call never comes back from its end: such an answer is a stale copy.
        let stale = live.over.is_some() && !progress.is_over();
        if ticket > live.record.applied && !stale {
            let before = live.sender.borrow().call.as_ref().map(|call| call.status.clone());
            let changed = before.is_some_and(|before| before != call.status);
            // A webhook tells of every change but the end of the conversation, where it waits for
            // the extraction. One that was found by looking means that webhooks are lost.
            if changed && !live.woken && progress != Progress::Extracting {
                live.told = false;
            }
            live.woken = false;
            if live.progress != progress {
                live.progress = progress;
                live.since = now;
            }
            let ended = progress.is_over() && live.over.is_none();
            if ended {
                live.over = Some((now, ticket));
                live.transcript.failures = 0;
            }
            live.record.answered(ticket);
            live.publish(|known| {
                known.seen_at = Some(now);
                let news = known.call.as_deref() != Some(&call);
                if news {
                    known.call = Some(Arc::new(call));
                }
                news
            });
            let waiting = live.transcript.flight.is_some() || self.transcripts.at(id).is_some();
            if live.wanting > 0 && (ended || !waiting) {
                self.begin_transcript(id, now);
            }
        }
        self.plan_record(id, None, now);
        self.conclude(id, now);
    }

    /// What a failed look does to one call.
    pub(super) fn fail_record(
        &mut self,
        id: &CallId,
        ticket: Ticket,
        error: &Arc<Error>,
        now: Instant,
    ) {
        self.obey(error, now);
        let Some(live) = self.live.get_mut(id) else { return };
        if ticket > live.record.applied {
            live.record.failed(error);
            live.publish(|_| false);
            match error.kind() {
                ErrorKind::NotFound { .. } => return self.end(id, State::NotFound, now),
                ErrorKind::Unauthorized { .. } => return self.end(id, State::Unauthorized, now),
                _ => {}
            }
        }
        self.plan_record(id, error.retry_after(), now);
    }

    /// The answer to a request for what was said.
    pub(super) fn land_transcript(
        &mut self,
        id: &CallId,
        ticket: Ticket,
        answer: Result<Transcript, Error>,
        now: Instant,
    ) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.transcript.landed(ticket);
        if ticket < live.transcript.applied {
            return;
        }
        let mut retry_after = None;
        let segments = match answer {
            Ok(transcript) => Some(transcript.segments),
            // Some calls have none: the record alone says whether there is a call.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound { .. }) => Some(Vec::new()),
            Err(error) => {
                let error = Arc::new(error);
                retry_after = error.retry_after();
                live.transcript.failed(&error);
                if matches!(error.kind(), ErrorKind::Unauthorized { .. }) {
                    // The key opens the record no more either.
                    live.record.failed(&error);
                    live.publish(|_| false);
                    return self.end(id, State::Unauthorized, now);
                }
                self.obey(&error, now);
                None
            }
        };
        let Some(live) = self.live.get_mut(id) else { return };
        if segments.is_some() {
            live.transcript.answered(ticket);
        }
        let last = live.over.is_some_and(|(_, over)| ticket > over);
        live.publish(|known| {
            let Some(segments) = segments else { return false };
            known.seen_at = Some(now);
            // What was said is not unsaid: a shorter answer is a stale copy.
            let grown = segments.len() >= known.segments.len() && *segments != *known.segments;
            if grown {
                known.segments = segments.into();
            }
            let news = grown || (last && !known.segments_final);
            known.segments_final |= last;
            news
        });
        let again = std::mem::take(&mut live.transcript.again);
        let complete = live.sender.borrow().segments_final;
        if live.transcript.flight.is_none() && live.wanting > 0 && !complete {
            let look = live.moment(live.transcript.failures, retry_after, now);
            match self.wait(Look::Transcript, &look) {
                _ if again => self.transcripts.set(id, self.urgent),
                Some(wait) => self.transcripts.set(id, now + wait),
                None => {}
            }
        }
        self.conclude(id, now);
    }

    /// Asks for what was said, if there can be anything. The last time goes first.
    fn begin_transcript(&mut self, id: &CallId, now: Instant) {
        let Some(live) = self.live.get_mut(id) else { return };
        if live.progress == Progress::Dialing
            || live.record.applied == 0 && live.over.is_none()
            || live.sender.borrow().segments_final
        {
            return;
        }
        if live.transcript.flight.is_some() {
            live.transcript.again = true;
        } else {
            let at = if live.over.is_some() { self.urgent } else { now };
            self.transcripts.set(id, at);
        }
    }

    /// Plans the next look at the record, unless one is under way or a webhook asked for one.
    fn plan_record(&mut self, id: &CallId, retry_after: Option<Duration>, now: Instant) {
        let Some(live) = self.live.get(id) else { return };
        if live.record.flight.is_some() || self.records.at(id) == Some(self.urgent) {
            return;
        }
        let moment = live.moment(live.record.failures, retry_after, now);
        match self.wait(Look::Record, &moment) {
            Some(wait) => self.records.set(id, now + wait),
            None => self.records.remove(id),
        }
    }

    fn wait(&self, look: Look, moment: &Moment) -> Option<Duration> {
        let wait = next_look(look, moment, rand::random())?;
        if moment.retry_after.is_some() {
            return Some(wait);
        }
        let speed = self.settings.speed;
        let speed = if speed.is_finite() { speed.max(1.0) } else { 1.0 };
        Some(wait.div_f64(speed).max(SHORTEST))
    }

    /// The API asked for silence: that holds for the account, not for one call.
    pub(super) fn obey(&mut self, error: &Error, now: Instant) {
        if let Some(asked) = error.retry_after() {
            let end = now + asked.min(RETRY_AFTER_CEILING);
            self.hold = Some(self.hold.map_or(end, |hold| hold.max(end)));
        }
    }

    /// Ends the watch when everything that is wanted has come, or is not to be had.
    fn conclude(&mut self, id: &CallId, now: Instant) {
        let Some(live) = self.live.get(id) else { return };
        let transcript_settled = live.wanting == 0
            || live.sender.borrow().segments_final
            || live.transcript.failures >= LAST_TRIES;
        if live.progress == Progress::Finished && transcript_settled {
            self.end(id, State::Finished, now);
        }
    }

    fn end(&mut self, id: &CallId, state: State, now: Instant) {
        let Some(live) = self.remove(id) else { return };
        live.publish(|known| {
            known.state = state;
            true
        });
        if state == State::Finished {
            self.recent.keep(id.clone(), live.sender.borrow().clone(), now);
        }
    }

    fn remove(&mut self, id: &CallId) -> Option<Live> {
        self.records.remove(id);
        self.transcripts.remove(id);
        if let Some(sweep) = &mut self.sweep {
            sweep.missing.remove(id);
        }
        self.live.remove(id)
    }
}

impl Live {
    /// The record as it is known.
    pub(super) fn known_call(&self) -> Option<Arc<Call>> {
        self.sender.borrow().call.clone()
    }

    fn moment(&self, failures: u32, retry_after: Option<Duration>, now: Instant) -> Moment {
        let lasted = now.duration_since(self.since);
        Moment { progress: self.progress, lasted, told: self.told, failures, retry_after }
    }

    /// Changes the snapshot, together with the trouble it tells of, and wakes the followers if that
    /// is news to them.
    fn publish(&self, change: impl FnOnce(&mut Snapshot) -> bool) {
        let (trouble, segments_trouble) = (&self.record.trouble, &self.transcript.trouble);
        self.sender.send_if_modified(|known| {
            let known = Arc::make_mut(known);
            let other_trouble =
                known.trouble != *trouble || known.segments_trouble != *segments_trouble;
            if other_trouble {
                known.trouble.clone_from(trouble);
                known.segments_trouble.clone_from(segments_trouble);
            }
            change(known) || other_trouble
        });
    }
}

impl Asking {
    fn landed(&mut self, ticket: Ticket) {
        if self.flight == Some(ticket) {
            self.flight = None;
        }
    }

    fn answered(&mut self, ticket: Ticket) {
        self.applied = ticket;
        self.failures = 0;
        self.trouble = None;
    }

    fn failed(&mut self, error: &Arc<Error>) {
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(error.clone());
    }
}
