//! The types of tool arguments. Each enforces the limit that its schema publishes, so that the two cannot differ.

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use crate::dialing::destination::parse_callee;
use crate::mcp::input::normalize::{is_clearable, normalize_arguments};
use crate::mcp::reply::error::ToolError;
use crate::mcp::reply::text;
use crate::suggest::most_similar;
use crate::telemetry::arguments::mask_digits;
use callingbox::E164;

/// The arguments of a call as they came in.
pub type Arguments = Map<String, Value>;

/// The placeholder for a secret in answers. It is rejected as a value, so that a caller cannot write it back in place
/// of the secret.
pub const REDACTED: &str = "***";

/// A text of `MIN` to `MAX` characters.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, description = "", with = "String")]
#[schemars(extend("maxLength" = MAX, "minLength" = MIN))]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let length = text.chars().count();
        if (MIN..=MAX).contains(&length) {
            Ok(Self(text))
        } else {
            Err(D::Error::custom(format_args!(
                "must have {MIN} to {MAX} characters, and has {length}"
            )))
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, description = "", with = "Value")]
#[schemars(extend("type" = "integer", "minimum" = MIN, "maximum" = MAX))]
pub struct BoundedInteger<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> BoundedInteger<MIN, MAX> {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for BoundedInteger<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        // JSON Schema also accepts 10.0 as an integer. A value out of range saturates as a u64.
        let whole = |number: &f64| *number >= 0.0 && number.fract() == 0.0;
        let number =
            value.as_u64().or_else(|| value.as_f64().filter(whole).map(|number| number as u64));
        match number {
            Some(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(D::Error::custom(format_args!("must be a whole number from {MIN} to {MAX}"))),
        }
    }
}

/// A number that is to be called. One that is never dialed, such as 911, is also read where it is not in E.164 form, so that
/// it is refused for what it is.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(inline, description = "", with = "E164")]
pub struct CalleeNumber(pub E164);

impl<'de> Deserialize<'de> for CalleeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_callee(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

/// A list of at most `MAX` items.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, description = "", with = "Vec<T>", extend("maxItems" = MAX))]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The items.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<T>::deserialize(deserializer)?;
        if items.len() <= MAX {
            Ok(Self(items))
        } else {
            Err(D::Error::custom(format_args!(
                "may have at most {MAX} items, and has {}",
                items.len()
            )))
        }
    }
}

/// A time with its zone, as RFC 3339 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(inline, description = "", with = "String")]
pub struct Time(pub jiff::Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            D::Error::custom("must be an RFC 3339 date and time with its zone, such as `…T09:00:00-08:00` or `…T17:00:00Z`")
        })
    }
}

/// An https address of at most 2,048 characters.
// The schema omits the limit, because no real address is that long.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, description = "", with = "String", extend("pattern" = "^https://"))]
pub struct HttpsUrl(String);

impl HttpsUrl {
    const MAX: usize = 2_048;

    /// The address, as it was given.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for HttpsUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains(REDACTED) {
            return Err(D::Error::custom(
                "`***` stands for a secret that is not shown: give the address whole",
            ));
        }
        // `Url` also accepts capitals, a missing `//` and leading white space.
        let fits = text.len() <= Self::MAX
            && text.starts_with("https://")
            && url::Url::parse(&text).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        if fits {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("must be an address that begins with https://"))
        }
    }
}

/// A free JSON object of at most 32 KiB, passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, description = "", with = "Value", extend("type" = "object"))]
pub struct Object(Map<String, Value>);

impl Object {
    const MAX_BYTES: usize = 32 * 1024;

    /// The object itself.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        let size = serde_json::to_vec(&map).map_err(D::Error::custom)?.len();
        if size <= Self::MAX_BYTES {
            Ok(Self(map))
        } else {
            Err(D::Error::custom(format_args!(
                "may have at most {} bytes as JSON, and has {size}",
                Self::MAX_BYTES
            )))
        }
    }
}

/// Reads the arguments of one call into the tool's own type, whose schema this is.
///
/// # Errors
/// A tool error that names the argument, the problem and, for an unknown argument, the valid names. Nothing was done.
pub fn parse<T: DeserializeOwned>(
    schema: &JsonObject,
    arguments: Arguments,
) -> Result<T, ToolError> {
    let arguments = Value::Object(normalize_arguments(schema, arguments));
    let error = match serde_path_to_error::deserialize(&arguments) {
        Ok(input) => return Ok(input),
        Err(error) => error,
    };
    let schema = Value::Object(schema.clone());
    let problem = unknown_argument(&schema, &arguments)
        .unwrap_or_else(|| wrong_value(&schema, &arguments, error));
    Err(ToolError::invalid_argument(problem))
}

/// A name as an error shows it: on one line, short, and without a telephone number.
fn shown_name(name: &str) -> String {
    text::one_line(&mask_digits(name), 80)
}

fn unknown_argument(schema: &Value, arguments: &Value) -> Option<String> {
    let known = schema.get("properties")?.as_object()?;
    let unknown = arguments.as_object()?.keys().find(|name| !known.contains_key(*name))?;
    let unknown = shown_name(unknown);
    let nearest = most_similar(&unknown, known.keys());
    let hint = nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
    let valid: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
    let valid = match valid.as_slice() {
        [] => "the tool takes no arguments".to_owned(),
        valid => format!("the valid arguments are {}", valid.join(", ")),
    };
    Some(format!("there is no argument `{unknown}`{hint}; {valid}"))
}

