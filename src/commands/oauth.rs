//! The authorization server of `http --auth oauth`, as the command line names it.

use std::sync::Arc;

use anyhow::Context;

use crate::account::Account;
use crate::cli::OAuthArgs;
use crate::http::auth::oauth::{OAuthResourceServer, OAuthSettings};
use crate::mcp::registry::index::ToolIndex;
use crate::mcp::registry::selection::Selection;

pub(super) fn oauth_settings(args: &OAuthArgs) -> anyhow::Result<OAuthSettings> {
    Ok(OAuthSettings {
        issuer: args.oauth_issuer.clone().context(
            "--auth oauth needs --oauth-issuer: the authorization server, exactly as its tokens name it in `iss`",
        )?,
        resource: args.oauth_resource.clone().context(
            "--auth oauth needs --oauth-resource: the URL of this server, exactly as tokens name it in `aud`",
        )?,
        jwks_url: args.oauth_jwks_url.clone(),
    })
}

/// Also begins to fetch the issuer's keys.
pub(super) fn resource_server(
    args: &OAuthArgs,
    account: Arc<Account>,
    tools: &ToolIndex,
    selection: Arc<Selection>,
) -> anyhow::Result<Arc<OAuthResourceServer>> {
    let server =
        Arc::new(OAuthResourceServer::new(&oauth_settings(args)?, account, tools, selection)?);
    let prefetching = Arc::clone(&server);
    tokio::spawn(async move { prefetching.prefetch_keys().await });
    Ok(server)
}
