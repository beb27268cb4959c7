//! The calling rules that the user writes in the configuration.
//!
//! Three parts check a call, and the strictest of their answers applies (refuse over ask over allow; among equals the
//! first):
//!
//! 1. the rules: the first that matches, in the order of the file, otherwise `default`, or `home_countries` without it;
//!    and `unusual_kinds`;
//! 2. the quiet hours, in every time zone that the destination may have;
//! 3. the limits.
//!
//! A rule that allows a number lifts neither limits nor quiet hours, except that `any_hour = true` in the rule that
//! decides lifts the quiet hours. Emergency, premium and short numbers and numbers that cannot exist are always refused,
//! in every mode.
//!
//! Each part has a mode, and the policy's `mode` caps them all: in `shadow` a part only reports what it would have
//! done, in `off` it is not checked.
//!
//! The policy reads no clock, no file and no ledger.

mod evaluate;
mod file;
mod metadata;
mod setting;

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};

pub use self::evaluate::{
    AttemptDecision, Decision, PolicyDecision, PolicyInput, PolicyRefusal, QuietWait, RuleMatch,
    RuleName, refuse_opted_out, refuse_undialable,
};
pub(super) use self::evaluate::{format_utc, list_countries};
pub use self::file::{PolicyError, starter_file};
pub use self::metadata::MetadataSource;
pub use self::setting::LimitSetting;
use crate::dialing::caller::CallerName;
use crate::dialing::destination::{CountryCode, NumberType, parse_callee};
use crate::dialing::limits::{CallLimits, CallerLimits};
use callingbox::E164;
use callingbox::MilliCents;

/// Whether a part of the policy acts, only reports what it would do, or is not checked. Ordered from the weakest.
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
    /// The part is not checked.
    Off,
    /// The part reports what it would have done.
    Shadow,
    /// The part acts.
    #[default]
    Enforce,
}

/// The answer of a part of the policy to a call. Ordered from the mildest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The call may be placed.
    Allow,
    /// The user must confirm the call.
    Ask,
    /// The call is not placed.
    Refuse,
}

impl fmt::Display for PolicyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The limit on money in a day where one person makes the calls and the file sets none.
const DEFAULT_SPEND_PER_DAY: MilliCents = MilliCents::from_cents(2_000);

/// The calling rules. A key that the file omits has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Caps the mode of every part.
    pub mode: PolicyMode,
    /// What happens to a call that no rule matches. Without this key it is allowed to a number in a home country, and
    /// the user must confirm any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Action>,
    /// The countries to which calls are usual.
    pub home_countries: Vec<CountryCode>,
    /// What happens to a number that is personal, of shared cost, of a satellite, or of an unknown type, unless the rule
    /// that decides names the number or its type.
    pub unusual_kinds: Action,
    /// What happens, in the mode of the quiet hours, to a toll-free number, which has no time zone.
    pub toll_free: Action,
    /// What happens, in the mode of the quiet hours, to any other number without a time zone.
    pub unknown_timezone: Action,
    /// When people sleep, in the local time of the destination.
    pub quiet_hours: QuietHours,
    /// Limits on calls and money.
    pub limits: PolicyLimits,
    /// Checked in this order; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// Quiet hours from 21:00 to 08:00, numbers outside the United States and Canada, and unusual numbers need confirmation;
/// 20 calls an hour, 100 a day, 3 a day to one destination, 5 in progress, 3 purchases and $20 a day, 100 people in a batch;
/// all other calls are allowed.
impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: PolicyMode::Enforce,
            default: None,
            home_countries: vec![CountryCode::UNITED_STATES, CountryCode::CANADA],
            unusual_kinds: Action::Ask,
            toll_free: Action::Allow,
            unknown_timezone: Action::Ask,
            quiet_hours: QuietHours::default(),
            limits: PolicyLimits::default(),
            rules: Vec::new(),
        }
    }
}

impl Policy {
    /// These rules as the sandbox applies them, where no number is real: with usual numbers only, and without quiet hours,
    /// unless `has_quiet_hours`.
    #[must_use]
    pub fn in_sandbox(mut self, has_quiet_hours: bool) -> Self {
        if !has_quiet_hours {
            self.quiet_hours.mode = PolicyMode::Off;
        }
        self.unusual_kinds = Action::Allow;
        self.default.get_or_insert(Action::Allow);
        self
    }

    /// These rules for a server that many people use: their money is limited only where the file says so.
    #[must_use]
    pub fn over_http(mut self) -> Self {
        self.limits.spend_per_day.get_or_insert(LimitSetting::OFF);
        self
    }

