//! The calls that are watched: what each answer, webhook, arrival and departure does to them, and what is polled next.
//! Plain data under the watchers' lock: no I/O, no waiting.

mod batch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::batch::BatchPoll;
use super::scheduler::{
    CallPart, CallProgress, MAX_RETRY_AFTER, PollInputs, PollQueue, next_poll_delay,
};
use super::subscription::{FollowError, Snapshot, WatchOptions, WatchSettings, WatchStatus};
use crate::ttl_cache::TtlCache;
use callingbox::{Call, CallId, Error, ErrorKind, PageRequest, Transcript};

/// How often the last transcript is polled before the watch ends without it.
const MAX_LAST_TRANSCRIPT_POLLS: u32 = 5;

/// The shortest wait between two polls, however fast the API's time runs.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the last snapshot of a finished call is kept, so that late followers cause no request.
const FINISHED_TTL: Duration = Duration::from_secs(60);
const MAX_FINISHED: usize = 256;

/// Up to this many calls are polled one by one.
const MAX_SINGLE_POLLS: usize = 5;

/// Calls that are due within this time are polled together.
const BATCH_WINDOW: Duration = Duration::from_secs(1);

/// The order in which requests and webhooks began: an older answer never overwrites a newer one.
pub(super) type Ticket = u64;

/// A request to make.
pub(super) enum PollJob {
    Record(CallId),
    Transcript(CallId),
    Page(PageRequest),
}

pub(super) struct WatchTable {
    pub(super) calls: HashMap<CallId, WatchedCall>,
    /// When each record is due. A call whose record is in flight is not in it.
    record_queue: PollQueue,
    /// When each transcript that a follower wants is due.
    transcript_queue: PollQueue,
    /// The last snapshots of calls that have finished.
    pub(super) finished: TtlCache<CallId, Arc<Snapshot>>,
    batch: Option<BatchPoll>,
    /// Lists are not used before this time, since one could not be read.
    lists_disabled_until: Option<Instant>,
    /// The API asked for no requests before this time.
    pub(super) paused_until: Option<Instant>,
    /// Whether a transcript goes first when a record is due as well.
    transcript_goes_first: bool,
    /// A time before all others, for calls that are due first.
    urgent_time: Instant,
    last_ticket: Ticket,
    settings: WatchSettings,
}

/// One call that is watched.
pub(super) struct WatchedCall {
    /// Distinguishes this watch from an earlier one of the same call.
    generation: Ticket,
    sender: watch::Sender<Arc<Snapshot>>,
    followers: usize,
    /// How many followers want the transcript.
    transcript_followers: usize,
    progress: CallProgress,
    /// When the call was first seen at this progress.
    progress_since: Instant,
    /// When the conversation was first seen to be over, and by which answer.
    over: Option<(Instant, Ticket)>,
    /// Whether webhooks arrive for this call.
    has_webhooks: bool,
    /// Whether a webhook caused the next poll of the record.
    is_woken: bool,
    record: PollState,
    transcript: PollState,
    /// The call is polled by itself until this time, since the list did not have it.
    unlisted_until: Option<Instant>,
}

/// The polls of one part of a call.
#[derive(Default)]
struct PollState {
    /// The request or batch in flight.
    in_flight: Option<Ticket>,
    /// Whether to poll again as soon as the answer is there.
    poll_again: bool,
    /// The newest answer that was used.
    last_used: Ticket,
    failures: u32,
    error: Option<Arc<Error>>,
}

impl WatchTable {
    pub(super) fn new(settings: WatchSettings, now: Instant) -> Self {
        Self {
            calls: HashMap::new(),
            record_queue: PollQueue::default(),
            transcript_queue: PollQueue::default(),
            finished: TtlCache::new(FINISHED_TTL, MAX_FINISHED),
            batch: None,
            lists_disabled_until: None,
            paused_until: None,
            transcript_goes_first: false,
            urgent_time: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
            last_ticket: 0,
            settings,
        }
    }

    /// Ends all watches. Tickets continue, so that an earlier watch is never mistaken for a later one.
    pub(super) fn abandon_all(&mut self) {
        self.calls.clear();
        self.record_queue = PollQueue::default();
        self.transcript_queue = PollQueue::default();
        self.cancel_batch();
    }

