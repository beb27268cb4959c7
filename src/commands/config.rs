//! `callingbox-mcp config`: everything that holds, and where the key comes from; never the key.

use std::path::PathBuf;

use serde::Serialize;

use anyhow::Context;

use super::output::print;
use super::{LOG, LOG_OF_HTTP};
use crate::account::Environment;
use crate::cli::{self, Global};
use crate::config::{self, ConfigFile, DialingConfig, UserFolders};
use crate::env_var::read_env_var;
use crate::runtime;
use crate::telemetry::LogFormat;
use crate::watch::WaitLimits;

/// Named as in the file, wherever a value comes from.
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
    log: String,
    log_format: LogFormat,
    log_arguments: bool,
    request_timeout_seconds: u64,
    policy_file: String,
    wait: WaitLimits,
    dialing: DialingConfig,
}

pub(super) fn run(
    options: &cli::ConfigArgs,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    if options.schema {
        let schema = schemars::schema_for!(ConfigFile);
        return print(format!("{}\n", serde_json::to_string_pretty(&schema)?));
    }
    let selection = global.selection(file);
    let found = config::find_credentials(file, &read_env_var, folders)?;
    let (environment, base_url, api_key) = match &global.sandbox {
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
    let log = global.log_filter(file).map(str::to_owned);
    // A file that is named must be there.
    let without_rules = match file.policy_file {
        Some(_) => "no server starts",
        None => "the rules are as shipped",
    };
    let effective = Effective {
        config_file: place(
            config::config_path(global.config.as_deref(), folders),
            "nothing is set by it",
        ),
        environment,
        base_url,
        allow_insecure_base_url: file.allow_insecure_base_url.unwrap_or(false),
        api_key,
        toolsets: selection.active_toolsets().map(|set| set.to_string()).collect(),
        tools: selection.tools,
        exclude_tools: selection.exclude_tools,
        read_only: selection.read_only,
        log: log.unwrap_or_else(|| format!("{LOG}; of http: {LOG_OF_HTTP}")),
        log_format: global.log_format.or(file.log_format).unwrap_or_default(),
        log_arguments: global.logs_arguments(file),
        request_timeout_seconds: runtime::api_timeouts(file).request.as_secs(),
        policy_file: place(config::policy_path(file, folders), without_rules),
        wait: file.wait.clone(),
        dialing: file.dialing.with_defaults(environment, folders),
    };
    print(toml::to_string(&effective)?)
}

/// The file, or what holds where there is none.
fn place(path: Option<PathBuf>, without: &str) -> String {
    match path {
        Some(path) if path.exists() => path.display().to_string(),
        Some(path) => format!("{} is not there: {without}", path.display()),
        None => format!("there is no folder for it: {without}"),
    }
}