    /// The most people in one batch; `None` is no limit of the rules.
    #[must_use]
    pub fn max_batch_size(&self) -> Option<u32> {
        let limit = &self.limits.batch_size;
        (limit.mode.min(self.mode) == PolicyMode::Enforce).then_some(limit.max)
    }

    /// The limits to measure usage against: all that are not off.
    #[must_use]
    pub fn measured_limits(&self) -> CallLimits {
        self.limits_in(PolicyMode::Shadow)
    }

    /// The limits that the ledger must enforce.
    #[must_use]
    pub fn enforced_limits(&self) -> CallLimits {
        self.limits_in(PolicyMode::Enforce)
    }

    fn limits_in(&self, min_mode: PolicyMode) -> CallLimits {
        let limits = &self.limits;
        let active = |mode: PolicyMode| mode.min(self.mode) >= min_mode;
        let count = |setting: &LimitSetting<u32>| active(setting.mode).then_some(setting.max);
        let money =
            |setting: &LimitSetting<MilliCents>| active(setting.mode).then_some(setting.max);
        CallLimits {
            per_hour: count(&limits.per_hour),
            per_day: count(&limits.per_day),
            per_destination_per_hour: count(&limits.per_destination_per_hour),
            per_destination_per_day: count(&limits.per_destination_per_day),
            concurrent: count(&limits.concurrent),
            spend_per_day: money(&limits.spend_limit()),
            purchases_per_day: count(&limits.purchases_per_day),
            per_caller: CallerLimits {
                per_hour: count(&limits.per_caller.per_hour),
                per_day: count(&limits.per_caller.per_day),
                concurrent: count(&limits.per_caller.concurrent),
                spend_per_day: money(&limits.per_caller.spend_per_day),
            },
        }
    }
}

/// A range of local times. It spans midnight if `from` is later than `to`, and the whole day if they are equal. `to`
/// is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeRange {
    /// The first minute.
    pub from: TimeOfDay,
    /// The minute after the last.
    pub to: TimeOfDay,
}

impl TimeRange {
    #[must_use]
    pub fn contains(&self, time: Time) -> bool {
        let (from, to) = (self.from.0, self.to.0);
        if from < to { from <= time && time < to } else { from <= time || time < to }
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}–{}", self.from, self.to)
    }
}

/// The hours in which people are not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuietHours {
    /// The first quiet minute.
    pub from: TimeOfDay,
    /// The first minute after the quiet hours.
    pub to: TimeOfDay,
    /// What happens to a call in these hours.
    pub action: Action,
    /// Whether the quiet hours act.
    pub mode: PolicyMode,
}

impl QuietHours {
    #[must_use]
    pub fn range(&self) -> TimeRange {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, SerializeDisplay, DeserializeFromStr, JsonSchema)]
#[schemars(with = "String", inline, extend("pattern" = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
pub struct TimeOfDay(Time);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time of day: write hours and minutes, such as \"08:00\"")]
pub struct InvalidTimeOfDay;

impl FromStr for TimeOfDay {
    type Err = InvalidTimeOfDay;

    fn from_str(text: &str) -> Result<Self, InvalidTimeOfDay> {
        let parse_part = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<i8>().ok()).flatten().ok_or(InvalidTimeOfDay)
        };
        let (hour, minute) = text.split_once(':').ok_or(InvalidTimeOfDay)?;
        Time::new(parse_part(hour)?, parse_part(minute)?, 0, 0)
            .map(Self)
            .map_err(|_| InvalidTimeOfDay)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

/// The first digits of a number, written with `+`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, DeserializeFromStr, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "String", inline, extend("pattern" = r"^\+[1-9][0-9]{0,14}$"))]
pub struct NumberPrefix(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a prefix: write + and the first digits of the numbers, such as \"+1415\"")]
pub struct InvalidNumberPrefix;

impl FromStr for NumberPrefix {
    type Err = InvalidNumberPrefix;

    /// Reads `+` and 1 to 15 digits, the first of which is not zero.
    fn from_str(text: &str) -> Result<Self, InvalidNumberPrefix> {
        let digits = text.strip_prefix('+').ok_or(InvalidNumberPrefix)?;
        let is_valid = (1..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidNumberPrefix) }
    }
}

/// A long prefix is masked like a number, because it may be one.
impl fmt::Display for NumberPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 8 {
            f.write_str(&callingbox::mask_number(&self.0))
        } else {
            f.write_str(&self.0)
        }
    }
}

