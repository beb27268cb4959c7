//! Applies the calling rules to one call or purchase.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use serde_with::SerializeDisplay;

use super::metadata::{MetadataSource, check_required};
use super::{Action, Policy, PolicyMode, Rule, TimeRange};
use crate::dialing::caller::CallerName;
use crate::dialing::destination::{CountryCode, Destination, NumberFault, NumberType, TimeZones};
use crate::dialing::limits::{self, Limit, LimitReached, Usage};
use crate::own_command::own_command;
use callingbox::E164;
use callingbox::MilliCents;

/// A call, and the facts that the rules depend on.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInput<'a> {
    pub to: &'a E164,
    pub destination: &'a Destination,
    pub agent_id: &'a str,
    /// Who asks for the call.
    pub caller: &'a CallerName,
    /// Whether the call is part of a batch.
    pub is_batch: bool,
    pub metadata: Option<&'a Map<String, Value>>,
    pub metadata_source: MetadataSource,
    pub now: Timestamp,
    /// The usage, measured against [`Policy::measured_limits`].
    pub usage: &'a Usage,
    /// The most that the call can cost.
    pub hold: MilliCents,
}

/// The part of the policy that decided. `Display` is its name in refusals and receipts.
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay)]
pub enum RuleName {
    /// Numbers of this type are never dialed.
    Never(NumberType),
    /// The number is not in E.164 form, by which rules and limits recognize it.
    NotCanonical,
    /// No telephone can have the number.
    Impossible,
    Rule(String),
    /// No rule matched.
    Default,
    QuietHours,
    /// No rule matched, and the number may be outside the home countries.
    HomeCountries,
    /// The number is personal, of shared cost, of a satellite, or of an unknown type.
    UnusualKinds,
    /// The number has no time zone.
    UnknownTimezone,
    /// The number is on the do-not-call list.
    OptedOut,
    /// The number has no time zone because it is toll-free.
    TollFree,
    Limit(Limit),
    /// A setting under `[dialing]`.
    Setting(&'static str),
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(number_type) => write!(f, "never dial {number_type} numbers"),
            Self::NotCanonical => f.write_str("only numbers in E.164 form"),
            Self::Impossible => f.write_str("only numbers that can exist"),
            Self::Rule(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
            Self::QuietHours => f.write_str("quiet_hours"),
            Self::HomeCountries => f.write_str("home_countries"),
            Self::UnusualKinds => f.write_str("unusual_kinds"),
            Self::UnknownTimezone => f.write_str("unknown_timezone"),
            Self::TollFree => f.write_str("toll_free"),
            Self::OptedOut => f.write_str("do_not_call"),
            Self::Limit(limit) => write!(f, "limits.{limit}"),
            Self::Setting(key) => write!(f, "dialing.{key}"),
        }
    }
}

/// The decision on a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may be dialed.
    Allow,
    /// The user must confirm it, for this reason.
    Ask(String),
    /// It is not dialed.
    Refuse(PolicyRefusal),
}

/// Why a call is not dialed. `Display` is the text for a model, which cannot change the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRefusal {
    pub rule: RuleName,
    pub reason: String,
    /// When the call becomes possible, if that is known.
    pub until: Option<Timestamp>,
    /// What a person can change. It names the keys of the configuration, which a model is not told.
    pub remedy: String,
}

impl PolicyRefusal {
    /// A refusal whose end is not known.
    #[must_use]
    pub fn new(rule: RuleName, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { rule, reason: reason.into(), until: None, remedy: remedy.into() }
    }

    /// The text for the person who writes the rules.
    #[must_use]
    pub fn describe_for_person(&self) -> String {
        format!("{self} {}", self.remedy)
    }

    /// The text for a call that waits until it becomes possible.
    #[must_use]
    pub fn describe_wait(&self) -> String {
        let until = self.until.map(|until| format!("; possible again at {}", format_utc(until)));
        format!("calling rule `{}`: {}{}", self.rule, self.reason, until.unwrap_or_default())
    }
}

impl fmt::Display for PolicyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Refused by the calling rule `{}`: {}. Nobody was called.",
            self.rule, self.reason
        )?;
        if let Some(until) = self.until {
            write!(f, " Possible again at {}.", format_utc(until))?;
        }
        Ok(())
    }
}

