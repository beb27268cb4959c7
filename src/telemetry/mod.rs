//! Logs on standard error: one line for each event, never with a key or a whole telephone number.
//!
//! The types of such values do not print them, and text from clients is masked where it is logged
//! ([`arguments::mask_digits`]). The writer here is the second defense: it masks whatever still looks like a secret or a
//! number, and no text in an event can begin a new line.

pub mod arguments;
pub mod log_throttle;
pub mod metrics;
pub mod traces;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, LevelFilter, ParseError, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::suggest::correct_typo;
use callingbox::redact::mask_secrets_and;
use callingbox::shown_text::is_invisible;

/// The format of log lines.
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

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter `{filter}` cannot be read: {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: ParseError,
    },
    /// A word of the filter is not a level. Without this error it would be taken for the only target that is logged.
    #[error(
        "the log filter `{filter}` cannot be read: `{word}` is not a level; {}",
        suggest_level(word)
    )]
    NotALevel {
        /// The filter.
        filter: String,
        /// The word.
        word: String,
    },
    /// The process has a subscriber already.
    #[error("logging was already started")]
    AlreadyStarted(#[from] TryInitError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] traces::TracesError),
}

/// The names of the levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn suggest_level(word: &str) -> String {
    match correct_typo(&word.to_ascii_lowercase(), LEVELS) {
        Some(level) => format!("did you mean `{level}`?"),
        None => format!("write one of {}, or `{word}=info`", LEVELS.join(", ")),
    }
}

/// The first directive that is a single word, and neither a level nor a part of this program.
fn find_unknown_word(filter: &str) -> Option<&str> {
    let mut words = filter.split(',').filter(|word| !word.contains(['=', '[', ']', '{', '}']));
    words.find(|word| {
        let is_own = word.split("::").next() == Some(env!("CARGO_CRATE_NAME"));
        !is_own && word.parse::<LevelFilter>().is_err()
    })
}

/// Checks a log filter.
///
/// # Errors
/// The filter cannot be read.
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse_filter(filter).map(drop)
}

fn parse_filter(filter: &str) -> Result<Targets, TelemetryError> {
    // A level with a blank before it would be taken for a target.
    let filter = filter.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    match find_unknown_word(&filter).map(str::to_owned) {
        Some(word) => Err(TelemetryError::NotALevel { filter, word }),
        None => filter.parse().map_err(|reason| TelemetryError::Filter { filter, reason }),
    }
}

/// The parts of telemetry that must be shut down at the end of the process.
#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    exporter: Option<traces::TraceExporter>,
}

impl Telemetry {
    /// Starts the log on standard error and, with `exports_traces`, the export of traces. Must be called within a tokio
    /// runtime.
    ///
    /// `filter` is a list of targets with their levels, such as `info` or `callingbox_mcp=debug`. Whatever it says, rmcp
    /// and the HTTP libraries log only warnings, because below that level they log whole requests with all arguments;
    /// rmcp's service logs only errors, because its warnings repeat ids and words of the client.
    ///
    /// # Errors
    /// The filter cannot be read, the process has a subscriber already, or traces cannot be exported.
    pub fn start(
        format: LogFormat,
        filter: &str,
        exports_traces: bool,
    ) -> Result<Self, TelemetryError> {
        let limits = Targets::new()
            .with_default(LevelFilter::TRACE)
            .with_targets(
                ["rmcp", "hyper", "hyper_util", "reqwest", "h2"]
                    .map(|target| (target, LevelFilter::WARN)),
            )
            .with_target("rmcp::service", LevelFilter::ERROR);
        // Without spans a line shows its own fields and no others.
        let events = filter_fn(|metadata: &Metadata<'_>| metadata.is_event());
        let filter = parse_filter(filter)?.and(limits).and(events);
        let lines = tracing_subscriber::fmt::layer().with_writer(RedactingWriter).with_ansi(false);
        let lines = match format {
            LogFormat::Text => lines.with_filter(filter).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        };
        let subscriber = tracing_subscriber::registry().with(lines).with(IgnoreClosedConnections);
        #[cfg(feature = "otlp")]
        let exporter = exports_traces.then(traces::TraceExporter::from_environment).transpose()?;
        #[cfg(feature = "otlp")]
        let subscriber = subscriber.with(exporter.as_ref().map(traces::span_layer));
        subscriber.try_init()?;
        #[cfg(not(feature = "otlp"))]
        if exports_traces {
            traces::warn_if_requested();
        }
        // The message of a panic may quote a secret, so it is logged like every other event.
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Ok(Self {
            #[cfg(feature = "otlp")]
            exporter,
        })
    }

    /// Exports the remaining spans, for at most two seconds.
    pub async fn shut_down(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            exporter.shut_down().await;
        }
    }
}

/// Drops an event that rmcp logs as an error and is none: a client that disconnected before its response. A client may
/// do so at any time, and it is the only way to end a subscription.
struct IgnoreClosedConnections;

impl<S: Subscriber> Layer<S> for IgnoreClosedConnections {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if event.metadata().target() != "rmcp::service" {
            return true;
        }
        let mut visitor = ClosedConnectionVisitor { is_match: false };
        event.record(&mut visitor);
        !visitor.is_match
    }
}

struct ClosedConnectionVisitor {
    is_match: bool,
}

impl Visit for ClosedConnectionVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.is_match = format!("{value:?}") == "failed to send pending response during drain";
        }
    }
}

/// Masks secrets and telephone numbers: those that the API client knows, and this server's own access tokens.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    mask_secrets_and(text, &["cbmcp_"])
}

/// A writer to standard error that masks secrets and numbers, and keeps each event on one line.
#[derive(Debug, Clone, Copy)]
struct RedactingWriter;

impl<'a> MakeWriter<'a> for RedactingWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        Self
    }
}

impl Write for RedactingWriter {
    /// Receives a whole event at a time, because the formatter writes whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, newline) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        let mut shown = redact(text);
        // Nearly every line is ASCII, which is cheap to recognize.
        let is_printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_printable(&shown) && shown.chars().any(is_invisible) {
            shown = Cow::Owned(escape_for_json(&shown));
        }
        shown.to_mut().push_str(newline);
        io::stderr().lock().write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Escapes the invisible characters and those that begin a new line or move the cursor, as JSON does.
fn escape_for_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            c if is_invisible(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_and_its_json_stays_valid() {
        let text = "a\n\r\u{1b}[2J\t\0\u{7f}\u{85}\u{9b}\u{2028}\u{2029}é";
        let shown = escape_for_json(text);
        assert_eq!(shown, r"a\n\u000d\u001b[2J\u0009\u0000\u007f\u0085\u009b\u2028\u2029é");
        assert_eq!(serde_json::from_str::<String>(&format!("\"{shown}\"")).unwrap(), text);
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        let error = check_filter("callingbox=loud").unwrap_err();
        assert!(error.to_string().starts_with("the log filter `callingbox=loud` cannot be read"));
    }
}
