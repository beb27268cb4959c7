//! The API's ids: opaque texts, never trusted to be UUIDs, and never mixed up with each other.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::string_schema;

/// The longest id, in characters. The API's are UUIDs of 36; the rest is room.
pub const MAX_ID_LENGTH: usize = 128;

/// Reads an id: normally a text; a whole number is taken as its digits rather than lost.
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

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the text of an id. Any text is taken: one that the API cannot know is
            /// answered as not found when it is used.
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
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(IdText).map(Self)
            }
        }

        // No limits: an id is copied from an answer, and its length tells nobody anything.
        string_schema!($name);
    };
}

id!(
    /// The id of an agent.
    AgentId
);
id!(
    /// The id of a call.
    CallId
);
id!(
    /// The id of a phone number that the organization owns; not the number itself.
    NumberId
);
id!(
    /// The id of a webhook endpoint.
    EndpointId
);
id!(
    /// The id of a webhook delivery, equal to the event id that the receiver sees.
    DeliveryId
);
