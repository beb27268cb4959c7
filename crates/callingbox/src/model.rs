//! How the API's records are read: leniently, and without losing anything.
//!
//! The sources of the contract disagree about types and presence of many fields, so one field that
//! does not fit must never cost the record. Each model reads the fields that fit into typed members
//! and keeps every other value, unknown or unfit, as it came in `extra`; writing a model gives both
//! back under their own names. Knows JSON, nothing of HTTP.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Takes the field `name` out of `fields` when its value fits `T`; a null counts as absent, and a
/// value that does not fit stays where it is.
pub(super) fn take<T: DeserializeOwned + Default>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> T {
    let taken = match fields.get(name) {
        None => return T::default(),
        Some(Value::Null) => T::default(),
        Some(value) => match T::deserialize(value) {
            Ok(fit) => fit,
            Err(_) => return T::default(),
        },
    };
    fields.shift_remove(name);
    taken
}

/// The name of a field, borrowed from the text where it can be.
#[derive(Deserialize)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The name of a member without the mark of a raw identifier.
pub(super) const fn bare(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// A value that is read as its member where it fits, and as it came where it does not.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Field<T> {
    Fits(T),
    Unfit(Value),
}

/// Puts a value into its member when it fits; a null counts as absent, and a value that does not fit
/// is kept in `extra`. Of two with one name the later counts, as in any JSON object.
pub(super) fn put<T: Default>(
    member: &mut T,
    name: Cow<'_, str>,
    value: Field<T>,
    extra: &mut Map<String, Value>,
) {
    extra.shift_remove(&*name);
    *member = match value {
        Field::Fits(fit) => fit,
        Field::Unfit(value) => {
            if !value.is_null() {
                extra.insert(name.into_owned(), value);
            }
            T::default()
        }
    };
}

/// Whether a field was absent, so that writing leaves it out again.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares a record of the API: one key that must be there and fields that may be.
///
/// `Deserialize` is lenient as this module describes and fails only without the key. `Debug` shows
/// the key alone: the rest holds telephone numbers and what people said.
macro_rules! model {
    (
        $(#[$meta:meta])*
        pub struct $name:ident, key $key:ident: $key_type:ty {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, serde::Serialize, schemars::JsonSchema)]
        pub struct $name {
            /// What the record is known by.
            pub $key: $key_type,
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::model::is_default")]
                pub $field: $type,
            )*
            /// Fields that are unknown or do not fit their type, as they came.
            #[serde(flatten)]
            pub extra: serde_json::Map<String, serde_json::Value>,
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Fields;

                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a record")
                    }

                    fn visit_map<M: serde::de::MapAccess<'de>>(
                        self,
                        mut fields: M,
                    ) -> Result<$name, M::Error> {
                        use $crate::model::{Name, bare, put};
                        let mut extra = serde_json::Map::new();
                        let mut $key: Option<$key_type> = None;
                        $(let mut $field: $type = Default::default();)*
                        while let Some(Name(name)) = fields.next_key()? {
                            match &*name {
                                stringify!($key) =>
                                    put(&mut $key, name, fields.next_value()?, &mut extra),
                                $(field if field == bare(stringify!($field)) =>
                                    put(&mut $field, name, fields.next_value()?, &mut extra),)*
                                _ => { extra.insert(name.into_owned(), fields.next_value()?); }
                            }
                        }
                        let $key = $key
                            .ok_or_else(|| serde::de::Error::missing_field(stringify!($key)))?;
                        Ok($name { $key, $($field,)* extra })
                    }
                }

                from.deserialize_map(Fields)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field(stringify!($key), &self.$key).finish_non_exhaustive()
            }
        }
    };
}
pub(super) use model;

/// Declares a set of words that the API may extend: unknown ones are kept in `Other`.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// A word that is not in the contract, as it came; empty when the API sent none.
            Other(String),
        }

        impl $name {
            /// The API's own word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)*
                    _ => Self::Other(word),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Other(String::new())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from).map(Self::from)
            }
        }

        $crate::model::string_schema!($name);
    };
}
pub(super) use open_enum;

