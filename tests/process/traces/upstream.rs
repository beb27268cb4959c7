//! An API whose account is empty, which records the trace context of each request.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};

/// Method, path, `traceparent` and `tracestate` of each request.
type RecordedRequest = (String, String, Option<String>, Option<String>);

#[derive(Clone, Default)]
pub(crate) struct Upstream(Arc<Mutex<Vec<RecordedRequest>>>);

impl Upstream {
    /// Starts it and returns it with its address.
    pub(crate) async fn start() -> (Self, String) {
        let upstream = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(Self::answer).with_state(upstream.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (upstream, url)
    }

    async fn answer(
        State(upstream): State<Self>,
        request: Request,
    ) -> (StatusCode, [(axum::http::HeaderName, &'static str); 1], &'static str) {
        let header = |name: &str| {
            request.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let path = request.uri().path().to_owned();
        let list = matches!(path.as_str(), "/v1/agents" | "/v1/numbers");
        let recorded =
            (request.method().to_string(), path, header("traceparent"), header("tracestate"));
        upstream.0.lock().unwrap().push(recorded);
        let json = [(CONTENT_TYPE, "application/json")];
        match list {
            true => (StatusCode::OK, json, r#"{"data":[],"has_more":false}"#),
            false => (StatusCode::NOT_FOUND, json, r#"{"error":"not found"}"#),
        }
    }

    /// The requests, in order.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.0.lock().unwrap().clone()
    }
}
