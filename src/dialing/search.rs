//! Looking for what may have been done: the newest calls for a dispatch id, the owned numbers for a
//! number. Reads only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::ledger::{DispatchId, DispatchRecord};
use super::order::{DISPATCH_KEY, Placed};
use callingbox::E164;
use callingbox::{ApiClient, Call, Error, PageCursor, PageRequest};

/// When to look again after a failure, counted from the look before. A call that was placed shows in
/// the list at once or a moment later; after these seven seconds it is not there.
pub const SCHEDULE: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The longest that one search takes, however slow the API is.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The most pages of 100 that one look turns.
const MAX_PAGES: usize = 10;

/// How far the API's clock may be behind ours.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a look found.
#[derive(Debug)]
pub enum SearchResult {
    /// It was done.
    Found(Placed),
    /// Everything since the intent was looked at, and it is not there.
    Absent,
    /// Not everything could be looked at.
    Inconclusive,
}

/// Looks, and looks again, until it is found or the schedule ends.
///
/// `number` is the one that was to be bought; there is none for a call.
pub async fn search(
    api: &ApiClient,
    record: &DispatchRecord,
    number: Option<&E164>,
    schedule: &[Duration],
) -> SearchResult {
    let until = Instant::now() + LIMIT;
    let mut last = SearchResult::Inconclusive;
    for pause in schedule {
        tokio::time::sleep(*pause).await;
        let Ok(looked) = timeout_at(until, once(api, record, number)).await else {
            tracing::warn!(dispatch = %record.dispatch_id, "a search for a dispatch took too long");
            return SearchResult::Inconclusive;
        };
        last = match looked {
            Ok(found @ SearchResult::Found(_)) => return found,
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(dispatch = %record.dispatch_id, %error, "a search for a dispatch failed");
                SearchResult::Inconclusive
            }
        };
    }
    last
}

async fn once(
    api: &ApiClient,
    record: &DispatchRecord,
    number: Option<&E164>,
) -> Result<SearchResult, Error> {
    match number {
        None => call(api, record.dispatch_id, record.created_at).await,
        Some(number) => owned(api, number).await,
    }
}

/// A call that is not there must not be missed: a list that does not say where it ends is followed until
/// nothing comes.
async fn call(
    api: &ApiClient,
    dispatch: DispatchId,
    created_at: Timestamp,
) -> Result<SearchResult, Error> {
    let dispatch = dispatch.to_string();
    let since = created_at.saturating_sub(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MIN);
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let page =
            api.list_calls(&PageRequest { limit: Some(100), cursor: cursor.clone() }).await?;
        let older = page.data.last().is_some_and(|oldest| {
            oldest.created_at.as_ref().and_then(|at| at.instant()).is_some_and(|at| at < since)
        });
        let next = page.data.last().map(|oldest| PageCursor::After(oldest.id.as_str().to_owned()));
        let ends = !page.has_more && (page.has_more_known || next.is_none());
        if let Some(call) = page.data.into_iter().find(|call| carries(call, &dispatch)) {
            return Ok(SearchResult::Found(Placed::Call(Box::new(call))));
        }
        // It may be one of those that could not be read, or beyond a list that knows no cursor.
        if page.skipped > 0 || (next.is_some() && next == cursor) {
            return Ok(SearchResult::Inconclusive);
        }
        if older || ends {
            return Ok(SearchResult::Absent);
        }
        cursor = next;
    }
    Ok(SearchResult::Inconclusive)
}

fn carries(call: &Call, dispatch: &str) -> bool {
    let carried = call.metadata.as_ref().and_then(|metadata| metadata.get(DISPATCH_KEY));
    carried.and_then(|id| id.as_str()) == Some(dispatch)
}

