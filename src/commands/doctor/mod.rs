//! `callingbox-mcp doctor`: checks everything that a call needs, and names the fix for each problem. It changes nothing,
//! except that it creates a missing ledger. It shows no API key and no full telephone number.

mod api;
mod clients;
mod finding;
mod http_server;
mod local;

use std::process::ExitCode;

use serde::Serialize;

use self::finding::{Finding, Level};
use crate::account::Environment;
use crate::cli::{self, Global};
use crate::commands::output::{print, wrap_lines};
use crate::commands::status_line::StatusLine;
use crate::commands::style::Style;
use crate::config::UserFolders;
use crate::runtime::ledger_location;

#[derive(Serialize)]
struct Report {
    version: &'static str,
    environment: Environment,
    ok: bool,
    findings: Vec<Finding>,
}

pub(super) async fn run(args: cli::DoctorArgs, global: Global) -> anyhow::Result<ExitCode> {
    let style = Style::from_terminal();
    let line = StatusLine::new(style);
    let status = (!args.json).then(|| line.show("checking"));
    let report = run_checks(&args, global).await;
    drop(status);
    if args.json {
        print(format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(report_text(&report, style))?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_checks(args: &cli::DoctorArgs, mut global: Global) -> Report {
    let configuration = local::check_configuration(&mut global, UserFolders::from_system());
    let environment = global.environment();
    let findings = match configuration {
        Ok((finding, settings)) => {
            let mut findings = vec![finding];
            let dialing = async {
                let (shared, state) = match http_server::check_state(&args.state, &settings).await {
                    Ok(found) => found.unzip(),
                    Err(finding) => {
                        return vec![
                            finding,
                            Finding::skipped(
                                local::LEDGER,
                                "it is in the state that the replicas share",
                            ),
                        ];
                    }
                };
                let place = ledger_location(&settings, shared);
                state.into_iter().chain([local::check_ledger(&place, environment).await]).collect()
            };
            let (api, dialing, issuer, entries) = tokio::join!(
                api::check_api(&settings),
                dialing,
                http_server::check_issuer(&args.oauth),
                clients::check_clients(
                    &settings,
                    environment == Environment::Live && local::is_key_set_here_only(&settings)
                ),
            );
            findings.extend(api);
            findings.extend(dialing);
            findings.extend(issuer);
            findings.push(local::check_policy(&settings));
            findings.extend(local::check_stray_files(&settings.folders));
            findings.push(local::check_webhook_hosts(&settings.file));
            findings.push(local::check_time_zones());
            findings.extend(entries);
            findings
        }
        // Without a configuration, no other check would test the right settings.
        Err(finding) => vec![finding],
    };
    let ok = findings.iter().all(|finding| finding.level != Level::Fail);
    Report { version: env!("CARGO_PKG_VERSION"), environment, ok, findings }
}

/// One line per finding, then the fixes.
fn report_text(report: &Report, style: Style) -> String {
    let mut text = String::new();
    if report.environment == Environment::Sandbox {
        text.push_str("On the simulator: no telephone rings, nothing is charged.\n");
    }
    let width = report.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for Finding { check, level, message, .. } in &report.findings {
        let mark = match level {
            Level::Ok => style.mark("32", "✓", "OK"),
            Level::Info => style.mark("2", "-", "INFO"),
            Level::Warn => style.mark("33", "!", "WARN"),
            Level::Fail => style.mark("1;31", "✗", "FAIL"),
        };
        let line = format!("{mark} {check:<width$}  {message}\n");
        text.push_str(&wrap_lines(&line, Some(style.mark_width() + width + 3)));
    }
    let fixes: Vec<(&str, &str)> = report
        .findings
        .iter()
        .filter_map(|finding| Some((finding.check.as_str(), finding.fix.as_deref()?)))
        .collect();
    if fixes.is_empty() {
        text.push_str("\nNo problems found.\n");
    } else {
        text.push_str("\nWhat to do:\n");
        for (check, fix) in fixes {
            text.push_str(&wrap_lines(&format!("  {check}: {fix}\n"), None));
        }
    }
    text
}
