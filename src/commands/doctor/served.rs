//! What only a server over HTTP needs, where it was asked for: what several replicas share, and the
//! authorization server. The options are those of `http`, so that its environment tells this command the
//! same.

use super::Finding;
use crate::cli::{OAuthArgs, StateArgs};
use crate::commands::oauth;
use crate::config::ConfigFile;
use crate::http::auth::oauth::count_keys;
use crate::runtime;
use crate::state::SharedState;

/// What mends a shared state that does not answer.
pub(super) const STATE_FIX: &str =
    "start the Redis or Valkey, or correct --state (CALLINGBOX_MCP_STATE)";

/// What replicas share, if they share anything, and that it answers.
pub(super) async fn state(
    options: &StateArgs,
    file: &ConfigFile,
) -> Result<Option<(SharedState, Finding)>, Finding> {
    const CHECK: &str = "state";
    let shared = runtime::open_shared_state(options, file).map_err(|error| {
        let fix = "correct --state (CALLINGBOX_MCP_STATE), or ledger under [dialing] in the configuration";
        Finding::fail(CHECK, format!("no server starts: {error:#}"), fix)
    })?;
    let Some(shared) = shared else { return Ok(None) };
    match shared.ping().await {
        Ok(()) => {
            let text = "replies; the replicas share the ledger and the limits";
            Ok(Some((shared, Finding::ok(CHECK, text))))
        }
        Err(gone) => Err(Finding::fail(CHECK, format!("nothing is dialed: {gone}"), STATE_FIX)),
    }
}

/// Whether tokens can be held against the keys of their issuer.
pub(super) async fn issuer(options: &OAuthArgs) -> Option<Finding> {
    const CHECK: &str = "issuer";
    let OAuthArgs { oauth_issuer, oauth_resource, oauth_jwks_url } = options;
    if [oauth_issuer, oauth_resource, oauth_jwks_url].into_iter().all(Option::is_none) {
        return None;
    }
    let fix = "correct --oauth-issuer, --oauth-resource or --oauth-jwks-url (in the environment \
               CALLINGBOX_MCP_OAUTH_ISSUER and so on), or mend the authorization server";
    let counted = match oauth::settings(options) {
        Ok(settings) => count_keys(&settings).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    Some(match counted {
        Ok(1) => Finding::ok(CHECK, "has a key for its tokens"),
        Ok(count) => Finding::ok(CHECK, format!("has {count} keys for its tokens")),
        Err(error) => Finding::fail(CHECK, format!("nobody is let in: {error:#}"), fix),
    })
}