/// The decision of the policy, and how it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDecision {
    pub decision: Decision,
    /// The part that decided; the ledger records it.
    pub rule: RuleName,
    /// What the parts in shadow mode would have done.
    pub shadow: Vec<RuleMatch>,
    /// Each part that was checked, one line each.
    pub explanation: Vec<String>,
    /// The metadata that the rule that decides needs.
    pub required_metadata: Vec<String>,
}

impl PolicyDecision {
    /// Whether it depends on a record that a model wrote, which counts only with the user's own answer.
    #[must_use]
    pub fn depends_on_model_record(&self) -> bool {
        matches!(self.decision, Decision::Ask(_)) && !self.required_metadata.is_empty()
    }
}

/// A refusal that depends on nothing else.
impl From<PolicyRefusal> for PolicyDecision {
    fn from(refusal: PolicyRefusal) -> Self {
        Self {
            rule: refusal.rule.clone(),
            shadow: Vec::new(),
            explanation: vec![format!("{}: {}: {}", refusal.rule, Action::Refuse, refusal.reason)],
            required_metadata: Vec::new(),
            decision: Decision::Refuse(refusal),
        }
    }
}

/// The decision on an attempt of a batch, which waits where another call would be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDecision {
    /// What the rules say, apart from quiet hours and limits.
    pub decision: PolicyDecision,
    /// The quiet hours at the destination, if it is within them now.
    pub quiet: Option<QuietWait>,
    /// Whether a rule that says `batch = true` allows it.
    pub allows_batch: bool,
}

/// The quiet hours in which an attempt waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietWait {
    /// Their end; `None` if they never end.
    pub until: Option<Timestamp>,
    /// What it says of the hour there.
    pub reason: String,
}

/// The answer of one part of the policy that applies to the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMatch {
    pub rule: RuleName,
    pub action: Action,
    mode: PolicyMode,
    pub reason: String,
    until: Option<Timestamp>,
}

/// The parts of the policy that apply to a call, apart from the limits.
struct CallMatches<'a> {
    matches: Vec<RuleMatch>,
    /// The quiet hours, or the rule for a number without a time zone.
    hours: Option<RuleMatch>,
    /// The rule that decides.
    deciding: Option<&'a Rule>,
}

impl Policy {
    /// Decides on a call.
    #[must_use]
    pub fn evaluate(&self, request: &PolicyInput<'_>) -> PolicyDecision {
        if let Some(rule_match) = match_undialable(request.to, request.destination) {
            return decide_strictest(vec![rule_match], Vec::new());
        }
        let CallMatches { mut matches, hours, deciding } = self.match_call(request);
        matches.extend(hours);
        matches.extend(self.match_limits(limits::OrderKind::Call, request.usage, request.hold));
        PolicyDecision { required_metadata: required_metadata(deciding), ..self.decide(matches) }
    }

    /// Decides on an attempt of a batch. Its limits are those of the ledger, which are reached and free again.
    #[must_use]
    pub fn evaluate_attempt(&self, request: &PolicyInput<'_>) -> AttemptDecision {
        if let Some(rule_match) = match_undialable(request.to, request.destination) {
            let decision = decide_strictest(vec![rule_match], Vec::new());
            return AttemptDecision { decision, quiet: None, allows_batch: false };
        }
        let CallMatches { mut matches, hours, deciding } = self.match_call(request);
        let mut quiet = None;
        match hours {
            Some(hours) if hours.rule == RuleName::QuietHours => {
                let acts = hours.action != Action::Allow && hours.mode == PolicyMode::Enforce;
                let zones = &request.destination.zones;
                quiet = acts.then(|| QuietWait {
                    until: find_quiet_end(self.quiet_hours.range(), zones, request.now),
                    reason: hours.reason,
                });
            }
            other => matches.extend(other),
        }
        let allows_batch =
            deciding.is_some_and(|rule| rule.batch == Some(true) && rule.action == Action::Allow);
        let required_metadata = required_metadata(deciding);
        let decision = PolicyDecision { required_metadata, ..self.decide(matches) };
        AttemptDecision { decision, quiet, allows_batch }
    }

