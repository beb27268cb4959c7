//! `callingbox-mcp healthcheck`: checks a running server, for containers without any other program that could (they
//! have no shell). Reads no configuration, so that an invalid file does not make a running server look unhealthy.

use std::time::Duration;

use crate::cli;

/// `/readyz` itself gives up after 5 s.
const TIMEOUT: Duration = Duration::from_secs(8);

pub(super) async fn run(args: cli::HealthcheckArgs) -> anyhow::Result<()> {
    let url = args.url;
    let tls =
        callingbox::http_client::tls_config(url.scheme() == "https").map_err(anyhow::Error::msg)?;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let response = http.get(url.clone()).send().await.map_err(anyhow::Error::from);
    // The errors around the cause only repeat the URL.
    let response = response.map_err(|error| {
        anyhow::anyhow!("{url}: the server did not respond: {}", error.root_cause())
    })?;
    anyhow::ensure!(
        response.status().is_success(),
        "{url}: the server responded {}",
        response.status()
    );
    Ok(())
}
