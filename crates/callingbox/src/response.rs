//! A successful response, and how a record or a list is read from its body.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::json_text;
use crate::operation::ApiOperation;
use crate::page::Page;

/// The body of a response with a 2xx status.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) operation: ApiOperation,
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl ApiResponse {
    /// Reads a record, which is the body itself or its field `data`.
    pub(crate) fn record<T: DeserializeOwned>(self) -> Result<T, Error> {
        // Nearly always the body itself: then it is read only once.
        if let Ok(record) = json_text::read_leniently(&self.body) {
            return Ok(record);
        }
        let body = self.json()?;
        let enveloped = body.get("data").and_then(|record| T::deserialize(record).ok());
        enveloped.ok_or_else(|| self.unreadable("it holds no such record"))
    }

    /// Reads a record that must match: where the body is not documented it may hold another one.
    pub(crate) fn record_matching<T: DeserializeOwned>(
        self,
        is_match: impl FnOnce(&T) -> bool,
    ) -> Result<T, Error> {
        let no_match = self.unreadable("it holds another record");
        self.record().and_then(|record| if is_match(&record) { Ok(record) } else { Err(no_match) })
    }

    /// Reads a list in any of its forms. A list none of whose items can be read is an error and not an empty list.
    pub(crate) fn page<T: DeserializeOwned>(self) -> Result<Page<T>, Error> {
        let page =
            Page::from_json(self.json()?).ok_or_else(|| self.unreadable("it holds no list"))?;
        if page.skipped > 0 {
            let (path, skipped) = (self.operation.path(), page.skipped);
            if page.data.is_empty() {
                let detail = format!("none of the {skipped} items in it is such a record");
                return Err(self.unreadable(&detail));
            }
            tracing::warn!(path, skipped, "items of a list are not records and were left out");
        }
        Ok(page)
    }

    fn json(&self) -> Result<Value, Error> {
        json_text::read_leniently(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.unreadable(&format!("not JSON at line {line}, column {column}"))
        })
    }

    fn unreadable(&self, detail: &str) -> Error {
        let (status, detail) = (self.status, detail.to_owned());
        Error::new(self.operation, ErrorKind::Unreadable { status, detail })
    }
}
