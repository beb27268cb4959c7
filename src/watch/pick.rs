//! What is asked next: one record, one transcript, or a page of the list of calls when that answers
//! for many at once. Plain data; no I/O, no waiting.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::roster::{Roster, Ticket};
use callingbox::{Call, CallId, Cursor, Error, Page, PageRequest};

/// Up to this many calls are asked for one by one.
const FEW: usize = 5;

/// Calls due within this time are due together.
const TOGETHER: Duration = Duration::from_secs(1);

/// The largest page the API gives.
const PAGE: u8 = 100;

/// The most pages of one sweep.
const MOST_PAGES: usize = 200;

/// How long a call that was not in the pages is not looked for there, and how long lists are not
/// used after one could not be read.
const ALONE: Duration = Duration::from_secs(60);

/// A request to make.
pub(super) enum Job {
    Record(CallId),
    Transcript(CallId),
    Page(PageRequest),
}

/// A walk over the newest calls, page by page, for many calls at once.
pub(super) struct Sweep {
    pub(super) ticket: Ticket,
    /// The calls it is for that were not found yet.
    pub(super) missing: HashSet<CallId>,
    /// How many it was for.
    total: usize,
    pages: usize,
    /// The next page; nothing while one is under way.
    next: Option<PageRequest>,
}

impl Roster {
    /// Takes the next request that is due. Records and transcripts take turns when both are.
    pub(super) fn pick(&mut self, now: Instant) -> Option<(Ticket, Job)> {
        let picked = if self.transcripts_turn {
            self.pick_transcript(now).or_else(|| self.pick_record(now))
        } else {
            self.pick_record(now).or_else(|| self.pick_transcript(now))
        };
        if let Some((_, job)) = &picked {
            self.transcripts_turn = !matches!(job, Job::Transcript(_));
        }
        picked
    }