/// Limits on calls and money. A day is the last 24 hours, an hour the last 60 minutes.
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
    /// Calls in progress.
    #[serde(alias = "at_once")]
    pub concurrent: LimitSetting<u32>,
    /// US dollars in a day: billed amounts, and the holds of calls that are not billed yet. Default: 20.00; over HTTP: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend_per_day: Option<LimitSetting<MilliCents>>,
    /// Numbers bought in a day.
    pub purchases_per_day: LimitSetting<u32>,
    /// People in one batch.
    pub batch_size: LimitSetting<u32>,
    /// The limits of each caller, beside those of all callers together.
    pub per_caller: PerCallerLimits,
}

impl PolicyLimits {
    /// The limit on money in a day.
    #[must_use]
    pub fn spend_limit(&self) -> LimitSetting<MilliCents> {
        self.spend_per_day.unwrap_or(LimitSetting::new(DEFAULT_SPEND_PER_DAY))
    }
}

/// The limits of each caller: each token, OAuth subject or CallingBox key, and the user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PerCallerLimits {
    /// A caller's calls in an hour.
    pub per_hour: LimitSetting<u32>,
    /// A caller's calls in a day.
    pub per_day: LimitSetting<u32>,
    /// A caller's calls in progress.
    #[serde(alias = "at_once")]
    pub concurrent: LimitSetting<u32>,
    /// US dollars of a caller in a day.
    pub spend_per_day: LimitSetting<MilliCents>,
}

impl Default for PerCallerLimits {
    fn default() -> Self {
        Self {
            per_hour: LimitSetting::OFF,
            per_day: LimitSetting::OFF,
            concurrent: LimitSetting::OFF,
            spend_per_day: LimitSetting::OFF,
        }
    }
}

impl Default for PolicyLimits {
    fn default() -> Self {
        Self {
            per_hour: LimitSetting::new(20),
            per_day: LimitSetting::new(100),
            per_destination_per_hour: LimitSetting::OFF,
            per_destination_per_day: LimitSetting::new(3),
            concurrent: LimitSetting::new(5),
            spend_per_day: None,
            purchases_per_day: LimitSetting::new(3),
            batch_size: LimitSetting::new(100),
            per_caller: PerCallerLimits::default(),
        }
    }
}

fn deserialize_numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<E164>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        E164::parse(text).map_err(|invalid| match parse_callee(text) {
            Ok(_) => D::Error::custom(
                "such a number is never dialed, and no rule is needed for it: remove it",
            ),
            Err(_) => D::Error::custom(invalid),
        })
    };
    texts.iter().map(parse).collect()
}

/// One rule. It matches a call that fits every field of the rule; a call fits a list if it fits any of its items. A
/// rule without such fields matches every call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name in refusals and receipts; `rule 1`, `rule 2`, … if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens to a call that matches.
    pub action: Action,
    /// Whether the rule acts. In shadow mode it reports that it matched, and the next rule is checked.
    #[serde(default)]
    pub mode: PolicyMode,
    /// These numbers.
    #[serde(default, deserialize_with = "deserialize_numbers")]
    pub to: Vec<E164>,
    /// Numbers that begin with these digits.
    #[serde(default)]
    pub prefix: Vec<NumberPrefix>,
    /// Numbers that can only be in one of these countries.
    #[serde(default)]
    pub country: Vec<CountryCode>,
    /// Numbers of these types.
    #[serde(default)]
    pub kind: Vec<NumberType>,
    /// Calls by these agents, by id.
    #[serde(default)]
    pub agent: Vec<String>,
    /// Calls that these callers ask for: `local`, `token:NAME`, `oauth:SUBJECT`, `key:HASH` or `anonymous`.
    #[serde(default)]
    pub caller: Vec<CallerName>,
    /// Calls at these hours, in every time zone of the destination. A number without a time zone does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<TimeRange>,
    /// Calls that are part of a batch (`true`), or that are not (`false`). Where nobody may be asked (`confirm = "never"`), a
    /// batch needs a rule with `batch = true` that allows each of its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
    /// The quiet hours do not apply to calls that this rule decides.
    #[serde(default)]
    pub any_hour: bool,
    /// The call must carry these keys in its metadata, such as `consent`, each with a text that says where and when. The
    /// user must confirm what a model writes there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require_metadata: Vec<String>,
}

impl Rule {
    /// The name of the rule at this place of the file.
    pub(super) fn name_at(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("rule {}", index + 1))
    }
}

#[cfg(test)]
mod tests;
