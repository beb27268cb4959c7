//! The server of `http --auth oauth`, as the command line describes it.

use std::sync::Arc;

use anyhow::Context;

use crate::account::Account;
use crate::cli::OAuthArgs;
use crate::http::auth::oauth::{OAuthResourceServer, OAuthSettings};
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;

/// What the command line says about the authorization server.
pub(super) fn settings(options: &OAuthArgs) -> anyhow::Result<OAuthSettings> {
    Ok(OAuthSettings {
        issuer: options.oauth_issuer.clone().context(
            "--auth oauth needs --oauth-issuer: the authorization server, as its tokens name it in `iss`",
        )?,
        resource: options.oauth_resource.clone().context(
            "--auth oauth needs --oauth-resource: the address of this server, as tokens name it in `aud`",
        )?,
        jwks_url: options.oauth_jwks_url.clone(),
    })
}

/// Makes it, and begins to fetch the issuer's keys.
pub(super) fn resource_server(
    options: &OAuthArgs,
    account: Arc<Account>,
    tools: &ToolIndex,
    selection: Arc<Selection>,
) -> anyhow::Result<Arc<OAuthResourceServer>> {
    let server =
        Arc::new(OAuthResourceServer::new(&settings(options)?, account, tools, selection)?);
    let prefetching = Arc::clone(&server);
    tokio::spawn(async move { prefetching.prefetch_keys().await });
    Ok(server)
}
