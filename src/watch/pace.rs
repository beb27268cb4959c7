//! How many requests are made: at most so many in any one second, over all calls of an account.

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

    /// When the next request may be made.
    pub(super) fn ready_at(&self, now: Instant) -> Instant {
        let full = self.latest.len() >= self.per_second;
        self.latest.front().filter(|_| full).map_or(now, |oldest| *oldest + WINDOW)
    }

    pub(super) fn spend(&mut self, now: Instant) {
        if self.latest.len() >= self.per_second {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
    }
}
