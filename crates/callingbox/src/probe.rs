//! Single requests that diagnose the connection: whether the API answers, whether it accepts the key, and its time.

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::ApiClient;
use crate::error::Error;
use crate::operation::ApiOperation;
use crate::page::PageRequest;

/// A list that every key may read.
const OPERATION: ApiOperation = ApiOperation::ListNumbers;

const ONE_ITEM: PageRequest = PageRequest { limit: Some(1), cursor: None };

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
        let begun = Instant::now();
        let result = self.probe_once().await;
        let time = self.server_time().filter(|time| time.received_at >= begun);
        Probe { result, date: time.map(|time| time.date) }
    }

    /// Asks for one of the organization's numbers (`GET /v1/numbers`), with the usual retries. The number itself need
    /// not be readable.
    ///
    /// # Errors
    /// [`Error`] if the API does not accept the key, or no list comes back.
    pub async fn check_key(&self) -> Result<(), Error> {
        self.get(OPERATION, &[], &ONE_ITEM).await?.page::<Value>().map(drop)
    }

    async fn probe_once(&self) -> Result<(), Error> {
        let request = self.build_request(OPERATION, &[], &ONE_ITEM, None)?;
        let deadline = Instant::now() + self.config().timeouts.request;
        self.attempt(&request, deadline).await?.page::<Value>().map(drop)
    }
}