async fn owned(api: &ApiClient, wanted: &E164) -> Result<SearchResult, Error> {
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let page =
            api.list_numbers(&PageRequest { limit: Some(100), cursor: cursor.take() }).await?;
        cursor = page.data.last().map(|oldest| PageCursor::After(oldest.id.as_str().to_owned()));
        if let Some(number) =
            page.data.into_iter().find(|number| number.e164.as_ref() == Some(wanted))
        {
            return Ok(SearchResult::Found(Placed::Number(Box::new(number))));
        }
        if page.skipped > 0 {
            return Ok(SearchResult::Inconclusive);
        }
        if !page.has_more {
            return Ok(SearchResult::Absent);
        }
    }
    Ok(SearchResult::Inconclusive)
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
    use crate::dialing::ledger::{AccountRef, ConfirmedBy, DispatchState, Fingerprint};
    use crate::dialing::limits::OrderKind;
    use callingbox::MilliCents;
    use callingbox::{ApiKey, BaseUrl, ClientConfig, RetryPolicy};

    const INTENT: &str = "2026-11-02T15:00:00Z";

    /// A client of an API that answers every question so.
    async fn api<F, R>(answer: F) -> (ApiClient, tokio::task::JoinHandle<()>)
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
        (ApiClient::new(config), server)
    }

    /// What a look for a call says to an API that lists these, by the cursor that it is asked with.
    async fn look(list: fn(Option<&str>) -> Value) -> SearchResult {
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
        assert!(matches!(look(|_| json!([])).await, SearchResult::Absent));
        let ended = look(|_| json!({"data": [newer("a")], "has_more": false})).await;
        assert!(matches!(ended, SearchResult::Absent));
        let paged = look(|after| match after {
            None => json!([newer("a")]),
            Some(_) => json!([]),
        });
        assert!(matches!(paged.await, SearchResult::Absent));
        let reached = look(|_| json!([newer("a"), call_of("b", "2026-11-02T14:00:00Z")])).await;
        assert!(matches!(reached, SearchResult::Absent));
        // The same list whatever is asked, which may have been cut.
        assert!(matches!(look(|_| json!([newer("a")])).await, SearchResult::Inconclusive));
        let unreadable = look(|_| json!({"data": [newer("a"), {"no": "id"}], "has_more": false}));
        assert!(matches!(unreadable.await, SearchResult::Inconclusive));
        let endless = look(|_| json!({"data": [newer("a")], "has_more": true})).await;
        assert!(matches!(endless, SearchResult::Inconclusive));
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
        assert!(matches!(found.await, SearchResult::Inconclusive));
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
        let SearchResult::Found(product) = found.await else { panic!() };
        assert_eq!(product.id(), "b");
        let other = owned(|_| json!([{"id": "a", "e164": "+14155550101"}, {"id": "c"}]));
        assert!(matches!(other.await, SearchResult::Absent));
        let unreadable = owned(
            |_| json!({"data": [{"id": "a", "e164": "+14155550101"}, {"no": "id"}], "has_more": false}),
        );
        assert!(matches!(unreadable.await, SearchResult::Inconclusive));
        let endless =
            owned(|_| json!({"data": [{"id": "a", "e164": "+14155550101"}], "has_more": true}));
        assert!(matches!(endless.await, SearchResult::Inconclusive));
    }

    /// The record of an order that is looked for.
    fn record() -> DispatchRecord {
        let account = AccountRef::new(b"key", "https://api.example");
        DispatchRecord {
            dispatch_id: DispatchId::new(),
            kind: OrderKind::Call,
            account_id: account.id().clone(),
            fingerprint: Fingerprint::new(account.id(), OrderKind::Call, &Value::Null),
            idempotency_key: None,
            callee: None,
            agent_id: None,
            rule: String::new(),
            confirmed_by: ConfirmedBy::NotRequired,
            created_at: INTENT.parse().unwrap(),
            lease_expires_at: INTENT.parse().unwrap(),
            generation: 1,
            hold: MilliCents::ZERO,
            state: DispatchState::Intent,
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
                SearchResult::Found(product) if product.id() == "ours" => "yes",
                SearchResult::Found(_) => "another",
                SearchResult::Absent => "no",
                SearchResult::Inconclusive => "cannot say",
            };
            server.abort();
            assert_eq!(found, wanted, "{lists:?}");
        }
    }
}
