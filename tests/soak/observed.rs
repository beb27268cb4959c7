//! The memory and the log of a server, observed from outside its process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStderr;

use crate::{KEY, TIMEOUT};

/// Resident memory by the number of calls made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Vec<(usize, f64)>);

impl Memory {
    /// Measures now; without /proc, nothing is recorded.
    pub(crate) fn measure(&mut self, calls: usize, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        if let Some(kilobytes) = line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        {
            let kilobytes: f64 = kilobytes;
            self.0.push((calls, kilobytes / 1024.0));
        }
    }

    /// Asserts that memory grows by no more than five percent over the second half of the calls. The growth is that of
    /// a regression line, because single measurements fluctuate.
    pub(crate) fn assert_level(&self, way: &str, calls: usize) {
        let second_half: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter(|(count, _)| *count >= calls / 2)
            .map(|(count, mb)| (*count as f64, *mb))
            .collect();
        let Some((first, last)) = self.0.first().zip(self.0.last()) else { return };
        let count = second_half.len() as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| second_half.iter().map(pick).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let over: f64 = second_half.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        let under: f64 = second_half.iter().map(|point| (point.0 - x).powi(2)).sum();
        let grown = over / under * calls as f64 / 2.0;
        println!(
            "soak: {way} has {:.1} MB at first, {:.1} at last, {y:.1} on average in the second half, in which it grows by {grown:.2}",
            first.1, last.1
        );
        // With fewer calls, the caches are still filling.
        if calls >= 50_000 {
            assert!(grown <= 0.05 * y, "{way} grows: {:?}", self.0);
        }
    }
}

/// The log of a server, checked line by line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<LogState>);

#[derive(Debug, Default)]
struct LogState {
    lines: AtomicUsize,
    ended: AtomicBool,
    bad: std::sync::Mutex<Vec<String>>,
}

impl Log {
    pub(crate) fn read(&self, from: ChildStderr) {
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                state.lines.fetch_add(1, Ordering::Relaxed);
                if has_secret(&line) {
                    state.bad.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                }
            }
            state.ended.store(true, Ordering::Release);
        });
    }

    /// Asserts that no line had a secret, and returns the number of lines.
    pub(crate) async fn check(&self) -> usize {
        tokio::time::timeout(TIMEOUT, async {
            while !self.0.ended.load(Ordering::Acquire) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the end of the log");
        let bad = self.0.bad.lock().unwrap();
        assert!(bad.is_empty(), "{} lines have secrets, such as {}", bad.len(), bad[0]);
        let lines = self.0.lines.load(Ordering::Relaxed);
        assert!(lines > 0, "nothing was logged");
        lines
    }
}

/// Whether a line has the key, or eleven digits of a simulated number: 1, area, 555, four more.
fn has_secret(line: &[u8]) -> bool {
    let secret = KEY.strip_prefix("sk_").unwrap().as_bytes();
    let number =
        |run: &[u8]| run.len() >= 11 && run.windows(11).any(|n| n[0] == b'1' && &n[4..7] == b"555");
    line.windows(secret.len()).any(|window| window == secret)
        || line.split(|byte| !byte.is_ascii_digit()).any(number)
}

#[test]
fn a_line_with_a_secret_is_detected() {
    assert!(has_secret(b"{\"to\":\"+14155550100\"}") && has_secret(b"Bearer sk_live_5oak5ecret"));
    assert!(!has_secret(b"+141******00 sk_*** 2026-11-22T06:44:33.123456Z 1234567"));
}
