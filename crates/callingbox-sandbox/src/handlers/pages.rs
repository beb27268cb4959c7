//! Cursor pages over records: newest first, with `limit`, `starting_after` and `ending_before`.

use serde_json::{Value, json};

use super::fields::{InputFields, parse_id};
use super::reply::ApiError;
use crate::model::{Record, Records};

/// The page that a query asks for: `{"data": […], "has_more": …}`.
///
/// # Errors
/// 400 for an invalid limit, an unknown cursor or an unknown parameter.
pub(super) fn page_to_json<T: Record>(
    records: &Records<T>,
    mut query: InputFields,
    to_json: impl Fn(&T) -> Value,
) -> Result<Value, ApiError> {
    let limit = query.take_limit(20, 100)?;
    let after = query.take_text("starting_after")?;
    let before = query.take_text("ending_before")?;
    query.reject_unknown()?;
    let position = |name: &str, cursor: Option<String>| match cursor {
        None => Ok(None),
        Some(cursor) => parse_id(&cursor)
            .and_then(|id| records.position(id))
            .map(Some)
            .ok_or_else(|| ApiError::bad_request(format!("{name} names no item of this list"))),
    };
    let after = position("starting_after", after)?;
    let before = position("ending_before", before)?;
    let count = records.len();
    // Positions count from the oldest record; a page is a range of positions shown in reverse.
    let (from, to, has_more) = match (after, before) {
        (Some(after), _) => (after.saturating_sub(limit), after, after > limit),
        (None, Some(before)) => {
            let to = (before + 1).saturating_add(limit).min(count);
            (before + 1, to, to < count)
        }
        (None, None) => (count.saturating_sub(limit), count, count > limit),
    };
    let data: Vec<Value> = records.range(from..to).rev().map(to_json).collect();
    Ok(json!({"data": data, "has_more": has_more}))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    struct Item(u128);

    impl Record for Item {
        fn id(&self) -> Uuid {
            Uuid::from_u128(self.0)
        }
    }

    #[test]
    fn pages_go_both_ways_and_omit_removed_records() {
        let mut records = Records::default();
        for number in 1..=8 {
            records.push(Item(number));
        }
        records.remove_oldest();
        let id = |number| Uuid::from_u128(number).to_string();
        let cases: [(String, &[u64], bool); 9] = [
            ("".into(), &[8, 7, 6, 5, 4, 3, 2], false),
            ("limit=3".into(), &[8, 7, 6], true),
            (format!("limit=3&starting_after={}", id(6)), &[5, 4, 3], true),
            (format!("limit=3&starting_after={}", id(5)), &[4, 3, 2], false),
            (format!("limit=3&starting_after={}", id(2)), &[], false),
            (format!("limit=3&ending_before={}", id(3)), &[6, 5, 4], true),
            (format!("limit=3&ending_before={}", id(5)), &[8, 7, 6], false),
            (format!("limit=3&ending_before={}", id(8)), &[], false),
            (format!("limit=2&starting_after={}&ending_before={}", id(6), id(2)), &[5, 4], true),
        ];
        for (query, data, has_more) in cases {
            let params = InputFields::from_query(&query).unwrap();
            let page = page_to_json(&records, params, |item| json!(item.0 as u64));
            assert_eq!(page, Ok(json!({"data": data, "has_more": has_more})), "{query}");
        }
        for query in ["limit=0", "limit=101", "limit=x", "limit=%2B5", "page=2", "limit=1&limit=1"]
        {
            let page = InputFields::from_query(query)
                .and_then(|params| page_to_json(&records, params, |_| json!(0)));
            assert_eq!(page.unwrap_err().status, 400, "{query}");
        }
        let removed = InputFields::from_query(&format!("starting_after={}", id(1))).unwrap();
        assert!(page_to_json(&records, removed, |_| json!(0)).is_err());
    }
}
