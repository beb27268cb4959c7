//! Determines whether an order was placed: searches the newest calls for a dispatch id, or the owned numbers for a
//! number. Sends only reads.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::ledger::{DispatchId, DispatchRecord};
use super::order::{DISPATCH_KEY, Placed};
use callingbox::E164;
use callingbox::{ApiClient, Call, Error, PageCursor, PageRequest};

/// The pause before each look. A call that was placed is listed immediately or a moment later; if it is not listed after
/// these seven seconds, it is absent.
pub const SCHEDULE: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The longest duration of a search, however slow the API is.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How many pages of 100 one look reads.
const MAX_PAGES: usize = 10;

/// How far the API's clock may be behind the local one.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The result of a search.
#[derive(Debug)]
pub enum SearchResult {
    /// The order was placed.
    Found(Placed),
    /// All records since the intent were read, and the order is not among them.
    Absent,
    /// Not all records could be read.
    Inconclusive,
}

/// Looks repeatedly, until the order is found or the schedule ends. `number` is the number to buy; `None` for a call.
pub async fn search(
    api: &ApiClient,
    record: &DispatchRecord,
    number: Option<&E164>,
    schedule: &[Duration],
) -> SearchResult {
    let deadline = Instant::now() + LIMIT;
    let mut last = SearchResult::Inconclusive;
    for pause in schedule {
        tokio::time::sleep(*pause).await;
        let Ok(result) = timeout_at(deadline, look(api, record, number)).await else {
            tracing::warn!(dispatch = %record.dispatch_id, "the search for a dispatch timed out; its result is not known");
            return SearchResult::Inconclusive;
        };
        last = match result {
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

async fn look(
    api: &ApiClient,
    record: &DispatchRecord,
    number: Option<&E164>,
) -> Result<SearchResult, Error> {
    match number {
        None => find_call(api, record.dispatch_id, record.created_at).await,
        Some(number) => find_owned_number(api, number).await,
    }
}

/// A call must not be missed: a list that does not report its end is followed until a page is empty.
async fn find_call(
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
        if let Some(call) = page.data.into_iter().find(|call| has_dispatch_id(call, &dispatch)) {
            return Ok(SearchResult::Found(Placed::Call(Box::new(call))));
        }
        // The call may be a record that could not be read, or beyond a list that ignores the cursor.
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

fn has_dispatch_id(call: &Call, dispatch: &str) -> bool {
    let value = call.metadata.as_ref().and_then(|metadata| metadata.get(DISPATCH_KEY));
    value.and_then(|id| id.as_str()) == Some(dispatch)
}

async fn find_owned_number(api: &ApiClient, wanted: &E164) -> Result<SearchResult, Error> {
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
    use std::sync::Arc;

    use axum::extract::Query;
    use axum::response::IntoResponse;
    use axum::{Json, Router};
    use http::StatusCode;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::dialing::caller::CallerName;
    use crate::dialing::ledger::{
        ArgumentHashes, ConfirmedBy, DispatchState, Fingerprint, KeyRef, LedgerSecret,
    };
    use crate::dialing::limits::OrderKind;
    use callingbox::MilliCents;
    use callingbox::{ApiKey, BaseUrl, ClientConfig, RetryPolicy};

    const INTENT: &str = "2026-11-02T15:00:00Z";

    /// A client of an API that answers every request with `answer`.
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

    /// Searches for a call in the lists that `list` returns for each cursor.
    async fn look_for_call(list: fn(Option<&str>) -> Value) -> SearchResult {
        let (api, server) =
            api(move |query| Json(list(query.get("starting_after").map(String::as_str)))).await;
        let found = find_call(&api, DispatchId::new(), INTENT.parse().unwrap()).await.unwrap();
        server.abort();
        found
    }

    /// A call of another dispatch.
    fn other_call(id: &str, at: &str) -> Value {
        json!({"id": id, "status": "completed", "created_at": at})
    }

    fn newer_call(id: &str) -> Value {
        other_call(id, "2026-11-02T15:01:00Z")
    }

    #[tokio::test]
    async fn a_call_is_absent_only_if_the_whole_list_was_read() {
        assert!(matches!(look_for_call(|_| json!([])).await, SearchResult::Absent));
        let ended = look_for_call(|_| json!({"data": [newer_call("a")], "has_more": false})).await;
        assert!(matches!(ended, SearchResult::Absent));
        let paged = look_for_call(|after| match after {
            None => json!([newer_call("a")]),
            Some(_) => json!([]),
        });
        assert!(matches!(paged.await, SearchResult::Absent));
        let reached =
            look_for_call(|_| json!([newer_call("a"), other_call("b", "2026-11-02T14:00:00Z")]))
                .await;
        assert!(matches!(reached, SearchResult::Absent));
        // The list ignores the cursor, so it may be truncated.
        assert!(matches!(
            look_for_call(|_| json!([newer_call("a")])).await,
            SearchResult::Inconclusive
        ));
        let unreadable =
            look_for_call(|_| json!({"data": [newer_call("a"), {"no": "id"}], "has_more": false}));
        assert!(matches!(unreadable.await, SearchResult::Inconclusive));
        let endless = look_for_call(|_| json!({"data": [newer_call("a")], "has_more": true})).await;
        assert!(matches!(endless, SearchResult::Inconclusive));
    }

    #[tokio::test]
    async fn the_clock_of_the_api_may_be_behind_the_local_clock() {
        let found = look_for_call(|after| match after {
            None => json!({"data": [other_call("a", "2026-11-02T14:56:00Z")], "has_more": true}),
            Some(_) => json!({
                "data": [other_call("b", "2026-11-02T14:55:30Z"), {"no": "id"}], "has_more": false,
            }),
        });
        // The second page was read, and one of its records is unreadable.
        assert!(matches!(found.await, SearchResult::Inconclusive));
    }

    #[tokio::test]
    async fn a_number_is_found_on_any_page() {
        const WANTED: &str = "+14155550100";
        let owned = |list: fn(Option<&str>) -> Value| async move {
            let (api, server) =
                api(move |query| Json(list(query.get("starting_after").map(String::as_str)))).await;
            let found = find_owned_number(&api, &E164::parse(WANTED).unwrap()).await.unwrap();
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

    fn record() -> DispatchRecord {
        let key = ApiKey::new("sk_test".to_owned()).unwrap();
        let secret = LedgerSecret::new([1; 32]);
        let account = KeyRef::new(key, &BaseUrl::default()).organization_account(&secret, "org_1");
        DispatchRecord {
            dispatch_id: DispatchId::new(),
            kind: OrderKind::Call,
            account_id: account.id().clone(),
            caller: CallerName::local(),
            fingerprint: Fingerprint::new(&account, OrderKind::Call, &Value::Null),
            arguments: ArgumentHashes::default(),
            idempotency_key: None,
            callee: None,
            agent_id: None,
            rule: String::new(),
            confirmed_by: ConfirmedBy::NotRequired,
            created_at: INTENT.parse().unwrap(),
            written_at: INTENT.parse().unwrap(),
            lease_expires_at: INTENT.parse().unwrap(),
            generation: 1,
            hold: MilliCents::ZERO,
            state: DispatchState::Intent,
            attempt: None,
            is_result_read: false,
        }
    }

    #[tokio::test]
    async fn any_look_may_find_the_call_and_otherwise_the_last_one_counts() {
        let record = record();
        let schedule = [Duration::ZERO; 2];
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
            let remaining = Arc::new(Mutex::new(lists.clone().into_iter()));
            let (api, server) = api(move |_| match remaining.lock().next().flatten() {
                Some(list) => Json(list).into_response(),
                None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            })
            .await;
            let found = match search(&api, &record, None, &schedule).await {
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