    /// The rules that match a call, and the hours there.
    fn match_call(&self, request: &PolicyInput<'_>) -> CallMatches<'_> {
        let mut matches = Vec::new();
        let deciding = self.match_rules(request, &mut matches);
        if !deciding.is_some_and(|rule| !rule.to.is_empty() || !rule.kind.is_empty()) {
            matches.extend(self.match_unusual_kind(request.destination));
        }
        let any_hour = deciding.is_some_and(|rule| rule.any_hour);
        let hours = if any_hour { None } else { self.match_quiet_hours(request) };
        CallMatches { matches, hours, deciding }
    }

    /// Decides on the purchase of a number, to which only the limits on purchases and money apply. `hold` is the price.
    #[must_use]
    pub fn evaluate_purchase(&self, usage: &Usage, hold: MilliCents) -> PolicyDecision {
        let mut matches = vec![RuleMatch {
            rule: RuleName::Default,
            action: Action::Allow,
            mode: PolicyMode::Enforce,
            reason: "a purchase calls nobody".to_owned(),
            until: None,
        }];
        matches.extend(self.match_limits(limits::OrderKind::Purchase, usage, hold));
        self.decide(matches)
    }

    /// The refusal for a limit that the ledger found reached when the order began.
    #[must_use]
    pub fn limit_refusal(&self, reached: LimitReached) -> PolicyRefusal {
        refuse(self.match_limit(reached, self.mode))
    }

    /// Adds the matches of the rules. Returns the rule that decides, or would decide if the policy were enforced.
    fn match_rules(
        &self,
        request: &PolicyInput<'_>,
        matches: &mut Vec<RuleMatch>,
    ) -> Option<&Rule> {
        for (index, rule) in self.rules.iter().enumerate() {
            let mode = rule.mode.min(self.mode);
            if mode == PolicyMode::Off || !rule.matches(request) {
                continue;
            }
            let name = rule.name_at(index);
            let rule_match = |action, reason| RuleMatch {
                rule: RuleName::Rule(name.clone()),
                action,
                mode,
                reason,
                until: None,
            };
            matches.push(rule_match(
                rule.action,
                format!("the first matching rule says {}", rule.action),
            ));
            if rule.action != Action::Refuse {
                let (metadata, source) = (request.metadata, request.metadata_source);
                let required = check_required(&rule.require_metadata, metadata, source);
                matches.extend(required.map(|(action, reason)| rule_match(action, reason)));
            }
            // By the rule's own mode: in shadow mode as a whole, the rules show what they would do together.
            if rule.mode == PolicyMode::Enforce {
                return Some(rule);
            }
        }
        matches.push(self.match_default(request.destination));
        None
    }

    /// What happens to a call that no rule matches.
    fn match_default(&self, destination: &Destination) -> RuleMatch {
        let is_home =
            destination.country.is_some_and(|country| self.home_countries.contains(&country));
        let (rule, action, reason) = match self.default {
            None if !is_home => (
                RuleName::HomeCountries,
                Action::Ask,
                format!(
                    "no rule matches, and {}; the home countries are {}",
                    describe_country(destination),
                    list_countries(&self.home_countries)
                ),
            ),
            default => {
                let action = default.unwrap_or(Action::Allow);
                (RuleName::Default, action, format!("no rule matches, and the default is {action}"))
            }
        };
        RuleMatch { rule, action, mode: self.mode, reason, until: None }
    }

    fn match_unusual_kind(&self, destination: &Destination) -> Option<RuleMatch> {
        let number_type = destination.number_type;
        number_type.is_unusual().then(|| RuleMatch {
            rule: RuleName::UnusualKinds,
            action: self.unusual_kinds,
            mode: self.mode,
            reason: format!(
                "the number is of the type {number_type}, and the rules say {} for such numbers",
                self.unusual_kinds
            ),
            until: None,
        })
    }

    fn match_quiet_hours(&self, request: &PolicyInput<'_>) -> Option<RuleMatch> {
        let mode = self.quiet_hours.mode.min(self.mode);
        if mode == PolicyMode::Off {
            return None;
        }
        let zones = match &request.destination.zones {
            TimeZones::Unspecified => {
                let (rule, action, what) = match request.destination.number_type {
                    NumberType::TollFree => (RuleName::TollFree, self.toll_free, "is toll-free"),
                    _ => {
                        let action = self.unknown_timezone;
                        (RuleName::UnknownTimezone, action, "has no time zone of its own")
                    }
                };
                let reason =
                    format!("the number {what}, and the rules say {action} for such numbers");
                return Some(RuleMatch { rule, action, mode, reason, until: None });
            }
            zones @ TimeZones::Known(_) => zones,
        };
        let hours = self.quiet_hours.range();
        let quiet = is_quiet(hours, zones, request.now);
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
        let until = if refused { find_quiet_end(hours, zones, request.now) } else { None };
        Some(RuleMatch { rule: RuleName::QuietHours, action, mode, reason, until })
    }

    fn match_limits(
        &self,
        kind: limits::OrderKind,
        usage: &Usage,
        hold: MilliCents,
    ) -> Vec<RuleMatch> {
        let enforced = self.enforced_limits();
        let mut matches = Vec::new();
        if let Some(reached) = enforced.check_all(kind, usage, hold) {
            matches.push(self.match_limit(reached, PolicyMode::Enforce));
        }
        let measured = self.measured_limits();
        for reached in Limit::ALL
            .into_iter()
            .filter_map(|limit| measured.check_limit(limit, kind, usage, hold))
        {
            if enforced.check_limit(reached.limit, kind, usage, hold).is_none() {
                matches.push(self.match_limit(reached, PolicyMode::Shadow));
            }
        }
        matches
    }

    fn match_limit(&self, reached: LimitReached, mode: PolicyMode) -> RuleMatch {
        let settings = &self.limits;
        let made = |max, to, window| {
            let were = if max == 1 { "was" } else { "were" };
            format!("{}{to} {were} made in the last {window}", limits::count_calls(max))
        };
        let (to_this, by_caller) = (" to this destination", " for this caller");
        let per_caller = &settings.per_caller;
        let reason = match reached.limit {
            Limit::PerHour => made(settings.per_hour.max, "", "hour"),
            Limit::PerDay => made(settings.per_day.max, "", "24 hours"),
            Limit::PerDestinationPerHour => {
                made(settings.per_destination_per_hour.max, to_this, "hour")
            }
            Limit::PerDestinationPerDay => {
                made(settings.per_destination_per_day.max, to_this, "24 hours")
            }
            Limit::Concurrent => describe_in_progress(settings.concurrent.max, reached.unknown),
            Limit::SpendPerDay => format!(
                "this order could raise the spending of the last 24 hours above {}",
                settings.spend_limit().max
            ),
            Limit::PurchasesPerDay => match settings.purchases_per_day.max {
                1 => "1 number was bought in the last 24 hours".to_owned(),
                max => format!("{max} numbers were bought in the last 24 hours"),
            },
            Limit::CallerPerHour => made(per_caller.per_hour.max, by_caller, "hour"),
            Limit::CallerPerDay => made(per_caller.per_day.max, by_caller, "24 hours"),
            Limit::CallerConcurrent => format!(
                "of this caller, {}",
                describe_in_progress(per_caller.concurrent.max, reached.unknown)
            ),
            Limit::CallerSpendPerDay => format!(
                "the call could raise this caller's spending of the last 24 hours above {}",
                per_caller.spend_per_day.max
            ),
        };
        RuleMatch {
            rule: RuleName::Limit(reached.limit),
            action: Action::Refuse,
            mode,
            reason,
            until: reached.until,
        }
    }

    fn decide(&self, matches: Vec<RuleMatch>) -> PolicyDecision {
        let (enforced, shadowed): (Vec<_>, Vec<_>) = matches
            .into_iter()
            .filter(|rule_match| rule_match.mode > PolicyMode::Off)
            .partition(|rule_match| rule_match.mode == PolicyMode::Enforce);
        decide_strictest(enforced, shadowed)
    }
}

impl Rule {
    /// Whether the call matches every field of the rule.
    fn matches(&self, request: &PolicyInput<'_>) -> bool {
        let Destination { country, number_type, zones, .. } = request.destination;
        let number = request.to.as_str();
        let fits = |is_set: bool, matches: bool| !is_set || matches;
        fits(!self.to.is_empty(), self.to.contains(request.to))
            && fits(!self.prefix.is_empty(), self.prefix.iter().any(|p| number.starts_with(&p.0)))
            && fits(
                !self.country.is_empty(),
                country.is_some_and(|country| self.country.contains(&country)),
            )
            && fits(!self.kind.is_empty(), self.kind.contains(number_type))
            && fits(
                !self.agent.is_empty(),
                self.agent.iter().any(|agent| agent == request.agent_id),
            )
            && fits(!self.caller.is_empty(), self.caller.contains(request.caller))
            && self.batch.is_none_or(|batch| batch == request.is_batch)
            && self.hours.is_none_or(|hours| match zones {
                TimeZones::Unspecified => false,
                TimeZones::Known(zones) => zones
                    .iter()
                    .all(|zone| hours.contains(request.now.to_zoned(zone.clone()).time())),
            })
    }
}

fn required_metadata(rule: Option<&Rule>) -> Vec<String> {
    let rule = rule.filter(|rule| rule.action != Action::Refuse);
    rule.map(|rule| rule.require_metadata.clone()).unwrap_or_default()
}

/// The refusal of a number that is never dialed, in whatever mode the rules are.
fn match_undialable(to: &E164, destination: &Destination) -> Option<RuleMatch> {
    let Destination { number_type, fault, .. } = destination;
    let (rule, reason) = match fault {
        _ if number_type.is_never_dialed() => {
            (RuleName::Never(*number_type), format!("{to} is of the type {number_type}"))
        }
        Some(fault @ NumberFault::NationalPrefix(_)) => {
            (RuleName::NotCanonical, format!("{to}: {fault}"))
        }
        Some(fault) => (RuleName::Impossible, format!("{to}: {fault}")),
        None => return None,
    };
    let (action, mode) = (Action::Refuse, PolicyMode::Enforce);
    Some(RuleMatch { rule, action, mode, reason, until: None })
}

/// Such as `the number is in GB`.
fn describe_country(destination: &Destination) -> String {
    match (destination.country, destination.calling_code) {
        (Some(country), _) => format!("the number is in {country}"),
        (None, Some(1)) => "the number may be in any country of the North American plan".to_owned(),
        (None, _) => "the number belongs to no single country".to_owned(),
    }
}

/// Such as `US and CA`.
pub(in crate::dialing) fn list_countries(countries: &[CountryCode]) -> String {
    let names: Vec<_> = countries.iter().map(ToString::to_string).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// Why no further call may be in progress. A call with an unknown result may be ringing, so it counts.
fn describe_in_progress(max: u32, unknown: u32) -> String {
    let running = max.saturating_sub(unknown);
    let calls = limits::count_calls;
    let are = |count: u32| if count == 1 { "is" } else { "are" };
    match (running, unknown) {
        (1, 0) => "1 call is in progress; wait for it to end".to_owned(),
        (_, 0) => format!("{} are in progress; wait for one to end", calls(max)),
        (0, unknown) => format!(
            "there {} {} whose fate is unknown: CallingBox did not answer, and they may be ringing",
            are(unknown),
            calls(unknown)
        ),
        (running, unknown) => format!(
            "{} {} in progress, and there {} {unknown} whose fate is unknown: CallingBox did not answer, and {} may be \
             ringing",
            calls(running),
            are(running),
            are(unknown),
            if unknown == 1 { "it" } else { "they" }
        ),
    }
}

/// Decides by the strictest enforced match, and among equals by the first. Without any, the call is allowed.
fn decide_strictest(enforced: Vec<RuleMatch>, shadowed: Vec<RuleMatch>) -> PolicyDecision {
    let line = |rule_match: &RuleMatch| {
        let shadow = if rule_match.mode == PolicyMode::Enforce { "" } else { " (shadow)" };
        format!("{}: {}{shadow}: {}", rule_match.rule, rule_match.action, rule_match.reason)
    };
    let explanation = enforced.iter().chain(&shadowed).map(line).collect();
    let shadow = shadowed
        .into_iter()
        .filter(|rule_match| {
            rule_match.action > Action::Allow || matches!(rule_match.rule, RuleName::Rule(_))
        })
        .collect();
    // `max_by_key` returns the last of equals, hence the reverse order.
    let strictest = enforced.into_iter().rev().max_by_key(|rule_match| rule_match.action);
    let (rule, decision) = match strictest {
        None => (RuleName::Default, Decision::Allow),
        Some(rule_match) => (
            rule_match.rule.clone(),
            match rule_match.action {
                Action::Allow => Decision::Allow,
                Action::Ask => Decision::Ask(rule_match.reason),
                Action::Refuse => Decision::Refuse(refuse(rule_match)),
            },
        ),
    };
    PolicyDecision { decision, rule, shadow, explanation, required_metadata: Vec::new() }
}

/// The refusal of a number of the do-not-call list, in whatever mode the rules are.
#[must_use]
pub fn refuse_opted_out(reason: String, until: Option<Timestamp>) -> PolicyRefusal {
    let (action, mode) = (Action::Refuse, PolicyMode::Enforce);
    refuse(RuleMatch { rule: RuleName::OptedOut, action, mode, reason, until })
}

/// The refusal of a number that is never dialed, whatever the rules, the agent and the account are.
#[must_use]
pub fn refuse_undialable(to: &E164) -> Option<PolicyRefusal> {
    match_undialable(to, &Destination::from_number(to)).map(refuse)
}

fn refuse(rule_match: RuleMatch) -> PolicyRefusal {
    let remedy = match &rule_match.rule {
        RuleName::Never(NumberType::Emergency) => {
            "No setting changes this. In an emergency, dial the number on a telephone yourself."
                .to_owned()
        }
        RuleName::Never(_) | RuleName::Impossible => "No setting changes this.".to_owned(),
        RuleName::NotCanonical => "Call that number instead.".to_owned(),
        RuleName::OptedOut => {
            format!(
                "No calling rule changes this; `{} optout list` shows the entry.",
                own_command()
            )
        }
        RuleName::Rule(name) => {
            format!("The user can change the rule `{name}` under [[rules]] in the calling rules.")
        }
        RuleName::Default => {
            "The user can add a rule under [[rules]] that allows the call, or change `default`, in \
             the calling rules."
                .to_owned()
        }
        RuleName::HomeCountries => {
            "The user can add the country to `home_countries`, or a rule under [[rules]] that \
             allows the call, in the calling rules."
                .to_owned()
        }
        RuleName::UnusualKinds => "The user can change `unusual_kinds` in the calling rules, or \
                                   allow the number with a rule that names it or its `kind`."
            .to_owned(),
        RuleName::QuietHours => "The user can change [quiet_hours] in the calling rules, or allow \
                                  this number with a rule that has `any_hour = true`."
            .to_owned(),
        RuleName::UnknownTimezone | RuleName::TollFree => format!(
            "The user can change `{}` in the calling rules, or allow this number with a rule that \
             has `any_hour = true`.",
            rule_match.rule
        ),
        RuleName::Limit(limit) => {
            format!("The user can raise `{limit}` under [limits] in the calling rules.")
        }
        RuleName::Setting(key) => {
            format!("The user can change `{key}` under [dialing] in the configuration.")
        }
    };
    PolicyRefusal {
        rule: rule_match.rule,
        reason: rule_match.reason,
        until: rule_match.until,
        remedy,
    }
}

/// Whether the local time in any of the zones is within the hours.
fn is_quiet(hours: TimeRange, zones: &TimeZones, at: Timestamp) -> bool {
    zones.known().iter().any(|zone| hours.contains(at.to_zoned(zone.clone()).time()))
}

/// When the quiet hours end in all zones, within two days; `None` if they leave no gap.
fn find_quiet_end(hours: TimeRange, zones: &TimeZones, now: Timestamp) -> Option<Timestamp> {
    // Quiet hours end on a whole minute in every zone, and clocks change on a whole minute too.
    let minute = SignedDuration::from_mins(1);
    let whole = Timestamp::from_second(now.as_second().div_euclid(60).checked_mul(60)?).ok()?;
    (1..=48 * 60).find_map(|minutes| {
        let at = whole.checked_add(minute.checked_mul(minutes)?).ok()?;
        (!is_quiet(hours, zones, at)).then_some(at)
    })
}

/// The instant in UTC, rounded up to a second, so that a call at the stated time is not refused.
pub(in crate::dialing) fn format_utc(at: Timestamp) -> String {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().saturating_add(up)).unwrap_or(at).to_string()
}
