//! One line at the bottom of a terminal that says what is waited for and since when; elsewhere nothing
//! at all. Other lines are written above it, so they must go through [`Live::say`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::output::print;
use super::style::Style;

/// How often it is drawn anew.
const EVERY: Duration = Duration::from_millis(120);

/// What is drawn one after the other (Braille patterns).
const FRAMES: [&str; 8] = ["⠹", "⢸", "⣰", "⣤", "⣆", "⡇", "⠏", "⠛"];

/// To the beginning of the line, and erase it whole (ECMA-48: CR, EL 2).
const ERASE: &str = "\r\u{1b}[2K";

/// The line; copies of it are the same line.
#[derive(Clone)]
pub(super) struct Live {
    style: Style,
    /// Whether it stands on the terminal now.
    drawn: Arc<Mutex<bool>>,
}

/// As long as it lives, the line is shown.
pub(super) struct Waiting {
    live: Live,
    drawing: Option<AbortHandle>,
}

impl Live {
    pub(super) fn new(style: Style) -> Self {
        Self { style, drawn: Arc::default() }
    }

    fn line(&self) -> MutexGuard<'_, bool> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows that this is waited for, until what it gives back is dropped.
    pub(super) fn wait(&self, what: &str) -> Waiting {
        let drawing = self.style.is_live().then(|| {
            let (live, what, since) = (self.clone(), what.to_owned(), Instant::now());
            let drawing = tokio::spawn(async move {
                for frame in FRAMES.iter().cycle() {
                    let seconds = since.elapsed().as_secs();
                    live.draw(&format!("{frame} {what} {}:{:02}", seconds / 60, seconds % 60));
                    tokio::time::sleep(EVERY).await;
                }
            });
            drawing.abort_handle()
        });
        Waiting { live: self.clone(), drawing }
    }

    fn draw(&self, text: &str) {
        let mut line = self.line();
        // A terminal that is gone is noticed by whoever has something to say.
        *line = print(format!("{ERASE}{}", self.style.paint("2", text))).is_ok();
    }

    /// Writes to standard output, above the line where there is one.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn print(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        let mut line = self.line();
        if std::mem::take(&mut *line) {
            print(format!("{ERASE}{}", text.as_ref()))
        } else {
            print(text)
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(drawing) = &self.drawing {
            drawing.abort();
        }
        let mut line = self.live.line();
        if std::mem::take(&mut *line) {
            // A terminal that is gone needs no tidying.
            let _ = print(ERASE);
        }
    }
}
