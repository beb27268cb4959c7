//! Single requests that diagnose the connection: whether the API answers, whether it accepts the key, and its time.

use http::HeaderMap;
use http::header::DATE;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::ApiClient;
use crate::error::Error;
use crate::operation::ApiOperation;

/// A list that every key may read.
const OPERATION: ApiOperation = ApiOperation::ListNumbers;

/// The result of [`ApiClient::probe`].
#[derive(Debug)]
pub struct Probe {
    /// Whether a list of numbers came back.
    pub result: Result<(), Error>,
    /// The API's time, to the second (the `Date` header, RFC 9110 section 6.6.1). `None` if no response with that
    /// header came back.
    pub date: Option<Timestamp>,
}

impl ApiClient {
    /// Asks for one of the organization's numbers in a single attempt (`GET /v1/numbers`).
    pub async fn probe(&self) -> Probe {
        let mut date = None;
        let result = self.probe_once(&mut date).await;
        Probe { result, date }
    }

    /// Asks for one of the organization's numbers (`GET /v1/numbers`), with the usual retries. The number itself need
    /// not be readable.
    ///
    /// # Errors
    /// [`Error`] if the API does not accept the key, or no list comes back.
    pub async fn check_key(&self) -> Result<(), Error> {
        self.get(OPERATION, &[], &one_item()).await?.page::<Value>().map(drop)
    }

    async fn probe_once(&self, date: &mut Option<Timestamp>) -> Result<(), Error> {
        let request = self.build_request(OPERATION, &[], &one_item(), None)?;
        let deadline = Instant::now() + self.config().timeouts.request;
        let mut on_headers = |headers: &HeaderMap| *date = parse_date(headers);
        self.attempt(&request, deadline, &mut on_headers).await?.page::<Value>().map(drop)
    }
}

fn one_item() -> [(&'static str, String); 1] {
    [("limit", "1".to_owned())]
}

fn parse_date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}
