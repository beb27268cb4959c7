//! What a check of `doctor` reports: the result, its severity, and the fix.

use serde::Serialize;

use crate::mcp::reply::text::one_line;
use crate::telemetry::redact;

const MAX_TEXT: usize = 600;
const MAX_CHECK_NAME: usize = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// Nothing is wrong, but something could be added.
    Info,
    /// Something should be changed, or could not be checked.
    Warn,
    /// Something does not work.
    Fail,
}

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) level: Level,
    pub(super) message: String,
    /// The command or the step that solves the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: impl Into<String>, message: impl AsRef<str>) -> Self {
        Self::new(check, Level::Ok, message, None)
    }

    pub(super) fn info(check: impl Into<String>, message: impl AsRef<str>) -> Self {
        Self::new(check, Level::Info, message, None)
    }

    pub(super) fn warn(
        check: impl Into<String>,
        message: impl AsRef<str>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(check, Level::Warn, message, Some(fix.into()))
    }

    pub(super) fn fail(
        check: impl Into<String>,
        message: impl AsRef<str>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(check, Level::Fail, message, Some(fix.into()))
    }

    /// A check that was impossible because of an earlier failure.
    pub(super) fn skipped(check: &str, why: &str) -> Self {
        Self::new(check, Level::Warn, format!("not checked: {why}"), None)
    }

    fn new(
        check: impl Into<String>,
        level: Level,
        message: impl AsRef<str>,
        fix: Option<String>,
    ) -> Self {
        // Messages quote files, and files hold keys and telephone numbers.
        let message = one_line(&redact(message.as_ref()), MAX_TEXT);
        let check = one_line(&check.into(), MAX_CHECK_NAME);
        let fix = fix.map(|fix| one_line(&fix, MAX_TEXT));
        Self { check, level, message, fix }
    }
}
