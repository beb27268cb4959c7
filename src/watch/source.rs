//! The three requests of the API that the watchers need. Knows nothing of when they are made.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use callingbox::{
    ApiClient, Call, CallId, ClientConfig, Error, Page, PageRequest, RetryPolicy, Timeouts,
    Transcript,
};

/// An account whose calls can be polled. Each method makes one attempt; the watchers decide when to try again.
pub trait CallSource: Send + Sync + 'static {
    /// One call.
    fn get_call<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Call, Error>>;

    /// The whole transcript of a call so far.
    fn get_transcript<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Transcript, Error>>;

    /// A page of the account's calls, newest first.
    fn list_calls<'a>(&'a self, page: &'a PageRequest) -> BoxFuture<'a, Result<Page<Call>, Error>>;
}

impl CallSource for ApiClient {
    fn get_call<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Call, Error>> {
        Box::pin(ApiClient::get_call(self, id))
    }

    fn get_transcript<'a>(&'a self, id: &'a CallId) -> BoxFuture<'a, Result<Transcript, Error>> {
        Box::pin(ApiClient::get_transcript(self, id))
    }

    fn list_calls<'a>(&'a self, page: &'a PageRequest) -> BoxFuture<'a, Result<Page<Call>, Error>> {
        Box::pin(ApiClient::list_calls(self, page))
    }
}

/// How long one poll may take. It is short, since a poll that hangs is better repeated.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);

/// The account of `client` as a source: the same key and address, but one attempt per request and at most 10 s for it,
/// since retries inside the client would exceed the watchers' request limit.
#[must_use]
pub fn polling_source(client: &ApiClient) -> Arc<dyn CallSource> {
    let config = client.config();
    let timeouts = Timeouts {
        connect: config.timeouts.connect.min(POLL_TIMEOUT),
        request: config.timeouts.request.min(POLL_TIMEOUT),
        total: config.timeouts.total.min(POLL_TIMEOUT),
    };
    Arc::new(ApiClient::new(ClientConfig { timeouts, retry: RetryPolicy::NEVER, ..config.clone() }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use callingbox::{ApiKey, BaseUrl};

    #[tokio::test]
    async fn a_polling_source_makes_one_attempt() {
        static REQUESTS: AtomicUsize = AtomicUsize::new(0);
        let busy = async || {
            REQUESTS.fetch_add(1, Ordering::SeqCst);
            (http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")])
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(busy);
        let server = tokio::spawn(async { axum::serve(listener, app).await });
        let key = ApiKey::new("sk_test".to_owned()).unwrap();
        let config = ClientConfig::new(BaseUrl::parse(&base, false).unwrap(), key);
        let client = ApiClient::new(config);
        let error = polling_source(&client).get_call(&CallId::new("c")).await.unwrap_err();
        assert_eq!((error.status(), error.retry_after()), (Some(429), Some(Duration::ZERO)));
        assert_eq!(REQUESTS.load(Ordering::SeqCst), 1);
        // The client itself retries.
        assert!(client.get_call(&CallId::new("c")).await.is_err());
        assert_eq!(REQUESTS.load(Ordering::SeqCst), 5);
        server.abort();
    }
}
