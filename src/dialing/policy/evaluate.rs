//! One call, judged.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Action, Policy, PolicyMode, Rule, TimeRange};
use crate::dialing::destination::{Destination, NumberType, TimeZones};
use crate::dialing::limits::{self, Limit, LimitReached, Usage};
use callingbox::E164;
use callingbox::MilliCents;

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInput<'a> {
    /// The number.
    pub to: &'a E164,
    /// What is known about it.
    pub destination: &'a Destination,
    /// The agent that would speak.
    pub agent_id: &'a str,
    /// The time of the call.
    pub now: Timestamp,
    /// What has been used, measured against [`Policy::measured_limits`].
    pub usage: &'a Usage,
    /// The most that the call can cost.
    pub hold: MilliCents,
}

/// The part of the policy that decided. Its text is the name by which refusals and receipts call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleName {
    /// Numbers of this kind are never dialed.
    Never(NumberType),
    /// A number has one name, by which rules and limits know it.
    Spelling,
    /// A rule, by its name.
    Rule(String),
    /// No rule matched.
    Default,
    /// The quiet hours.
    QuietHours,
    /// The number has no time zone.
    UnknownTimezone,
    /// A limit.
    Limit(Limit),
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(kind) => write!(f, "never dial {kind} numbers"),
            Self::Spelling => f.write_str("numbers as E.164 writes them"),
            Self::Rule(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
            Self::QuietHours => f.write_str("quiet_hours"),
            Self::UnknownTimezone => f.write_str("unknown_timezone"),
            Self::Limit(limit) => write!(f, "limits.{limit}"),
        }
    }
}

/// What happens to the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may be dialed.
    Allow,
    /// The human is asked first, for this reason.
    Ask(String),
    /// It is not dialed.
    Refuse(PolicyRefusal),
}

/// Why a call is not dialed. `Display` is the whole of it, for the model and its human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRefusal {
    /// What decided.
    pub rule: RuleName,
    /// The facts.
    pub reason: String,
    /// When it becomes possible again, if that can be known.
    pub until: Option<Timestamp>,
    /// What the human can change.
    pub remedy: String,
}

impl fmt::Display for PolicyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Refused by the calling rule `{}`: {}. Nobody was called.",
            self.rule, self.reason
        )?;
        if let Some(until) = self.until {
            write!(f, " Possible again at {}.", second(until))?;
        }
        write!(f, " {}", self.remedy)
    }
}

/// What a part in shadow would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// Which part.
    pub rule: RuleName,
    /// What it would have said.
    pub action: Action,
    /// Why.
    pub reason: String,
}

/// The judgment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDecision {
    /// What happens.
    pub decision: Decision,
    /// What decided; goes into the ledger.
    pub rule: RuleName,
    /// What would have happened, but for the modes.
    pub shadow: Vec<Shadow>,
    /// Everything that was looked at, one line each.
    pub explanation: Vec<String>,
}

/// What one part says.
struct RuleMatch {
    by: RuleName,
    action: Action,
    mode: PolicyMode,
    reason: String,
    until: Option<Timestamp>,
}

impl Policy {
    /// Judges a call.
    #[must_use]
    pub fn evaluate(&self, request: &PolicyInput<'_>) -> PolicyDecision {
        let kind = request.destination.kind;
        let never = match &request.destination.canonical {
            _ if matches!(kind, NumberType::Emergency | NumberType::Premium) => {
                Some((RuleName::Never(kind), format!("{} is of the kind {kind}", request.to)))
            }
            Some(canonical) => Some((
                RuleName::Spelling,
                format!(
                    "{} has a national prefix after its calling code; it is {}",
                    request.to,
                    canonical.as_str()
                ),
            )),
            None => None,
        };
        if let Some((by, reason)) = never {
            let vote = RuleMatch {
                by,
                action: Action::Refuse,
                mode: PolicyMode::Enforce,
                reason,
                until: None,
            };
            return verdict(vec![vote], Vec::new());
        }
        let mut votes = Vec::new();
        let rule = self.ask_rules(request, &mut votes);
        if !rule.is_some_and(|rule| rule.any_hour) {
            votes.extend(self.ask_clock(request));
        }
        votes.extend(self.ask_limits(limits::OrderKind::Call, request.usage, request.hold));
        self.settle(votes)
    }

    /// Judges the purchase of a number: only the money limit speaks. `hold` is its price.
    #[must_use]
    pub fn evaluate_purchase(&self, usage: &Usage, hold: MilliCents) -> PolicyDecision {
        let mut votes = vec![RuleMatch {
            by: RuleName::Default,
            action: Action::Allow,
            mode: PolicyMode::Enforce,
            reason: "a purchase rings nobody".to_owned(),
            until: None,
        }];
        votes.extend(self.ask_limits(limits::OrderKind::Purchase, usage, hold));
        self.settle(votes)
    }

