//! Whoever was let in, by whichever door. Knows none of them.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;

use super::super::answer;
use super::super::tenant::{Tenant, TooManyTenants};
use crate::mcp::scope::{Scope, Scopes};

/// Who has come in.
pub struct Visitor {
    /// As whom.
    pub tenant: Arc<Tenant>,
    /// What was granted to them; none where nothing is granted one by one.
    pub scopes: Option<Scopes>,
    /// From when on what they showed no longer counts.
    pub until: Option<Timestamp>,
}

impl Visitor {
    /// Somebody who may do everything that their tenant may, for as long as they like.
    pub(super) fn without_end(tenant: Arc<Tenant>) -> Self {
        Self { tenant, scopes: None, until: None }
    }

    /// Whether this was granted to them; everything is where nothing is granted one by one.
    #[must_use]
    pub fn has(&self, wanted: Scope) -> bool {
        self.scopes.is_none_or(|scopes| scopes.contains(wanted))
    }
}

/// The answer to whom there is no room for.
pub(super) fn busy(full: TooManyTenants) -> Box<Response> {
    let wait = Duration::from_secs(30);
    Box::new(answer::later(StatusCode::SERVICE_UNAVAILABLE, &full.to_string(), wait))
}
