//! The lines at the bottom of a terminal that show the current work and how long it has taken. There are none without
//! a terminal. Other lines are written above them, so they must go through [`StatusLine::print`].

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{print, wrap_lines};
use super::style::Style;

const REDRAW_INTERVAL: Duration = Duration::from_millis(120);

/// The frames of the spinner (Braille patterns); the last one is that of the end.
const FRAMES: [&str; 9] = ["⠹", "⢸", "⣰", "⣤", "⣆", "⡇", "⠏", "⠛", ""];

/// A handle to the line; clones share one line.
#[derive(Clone)]
pub(super) struct StatusLine {
    /// `None` without a terminal.
    pub(super) bar: Option<ProgressBar>,
    interval: Duration,
}

/// Shows the line until it is dropped.
pub(super) struct StatusGuard(StatusLine);

impl StatusLine {
    pub(super) fn new(style: Style) -> Self {
        let template = style.paint("2", "{spinner} {msg} {elapsed}");
        Self::with_template(style, &template, REDRAW_INTERVAL)
    }

    /// A line of this form, a template of `indicatif`, which is drawn again so often while nothing happens.
    pub(super) fn with_template(style: Style, template: &str, interval: Duration) -> Self {
        let bar = style.can_redraw().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            // The templates are tested.
            if let Ok(form) = ProgressStyle::with_template(template) {
                bar.set_style(form.tick_strings(&FRAMES));
            }
            bar
        });
        Self { bar, interval }
    }

    /// Shows this work until the guard is dropped.
    pub(super) fn show(&self, work: &str) -> StatusGuard {
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_message(work.to_owned());
            bar.enable_steady_tick(self.interval);
        }
        StatusGuard(self.clone())
    }

    /// Writes sentences to standard output, above the line if it is drawn.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn print(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        let text = wrap_lines(text.as_ref(), None);
        match &self.bar {
            Some(bar) => bar.suspend(|| print(text)),
            None => print(text),
        }
    }
}

impl Drop for StatusGuard {
    fn drop(&mut self) {
        if let Some(bar) = &self.0.bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }
}
