//! Records of one type in the order of their creation, found by id, the oldest removed first.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// An entity with an id.
pub(crate) trait Record {
    fn id(&self) -> Uuid;
}

/// Records by age and by id.
#[derive(Debug)]
pub(crate) struct Records<T> {
    items: VecDeque<T>,
    /// The number of each record, counted from the first that was ever added.
    numbers: HashMap<Uuid, u64>,
    removed: u64,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), numbers: HashMap::new(), removed: 0 }
    }
}

impl<T: Record> Records<T> {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn push(&mut self, item: T) {
        self.numbers.insert(item.id(), self.removed + self.items.len() as u64);
        self.items.push_back(item);
    }

    pub(crate) fn remove_oldest(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.numbers.remove(&item.id());
        self.removed += 1;
        Some(item)
    }

    /// The position of a record, counted from the oldest.
    pub(crate) fn position(&self, id: Uuid) -> Option<usize> {
        usize::try_from(self.numbers.get(&id)?.checked_sub(self.removed)?).ok()
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<&T> {
        self.items.get(self.position(id)?)
    }

    pub(crate) fn get_mut(&mut self, id: Uuid) -> Option<&mut T> {
        let position = self.position(id)?;
        self.items.get_mut(position)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }

    /// Oldest first.
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.items.iter_mut()
    }

    /// The records at a range of positions, oldest first.
    pub(crate) fn range(&self, positions: Range<usize>) -> impl DoubleEndedIterator<Item = &T> {
        self.items.range(positions)
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
