//! How many requests are made: at most so many in any one second, over all calls of an account. A
//! quarter of them is kept for the calls that a webhook told of, which must not wait.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(1);

pub(super) struct Pace {
    per_second: usize,
    /// The latest requests, oldest first.
    latest: VecDeque<Instant>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1) as usize, latest: VecDeque::new() }
    }

    /// When the next ordinary request may be made.
    pub(super) fn ready_at(&self, now: Instant) -> Instant {
        self.below(self.per_second - self.per_second / 4, now)
    }

    /// When the next urgent one may be made.
    pub(super) fn urgent_at(&self, now: Instant) -> Instant {
        self.below(self.per_second, now)
    }

    /// When the last second holds fewer than `limit` requests.
    fn below(&self, limit: usize, now: Instant) -> Instant {
        let nth_latest = self.latest.len().checked_sub(limit).and_then(|n| self.latest.get(n));
        nth_latest.map_or(now, |at| *at + WINDOW)
    }

    pub(super) fn spend(&mut self, now: Instant) {
        if self.latest.len() >= self.per_second {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
    }
}
