//! One look at the API, for a diagnosis: did anything answer, was the key taken, what is the time there.

use http::HeaderMap;
use http::header::DATE;
use serde_json::Value;

use super::client::Client;
use super::error::Error;
use super::operation::ApiOperation;

/// What one look told.
#[derive(Debug)]
pub struct Probe {
    /// Whether a list of numbers came back, or what came instead.
    pub result: Result<(), Error>,
    /// The time of the API's clock, to the second (the `Date` header, RFC 9110 section 6.6.1), where
    /// anything answered and said it.
    pub date: Option<jiff::Timestamp>,
}

impl Client {
    /// Asks once for one of the organization's numbers, without any second attempt.
    pub async fn probe(&self) -> Probe {
        let mut date = None;
        let result = self.look(&mut date).await;
        Probe { result, date }
    }

    /// Asks for one of the organization's numbers, whatever it looks like, and again where that may help.
    ///
    /// # Errors
    /// [`Error`] when the key is not taken or no list comes back.
    pub async fn check_key(&self) -> Result<(), Error> {
        let answer = self.get(ApiOperation::ListNumbers, &[], &[("limit", "1".to_owned())]).await?;
        answer.page::<Value>().map(drop)
    }
}

/// The moment in a `Date` header.
pub(super) fn date(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}
