//! Records of one kind in the order of their making, found by id, the oldest dropped first; and
//! the cursor pages over them (newest first, `starting_after`, `ending_before`).

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Refusal;
use super::fields::Query;

/// Something with an id of its own.
pub(super) trait Record {
    fn id(&self) -> Uuid;
}

/// Records by age and by id.
#[derive(Debug)]
pub(super) struct Records<T> {
    items: VecDeque<T>,
    places: HashMap<Uuid, u64>,
    dropped: u64,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), places: HashMap::new(), dropped: 0 }
    }
}

impl<T: Record> Records<T> {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Adds the newest record.
    pub(super) fn push(&mut self, item: T) {
        self.places.insert(item.id(), self.dropped + self.items.len() as u64);
        self.items.push_back(item);
    }

    /// Takes the oldest record away.
    pub(super) fn drop_oldest(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.places.remove(&item.id());
        self.dropped += 1;
        Some(item)
    }

    fn place(&self, id: Uuid) -> Option<usize> {
        usize::try_from(self.places.get(&id)?.checked_sub(self.dropped)?).ok()
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&T> {
        self.items.get(self.place(id)?)
    }

    pub(super) fn get_mut(&mut self, id: Uuid) -> Option<&mut T> {
        let place = self.place(id)?;
        self.items.get_mut(place)
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }

    /// Oldest first, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.items.iter_mut()
    }

    /// One page as the query asks for it: `{"data": […], "has_more": …}`.
    ///
    /// # Errors
    /// A refusal for a bad limit, an unknown cursor or an unknown parameter.
    pub(super) fn page(
        &self,
        mut query: Query,
        show: impl Fn(&T) -> Value,
    ) -> Result<Value, Refusal> {
        let limit = query.limit(20, 100)?;
        let after = query.text("starting_after");
        let before = query.text("ending_before");
        query.end()?;
        let cursor = |name: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => super::fields::id(&text)
                .and_then(|id| self.place(id))
                .map(Some)
                .ok_or_else(|| Refusal::bad(format!("{name} names no item of this list"))),
        };
        let (after, before) = (cursor("starting_after", after)?, cursor("ending_before", before)?);
        let count = self.items.len();
        // Places count from the oldest; a page is a stretch of places shown backwards.
        let (from, to, has_more) = match (after, before) {
            (Some(after), _) => (after.saturating_sub(limit), after, after > limit),
            (None, Some(before)) => {
                let to = (before + 1).saturating_add(limit).min(count);
                (before + 1, to, to < count)
            }
            (None, None) => (count.saturating_sub(limit), count, count > limit),
        };
        let data: Vec<Value> = self.items.range(from..to).rev().map(show).collect();
        Ok(json!({"data": data, "has_more": has_more}))
    }
}

impl<T: Serialize> Serialize for Records<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.items)
    }
}

impl<'de, T: Record + Deserialize<'de>> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut records = Self::default();
        for item in Vec::deserialize(deserializer)? {
            records.push(item);
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(u128);

    impl Record for Item {
        fn id(&self) -> Uuid {
            Uuid::from_u128(self.0)
        }
    }

    #[test]
    fn pages_go_both_ways_and_survive_dropping() {
        let mut records = Records::default();
        for number in 1..=8 {
            records.push(Item(number));
        }
        records.drop_oldest();
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
            let page = records.page(Query::parse(&query).unwrap(), |item| json!(item.0 as u64));
            assert_eq!(page, Ok(json!({"data": data, "has_more": has_more})), "{query}");
        }
        for query in ["limit=0", "limit=101", "limit=x", "limit=%2B5", "page=2", "limit=1&limit=1"]
        {
            let page = Query::parse(query).and_then(|query| records.page(query, |_| json!(0)));
            assert_eq!(page.unwrap_err().status, 400, "{query}");
        }
        let dropped = format!("starting_after={}", id(1));
        assert!(records.page(Query::parse(&dropped).unwrap(), |_| json!(0)).is_err());
    }
}