    pub(super) fn cancel_batch(&mut self) {
        self.batch = None;
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Adds a follower. The ticket identifies its watch; there is none for a call that has already finished.
    pub(super) fn add_follower(
        &mut self,
        id: &CallId,
        options: WatchOptions,
        now: Instant,
    ) -> Result<(watch::Receiver<Arc<Snapshot>>, Option<Ticket>), FollowError> {
        if let Some(call) = self.calls.get_mut(id) {
            call.followers += 1;
            call.transcript_followers += usize::from(options.transcript);
            let added = (call.sender.subscribe(), Some(call.generation));
            if options.transcript && call.transcript_followers == 1 {
                self.schedule_transcript(id, now);
            }
            return Ok(added);
        }
        let known = self.finished.get_at(id, now).cloned();
        if let Some(known) = &known
            && (known.segments_final || !options.transcript)
        {
            return Ok((watch::channel(known.clone()).1, None));
        }
        let limit = self.settings.max_live;
        if self.calls.len() >= limit {
            return Err(FollowError::TooMany { limit });
        }
        let generation = self.next_ticket();
        let is_finished = known.is_some();
        let mut snapshot = known.map_or_else(Snapshot::default, |known| (*known).clone());
        snapshot.state = WatchStatus::Watching;
        let (sender, receiver) = watch::channel(Arc::new(snapshot));
        let progress = if is_finished { CallProgress::Finished } else { CallProgress::Unknown };
        let call = WatchedCall {
            generation,
            sender,
            followers: 1,
            transcript_followers: usize::from(options.transcript),
            progress,
            progress_since: now,
            over: is_finished.then_some((now, generation)),
            has_webhooks: false,
            is_woken: false,
            record: PollState::default(),
            transcript: PollState::default(),
            unlisted_until: None,
        };
        self.calls.insert(id.clone(), call);
        if is_finished {
            self.schedule_transcript(id, now);
        } else {
            self.record_queue.set(id, now);
        }
        Ok((receiver, Some(generation)))
    }

    /// Removes a follower, and the watch with the last one.
    pub(super) fn remove_follower(
        &mut self,
        id: &CallId,
        generation: Ticket,
        options: WatchOptions,
        now: Instant,
    ) {
        let Some(call) = self.calls.get_mut(id).filter(|call| call.generation == generation) else {
            return;
        };
        call.followers = call.followers.saturating_sub(1);
        call.transcript_followers =
            call.transcript_followers.saturating_sub(usize::from(options.transcript));
        if call.followers == 0 {
            self.remove_call(id);
        } else if call.transcript_followers == 0 {
            self.transcript_queue.remove(id);
            self.end_if_complete(id, now);
        }
    }

    /// Records a webhook's event. A finished record is used as it is. Any other only causes a poll, since events may
    /// arrive late and out of order.
    pub(super) fn record_event(&mut self, id: &CallId, event: Option<Call>, now: Instant) {
        let ticket = self.next_ticket();
        let Some(call) = self.calls.get_mut(id) else { return };
        call.has_webhooks = true;
        call.is_woken = true;
        if call.progress == CallProgress::Finished {
            return;
        }
        let finished = event.filter(|event| {
            let progress = CallProgress::from_call(event, Duration::ZERO, jiff::Timestamp::now());
            event.id == *id && progress == CallProgress::Finished
        });
        if let Some(record) = finished {
            self.use_record(id, ticket, record, now);
            return;
        }
        let batch = self.batch.as_mut();
        if let Some(batch) = batch.filter(|batch| call.record.in_flight == Some(batch.ticket)) {
            batch.missing.remove(id);
            call.record.in_flight = None;
        }
        if call.record.in_flight.is_some() {
            call.record.poll_again = true;
        } else {
            self.record_queue.set(id, self.urgent_time);
        }
    }

    /// Takes the next request that is due. Records and transcripts take turns when both are due.
    pub(super) fn take_due_job(&mut self, now: Instant) -> Option<(Ticket, PollJob)> {
        let taken = if self.transcript_goes_first {
            self.take_transcript_job(now).or_else(|| self.take_record_job(now))
        } else {
            self.take_record_job(now).or_else(|| self.take_transcript_job(now))
        };
        if let Some((_, job)) = &taken {
            self.transcript_goes_first = !matches!(job, PollJob::Transcript(_));
        }
        taken
    }

    /// Takes the next request that must not wait: a call for which a webhook arrived. If there are many, a list polls
    /// them instead.
    pub(super) fn take_urgent_job(&mut self) -> Option<(Ticket, PollJob)> {
        let urgent = self.record_queue.due_by(self.urgent_time).take(MAX_SINGLE_POLLS + 1).count();
        if urgent > MAX_SINGLE_POLLS && self.batch.is_none() {
            return None;
        }
        let id = self.record_queue.due_by(self.urgent_time).next()?.clone();
        Some(self.start_record_poll(id))
    }

    /// When a request will be due, unless something happens before.
    pub(super) fn next_due_at(&self, now: Instant) -> Option<Instant> {
        let queues = [&self.record_queue, &self.transcript_queue];
        let first = queues.into_iter().filter_map(|queue| queue.first_due_at());
        first.filter(|due_at| *due_at > now).min()
    }

    fn take_transcript_job(&mut self, now: Instant) -> Option<(Ticket, PollJob)> {
        let id = self.transcript_queue.due_by(now).next()?.clone();
        self.transcript_queue.remove(&id);
        let ticket = self.next_ticket();
        if let Some(call) = self.calls.get_mut(&id) {
            call.transcript.in_flight = Some(ticket);
        }
        Some((ticket, PollJob::Transcript(id)))
    }

    /// While a batch is in flight, calls wait for it, except those that the list does not have.
    fn take_record_job(&mut self, now: Instant) -> Option<(Ticket, PollJob)> {
        let lists_are_usable = self.lists_disabled_until.is_none_or(|until| until <= now);
        let has_batch = self.batch.is_some();
        if let Some(next) = self.batch.as_mut().and_then(|batch| batch.next.take()) {
            return Some((self.next_ticket(), PollJob::Page(next)));
        }
        let is_any_due = self.record_queue.first_due_at().is_some_and(|first| first <= now);
        if !has_batch && lists_are_usable && is_any_due {
            let due = self.record_queue.due_by(now + BATCH_WINDOW);
            let listed: HashSet<CallId> =
                due.filter(|id| !self.is_unlisted(id, now)).cloned().collect();
            if listed.len() > MAX_SINGLE_POLLS {
                return Some(self.start_batch(listed));
            }
        }
        let may_poll = |id: &&CallId| !has_batch || self.is_unlisted(id, now);
        let id = self.record_queue.due_by(now).find(may_poll).cloned();
        id.map(|id| self.start_record_poll(id))
    }

    fn is_unlisted(&self, id: &CallId, now: Instant) -> bool {
        let until = self.calls.get(id).and_then(|call| call.unlisted_until);
        until.is_some_and(|until| until > now)
    }

    fn start_record_poll(&mut self, id: CallId) -> (Ticket, PollJob) {
        self.record_queue.remove(&id);
        let ticket = self.next_ticket();
        if let Some(call) = self.calls.get_mut(&id) {
            call.record.in_flight = Some(ticket);
        }
        (ticket, PollJob::Record(id))
    }

    /// Records the answer to a request for one record.
    pub(super) fn record_call_answer(
        &mut self,
        id: &CallId,
        ticket: Ticket,
        answer: Result<Call, Error>,
        now: Instant,
    ) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.record.end_poll(ticket);
        match answer {
            Ok(record) => self.use_record(id, ticket, record, now),
            Err(error) => self.fail_record(id, ticket, &Arc::new(error), now),
        }
        if let Some(call) = self.calls.get_mut(id)
            && call.record.in_flight.is_none()
            && std::mem::take(&mut call.record.poll_again)
            && call.progress != CallProgress::Finished
        {
            self.record_queue.set(id, self.urgent_time);
        }
    }

