//! Looking for what may have been done: the newest calls for a dispatch id, the owned numbers for a
//! number. Reads only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::ledger::Record;
use super::order::{DISPATCH_KEY, Order, Product};
use crate::api::{Call, Client, Cursor, Error, PageRequest};
use crate::e164::E164;

/// When to look again after a failure, counted from the look before. A call that was placed shows in
/// the list at once or a moment later; after these seven seconds it is not there.
pub const SCHEDULE: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The longest that one search takes, however slow the API is.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The most pages of 100 that one look turns.
const MOST_PAGES: usize = 10;

/// How far the API's clock may be behind ours.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a look found.
#[derive(Debug)]
pub enum Found {
    /// It was done.
    Yes(Product),
    /// Everything since the intent was looked at, and it is not there.
    No,
    /// Not everything could be looked at.
    CannotSay,
}

/// Looks, and looks again, until it is found or the schedule ends.
pub async fn search(api: &Client, record: &Record, order: &Order, schedule: &[Duration]) -> Found {
    let until = Instant::now() + LIMIT;
    let mut last = Found::CannotSay;
    for pause in schedule {
        tokio::time::sleep(*pause).await;
        let Ok(looked) = timeout_at(until, once(api, record, order)).await else {
            tracing::warn!(dispatch = %record.dispatch_id, "a search for a dispatch took too long");
            return Found::CannotSay;
        };
        last = match looked {
            Ok(found @ Found::Yes(_)) => return found,
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(dispatch = %record.dispatch_id, %error, "a search for a dispatch failed");
                Found::CannotSay
            }
        };
    }
    last
}

async fn once(api: &Client, record: &Record, order: &Order) -> Result<Found, Error> {
    match order {
        Order::Call(_) => call(api, record).await,
        Order::Number { number, .. } => owned(api, number).await,
    }
}

async fn call(api: &Client, record: &Record) -> Result<Found, Error> {
    let dispatch = record.dispatch_id.to_string();
    let since = record.intent_at.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
    let mut cursor = None;
    for _ in 0..MOST_PAGES {
        let page = api.list_calls(&PageRequest { limit: Some(100), cursor: cursor.take() }).await?;
        let older = page.data.last().is_some_and(|oldest| {
            oldest.created_at.as_ref().and_then(|at| at.instant()).is_some_and(|at| at < since)
        });
        cursor = page.data.last().map(|oldest| Cursor::After(oldest.id.as_str().to_owned()));
        if let Some(call) = page.data.into_iter().find(|call| carries(call, &dispatch)) {
            return Ok(Found::Yes(Product::Call(Box::new(call))));
        }
        if older || !page.has_more {
            return Ok(Found::No);
        }
    }
    Ok(Found::CannotSay)
}

fn carries(call: &Call, dispatch: &str) -> bool {
    let carried = call.metadata.as_ref().and_then(|metadata| metadata.get(DISPATCH_KEY));
    carried.and_then(|id| id.as_str()) == Some(dispatch)
}

async fn owned(api: &Client, wanted: &E164) -> Result<Found, Error> {
    let mut cursor = None;
    for _ in 0..MOST_PAGES {
        let page =
            api.list_numbers(&PageRequest { limit: Some(100), cursor: cursor.take() }).await?;
        cursor = page.data.last().map(|oldest| Cursor::After(oldest.id.as_str().to_owned()));
        if let Some(number) =
            page.data.into_iter().find(|number| number.e164.as_ref() == Some(wanted))
        {
            return Ok(Found::Yes(Product::Number(Box::new(number))));
        }
        if !page.has_more {
            return Ok(Found::No);
        }
    }
    Ok(Found::CannotSay)
}
