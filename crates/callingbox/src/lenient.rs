//! Lenient reading of records. The sources of the API's contract disagree about the types and the presence of many
//! fields, so a field that does not fit its type must never cost the whole record: it is kept as it came in `extra`,
//! beside the fields that are unknown. Writing a record gives all of them back under their own names.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Removes the field `name` from `fields` and returns its value. A null counts as absent. A value that does not fit
/// `T` stays in `fields`.
pub(crate) fn take_field<T: DeserializeOwned + Default>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> T {
    let name = name.strip_prefix("r#").unwrap_or(name);
    let value = match fields.get(name) {
        None => return T::default(),
        Some(Value::Null) => T::default(),
        Some(value) => match T::deserialize(value) {
            Ok(value) => value,
            Err(_) => return T::default(),
        },
    };
    fields.shift_remove(name);
    value
}

/// Whether a field was absent, so that it is left out when the record is written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Implements `Deserialize` and `Debug` for a record with one required field, its key, and optional ones. `Debug` shows
/// the key alone, because the rest may hold telephone numbers and what people said.
macro_rules! lenient_record {
    ($record:ident { $key:ident; $($field:ident),* $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $record {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use $crate::lenient::take_field;
                let mut fields = serde_json::Map::deserialize(from)?;
                let missing = || serde::de::Error::missing_field(stringify!($key));
                Ok(Self {
                    $key: take_field::<Option<_>>(&mut fields, stringify!($key)).ok_or_else(missing)?,
                    $($field: take_field(&mut fields, stringify!($field)),)*
                    extra: fields,
                })
            }
        }

        $crate::model::debug_fields!($record { $key });
    };
}
pub(crate) use lenient_record;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Agent, Call};

    #[test]
    fn the_later_of_two_fields_with_one_name_counts() {
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
    fn each_kind_of_value_is_read_where_it_fits_and_kept_where_it_does_not() {
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
