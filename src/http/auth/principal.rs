//! An authenticated caller. Does not depend on how the caller was authenticated.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;

use super::super::answer;
use super::super::tenant::{Tenant, TooManyTenants};
use crate::dialing::caller::CallerName;
use crate::mcp::registry::scope::{GrantedScopes, OAuthScope};

/// An authenticated caller.
pub struct Principal {
    pub tenant: Arc<Tenant>,
    /// The caller, as receipts, limits and rules name it.
    pub name: CallerName,
    /// The granted OAuth scopes; `None` if access is not granted by scope.
    pub scopes: Option<GrantedScopes>,
    /// When the credentials expire.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// A caller with all rights of the tenant, whose credentials do not expire.
    pub(super) fn without_expiry(tenant: Arc<Tenant>, name: CallerName) -> Self {
        Self { tenant, name, scopes: None, expires_at: None }
    }

    #[must_use]
    pub fn has_scope(&self, scope: OAuthScope) -> bool {
        self.scopes.is_none_or(|scopes| scopes.contains(scope))
    }
}

/// The response to a caller for whom the server has no capacity.
pub(super) fn service_unavailable(error: TooManyTenants) -> Box<Response> {
    let wait = Duration::from_secs(30);
    Box::new(answer::retry_after(StatusCode::SERVICE_UNAVAILABLE, &error.to_string(), wait))
}