    /// The refusal for a limit that the ledger found reached at the last moment.
    #[must_use]
    pub fn limit_refusal(&self, reached: LimitReached) -> PolicyRefusal {
        refusal(self.limit_vote(reached, self.mode))
    }

    /// The rule that decides, or would if the policy acted, and its vote after those of the shadows before it.
    fn ask_rules(&self, request: &PolicyInput<'_>, votes: &mut Vec<RuleMatch>) -> Option<&Rule> {
        for (at, rule) in self.rules.iter().enumerate() {
            let mode = rule.mode.min(self.mode);
            if mode == PolicyMode::Off || !rule.matches(request) {
                continue;
            }
            votes.push(RuleMatch {
                by: RuleName::Rule(rule.name.clone().unwrap_or_else(|| format!("rule {}", at + 1))),
                action: rule.action,
                mode,
                reason: format!("the first rule that matches says {}", rule.action),
                until: None,
            });
            // By its own mode: rules that are in shadow together say what they would do together.
            if rule.mode == PolicyMode::Enforce {
                return Some(rule);
            }
        }
        votes.push(RuleMatch {
            by: RuleName::Default,
            action: self.default,
            mode: self.mode,
            reason: format!("no rule matches, and the default is {}", self.default),
            until: None,
        });
        None
    }

    fn ask_clock(&self, request: &PolicyInput<'_>) -> Option<RuleMatch> {
        let mode = self.quiet_hours.mode.min(self.mode);
        if mode == PolicyMode::Off {
            return None;
        }
        let zones = match &request.destination.zones {
            TimeZones::Unspecified => {
                let action = self.unknown_timezone;
                let reason = format!(
                    "the number has no time zone of its own, for which the rules say {action}"
                );
                return Some(RuleMatch {
                    by: RuleName::UnknownTimezone,
                    action,
                    mode,
                    reason,
                    until: None,
                });
            }
            zones @ TimeZones::Known(_) => zones,
        };
        let hours = self.quiet_hours.hours();
        let quiet = quiet_at(hours, zones, request.now);
        let clocks = zones.local_times(request.now).join(", ");
        let (action, reason) = if quiet {
            (
                self.quiet_hours.action,
                format!("it is {clocks} there, within the quiet hours {hours}"),
            )
        } else {
            (Action::Allow, format!("it is {clocks} there, outside the quiet hours {hours}"))
        };
        let refused = action == Action::Refuse;
        let until = if refused { quiet_until(hours, zones, request.now) } else { None };
        Some(RuleMatch { by: RuleName::QuietHours, action, mode, reason, until })
    }

    fn ask_limits(
        &self,
        kind: limits::OrderKind,
        usage: &Usage,
        hold: MilliCents,
    ) -> Vec<RuleMatch> {
        let enforced = self.enforced_limits();
        let mut votes = Vec::new();
        if let Some(reached) = enforced.check(kind, usage, hold) {
            votes.push(self.limit_vote(reached, PolicyMode::Enforce));
        }
        let measured = self.measured_limits();
        for reached in
            Limit::ALL.into_iter().filter_map(|limit| measured.reached(limit, kind, usage, hold))
        {
            if enforced.reached(reached.limit, kind, usage, hold).is_none() {
                votes.push(self.limit_vote(reached, PolicyMode::Shadow));
            }
        }
        votes
    }

    fn limit_vote(&self, reached: LimitReached, mode: PolicyMode) -> RuleMatch {
        let settings = &self.limits;
        let reason = match reached.limit {
            Limit::PerHour => format!("{} calls were made in the last hour", settings.per_hour.max),
            Limit::PerDay => {
                format!("{} calls were made in the last 24 hours", settings.per_day.max)
            }
            Limit::PerDestinationPerHour => format!(
                "{} calls to this destination were made in the last hour",
                settings.per_destination_per_hour.max
            ),
            Limit::PerDestinationPerDay => format!(
                "{} calls to this destination were made in the last 24 hours",
                settings.per_destination_per_day.max
            ),
            Limit::Concurrent => {
                format!("{} calls are in progress; wait for one to end", settings.concurrent.max)
            }
            Limit::SpendPerDay => format!(
                "with it, more than {} could be spent in 24 hours",
                settings.spend_per_day.max
            ),
        };
        RuleMatch {
            by: RuleName::Limit(reached.limit),
            action: Action::Refuse,
            mode,
            reason,
            until: reached.until,
        }
    }

    fn settle(&self, votes: Vec<RuleMatch>) -> PolicyDecision {
        let (acting, shadowed): (Vec<_>, Vec<_>) = votes
            .into_iter()
            .filter(|vote| vote.mode > PolicyMode::Off)
            .partition(|vote| vote.mode == PolicyMode::Enforce);
        verdict(acting, shadowed)
    }
}