    /// Uses a record, whatever its origin, unless a newer one was used already, and schedules the next poll.
    pub(super) fn use_record(&mut self, id: &CallId, ticket: Ticket, record: Call, now: Instant) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let over_for = call.over.map_or(Duration::ZERO, |(since, _)| now.duration_since(since));
        let progress = CallProgress::from_call(&record, over_for, jiff::Timestamp::now());
        // A call that is over stays over: a record that says otherwise is a stale copy.
        let is_stale = call.over.is_some() && !progress.is_over();
        if ticket > call.record.last_used && !is_stale {
            let before = call.sender.borrow().call.as_ref().map(|known| known.status.clone());
            let has_changed = before.is_some_and(|before| before != record.status);
            // Webhooks report every change except the end of a conversation, which they report after the extraction.
            // A change that a poll found first means that webhooks are lost.
            if has_changed && !call.is_woken && progress != CallProgress::Extracting {
                call.has_webhooks = false;
            }
            call.is_woken = false;
            if call.progress != progress {
                call.progress = progress;
                call.progress_since = now;
            }
            let has_just_ended = progress.is_over() && call.over.is_none();
            if has_just_ended {
                call.over = Some((now, ticket));
                call.transcript.failures = 0;
            }
            call.record.record_success(ticket);
            call.publish(|known| {
                known.seen_at = Some(now);
                let is_new = known.call.as_deref() != Some(&record);
                if is_new {
                    known.call = Some(Arc::new(record));
                }
                is_new
            });
            let is_polled =
                call.transcript.in_flight.is_some() || self.transcript_queue.due_at(id).is_some();
            if call.transcript_followers > 0 && (has_just_ended || !is_polled) {
                self.schedule_transcript(id, now);
            }
        }
        self.schedule_record(id, None, now);
        self.end_if_complete(id, now);
    }

    fn fail_record(&mut self, id: &CallId, ticket: Ticket, error: &Arc<Error>, now: Instant) {
        self.apply_retry_after(error, now);
        let Some(call) = self.calls.get_mut(id) else { return };
        if ticket > call.record.last_used {
            call.record.record_failure(error);
            call.publish(|_| false);
            match error.kind() {
                ErrorKind::NotFound { .. } => return self.end(id, WatchStatus::NotFound, now),
                ErrorKind::Unauthorized { .. } | ErrorKind::Forbidden { .. } => {
                    return self.end(id, WatchStatus::Unauthorized, now);
                }
                _ => {}
            }
        }
        self.schedule_record(id, error.retry_after(), now);
    }

    /// Records the answer to a request for a transcript.
    pub(super) fn record_transcript_answer(
        &mut self,
        id: &CallId,
        ticket: Ticket,
        answer: Result<Transcript, Error>,
        now: Instant,
    ) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.transcript.end_poll(ticket);
        if ticket < call.transcript.last_used {
            return;
        }
        let mut retry_after = None;
        let segments = match answer {
            Ok(transcript) => Some(transcript.segments),
            // Some calls have no transcript; only the record says whether the call exists.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound { .. }) => Some(Vec::new()),
            Err(error) => {
                let error = Arc::new(error);
                retry_after = error.retry_after();
                call.transcript.record_failure(&error);
                if matches!(error.kind(), ErrorKind::Unauthorized { .. }) {
                    // The key does not give access to the record any more either.
                    call.record.record_failure(&error);
                    call.publish(|_| false);
                    return self.end(id, WatchStatus::Unauthorized, now);
                }
                self.apply_retry_after(&error, now);
                None
            }
        };
        let Some(call) = self.calls.get_mut(id) else { return };
        if segments.is_some() {
            call.transcript.record_success(ticket);
        }
        let is_last = call.over.is_some_and(|(_, over)| ticket > over);
        call.publish(|known| {
            let Some(segments) = segments else { return false };
            known.seen_at = Some(now);
            // Lines are only added: a shorter transcript is a stale copy.
            let has_grown = segments.len() >= known.segments.len() && *segments != *known.segments;
            if has_grown {
                known.segments = segments.into();
            }
            let is_new = has_grown || (is_last && !known.segments_final);
            known.segments_final |= is_last;
            is_new
        });
        let poll_again = std::mem::take(&mut call.transcript.poll_again);
        let is_complete = call.sender.borrow().segments_final;
        if call.transcript.in_flight.is_none() && call.transcript_followers > 0 && !is_complete {
            let inputs = call.poll_inputs(call.transcript.failures, retry_after, now);
            match self.poll_delay(CallPart::Transcript, &inputs) {
                _ if poll_again => self.transcript_queue.set(id, self.urgent_time),
                Some(delay) => self.transcript_queue.set(id, now + delay),
                None => {}
            }
        }
        self.end_if_complete(id, now);
    }

    /// Schedules the transcript, if there can be one. The last one goes before all others.
    fn schedule_transcript(&mut self, id: &CallId, now: Instant) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if call.progress == CallProgress::Dialing
            || call.record.last_used == 0 && call.over.is_none()
            || call.sender.borrow().segments_final
        {
            return;
        }
        if call.transcript.in_flight.is_some() {
            call.transcript.poll_again = true;
        } else {
            let due_at = if call.over.is_some() { self.urgent_time } else { now };
            self.transcript_queue.set(id, due_at);
        }
    }

    /// Schedules the next poll of the record, unless one is in flight or a webhook has caused one.
    fn schedule_record(&mut self, id: &CallId, retry_after: Option<Duration>, now: Instant) {
        let Some(call) = self.calls.get(id) else { return };
        let is_urgent = self.record_queue.due_at(id) == Some(self.urgent_time);
        if call.record.in_flight.is_some() || is_urgent {
            return;
        }
        let inputs = call.poll_inputs(call.record.failures, retry_after, now);
        match self.poll_delay(CallPart::Record, &inputs) {
            Some(delay) => self.record_queue.set(id, now + delay),
            None => self.record_queue.remove(id),
        }
    }

    fn poll_delay(&self, part: CallPart, inputs: &PollInputs) -> Option<Duration> {
        let delay = next_poll_delay(part, inputs, rand::random())?;
        if inputs.retry_after.is_some() {
            return Some(delay);
        }
        let speed = self.settings.speed;
        let speed = if speed.is_finite() { speed.max(1.0) } else { 1.0 };
        Some(delay.div_f64(speed).max(MIN_POLL_INTERVAL))
    }

    /// Pauses all requests as long as the API asks for it: a rate limit concerns the account, not one call.
    fn apply_retry_after(&mut self, error: &Error, now: Instant) {
        if let Some(asked) = error.retry_after() {
            let until = now + asked.min(MAX_RETRY_AFTER);
            self.paused_until = Some(self.paused_until.map_or(until, |known| known.max(until)));
        }
    }

    /// Ends the watch once everything that the followers want has arrived or cannot be obtained.
    fn end_if_complete(&mut self, id: &CallId, now: Instant) {
        let Some(call) = self.calls.get(id) else { return };
        let has_transcript = call.transcript_followers == 0
            || call.sender.borrow().segments_final
            || call.transcript.failures >= MAX_LAST_TRANSCRIPT_POLLS;
        if call.progress == CallProgress::Finished && has_transcript {
            self.end(id, WatchStatus::Finished, now);
        }
    }

    fn end(&mut self, id: &CallId, status: WatchStatus, now: Instant) {
        let Some(call) = self.remove_call(id) else { return };
        call.publish(|known| {
            known.state = status;
            true
        });
        if status == WatchStatus::Finished {
            self.finished.insert_at(id.clone(), call.sender.borrow().clone(), now);
        }
    }

    fn remove_call(&mut self, id: &CallId) -> Option<WatchedCall> {
        self.record_queue.remove(id);
        self.transcript_queue.remove(id);
        if let Some(batch) = &mut self.batch {
            batch.missing.remove(id);
        }
        self.calls.remove(id)
    }
}

