//! `callingbox-mcp healthcheck`: asks a running server how it is, where there is no other program that
//! could (a container without a shell). Reads no configuration.

use std::time::Duration;

use anyhow::Context;

use crate::cli;

/// How long an answer may take; `/readyz` itself gives up after 5 s.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) async fn run(options: cli::HealthcheckArgs) -> anyhow::Result<()> {
    let url = options.url;
    let tls =
        callingbox::http_client::tls_config(url.scheme() == "https").map_err(anyhow::Error::msg)?;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .build()?;
    let answer = http.get(url.clone()).send().await.with_context(|| format!("{url}: no answer"))?;
    anyhow::ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
    Ok(())
}