fn wrong_value(
    schema: &Value,
    arguments: &Value,
    error: serde_path_to_error::Error<serde_json::Error>,
) -> String {
    let path = error.path().to_string();
    let is_empty = arguments.get(&path).and_then(Value::as_str).is_some_and(str::is_empty);
    if is_empty && is_clearable(schema, &path) {
        return format!(
            "`{path}` may not be empty: leave it out to keep it, or name it in `clear` to empty it"
        );
    }
    let reason = match find_choice(schema, arguments, error.path()) {
        Some(choice) => format!("must be one of {choice}"),
        // serde repeats the value, which may contain a telephone number.
        None => text::shorten_reason(&mask_digits(&error.into_inner().to_string())),
    };
    if path == "." { reason } else { format!("`{}`: {reason}", shown_name(&path)) }
}

/// The words to choose from, if the value at this path should be one of them and is not.
fn find_choice(schema: &Value, arguments: &Value, path: &Path) -> Option<String> {
    let (mut schema, mut value) = (schema, arguments);
    for segment in path {
        (schema, value) = match segment {
            Segment::Map { key } => (schema.get("properties")?.get(key)?, value.get(key)?),
            Segment::Seq { index } => (schema.get("items")?, value.get(*index)?),
            Segment::Enum { .. } | Segment::Unknown => break,
        };
    }
    let words = schema.get("enum")?.as_array()?;
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let fits = value.as_str().is_some_and(|value| words.contains(&value));
    (!fits).then(|| format!("`{}`", words.join("`, `")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::input::schema;

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: Text<1, 3>,
        count: Option<BoundedInteger<1, 9>>,
        items: Option<List<bool, 2>>,
        kind: Option<Kind>,
        note: Option<Text<1, 3>>,
        clear: Option<List<Clearable, 1>>,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Clearable {
        Items,
        Note,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Other,
    }

    fn read(value: Value) -> Result<Sample, String> {
        let Value::Object(map) = value else { panic!("not an object") };
        parse(&schema::input_schema::<Sample>(), map).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn reads_valid_arguments_and_names_the_others() {
        assert_eq!(
            read(json!({"name": "abc", "count": 9, "items": [true]})),
            Ok(Sample {
                name: Text("abc".into()),
                count: Some(BoundedInteger(9)),
                items: Some(List(vec![true])),
                kind: None,
                note: None,
                clear: None,
            })
        );
        // An integer is a number without a fraction, however it is written (JSON Schema).
        for nine in [json!(9), json!(9.0), json!(0.9e1)] {
            assert_eq!(
                read(json!({"name": "a", "count": nine})).unwrap().count,
                Some(BoundedInteger(9))
            );
        }
        let nulls = json!({"name": "a", "count": null, "items": null, "kind": null, "clear": null});
        assert_eq!(read(nulls), read(json!({"name": "a"})));
        for (bad, reason) in [
            (json!({}), "missing field `name`"),
            (json!({"name": ""}), "`name`: must have 1 to 3 characters, and has 0"),
            (json!({"name": "äöüß"}), "`name`: must have 1 to 3 characters, and has 4"),
            (json!({"name": "a", "count": 10}), "`count`: must be a whole number from 1 to 9"),
            (json!({"name": "a", "count": "ten"}), "`count`: must be a whole number from 1 to 9"),
            (json!({"name": "a", "count": 1.5}), "`count`: must be a whole number from 1 to 9"),
            (json!({"name": "a", "count": 0.0}), "`count`: must be a whole number from 1 to 9"),
            (json!({"name": "a", "count": -1.0}), "`count`: must be a whole number from 1 to 9"),
            (json!({"name": "a", "count": 1e300}), "`count`: must be a whole number from 1 to 9"),
            (json!({"name": null}), "missing field `name`"),
            (
                json!({"name": "a", "nmae": null}),
                "there is no argument `nmae` (did you mean `name`?); the valid arguments are `name`, `count`, `items`, `kind`, `note`, `clear`",
            ),
            (
                json!({"name": "a", "note": ""}),
                "`note` may not be empty: leave it out to keep it, or name it in `clear` to empty it",
            ),
            (
                json!({"name": "a", "items": [true, true, true]}),
                "`items`: may have at most 2 items, and has 3",
            ),
            (
                json!({"name": "a", "nmae": 1}),
                "there is no argument `nmae` (did you mean `name`?); the valid arguments are `name`, `count`, `items`, `kind`, `note`, `clear`",
            ),
            (
                json!({"name": "a", "+13105550100": 1}),
                "there is no argument `+***`; the valid arguments are `name`, `count`, `items`, `kind`, `note`, `clear`",
            ),
            (
                json!({"name": "a", "items": [true, 1]}),
                "`items[1]`: invalid type: integer `1`, expected a boolean",
            ),
            (json!({"name": "a", "kind": "both"}), "`kind`: must be one of `one`, `other`"),
            (
                json!({"name": "a", "kind": {"type": "one", "more": 1}}),
                "`kind`: must be one of `one`, `other`",
            ),
            (json!({"name": "a", "kind": 7}), "`kind`: must be one of `one`, `other`"),
        ] {
            assert_eq!(read(bad.clone()), Err(reason.to_owned()), "{bad}");
        }
    }
}