impl Rule {
    /// Whether the call fits every field that is given.
    fn matches(&self, request: &PolicyInput<'_>) -> bool {
        let Destination { country, kind, zones, .. } = request.destination;
        let number = request.to.as_str();
        let fits = |given: bool, fits: bool| !given || fits;
        fits(!self.to.is_empty(), self.to.contains(request.to))
            && fits(!self.prefix.is_empty(), self.prefix.iter().any(|p| number.starts_with(&p.0)))
            && fits(
                !self.country.is_empty(),
                country.is_some_and(|country| self.country.contains(&country)),
            )
            && fits(!self.kind.is_empty(), self.kind.contains(kind))
            && fits(
                !self.agent.is_empty(),
                self.agent.iter().any(|agent| agent == request.agent_id),
            )
            && self.hours.is_none_or(|hours| match zones {
                TimeZones::Unspecified => false,
                TimeZones::Known(zones) => zones
                    .iter()
                    .all(|zone| hours.contain(request.now.to_zoned(zone.clone()).time())),
            })
    }
}

/// The strictest of the votes that act, and of equals the first; without any, the call is allowed.
fn verdict(acting: Vec<RuleMatch>, shadowed: Vec<RuleMatch>) -> PolicyDecision {
    let line = |vote: &RuleMatch| {
        let shadow = if vote.mode == PolicyMode::Enforce { "" } else { " (shadow)" };
        format!("{}: {}{shadow}: {}", vote.by, vote.action, vote.reason)
    };
    let explanation = acting.iter().chain(&shadowed).map(line).collect();
    let shadow = shadowed
        .into_iter()
        .filter(|vote| vote.action > Action::Allow || matches!(vote.by, RuleName::Rule(_)))
        .map(|vote| Shadow { rule: vote.by, action: vote.action, reason: vote.reason })
        .collect();
    // `max_by_key` keeps the last of equals, hence from the back.
    let strictest = acting.into_iter().rev().max_by_key(|vote| vote.action);
    let (rule, decision) = match strictest {
        None => (RuleName::Default, Decision::Allow),
        Some(vote) => (
            vote.by.clone(),
            match vote.action {
                Action::Allow => Decision::Allow,
                Action::Ask => Decision::Ask(vote.reason),
                Action::Refuse => Decision::Refuse(refusal(vote)),
            },
        ),
    };
    PolicyDecision { decision, rule, shadow, explanation }
}

fn refusal(vote: RuleMatch) -> PolicyRefusal {
    let remedy = match &vote.by {
        RuleName::Never(NumberType::Emergency) => {
            "No setting changes this; in an emergency the human must call.".to_owned()
        }
        RuleName::Never(_) => "No setting changes this.".to_owned(),
        RuleName::Spelling => "Call it by that number.".to_owned(),
        RuleName::Rule(name) => {
            format!("The human can change the rule `{name}` under [[rules]] in the calling rules.")
        }
        RuleName::Default => "The human can add a rule that allows it under [[rules]], or change \
                               `default`, in the calling rules."
            .to_owned(),
        RuleName::QuietHours => {
            "The human can change [quiet_hours] in the calling rules, or allow \
                                  this number with a rule that has `any_hour = true`."
                .to_owned()
        }
        RuleName::UnknownTimezone => {
            "The human can change `unknown_timezone` in the calling rules, \
                                       or allow this number with a rule that has `any_hour = true`."
                .to_owned()
        }
        RuleName::Limit(limit) => {
            format!("The human can raise `{limit}` under [limits] in the calling rules.")
        }
    };
    PolicyRefusal { rule: vote.by, reason: vote.reason, until: vote.until, remedy }
}

/// Whether any clock of the destination shows one of the hours.
fn quiet_at(hours: TimeRange, zones: &TimeZones, at: Timestamp) -> bool {
    zones.known().iter().any(|zone| hours.contain(at.to_zoned(zone.clone()).time()))
}

/// The next instant at which no clock of the destination shows a quiet hour, within two days; `None`
/// when their nights leave no gap.
fn quiet_until(hours: TimeRange, zones: &TimeZones, now: Timestamp) -> Option<Timestamp> {
    // Nights end on a whole minute, everywhere on Earth; clocks that change do so on one too.
    let minute = SignedDuration::from_mins(1);
    let whole = Timestamp::from_second(now.as_second().div_euclid(60).checked_mul(60)?).ok()?;
    (1..=48 * 60).find_map(|minutes| {
        let at = whole.checked_add(minute.checked_mul(minutes)?).ok()?;
        (!quiet_at(hours, zones, at)).then_some(at)
    })
}

/// The instant in UTC, rounded up to a second: nobody is told a time at which it is still refused.
pub(in crate::dialing) fn second(at: Timestamp) -> String {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().saturating_add(up)).unwrap_or(at).to_string()
}

impl Serialize for RuleName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
