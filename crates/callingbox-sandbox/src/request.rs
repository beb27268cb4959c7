//! A request as an endpoint is handed it: its key has been checked. Knows no endpoint.

use bytes::Bytes;

use super::fields::Query;

/// What was asked.
pub(super) struct Request {
    path: Vec<String>,
    pub(super) query: Query,
    pub(super) body: Bytes,
}

impl Request {
    /// With the ids in its path, in their order.
    pub(super) fn new(path: Vec<String>, query: Query, body: Bytes) -> Self {
        Self { path, query, body }
    }

    /// The id in the path; empty when there is none.
    pub(super) fn id(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// The second id in the path.
    pub(super) fn second_id(&self) -> &str {
        self.path.get(1).map_or("", String::as_str)
    }
}
