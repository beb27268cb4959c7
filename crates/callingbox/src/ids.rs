//! The API's ids: opaque strings, a type for each kind of record. They need not be UUIDs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::string_schema;

/// The longest id, in characters. The API's ids are UUIDs, which have 36.
pub const MAX_ID_LENGTH: usize = 128;

/// Reads an id: normally a string. A whole number is read as its digits, so that no record is lost.
struct IdText;

impl serde::de::Visitor<'_> for IdText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        if text.is_empty() || text.chars().nth(MAX_ID_LENGTH).is_some() {
            return Err(E::custom(format_args!("an id has 1 to {MAX_ID_LENGTH} characters")));
        }
        Ok(text.to_owned())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

macro_rules! id_type {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps an id. The text is not checked: a request with an id that no record can have fails with
            /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
            #[must_use]
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                crate::shown_text::fmt_one_line(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(IdText).map(Self)
            }
        }

        string_schema!($name, {"type": "string", "minLength": 1});
    };
}

id_type!(
    /// The id of an agent.
    AgentId
);
id_type!(
    /// The id of a call.
    CallId
);
id_type!(
    /// The id of a telephone number that the organization owns. It is not the number itself.
    NumberId
);
id_type!(
    /// The id of a webhook endpoint.
    EndpointId
);
id_type!(
    /// The id of a webhook delivery, which is also the id of the event in it.
    DeliveryId
);
