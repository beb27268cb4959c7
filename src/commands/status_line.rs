//! The line at the bottom of a terminal that shows the current work and how long it has taken. There is none without
//! a terminal. Other lines are written above it, so they must go through [`StatusLine::print`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::output::{print, wrap_lines};
use super::style::Style;

const REDRAW_INTERVAL: Duration = Duration::from_millis(120);

/// The frames of the spinner (Braille patterns).
const FRAMES: [&str; 8] = ["⠹", "⢸", "⣰", "⣤", "⣆", "⡇", "⠏", "⠛"];

/// Moves to the beginning of the line and erases it (ECMA-48: CR, EL 2).
const ERASE: &str = "\r\u{1b}[2K";

/// A handle to the line; clones share one line.
#[derive(Clone)]
pub(super) struct StatusLine {
    style: Style,
    is_drawn: Arc<Mutex<bool>>,
}

/// Shows the line until it is dropped.
pub(super) struct StatusGuard {
    line: StatusLine,
    drawing: Option<AbortHandle>,
}

impl StatusLine {
    pub(super) fn new(style: Style) -> Self {
        Self { style, is_drawn: Arc::default() }
    }

    /// Shows this work until the guard is dropped.
    pub(super) fn show(&self, work: &str) -> StatusGuard {
        let drawing = self.style.can_redraw().then(|| {
            let (line, work, since) = (self.clone(), work.to_owned(), Instant::now());
            let drawing = tokio::spawn(async move {
                for frame in FRAMES.iter().cycle() {
                    let seconds = since.elapsed().as_secs();
                    line.draw(&format!("{frame} {work} {}:{:02}", seconds / 60, seconds % 60));
                    tokio::time::sleep(REDRAW_INTERVAL).await;
                }
            });
            drawing.abort_handle()
        });
        StatusGuard { line: self.clone(), drawing }
    }

    fn draw(&self, text: &str) {
        let mut is_drawn = self.is_drawn.lock();
        // If the terminal is gone, the next `print` reports it.
        *is_drawn = print(format!("{ERASE}{}", self.style.paint("2", text))).is_ok();
    }

    /// Writes sentences to standard output, above the line if it is drawn.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn print(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        let text = wrap_lines(text.as_ref(), None);
        let mut is_drawn = self.is_drawn.lock();
        let erase = if std::mem::take(&mut *is_drawn) { ERASE } else { "" };
        print(format!("{erase}{text}"))
    }
}

impl Drop for StatusGuard {
    fn drop(&mut self) {
        if let Some(drawing) = &self.drawing {
            drawing.abort();
        }
        // If the terminal is gone, there is nothing to erase.
        let _ = self.line.print("");
    }
}
