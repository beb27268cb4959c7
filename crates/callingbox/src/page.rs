//! Pages of lists: how they are requested, and the three forms in which they come back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where a page begins, and in which direction the list is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PageCursor {
    /// With items that are older than the one with this id.
    #[serde(rename = "starting_after")]
    After(String),
    /// With items that are newer than the one with this id, the nearest page first.
    #[serde(rename = "ending_before")]
    Before(String),
}

/// Which page of a list to fetch. Within a page the newest item is the first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PageRequest {
    /// The number of items, 1 to 100; the API chooses if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u8>,
    /// Where the page begins; at the newest item if absent.
    #[serde(flatten)]
    pub cursor: Option<PageCursor>,
}

impl PageRequest {
    /// A page with the newest `limit` items.
    #[must_use]
    pub fn with_limit(limit: u8) -> Self {
        Self { limit: Some(limit), cursor: None }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items, in the API's order.
    pub data: Vec<T>,
    /// Whether there are further items in the direction in which the list is read. `false` if the API does not say.
    pub has_more: bool,
    /// Whether the API says if there are further items.
    pub has_more_known: bool,
    /// How many items were left out because they are not records with an id.
    pub skipped: usize,
}

impl<T> Page<T> {
    /// The first `limit` items. If any are left out, there are further ones.
    #[must_use]
    pub fn limit_to(mut self, limit: usize) -> Self {
        self.has_more |= self.data.len() > limit;
        self.data.truncate(limit);
        self
    }
}

impl<T: DeserializeOwned> Page<T> {
    /// Reads `{data, has_more}`, `{data}` or an array. `None` if the body is none of them.
    pub(crate) fn from_json(body: Value) -> Option<Self> {
        let (items, has_more) = match body {
            Value::Array(items) => (items, None),
            Value::Object(mut fields) => match fields.remove("data") {
                Some(Value::Array(items)) => {
                    (items, fields.get("has_more").and_then(Value::as_bool))
                }
                _ => return None,
            },
            _ => return None,
        };
        let count = items.len();
        let data: Vec<T> = items.into_iter().filter_map(|item| T::deserialize(item).ok()).collect();
        let skipped = count - data.len();
        Some(Self {
            data,
            has_more: has_more.unwrap_or(false),
            has_more_known: has_more.is_some(),
            skipped,
        })
    }
}