impl WatchedCall {
    fn poll_inputs(
        &self,
        failures: u32,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> PollInputs {
        PollInputs {
            progress: self.progress,
            progress_for: now.duration_since(self.progress_since),
            has_webhooks: self.has_webhooks,
            failures,
            retry_after,
        }
    }

    /// Changes the snapshot, copies the errors into it, and wakes the followers if the change concerns them.
    fn publish(&self, change: impl FnOnce(&mut Snapshot) -> bool) {
        let (record_error, transcript_error) = (&self.record.error, &self.transcript.error);
        self.sender.send_if_modified(|known| {
            let known = Arc::make_mut(known);
            let errors_differ =
                known.trouble != *record_error || known.segments_trouble != *transcript_error;
            if errors_differ {
                known.trouble.clone_from(record_error);
                known.segments_trouble.clone_from(transcript_error);
            }
            change(known) || errors_differ
        });
    }
}

impl PollState {
    fn end_poll(&mut self, ticket: Ticket) {
        if self.in_flight == Some(ticket) {
            self.in_flight = None;
        }
    }

    fn record_success(&mut self, ticket: Ticket) {
        self.last_used = ticket;
        self.failures = 0;
        self.error = None;
    }

    fn record_failure(&mut self, error: &Arc<Error>) {
        self.failures = self.failures.saturating_add(1);
        self.error = Some(error.clone());
    }
}
