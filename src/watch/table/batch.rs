//! Polls many calls at the same time: a walk over the list of the newest calls, page by page.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{MAX_SINGLE_POLLS, PollJob, Ticket, WatchTable};
use callingbox::{Call, CallId, Error, Page, PageCursor, PageRequest};

/// The largest page that the API returns.
const PAGE_SIZE: u8 = 100;

const MAX_BATCH_PAGES: usize = 200;

/// How long a call that was missing from the list is polled by itself, and how long lists are not used after one could
/// not be read.
const LIST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A walk over the newest calls, page by page, that polls many calls at the same time.
pub(super) struct BatchPoll {
    pub(super) ticket: Ticket,
    /// The calls that it polls and has not found yet.
    pub(super) missing: HashSet<CallId>,
    total: usize,
    pages: usize,
    /// The next page; `None` while one is in flight.
    pub(super) next: Option<PageRequest>,
}

impl WatchTable {
    pub(super) fn start_batch(&mut self, missing: HashSet<CallId>) -> (Ticket, PollJob) {
        let ticket = self.next_ticket();
        for id in &missing {
            self.record_queue.remove(id);
            if let Some(call) = self.calls.get_mut(id) {
                call.record.in_flight = Some(ticket);
            }
        }
        let total = missing.len();
        self.batch = Some(BatchPoll { ticket, missing, total, pages: 0, next: None });
        (self.next_ticket(), PollJob::Page(PageRequest::with_limit(PAGE_SIZE)))
    }

    /// Records the answer to a request for a page of the list.
    pub(in crate::watch) fn record_page_answer(
        &mut self,
        ticket: Ticket,
        answer: Result<Page<Call>, Error>,
        now: Instant,
    ) {
        match answer {
            Ok(page) => self.use_page(ticket, page, now),
            Err(error) => self.fail_page(ticket, error, now),
        }
    }

    /// Uses every watched call in a page, whether it was due or not. The batch goes on as long as a page costs less than
    /// polling the missing calls one by one.
    fn use_page(&mut self, ticket: Ticket, page: Page<Call>, now: Instant) {
        let Some(mut batch) = self.batch.take() else { return };
        batch.pages += 1;
        let last = page.data.last().map(|call| call.id.as_str().to_owned());
        let oldest = page.data.iter().filter_map(created_at).min();
        for record in page.data {
            let id = record.id.clone();
            let Some(call) = self.calls.get_mut(&id) else { continue };
            if batch.missing.remove(&id) {
                call.record.in_flight = None;
            }
            call.unlisted_until = None;
            self.use_record(&id, ticket, record, now);
        }
        let is_worth_a_page = batch.missing.len() > MAX_SINGLE_POLLS
            && batch.pages < MAX_BATCH_PAGES.min(batch.total.div_ceil(MAX_SINGLE_POLLS))
            && batch.missing.iter().any(|id| self.may_be_older(id, oldest));
        match last.filter(|_| is_worth_a_page && page.has_more) {
            Some(last) => {
                let cursor = Some(PageCursor::After(last));
                batch.next = Some(PageRequest { limit: Some(PAGE_SIZE), cursor });
                self.batch = Some(batch);
            }
            None => {
                for id in batch.missing {
                    let Some(call) = self.calls.get_mut(&id) else { continue };
                    call.record.in_flight = None;
                    call.unlisted_until = Some(now + LIST_RETRY_AFTER);
                    self.record_queue.set(&id, now);
                }
            }
        }
    }

    /// Whether a later page may have the call. Both times are the API's own.
    fn may_be_older(&self, id: &CallId, oldest: Option<jiff::Timestamp>) -> bool {
        let known = self.calls.get(id).and_then(|call| call.sender.borrow().call.clone());
        match (known.as_deref().and_then(created_at), oldest) {
            (Some(created), Some(oldest)) => created <= oldest,
            _ => true,
        }
    }

    /// A page that did not arrive counts as a failed poll of all its calls. A page that cannot be read says nothing about
    /// them: they are polled one by one.
    fn fail_page(&mut self, ticket: Ticket, error: Error, now: Instant) {
        let Some(batch) = self.batch.take() else { return };
        let concerns_all = error.is_transient() || error.status() == Some(401);
        self.apply_retry_after(&error, now);
        if !concerns_all {
            self.lists_disabled_until = Some(now + LIST_RETRY_AFTER);
            tracing::warn!(%error, "list of calls unreadable; polling calls one by one for a minute");
        }
        let error = Arc::new(error);
        for id in batch.missing {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            call.record.in_flight = None;
            if concerns_all {
                self.fail_record(&id, ticket, &error, now);
            } else {
                self.record_queue.set(&id, now);
            }
        }
    }
}

fn created_at(call: &Call) -> Option<jiff::Timestamp> {
    call.created_at.as_ref()?.instant()
}
