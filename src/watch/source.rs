//! Where the watchers look: the three requests of the API that they need, and no more of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use callingbox::{
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use callingbox::{ApiKey, BaseUrl};

    #[tokio::test]
    async fn a_source_asks_once_and_leaves_the_rest_to_the_schedule() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let busy = async || {
            ASKED.fetch_add(1, Ordering::SeqCst);
            (http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")])
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(busy);
        let server = tokio::spawn(async { axum::serve(listener, app).await });
        let key = ApiKey::new("sk_test".to_owned()).unwrap();
        let config = ClientConfig::new(BaseUrl::parse(&base, false).unwrap(), key);
        let client = Client::new(config);
        let error = source_of(&client).get_call(&CallId::new("c")).await.unwrap_err();
        assert_eq!((error.status(), error.retry_after()), (Some(429), Some(Duration::ZERO)));
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        // The client itself asks again.
        assert!(client.get_call(&CallId::new("c")).await.is_err());
        assert_eq!(ASKED.load(Ordering::SeqCst), 5);
        server.abort();
    }
}
