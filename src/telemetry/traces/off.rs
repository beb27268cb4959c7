//! What is left of traces without the cargo feature `otlp`: a warning to whoever asks for them.

use super::{TracesError, asked};

/// Nothing is sent.
#[derive(Debug)]
pub struct Traces;

/// Warns when the environment asks for traces.
///
/// # Errors
/// None.
pub fn begin() -> Result<Traces, TracesError> {
    if let Some((variable, _)) = asked() {
        tracing::warn!(
            "{variable} is set, and this program was built without traces: build it with `--features otlp`"
        );
    }
    Ok(Traces)
}

impl Traces {
    /// Nothing is to be sent.
    pub async fn end(self) {}
}

/// What a request says of its caller's trace: not looked at.
#[derive(Debug, Clone, Default)]
pub struct Origin;

impl Origin {
    /// Nothing.
    #[must_use]
    pub fn of<'a>(_find: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        Self
    }

    /// No span.
    #[must_use]
    pub fn tool_call(&self, _tool: &'static str, _tenant: Option<&str>) -> ToolCall {
        ToolCall
    }
}

/// No span.
#[derive(Debug)]
pub struct ToolCall;

impl ToolCall {
    /// The work, as it is.
    pub fn carry<F: Future>(&self, work: F) -> F {
        work
    }

    /// Nothing.
    pub fn end(self, _outcome: &'static str, _failed: bool) {}
}

/// The work, as it is.
pub fn carried<F: Future>(work: F) -> F {
    work
}
