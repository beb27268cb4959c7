//! The type of a number, as the calling rules name it.

use std::fmt;

use rlibphonenumber::PhoneNumberType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberType {
    /// A fixed line.
    Fixed,
    /// A mobile phone.
    Mobile,
    /// A fixed line or a mobile; North American numbers do not tell them apart.
    FixedOrMobile,
    /// The callee pays.
    TollFree,
    /// The caller pays a high price.
    Premium,
    /// The caller and the callee pay.
    SharedCost,
    /// An internet line.
    Voip,
    /// A number that is forwarded to its owner.
    Personal,
    /// A pager.
    Pager,
    /// One number for many offices of a company.
    UniversalAccess,
    /// Access to a voicemail box.
    Voicemail,
    /// A satellite phone or a network without a country (+870, +881, +882, +883).
    Satellite,
    /// Ambulance, fire brigade, police, and crisis lines.
    Emergency,
    /// Too short for a subscriber: the service of a network.
    Short,
    /// Nothing is known; the number may not be assigned.
    Unknown,
}

impl NumberType {
    /// Whether such numbers are never dialed.
    #[must_use]
    pub const fn is_never_dialed(self) -> bool {
        matches!(self, Self::Emergency | Self::Premium | Self::Short)
    }

    /// Whether a call to such a number may be expensive or reach nobody that the user means.
    #[must_use]
    pub const fn is_unusual(self) -> bool {
        matches!(self, Self::Personal | Self::SharedCost | Self::Satellite | Self::Unknown)
    }

    /// Whether the owner of such a number may be anywhere on Earth.
    #[must_use]
    pub const fn has_no_place(self) -> bool {
        self.is_never_dialed() || matches!(self, Self::TollFree | Self::Satellite)
    }
}

/// The word in the policy file.
impl fmt::Display for NumberType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl From<PhoneNumberType> for NumberType {
    fn from(number_type: PhoneNumberType) -> Self {
        match number_type {
            PhoneNumberType::FixedLine => Self::Fixed,
            PhoneNumberType::Mobile => Self::Mobile,
            PhoneNumberType::FixedLineOrMobile => Self::FixedOrMobile,
            PhoneNumberType::TollFree => Self::TollFree,
            PhoneNumberType::PremiumRate => Self::Premium,
            PhoneNumberType::SharedCost => Self::SharedCost,
            PhoneNumberType::VoIP => Self::Voip,
            PhoneNumberType::PersonalNumber => Self::Personal,
            PhoneNumberType::Pager => Self::Pager,
            PhoneNumberType::UAN => Self::UniversalAccess,
            PhoneNumberType::VoiceMail => Self::Voicemail,
            PhoneNumberType::Unknown => Self::Unknown,
        }
    }
}
