//! Looking for what may have been done: the newest calls for a dispatch id, the owned numbers for a
//! number. Reads only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::ledger::{DispatchId, Record};
use super::order::{DISPATCH_KEY, Product};
use callingbox::e164::E164;
use callingbox::{Call, Client, Cursor, Error, PageRequest};

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
///
/// `number` is the one that was to be bought; there is none for a call.
pub async fn search(
    api: &Client,
    record: &Record,
    number: Option<&E164>,
    schedule: &[Duration],
) -> Found {
    let until = Instant::now() + LIMIT;
    let mut last = Found::CannotSay;
    for pause in schedule {
        tokio::time::sleep(*pause).await;
        let Ok(looked) = timeout_at(until, once(api, record, number)).await else {
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

async fn once(api: &Client, record: &Record, number: Option<&E164>) -> Result<Found, Error> {
    match number {
        None => call(api, record.dispatch_id, record.intent_at).await,
        Some(number) => owned(api, number).await,
    }
}

/// A call that is not there must not be missed: a list that does not say where it ends is followed until
/// nothing comes.
async fn call(api: &Client, dispatch: DispatchId, intent_at: Timestamp) -> Result<Found, Error> {
    let dispatch = dispatch.to_string();
    let since = intent_at.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
    let mut cursor = None;
    for _ in 0..MOST_PAGES {
        let page =
            api.list_calls(&PageRequest { limit: Some(100), cursor: cursor.clone() }).await?;
        let older = page.data.last().is_some_and(|oldest| {
            oldest.created_at.as_ref().and_then(|at| at.instant()).is_some_and(|at| at < since)
        });
        let next = page.data.last().map(|oldest| Cursor::After(oldest.id.as_str().to_owned()));
        let ends = !page.has_more && (page.said || next.is_none());
        if let Some(call) = page.data.into_iter().find(|call| carries(call, &dispatch)) {
            return Ok(Found::Yes(Product::Call(Box::new(call))));
        }
        // It may be one of those that could not be read, or beyond a list that knows no cursor.
        if page.skipped > 0 || (next.is_some() && next == cursor) {
            return Ok(Found::CannotSay);
        }
        if older || ends {
            return Ok(Found::No);
        }
        cursor = next;
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
        if page.skipped > 0 {
            return Ok(Found::CannotSay);
        }
        if !page.has_more {
            return Ok(Found::No);
        }
    }
    Ok(Found::CannotSay)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use axum::extract::Query;
    use axum::response::IntoResponse;
    use axum::{Json, Router};
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::dialing::ledger::{ConfirmedBy, Fingerprint, State, Tenant};
    use crate::dialing::limits::Kind;
    use callingbox::money::MilliCents;
    use callingbox::{ApiKey, BaseUrl, ClientConfig, RetryPolicy};

    const INTENT: &str = "2026-11-02T15:00:00Z";

    /// A client of an API that answers every question so.
    async fn api<F, R>(answer: F) -> (Client, tokio::task::JoinHandle<()>)
    where
        F: Fn(HashMap<String, String>) -> R + Clone + Send + Sync + 'static,
        R: IntoResponse,
    {
        let answer =
            move |Query(query): Query<HashMap<String, String>>| async move { answer(query) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url =
            BaseUrl::parse(&format!("http://{}", listener.local_addr().unwrap()), false).unwrap();
        let server = axum::serve(listener, Router::new().fallback(answer));
        let server = tokio::spawn(async move { server.await.unwrap() });
        let mut config = ClientConfig::new(url, ApiKey::new("sk_test".to_owned()).unwrap());
        config.retry = RetryPolicy::NEVER;
        (Client::new(config), server)
    }

    /// What a look for a call says to an API that lists these, by the cursor that it is asked with.
    async fn look(list: fn(Option<&str>) -> Value) -> Found {
        let (api, server) =
            api(move |query| Json(list(query.get("starting_after").map(String::as_str)))).await;
        let found = call(&api, DispatchId::new(), INTENT.parse().unwrap()).await.unwrap();
        server.abort();
        found
    }

    /// Somebody else's call.
    fn call_of(id: &str, at: &str) -> Value {
        json!({"id": id, "status": "completed", "created_at": at})
    }

    /// One that was placed after the intent.
    fn newer(id: &str) -> Value {
        call_of(id, "2026-11-02T15:01:00Z")
    }

    #[tokio::test]
    async fn what_was_not_seen_is_not_said_to_be_not_there() {
        assert!(matches!(look(|_| json!([])).await, Found::No));
        let ended = look(|_| json!({"data": [newer("a")], "has_more": false})).await;
        assert!(matches!(ended, Found::No));
        let paged = look(|after| match after {
            None => json!([newer("a")]),
            Some(_) => json!([]),
        });
        assert!(matches!(paged.await, Found::No));
        let reached = look(|_| json!([newer("a"), call_of("b", "2026-11-02T14:00:00Z")])).await;
        assert!(matches!(reached, Found::No));
        // The same list whatever is asked, which may have been cut.
        assert!(matches!(look(|_| json!([newer("a")])).await, Found::CannotSay));
        let unreadable = look(|_| json!({"data": [newer("a"), {"no": "id"}], "has_more": false}));
        assert!(matches!(unreadable.await, Found::CannotSay));
        let endless = look(|_| json!({"data": [newer("a")], "has_more": true})).await;
        assert!(matches!(endless, Found::CannotSay));
    }

    #[tokio::test]
    async fn the_clock_of_the_api_may_be_behind() {
        let found = look(|after| match after {
            None => json!({"data": [call_of("a", "2026-11-02T14:56:00Z")], "has_more": true}),
            Some(_) => json!({
                "data": [call_of("b", "2026-11-02T14:55:30Z"), {"no": "id"}], "has_more": false,
            }),
        });
        // It looked at the second page, where one cannot be read.
        assert!(matches!(found.await, Found::CannotSay));
    }

    #[tokio::test]
    async fn a_number_is_found_on_any_page_and_only_itself() {
        const WANTED: &str = "+14155550100";
        let owned = |list: fn(Option<&str>) -> Value| async move {
            let (api, server) =
                api(move |query| Json(list(query.get("starting_after").map(String::as_str)))).await;
            let found = owned(&api, &E164::parse(WANTED).unwrap()).await.unwrap();
            server.abort();
            found
        };
        let found = owned(|after| match after {
            None => json!({"data": [{"id": "a", "e164": "+14155550101"}], "has_more": true}),
            Some(_) => json!({"data": [{"id": "b", "e164": WANTED}], "has_more": false}),
        });
        let Found::Yes(product) = found.await else { panic!() };
        assert_eq!(product.id(), "b");
        let other = owned(|_| json!([{"id": "a", "e164": "+14155550101"}, {"id": "c"}]));
        assert!(matches!(other.await, Found::No));
        let unreadable = owned(
            |_| json!({"data": [{"id": "a", "e164": "+14155550101"}, {"no": "id"}], "has_more": false}),
        );
        assert!(matches!(unreadable.await, Found::CannotSay));
        let endless =
            owned(|_| json!({"data": [{"id": "a", "e164": "+14155550101"}], "has_more": true}));
        assert!(matches!(endless.await, Found::CannotSay));
    }

    /// The record of an order that is looked for.
    fn record() -> Record {
        let tenant = Tenant::new(b"key", "https://api.example");
        Record {
            dispatch_id: DispatchId::new(),
            kind: Kind::Call,
            tenant: tenant.id().clone(),
            fingerprint: Fingerprint::of(tenant.id(), Kind::Call, &Value::Null),
            idempotency_key: None,
            callee: None,
            agent_id: None,
            rule: String::new(),
            confirmed_by: ConfirmedBy::NotRequired,
            intent_at: INTENT.parse().unwrap(),
            lease_until: INTENT.parse().unwrap(),
            generation: 1,
            hold: MilliCents::ZERO,
            state: State::Intent,
        }
    }

    #[tokio::test]
    async fn the_last_look_counts_and_each_may_find_it() {
        let record = record();
        let looks = [Duration::ZERO; 2];
        let ours = json!({
            "id": "ours", "status": "queued",
            "metadata": {DISPATCH_KEY: record.dispatch_id.to_string()},
        });
        for (lists, wanted) in [
            ([Some(json!([])), Some(json!([ours]))], "yes"),
            ([None, Some(json!([ours]))], "yes"),
            ([None, Some(json!([]))], "no"),
            ([Some(json!([])), None], "cannot say"),
            ([Some(json!([])), Some(json!([{"no": "id"}]))], "cannot say"),
        ] {
            let left = Arc::new(Mutex::new(lists.clone().into_iter()));
            let (api, server) = api(move |_| match left.lock().unwrap().next().flatten() {
                Some(list) => Json(list).into_response(),
                None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            })
            .await;
            let found = match search(&api, &record, None, &looks).await {
                Found::Yes(product) if product.id() == "ours" => "yes",
                Found::Yes(_) => "another",
                Found::No => "no",
                Found::CannotSay => "cannot say",
            };
            server.abort();
            assert_eq!(found, wanted, "{lists:?}");
        }
    }
}
