//! Checks what only a server over HTTP needs, if it is configured: the state that replicas share, and the authorization
//! server. The options are those of `http`, so that `doctor` reads the same environment variables.

use super::finding::Finding;
use crate::cli::{OAuthArgs, StateArgs};
use crate::commands::oauth::oauth_settings;
use crate::http::auth::oauth::count_keys;
use crate::runtime;
use crate::settings::ProgramSettings;
use crate::state::SharedState;

pub(super) const STATE_FIX: &str =
    "start the Redis or Valkey, or correct --state (CALLINGBOX_MCP_STATE)";

/// The state that replicas share, if one is configured, and whether it responds.
pub(super) async fn check_state(
    args: &StateArgs,
    settings: &ProgramSettings,
) -> Result<Option<(SharedState, Finding)>, Finding> {
    const CHECK: &str = "state";
    let shared = runtime::open_shared_state(args, settings).map_err(|error| {
        let fix = "correct --state (CALLINGBOX_MCP_STATE), or ledger under [dialing] in the configuration";
        Finding::fail(CHECK, format!("no server starts: {error:#}"), fix)
    })?;
    let Some(shared) = shared else { return Ok(None) };
    match shared.ping().await {
        Ok(()) => {
            let text = "replies; the replicas share the ledger and the limits";
            Ok(Some((shared, Finding::ok(CHECK, text))))
        }
        Err(gone) => Err(Finding::fail(CHECK, format!("nothing can be dialed: {gone}"), STATE_FIX)),
    }
}

/// Whether the keys that verify access tokens can be fetched.
pub(super) async fn check_issuer(args: &OAuthArgs) -> Option<Finding> {
    const CHECK: &str = "issuer";
    let OAuthArgs { oauth_issuer, oauth_resource, oauth_jwks_url } = args;
    if [oauth_issuer, oauth_resource, oauth_jwks_url].into_iter().all(Option::is_none) {
        return None;
    }
    let fix = "correct --oauth-issuer, --oauth-resource or --oauth-jwks-url (in the environment \
               CALLINGBOX_MCP_OAUTH_ISSUER and so on), or repair the authorization server";
    let counted = match oauth_settings(args) {
        Ok(settings) => count_keys(&settings).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    Some(match counted {
        Ok(1) => Finding::ok(CHECK, "has 1 key for its tokens"),
        Ok(count) => Finding::ok(CHECK, format!("has {count} keys for its tokens")),
        Err(error) => {
            Finding::fail(CHECK, format!("no caller can be authenticated: {error:#}"), fix)
        }
    })
}
