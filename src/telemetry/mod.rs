//! Logs: on standard error, quiet by default, a line for each event, and never with a key or a whole
//! telephone number.
//!
//! The types that hold such values already refuse to print them, and what strangers wrote is masked
//! where it is logged ([`arguments::digits_masked`]). The writer here is the second line: whatever still
//! looks like a secret or a number is masked before it leaves the process, and no text begins a line.

pub mod arguments;
pub mod metrics;
pub mod traces;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::suggest::correct_typo;
use callingbox::redact::mask_secrets_and;

/// How log lines are written.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter `{filter}` cannot be read: {reason}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: tracing_subscriber::filter::ParseError,
    },
    /// A word in it is no level, and would be taken for the one part of the program to hear of.
    #[error("the log filter `{filter}` cannot be read: `{word}` is no level; {}", advice(word))]
    Word {
        /// What was given.
        filter: String,
        /// The word.
        word: String,
    },
    /// Something else took the place.
    #[error("logging was already begun")]
    Taken(#[from] TryInitError),
}

/// The levels that a filter knows by name.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn advice(word: &str) -> String {
    match correct_typo(&word.to_ascii_lowercase(), LEVELS) {
        Some(level) => format!("did you mean `{level}`?"),
        None => format!("write one of {}, or `{word}=info`", LEVELS.join(", ")),
    }
}

/// The first directive that is a single word and neither a level nor a part of this program.
fn stray(filter: &str) -> Option<&str> {
    let words = filter.split(',').filter(|word| !word.contains(['=', '[', ']', '{', '}']));
    let mut strays = words.filter(|word| {
        let own = word.split("::").next() == Some(env!("CARGO_CRATE_NAME"));
        !own && word.parse::<LevelFilter>().is_err()
    });
    strays.next()
}

/// Whether logging could begin with this filter.
///
/// # Errors
/// The filter cannot be read.
pub fn check(filter: &str) -> Result<(), TelemetryError> {
    read(filter).map(drop)
}

fn read(filter: &str) -> Result<EnvFilter, TelemetryError> {
    // With a blank before it a level, too, would be taken for a target.
    let filter = filter.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    match stray(&filter).map(str::to_owned) {
        Some(word) => Err(TelemetryError::Word { filter, word }),
        None => {
            EnvFilter::try_new(&filter).map_err(|reason| TelemetryError::Filter { filter, reason })
        }
    }
}

/// Begins to log to standard error.
///
/// `filter` is in the syntax of `tracing_subscriber::EnvFilter`, such as `info` or
/// `callingbox_mcp=debug`; the target of another library has its level with it. rmcp and the HTTP
/// libraries are held at `warn`, whatever the filter says of them: below that they write whole requests,
/// with every argument in them. rmcp's service is held at `error`: its warnings repeat ids and words of
/// the client.
///
/// # Errors
/// The filter cannot be read, or logging was already begun.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let cap = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(
            ["rmcp", "hyper", "hyper_util", "reqwest", "h2"]
                .map(|target| (target, LevelFilter::WARN)),
        )
        .with_target("rmcp::service", LevelFilter::ERROR);
    let filter = read(filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(Redacting).with_ansi(false);
    let registry = tracing_subscriber::registry().with(cap).with(filter).with(Departures);
    match format {
        LogFormat::Text => registry.with(lines).try_init()?,
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
    }
    // A panic's message may quote what it stumbled over: it goes the way of every other line.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

/// Leaves out what rmcp calls an error and is none: a client that left before its answer. It may at any
/// time, and ending a subscription is done in no other way.
struct Departures;

impl<S: Subscriber> Layer<S> for Departures {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if event.metadata().target() != "rmcp::service" {
            return true;
        }
        let mut says = Says { gone: false };
        event.record(&mut says);
        !says.gone
    }
}

struct Says {
    gone: bool,
}

impl Visit for Says {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.gone = format!("{value:?}") == "failed to send pending response during drain";
        }
    }
}

/// Masks secrets and telephone numbers: those that the API client knows, and this server's own access tokens.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    mask_secrets_and(text, &["cbmcp_"])
}

/// A writer to standard error that masks what must not be seen, and keeps an event on its line.
#[derive(Debug, Clone, Copy)]
struct Redacting;

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        Self
    }
}

impl Write for Redacting {
    /// Each event arrives in one piece: the formatter writes whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        let mut shown = redact(text);
        // Nearly every line, told without taking it apart.
        let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !plain(&shown) && shown.chars().any(breaks_out) {
            shown = Cow::Owned(on_one_line(&shown));
        }
        shown.to_mut().push_str(end);
        io::stderr().lock().write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Whether a character begins a line or moves the cursor.
fn breaks_out(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Escapes what begins a line or moves the cursor, in a way that is JSON's too.
fn on_one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            c if breaks_out(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_and_its_json_stays_json() {
        let text = "a\n\r\u{1b}[2J\t\0\u{7f}\u{85}\u{9b}\u{2028}\u{2029}é";
        let shown = on_one_line(text);
        assert_eq!(shown, r"a\n\u000d\u001b[2J\u0009\u0000\u007f\u0085\u009b\u2028\u2029é");
        assert_eq!(serde_json::from_str::<String>(&format!("\"{shown}\"")).unwrap(), text);
    }

    #[test]
    fn an_unreadable_filter_is_refused() {
        let error = init(LogFormat::Text, "callingbox=loud").unwrap_err();
        assert!(error.to_string().starts_with("the log filter `callingbox=loud` cannot be read"));
    }
}
