//! The calling rules: the user's own, as written in the configuration.
//!
//! A call is judged by three things, and the strictest of their answers stands (refuse over ask over
//! allow; of equals the first):
//!
//! 1. the rules: in the order of the file, the first that matches decides, else `default`;
//! 2. the quiet hours, by every clock that the destination may have;
//! 3. the limits.
//!
//! So a rule that allows a number lifts neither limits nor quiet hours, except that `any_hour = true`
//! in the deciding rule lifts the quiet hours. Emergency and premium numbers are refused before all
//! of this, in every mode.
//!
//! Each part has a mode of its own, and the policy's `mode` caps them all: in `shadow` a part only says
//! what it would have done, in `off` it is not asked.
//!
//! Pure: it reads no clock, no file and no ledger.

mod evaluate;
mod file;
mod setting;

use std::fmt;

use jiff::civil::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use self::evaluate::second;
pub use self::evaluate::{Decision, PolicyDecision, PolicyInput, PolicyRefusal, RuleName, Shadow};
pub use self::file::{PolicyError, starter_file};
pub use self::setting::LimitSetting;
use crate::dialing::destination::{CountryCode, NumberType};
use crate::dialing::limits::CallLimits;
use callingbox::E164;
use callingbox::MilliCents;

/// Whether a part of the policy acts, only says what it would do, or is not asked. Ordered from the
/// weakest.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PolicyMode {
    /// Not asked.
    Off,
    /// Says what it would have done.
    Shadow,
    /// Acts.
    #[default]
    Enforce,
}

/// What a part of the policy says to a call. Ordered from the mildest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// May be dialed.
    Allow,
    /// The human is asked first.
    Ask,
    /// Is not dialed.
    Refuse,
}

impl fmt::Display for PolicyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Refuse => "refuse",
        })
    }
}

/// The calling rules. What the file leaves out is as shipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Caps the mode of every part.
    pub mode: PolicyMode,
    /// What happens to a call that no rule matches.
    pub default: Action,
    /// What the quiet hours, in their mode, say to a number that has no time zone of its own
    /// (toll-free, unassigned, a country prefix that spans a continent).
    pub unknown_timezone: Action,
    /// When people sleep, by the clock at the destination.
    pub quiet_hours: QuietHours,
    /// How many, and how much.
    pub limits: PolicyLimits,
    /// DialRequest in this order; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// As shipped: quiet hours from 21:00 to 08:00 ask the human; 20 calls an hour, 100 a day, 3 a day to
/// one destination, 5 at once; the rest is allowed.
impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: PolicyMode::Enforce,
            default: Action::Allow,
            unknown_timezone: Action::Allow,
            quiet_hours: QuietHours::default(),
            limits: PolicyLimits::default(),
            rules: Vec::new(),
        }
    }
}

impl Policy {
    /// As shipped for the sandbox: the same, with the quiet hours off.
    #[must_use]
    pub fn sandbox_default() -> Self {
        Self::default().in_sandbox()
    }

    /// These rules as the sandbox applies them: nobody sleeps there.
    #[must_use]
    pub fn in_sandbox(mut self) -> Self {
        self.quiet_hours.mode = PolicyMode::Off;
        self
    }

    /// The limits to measure usage against: all that are not off.
    #[must_use]
    pub fn measured_limits(&self) -> CallLimits {
        self.limits_from(PolicyMode::Shadow)
    }

    /// The limits that the ledger must enforce.
    #[must_use]
    pub fn enforced_limits(&self) -> CallLimits {
        self.limits_from(PolicyMode::Enforce)
    }

    fn limits_from(&self, least: PolicyMode) -> CallLimits {
        let limits = &self.limits;
        let active = |mode: PolicyMode| mode.min(self.mode) >= least;
        let count = |setting: &LimitSetting<u32>| active(setting.mode).then_some(setting.max);
        CallLimits {
            per_hour: count(&limits.per_hour),
            per_day: count(&limits.per_day),
            per_destination_per_hour: count(&limits.per_destination_per_hour),
            per_destination_per_day: count(&limits.per_destination_per_day),
            concurrent: count(&limits.concurrent),
            spend_per_day: active(limits.spend_per_day.mode).then_some(limits.spend_per_day.max),
        }
    }
}

/// From one time of day to another, by the clock at the destination; over midnight when `from` is the
/// later, all day when they are equal. The last minute is not part of it: at 08:00 the night is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeRange {
    /// The first minute.
    pub from: TimeOfDay,
    /// The minute after the last.
    pub to: TimeOfDay,
}

impl TimeRange {
    /// Whether a time of day lies within.
    #[must_use]
    pub fn contain(&self, time: Time) -> bool {
        let (from, to) = (self.from.0, self.to.0);
        if from < to { from <= time && time < to } else { from <= time || time < to }
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}–{}", self.from, self.to)
    }
}

