//! Lists: what to ask for, what comes back, and the three envelopes in which it may come.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Which way to go from an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Items older than the one with this id.
    After(String),
    /// Items newer than the one with this id; the page nearest to it comes first.
    Before(String),
}

/// Which page of a list to fetch. Newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageRequest {
    /// How many items, 1 to 100; the API chooses when absent.
    pub limit: Option<u8>,
    /// Where to go on; the newest page when absent.
    pub cursor: Option<Cursor>,
}

impl PageRequest {
    /// The newest `limit` items.
    #[must_use]
    pub fn first(limit: u8) -> Self {
        Self { limit: Some(limit), cursor: None }
    }

    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        if let Some(limit) = self.limit {
            query.push(("limit", limit.to_string()));
        }
        match &self.cursor {
            Some(Cursor::After(id)) => query.push(("starting_after", id.clone())),
            Some(Cursor::Before(id)) => query.push(("ending_before", id.clone())),
            None => {}
        }
        query
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items that could be read, in the API's order.
    pub data: Vec<T>,
    /// Whether more lie beyond, in the direction of travel.
    pub has_more: bool,
    /// Whether the API said so itself. Where it says nothing, nothing more is assumed.
    pub said: bool,
    /// How many items were not records with an id and were left out.
    pub skipped: usize,
}

impl<T> Page<T> {
    /// The first `limit` items. What lies beyond them is more.
    #[must_use]
    pub fn cut(mut self, limit: usize) -> Self {
        self.has_more |= self.data.len() > limit;
        self.data.truncate(limit);
        self
    }
}

impl<T: DeserializeOwned> Page<T> {
    /// Reads `{data, has_more}`, `{data}` or a bare array; nothing when it is none of them.
    pub(super) fn read(body: Value) -> Option<Self> {
        let (items, said) = match body {
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
        Some(Self { data, has_more: said.unwrap_or(false), said: said.is_some(), skipped })
    }
}
