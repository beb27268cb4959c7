//! `callingbox-mcp doctor`: looks at everything that a call needs, and names for each defect the
//! command or the step that mends it. Changes nothing but that it creates a ledger where there is
//! none; shows no key and no whole telephone number.

mod entries;
mod local;
mod remote;
mod served;

use std::process::ExitCode;

use serde::Serialize;

use super::status_line::Live;
use crate::account::Environment;
use crate::cli::{self, Global};
use crate::commands::output::print;
use crate::commands::style::Style;
use crate::config::UserFolders;
use crate::mcp::reply::text::one_line;
use crate::runtime::HttpExtras;
use crate::telemetry::redact;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Nothing to do.
    Ok,
    /// Something is not as it should be, or could not be looked at.
    Warn,
    /// Something does not work.
    Fail,
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    level: Level,
    message: String,
    /// The command or the step that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, message: impl AsRef<str>) -> Self {
        Self::new(check, Level::Ok, message, None)
    }

    fn warn(check: impl Into<String>, message: impl AsRef<str>, fix: impl Into<String>) -> Self {
        Self::new(check, Level::Warn, message, Some(fix.into()))
    }

    fn fail(check: impl Into<String>, message: impl AsRef<str>, fix: impl Into<String>) -> Self {
        Self::new(check, Level::Fail, message, Some(fix.into()))
    }

    /// What could not be looked at because something before it failed.
    fn skipped(check: &str, why: &str) -> Self {
        Self::new(check, Level::Warn, format!("not looked at: {why}"), None)
    }

    fn new(
        check: impl Into<String>,
        level: Level,
        message: impl AsRef<str>,
        fix: Option<String>,
    ) -> Self {
        // Messages quote files, and files hold keys and telephone numbers.
        let message = one_line(&redact(message.as_ref()), 600);
        let check = one_line(&check.into(), 80);
        let fix = fix.map(|fix| one_line(&fix, 600));
        Self { check, level, message, fix }
    }
}

/// Everything that was found.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    environment: Environment,
    ok: bool,
    findings: Vec<Finding>,
}

pub(super) async fn run(options: cli::DoctorArgs, global: Global) -> anyhow::Result<ExitCode> {
    let style = Style::of_terminal();
    let live = Live::new(style);
    let waiting = (!options.json).then(|| live.wait("looking"));
    let report = examine(&options, global, &UserFolders::from_system()).await;
    drop(waiting);
    if options.json {
        print(format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(text(&report, style))?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(options: &cli::DoctorArgs, mut global: Global, folders: &UserFolders) -> Report {
    let configuration = local::configuration(&mut global, folders);
    let environment = global.environment();
    let findings = match configuration {
        Ok((finding, file)) => {
            let mut findings = vec![finding];
            let dialing = async {
                let (shared, state) = match served::state(&options.state, &file).await {
                    Ok(found) => found.unzip(),
                    Err(finding) => {
                        return vec![
                            finding,
                            Finding::skipped(
                                local::LEDGER,
                                "it is kept in what the replicas share",
                            ),
                        ];
                    }
                };
                let place = HttpExtras { shared, ..HttpExtras::default() }.ledger(
                    &file,
                    environment,
                    folders,
                );
                state.into_iter().chain([local::ledger(&place, environment).await]).collect()
            };
            let (api, dialing, issuer, entries) = tokio::join!(
                remote::api(&global, &file, folders),
                dialing,
                served::issuer(&options.oauth),
                entries::all(
                    &global,
                    environment == Environment::Live && local::key_is_only_here(&file, folders)
                ),
            );
            findings.extend(api);
            findings.extend(dialing);
            findings.extend(issuer);
            findings.push(local::policy(&file, folders));
            findings.extend(entries);
            findings
        }
        // Whatever else were said would be about settings that do not hold.
        Err(finding) => vec![finding],
    };
    let ok = findings.iter().all(|finding| finding.level != Level::Fail);
    Report { version: env!("CARGO_PKG_VERSION"), environment, ok, findings }
}

/// One line for each finding, then what to do.
fn text(report: &Report, style: Style) -> String {
    let mut text = String::new();
    if report.environment == Environment::Sandbox {
        text.push_str("On the simulator: no telephone rings, nothing is charged.\n");
    }
    let width = report.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for Finding { check, level, message, .. } in &report.findings {
        let mark = match level {
            Level::Ok => style.mark("32", "✓", "OK"),
            Level::Warn => style.mark("33", "!", "WARN"),
            Level::Fail => style.mark("1;31", "✗", "FAIL"),
        };
        text.push_str(&format!("{mark} {check:<width$}  {message}\n"));
    }
    let fixes: Vec<(&str, &str)> = report
        .findings
        .iter()
        .filter_map(|finding| Some((finding.check.as_str(), finding.fix.as_deref()?)))
        .collect();
    if fixes.is_empty() {
        text.push_str("\nNothing is wrong.\n");
    } else {
        text.push_str("\nWhat to do:\n");
        for (check, fix) in fixes {
            text.push_str(&format!("  {check}: {fix}\n"));
        }
    }
    text
}