/// The hours in which people are not rung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuietHours {
    /// The first quiet minute.
    pub from: TimeOfDay,
    /// The first minute that is not quiet any more.
    pub to: TimeOfDay,
    /// What happens to a call within.
    pub action: Action,
    /// Whether it acts.
    pub mode: PolicyMode,
}

impl QuietHours {
    /// When.
    #[must_use]
    pub fn hours(&self) -> TimeRange {
        TimeRange { from: self.from, to: self.to }
    }
}

impl Default for QuietHours {
    fn default() -> Self {
        Self {
            from: TimeOfDay(Time::constant(21, 0, 0, 0)),
            to: TimeOfDay(Time::constant(8, 0, 0, 0)),
            action: Action::Ask,
            mode: PolicyMode::Enforce,
        }
    }
}

/// A time of day, written `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(Time);

/// Why a text is not a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time of day: write hours and minutes, such as \"08:00\"")]
pub struct InvalidTimeOfDay;

impl TimeOfDay {
    /// Reads `HH:MM`.
    ///
    /// # Errors
    /// [`InvalidTimeOfDay`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidTimeOfDay> {
        let two = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<i8>().ok()).flatten().ok_or(InvalidTimeOfDay)
        };
        let (hour, minute) = text.split_once(':').ok_or(InvalidTimeOfDay)?;
        Time::new(two(hour)?, two(minute)?, 0, 0).map(Self).map_err(|_| InvalidTimeOfDay)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

/// The first digits of numbers, written with `+`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberPrefix(String);

/// Why a text is not a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a prefix: write + and the first digits of the numbers, such as \"+1415\"")]
pub struct InvalidNumberPrefix;

impl NumberPrefix {
    /// Reads `+` and 1 to 15 digits, the first not zero.
    ///
    /// # Errors
    /// [`InvalidNumberPrefix`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidNumberPrefix> {
        let digits = text.strip_prefix('+').ok_or(InvalidNumberPrefix)?;
        let good = (1..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidNumberPrefix) }
    }
}

/// Masked as a number would be: a long prefix is one.
impl fmt::Display for NumberPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 8 {
            f.write_str(&callingbox::mask_number(&self.0))
        } else {
            f.write_str(&self.0)
        }
    }
}

macro_rules! as_text {
    ($type:ty, $pattern:literal, $write:expr) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&Self) -> String = $write;
                serializer.serialize_str(&write(self))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}
as_text!(TimeOfDay, "^([01][0-9]|2[0-3]):[0-5][0-9]$", ToString::to_string);
as_text!(NumberPrefix, r"^\+[1-9][0-9]{0,14}$", |prefix| prefix.0.clone());

/// How many calls, and how much money. A day is the last 24 hours, an hour the last 60 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyLimits {
    /// Calls in an hour.
    pub per_hour: LimitSetting<u32>,
    /// Calls in a day.
    pub per_day: LimitSetting<u32>,
    /// Calls to one destination in an hour.
    pub per_destination_per_hour: LimitSetting<u32>,
    /// Calls to one destination in a day.
    pub per_destination_per_day: LimitSetting<u32>,
    /// Calls in progress at one time.
    pub concurrent: LimitSetting<u32>,
    /// US dollars in a day: billed amounts, and what is held for calls not billed yet.
    pub spend_per_day: LimitSetting<MilliCents>,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        Self {
            per_hour: LimitSetting::new(20),
            per_day: LimitSetting::new(100),
            per_destination_per_hour: LimitSetting::OFF,
            per_destination_per_day: LimitSetting::new(3),
            concurrent: LimitSetting::new(5),
            spend_per_day: LimitSetting::OFF,
        }
    }
}

/// One rule. It matches a call that fits every field that is given; a field that is a list is fitted by
/// any of its items. A rule with none of them matches every call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// By which refusals and receipts call it; `rule 1`, `rule 2`, … without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens to a call that matches.
    pub action: Action,
    /// Whether it acts. In shadow it says that it matched, and the next rule is asked.
    #[serde(default)]
    pub mode: PolicyMode,
    /// These numbers.
    #[serde(default)]
    pub to: Vec<E164>,
    /// Numbers that begin so.
    #[serde(default)]
    pub prefix: Vec<NumberPrefix>,
    /// Numbers of these countries.
    #[serde(default)]
    pub country: Vec<CountryCode>,
    /// Numbers of these kinds.
    #[serde(default)]
    pub kind: Vec<NumberType>,
    /// Calls by these agents, by id.
    #[serde(default)]
    pub agent: Vec<String>,
    /// Calls at these hours by every clock of the destination; a number without a time zone never
    /// fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<TimeRange>,
    /// The quiet hours do not apply to calls that this rule decides.
    #[serde(default)]
    pub any_hour: bool,
}

#[cfg(test)]
mod tests;
