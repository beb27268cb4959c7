//! What is seen of a server from outside: its memory and its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStderr;

use crate::{KEY, PATIENCE};

/// Resident memory over the calls that were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Vec<(usize, f64)>);

impl Memory {
    /// Looks now. Where /proc is not, nothing is seen.
    pub(crate) fn look(&mut self, calls: usize, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        if let Some(kilobytes) = line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        {
            let kilobytes: f64 = kilobytes;
            self.0.push((calls, kilobytes / 1024.0));
        }
    }

    /// The first half of the calls warms it up. Over the second half memory grows by no more than a few
    /// per cent: the straight line through it, not two points, because it goes up and down.
    pub(crate) fn judge(&self, way: &str, calls: usize) {
        let half: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter(|(at, _)| *at >= calls / 2)
            .map(|(at, mb)| (*at as f64, *mb))
            .collect();
        let Some((first, last)) = self.0.first().zip(self.0.last()) else { return };
        let count = half.len() as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| half.iter().map(pick).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let over: f64 = half.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        let under: f64 = half.iter().map(|point| (point.0 - x).powi(2)).sum();
        let grown = over / under * calls as f64 / 2.0;
        println!(
            "soak: {way} has {:.1} MB at first, {:.1} at last, {y:.1} in the mean of the second half, over which it grows by {grown:.2}",
            first.1, last.1
        );
        // Below this many, the caches still fill.
        if calls >= 50_000 {
            assert!(grown <= 0.05 * y, "{way} grows: {:?}", self.0);
        }
    }
}

/// What a server logs, looked at as it comes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    lines: AtomicUsize,
    ended: AtomicBool,
    bad: std::sync::Mutex<Vec<String>>,
}

impl Log {
    pub(crate) fn read(&self, from: ChildStderr) {
        let seen = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                seen.lines.fetch_add(1, Ordering::Relaxed);
                if tells(&line) {
                    seen.bad.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                }
            }
            seen.ended.store(true, Ordering::Release);
        });
    }

    /// Nothing was told. How many lines there were.
    pub(crate) async fn check(&self) -> usize {
        tokio::time::timeout(PATIENCE, async {
            while !self.0.ended.load(Ordering::Acquire) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the end of the log");
        let bad = self.0.bad.lock().unwrap();
        assert!(bad.is_empty(), "{} lines tell too much, such as {}", bad.len(), bad[0]);
        let lines = self.0.lines.load(Ordering::Relaxed);
        assert!(lines > 0, "nothing was logged");
        lines
    }
}

/// Whether a line holds the key, or eleven digits of a simulated number: 1, area, 555, four more.
fn tells(line: &[u8]) -> bool {
    let secret = KEY.strip_prefix("sk_").unwrap().as_bytes();
    let number =
        |run: &[u8]| run.len() >= 11 && run.windows(11).any(|n| n[0] == b'1' && &n[4..7] == b"555");
    line.windows(secret.len()).any(|window| window == secret)
        || line.split(|byte| !byte.is_ascii_digit()).any(number)
}

#[test]
fn a_line_that_tells_is_seen() {
    assert!(tells(b"{\"to\":\"+14155550100\"}") && tells(b"Bearer sk_live_5oak5ecret"));
    assert!(!tells(b"+141******00 sk_*** 2026-11-22T06:44:33.123456Z 1234567"));
}
