//! `callingbox-mcp config`: prints every setting in force and the source of the API key, never the key itself.

use std::path::PathBuf;

use serde::Serialize;

use anyhow::Context;

use super::output::print;
use super::{HTTP_LOG_FILTER, LOG_FILTER};
use crate::account::Environment;
use crate::cli;
use crate::config::{ConfigFile, DialingConfig, LedgerConfig};
use crate::runtime;
use crate::settings::ProgramSettings;
use crate::telemetry::LogFormat;
use crate::watch::WaitLimits;

/// The names are those of the file, wherever a value comes from.
#[derive(Serialize)]
struct Effective {
    config_file: String,
    environment: Environment,
    base_url: String,
    allow_insecure_base_url: bool,
    api_key: String,
    toolsets: Vec<String>,
    tools: Vec<String>,
    exclude_tools: Vec<String>,
    read_only: bool,
    ui: bool,
    log: String,
    log_format: LogFormat,
    log_arguments: bool,
    request_timeout_seconds: u64,
    policy_file: String,
    wait: WaitLimits,
    dialing: DialingConfig,
    ledger: LedgerConfig,
}

pub(super) fn run(args: &cli::ConfigArgs, settings: &ProgramSettings) -> anyhow::Result<()> {
    if args.schema {
        let schema = schemars::schema_for!(ConfigFile);
        return print(format!("{}\n", serde_json::to_string_pretty(&schema)?));
    }
    let selection = settings.selection();
    let found = settings.find_credentials()?;
    let (environment, base_url, api_key) = match &settings.global.sandbox {
        Some(url) => (
            Environment::Sandbox,
            match url {
                None => "embedded simulator".to_owned(),
                Some(url) => runtime::parse_simulator_url(url).context("--sandbox")?.to_string(),
            },
            "none needed".to_owned(),
        ),
        None => (
            Environment::Live,
            found.base_url.to_string(),
            found.key.map_or_else(|| "not set".to_owned(), |(_, from)| format!("from {from}")),
        ),
    };
    let log_filter = settings.log_filter().map(str::to_owned);
    let ProgramSettings { file, folders, .. } = settings;
    // A named file must exist.
    let without_policy_file = match file.policy_file {
        Some(_) => "no server starts",
        None => "the default rules are in force",
    };
    let effective = Effective {
        config_file: describe_path(settings.config_path(), "it sets nothing"),
        environment,
        base_url,
        allow_insecure_base_url: file.allow_insecure_base_url.unwrap_or(false),
        api_key,
        toolsets: selection.active_toolsets().map(|set| set.to_string()).collect(),
        tools: selection.tools,
        exclude_tools: selection.exclude_tools,
        read_only: selection.read_only,
        ui: !selection.no_ui,
        log: log_filter.unwrap_or_else(|| format!("{LOG_FILTER}; with http: {HTTP_LOG_FILTER}")),
        log_format: settings.log_format(),
        log_arguments: settings.logs_arguments(),
        request_timeout_seconds: runtime::api_timeouts(file).request.as_secs(),
        policy_file: describe_path(settings.policy_path(), without_policy_file),
        wait: file.wait.clone(),
        dialing: file.dialing.with_defaults(environment, folders),
        ledger: file.ledger.clone(),
    };
    print(toml::to_string(&effective)?)
}

/// The path of a file, or that it does not exist and the consequence.
fn describe_path(path: Option<PathBuf>, consequence: &str) -> String {
    match path {
        Some(path) if path.exists() => path.display().to_string(),
        Some(path) => format!("{} does not exist: {consequence}", path.display()),
        None => format!("the user has no folder for it: {consequence}"),
    }
}
