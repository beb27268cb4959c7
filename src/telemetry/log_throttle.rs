//! Limits the log lines that strangers can cause to one a second. Use it for every line that a peer without credentials
//! can cause, one throttle for each reason.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);

/// Decides which of many equal events are logged.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<Throttled>);

#[derive(Debug, Default)]
struct Throttled {
    last_line: Option<Instant>,
    left_out: u64,
}

impl LogThrottle {
    /// Counts an event. If it may be logged, returns how many before it were not; they belong in the line.
    pub fn count_event(&self) -> Option<u64> {
        let mut throttled = self.0.lock();
        if throttled.last_line.is_some_and(|last| last.elapsed() < INTERVAL) {
            throttled.left_out += 1;
            return None;
        }
        throttled.last_line = Some(Instant::now());
        Some(std::mem::take(&mut throttled.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_event_a_second_is_logged_with_the_number_of_those_left_out() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.count_event(), Some(0));
        for _ in 0..10_000 {
            assert_eq!(throttle.count_event(), None);
        }
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.count_event(), Some(10_000));
        assert_eq!(throttle.count_event(), None);
        tokio::time::advance(INTERVAL * 3).await;
        assert_eq!(throttle.count_event(), Some(1));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.count_event(), Some(0));
    }
}
