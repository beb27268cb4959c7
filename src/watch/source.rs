//! Where the watchers look: the three requests of the API that they need, and no more of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::api::{
    Call, CallId, Client, ClientConfig, Error, Page, PageRequest, RetryPolicy, Timeouts, Transcript,
};

/// What the watchers ask. One attempt each: when to ask again is the watchers' decision.
pub trait Source: Send + Sync + 'static {
    /// One call.
    fn get_call<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Call, Error>>;

    /// What was said in a call so far, all of it.
    fn get_transcript<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Transcript, Error>>;

    /// A page of the account's calls, newest first.
    fn list_calls<'a>(&'a self, page: &'a PageRequest) -> BoxFuture<'a, Result<Page<Call>, Error>>;
}

impl Source for Client {
    fn get_call<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Call, Error>> {
        Box::pin(Client::get_call(self, id))
    }

    fn get_transcript<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Transcript, Error>> {
        Box::pin(Client::get_transcript(self, id))
    }

    fn list_calls<'a>(&'a self, page: &'a PageRequest) -> BoxFuture<'a, Result<Page<Call>, Error>> {
        Box::pin(Client::list_calls(self, page))
    }
}

/// How long one look may take. Short: a look that hangs is better repeated than waited for.
const LOOK: Duration = Duration::from_secs(10);

/// The account of `client` as a source: the same key and address, but one attempt for each request
/// and at most 10 s for it, since retries below the schedule would go round its limits.
#[must_use]
pub fn source_of(client: &Client) -> Arc<dyn Source> {
    let given = client.config();
    let timeouts = Timeouts {
        connect: given.timeouts.connect.min(LOOK),
        request: given.timeouts.request.min(LOOK),
        total: given.timeouts.total.min(LOOK),
    };
    Arc::new(Client::new(ClientConfig { timeouts, retry: RetryPolicy::NEVER, ..given.clone() }))
}