/// Gives a type that is a text on the wire an inline string schema with the given limits.
macro_rules! string_schema {
    ($name:ident $(, $limit:literal: $value:expr)*) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string" $(, $limit: $value)*})
            }
        }
    };
}
pub(super) use string_schema;

/// A closed set of words in an answer, where the API may still say something else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Open<T> {
    /// A word of the contract.
    Known(T),
    /// A word that is not in the contract, as it came.
    Other(String),
}

impl<T: PartialEq> Open<T> {
    /// Whether it is this word.
    #[must_use]
    pub fn is(&self, word: &T) -> bool {
        matches!(self, Self::Known(known) if known == word)
    }
}

impl<T> schemars::JsonSchema for Open<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Open".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

/// A moment as the API wrote it, normally ISO 8601 in UTC (`2026-04-15T14:30:50Z`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(String);

impl Timestamp {
    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The moment, when the text is a date and time with an offset (RFC 3339).
    #[must_use]
    pub fn instant(&self) -> Option<jiff::Timestamp> {
        self.0.parse().ok()
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(at: jiff::Timestamp) -> Self {
        Self(at.to_string())
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

string_schema!(Timestamp);

/// What a partial update does to one field that may also be cleared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// Leave it as it is: the field is not sent.
    #[default]
    Keep,
    /// Give it this value.
    Set(T),
    /// Empty it: the field is sent as null.
    Clear,
}

impl<T> Change<T> {
    /// Whether the field is left as it is.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(value) => value.serialize(to),
            Self::Keep | Self::Clear => to.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Agent, Call};

    #[test]
    fn of_two_fields_with_one_name_the_later_counts() {
        let read = |text: &str| serde_json::from_str::<Call>(text).unwrap();
        let fits = read(r#"{"id":"c1","duration_seconds":"long","duration_seconds":7}"#);
        assert_eq!((fits.duration_seconds, fits.extra.len()), (Some(7), 0));
        let unfit = read(r#"{"id":"c1","duration_seconds":7,"duration_seconds":"long"}"#);
        assert_eq!(unfit.duration_seconds, None);
        assert_eq!(unfit.extra["duration_seconds"], "long");
        let null = read(r#"{"id":"c1","duration_seconds":"long","duration_seconds":null}"#);
        assert_eq!((null.duration_seconds, null.extra.len()), (None, 0));
    }

    #[test]
    fn every_kind_of_value_is_read_where_it_fits_and_kept_where_it_does_not() {
        let values = [
            json!(true),
            json!(7),
            json!(-7),
            json!(0.5),
            json!("x"),
            json!([1, "x"]),
            json!({"a": [{}]}),
        ];
        let fits = [
            ("persona", json!("x")),
            ("status", json!("x")),
            ("direction", json!("x")),
            ("duration_seconds", json!(7)),
            ("context", json!({"a": [{}]})),
        ];
        for (name, fit) in &fits {
            for value in &values {
                let record = json!({"id": "c1", *name: value});
                let call: Call = serde_json::from_str(&record.to_string()).unwrap();
                let unfit = (value != fit).then_some(value);
                assert_eq!(call.extra.get(*name), unfit, "{record}");
                assert_eq!(serde_json::to_value(&call).unwrap(), record);
            }
        }
        for value in &values {
            let record = json!({"id": "c1", "result": value});
            let call: Call = serde_json::from_str(&record.to_string()).unwrap();
            assert_eq!((call.result.as_ref(), call.extra.len()), (Some(value), 0));
        }
    }

    #[test]
    fn a_record_is_the_same_from_text_and_from_a_value() {
        let text = r#"{"id":"a1","type":"inbound","na\u006de":"Mia","later":{"x":[1]}}"#;
        let agent: Agent = serde_json::from_str(text).unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_value::<Agent>(value.clone()).unwrap(), agent);
        assert_eq!(agent.extra, *json!({"later": {"x": [1]}}).as_object().unwrap());
        assert_eq!(serde_json::to_value(&agent).unwrap(), value);
    }
}
