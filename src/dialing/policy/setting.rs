//! A limit as the calling rules write it: `20`, `"off"`, or `{ max = 20, mode = "shadow" }`.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::PolicyMode;
use callingbox::MilliCents;

/// A limit and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSetting<T> {
    pub max: T,
    pub mode: PolicyMode,
}

impl<T> LimitSetting<T> {
    /// An enforced limit.
    #[must_use]
    pub const fn new(max: T) -> Self {
        Self { max, mode: PolicyMode::Enforce }
    }
}

impl<T: LimitValue> LimitSetting<T> {
    /// No limit.
    pub const OFF: Self = Self { max: T::PLACEHOLDER, mode: PolicyMode::Off };
}

/// A value that can be limited.
pub trait LimitValue: Copy {
    /// The placeholder in a limit that is off.
    const PLACEHOLDER: Self;
    /// The accepted forms, for error messages.
    const EXPECTED: &'static str;
    /// The JSON Schema pattern of a value that is written as a string.
    const PATTERN: Option<&'static str>;
    fn from_number(number: u64) -> Option<Self>;
    fn from_text(text: &str) -> Option<Self>;
    fn serialize_value<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

impl LimitValue for u32 {
    const PLACEHOLDER: Self = 0;
    const EXPECTED: &'static str = "a whole number, \"off\", or { max = …, mode = \"shadow\" }";
    const PATTERN: Option<&'static str> = None;

    fn from_number(number: u64) -> Option<Self> {
        Self::try_from(number).ok()
    }

    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn serialize_value<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*self)
    }
}

/// Dollars as text, so that money is never a float: `"10"`, `"10.5"`, `"0.00001"`.
impl LimitValue for MilliCents {
    const PLACEHOLDER: Self = Self::ZERO;
    const EXPECTED: &'static str = "US dollars in quotes such as \"10.00\", \"off\", or { max = \"10.00\", mode = \"shadow\" }";
    const PATTERN: Option<&'static str> = Some(r"^(off|[0-9]{1,9}(\.[0-9]{1,5})?)$");

    fn from_number(_: u64) -> Option<Self> {
        None
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn serialize_value<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_exact_dollars())
    }
}

/// The value of `max`.
struct MaxValue<T>(T);

impl<T: LimitValue> Serialize for MaxValue<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_value(serializer)
    }
}

impl<T: LimitValue> Serialize for LimitSetting<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;

        if self.mode == PolicyMode::Off {
            return serializer.serialize_str("off");
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("max", &MaxValue(self.max))?;
        map.serialize_entry("mode", &self.mode)?;
        map.end()
    }
}

impl<'de, T: LimitValue> Deserialize<'de> for LimitSetting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LimitVisitor { whole: true, amount: PhantomData })
    }
}

impl<'de, T: LimitValue> Deserialize<'de> for MaxValue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit =
            deserializer.deserialize_any(LimitVisitor { whole: false, amount: PhantomData })?;
        Ok(Self(limit.max))
    }
}

/// Reads a limit, or only its value if not `whole`.
struct LimitVisitor<T> {
    whole: bool,
    amount: PhantomData<T>,
}

impl<'de, T: LimitValue> Visitor<'de> for LimitVisitor<T> {
    type Value = LimitSetting<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        T::from_number(number)
            .map(LimitSetting::new)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match T::from_text(text) {
            Some(max) => Ok(LimitSetting::new(max)),
            None if self.whole && text == "off" => Ok(LimitSetting::OFF),
            None => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        if !self.whole {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        }
        let (mut max, mut mode) = (None, PolicyMode::Enforce);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "max" => max = Some(map.next_value::<MaxValue<T>>()?.0),
                "mode" => mode = map.next_value()?,
                other => return Err(de::Error::unknown_field(other, &["max", "mode"])),
            }
        }
        match max {
            Some(max) => Ok(LimitSetting { max, mode }),
            None if mode == PolicyMode::Off => Ok(LimitSetting::OFF),
            None => Err(de::Error::missing_field("max")),
        }
    }
}

impl<T: LimitValue> JsonSchema for LimitSetting<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        if T::PATTERN.is_some() { "MoneyLimit".into() } else { "CountLimit".into() }
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mode = generator.subschema_for::<PolicyMode>();
        let value = match T::PATTERN {
            Some(pattern) => schemars::json_schema!({"type": "string", "pattern": pattern}),
            None => schemars::json_schema!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        };
        let off = schemars::json_schema!({"type": "string", "const": "off"});
        schemars::json_schema!({"anyOf": [value, off, {
            "type": "object",
            "properties": {"max": value, "mode": mode},
            "additionalProperties": false,
        }]})
    }
}