    /// When there will be something to ask, if nothing happens before.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let queues = [&self.records, &self.transcripts];
        queues.into_iter().filter_map(|queue| queue.first()).filter(|at| *at > now).min()
    }

    /// Takes the next request that must not wait: a call that a webhook told of. When many are told
    /// of at once, a list is asked instead.
    pub(super) fn pick_urgent(&mut self) -> Option<(Ticket, Job)> {
        let urgent = self.records.until(self.urgent).take(FEW + 1).count();
        if urgent > FEW && self.sweep.is_none() {
            return None;
        }
        let id = self.records.until(self.urgent).next()?.clone();
        Some(self.ask_record(id))
    }

    fn pick_transcript(&mut self, now: Instant) -> Option<(Ticket, Job)> {
        let id = self.transcripts.until(now).next()?.clone();
        self.transcripts.remove(&id);
        let ticket = self.ticket();
        if let Some(live) = self.live.get_mut(&id) {
            live.transcript.flight = Some(ticket);
        }
        Some((ticket, Job::Transcript(id)))
    }

    /// While a sweep is under way the calls wait for it, except those that are not in the lists.
    fn pick_record(&mut self, now: Instant) -> Option<(Ticket, Job)> {
        let lists = self.lists_off.is_none_or(|end| end <= now);
        let sweeping = self.sweep.is_some();
        if let Some(next) = self.sweep.as_mut().and_then(|sweep| sweep.next.take()) {
            return Some((self.ticket(), Job::Page(next)));
        }
        if !sweeping && lists && self.records.first().is_some_and(|first| first <= now) {
            let due = self.records.until(now + TOGETHER);
            let together: HashSet<CallId> =
                due.filter(|id| !self.is_alone(id, now)).cloned().collect();
            if together.len() > FEW {
                return Some(self.begin_sweep(together));
            }
        }
        let may_ask = |id: &&CallId| !sweeping || self.is_alone(id, now);
        let id = self.records.until(now).find(may_ask).cloned();
        id.map(|id| self.ask_record(id))
    }

    fn is_alone(&self, id: &CallId, now: Instant) -> bool {
        self.live.get(id).and_then(|live| live.alone).is_some_and(|end| end > now)
    }

    fn ask_record(&mut self, id: CallId) -> (Ticket, Job) {
        self.records.remove(&id);
        let ticket = self.ticket();
        if let Some(live) = self.live.get_mut(&id) {
            live.record.flight = Some(ticket);
        }
        (ticket, Job::Record(id))
    }

    fn begin_sweep(&mut self, missing: HashSet<CallId>) -> (Ticket, Job) {
        let ticket = self.ticket();
        for id in &missing {
            self.records.remove(id);
            if let Some(live) = self.live.get_mut(id) {
                live.record.flight = Some(ticket);
            }
        }
        let total = missing.len();
        self.sweep = Some(Sweep { ticket, missing, total, pages: 0, next: None });
        (self.ticket(), Job::Page(PageRequest::first(PAGE)))
    }

    /// The answer to a request for a page.
    pub(super) fn land_page(
        &mut self,
        ticket: Ticket,
        answer: Result<Page<Call>, Error>,
        now: Instant,
    ) {
        match answer {
            Ok(page) => self.take_page(ticket, page, now),
            Err(error) => self.fail_page(ticket, error, now),
        }
    }

    /// Every followed call in the page is refreshed, whether it was due or not. The walk goes on as
    /// long as a page is cheaper than asking for the missing ones by themselves.
    fn take_page(&mut self, ticket: Ticket, page: Page<Call>, now: Instant) {
        let Some(mut sweep) = self.sweep.take() else { return };
        sweep.pages += 1;
        let last = page.data.last().map(|call| call.id.as_str().to_owned());
        let oldest = page.data.iter().filter_map(created_at).min();
        for call in page.data {
            let id = call.id.clone();
            let Some(live) = self.live.get_mut(&id) else { continue };
            if sweep.missing.remove(&id) {
                live.record.flight = None;
            }
            live.alone = None;
            self.take_record(&id, ticket, call, now);
        }
        let worth_it = sweep.missing.len() > FEW
            && sweep.pages < MOST_PAGES.min(sweep.total.div_ceil(FEW))
            && sweep.missing.iter().any(|id| self.may_be_older(id, oldest));
        match last.filter(|_| worth_it && page.has_more) {
            Some(last) => {
                let cursor = Some(Cursor::After(last));
                sweep.next = Some(PageRequest { limit: Some(PAGE), cursor });
                self.sweep = Some(sweep);
            }
            None => {
                for id in sweep.missing {
                    let Some(live) = self.live.get_mut(&id) else { continue };
                    live.record.flight = None;
                    live.alone = Some(now + ALONE);
                    self.records.set(&id, now);
                }
            }
        }
    }

    /// Whether the call may stand on a later page. Both times are the API's own.
    fn may_be_older(&self, id: &CallId, oldest: Option<jiff::Timestamp>) -> bool {
        let known = self.live.get(id).and_then(|live| live.known_call());
        match (known.as_deref().and_then(created_at), oldest) {
            (Some(created), Some(oldest)) => created <= oldest,
            _ => true,
        }
    }

    /// A page that did not come is a failed look at all the calls it was for. One that cannot be read
    /// says nothing of them: they are asked for one by one.
    fn fail_page(&mut self, ticket: Ticket, error: Error, now: Instant) {
        let Some(sweep) = self.sweep.take() else { return };
        let for_all = error.is_transient() || error.status() == Some(401);
        self.obey(&error, now);
        if !for_all {
            self.lists_off = Some(now + ALONE);
            tracing::warn!(%error, "the list of calls cannot be used; calls are asked for one by one");
        }
        let error = Arc::new(error);
        for id in sweep.missing {
            let Some(live) = self.live.get_mut(&id) else { continue };
            live.record.flight = None;
            if for_all {
                self.fail_record(&id, ticket, &error, now);
            } else {
                self.records.set(&id, now);
            }
        }
    }
}

fn created_at(call: &Call) -> Option<jiff::Timestamp> {
    call.created_at.as_ref()?.instant()
}
