//! The policy in words: one line for the model, a structure for a resource, and the answer of
//! `policy check`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::evaluate::second;
use super::{Action, Decision, Mode, Policy, QuietHours, Request, Rule, Verdict};
use crate::dialing::limits::Limit;

/// The rules in force, with numbers masked.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PolicySummary {
    /// All of it in one sentence.
    pub text: String,
    /// Caps the mode of every part.
    pub mode: Mode,
    /// What happens to a call that no rule matches.
    pub default: Action,
    /// What happens to a number without a time zone.
    pub unknown_timezone: Action,
    /// When people sleep, by the clock at the destination.
    pub quiet_hours: QuietHours,
    /// The limits that are not off, by name.
    pub limits: BTreeMap<&'static str, LimitSummary>,
    /// The rules in their order.
    pub rules: Vec<RuleSummary>,
    /// Kinds that are refused whatever the rules say.
    pub always_refused: [&'static str; 2],
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LimitSummary {
    /// The greatest value allowed; money in dollars.
    pub max: String,
    /// Whether it acts.
    pub mode: Mode,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RuleSummary {
    /// Its name.
    pub name: String,
    /// What happens to a call that matches.
    pub action: Action,
    /// Whether it acts.
    pub mode: Mode,
    /// Which calls match.
    pub applies_to: String,
}

impl Policy {
    /// One line for the model: the rules that are in force.
    #[must_use]
    pub fn summary(&self) -> String {
        let never = "emergency and premium numbers are always refused";
        if self.mode != Mode::Enforce {
            return format!(
                "Calling rules: {never}; the others are in mode {} and stop nothing.",
                self.mode
            );
        }
        let mut parts = Vec::new();
        let rules = self.rules.iter().filter(|rule| rule.mode == Mode::Enforce).count();
        match (rules, self.default) {
            (0, Action::Allow) => {}
            (0, Action::Ask) => parts.push("every call needs the human's yes".to_owned()),
            (0, Action::Refuse) => parts.push("every call is refused".to_owned()),
            (1, default) => parts.push(format!("1 rule of the user, else {default}")),
            (rules, default) => parts.push(format!("{rules} rules of the user, else {default}")),
        }
        let quiet = &self.quiet_hours;
        if quiet.mode == Mode::Enforce && quiet.action != Action::Allow {
            let then =
                if quiet.action == Action::Ask { "needs the human's yes" } else { "is refused" };
            parts.push(format!("{} at the destination {then}", quiet.hours()));
        }
        let limits: Vec<String> = self
            .limits_by_name()
            .into_iter()
            .filter(|(_, limit)| limit.mode == Mode::Enforce)
            .map(|(name, limit)| match name {
                Limit::PerHour => format!("{} calls an hour", limit.max),
                Limit::PerDay => format!("{} a day", limit.max),
                Limit::PerDestinationPerHour => format!("{} an hour per destination", limit.max),
                Limit::PerDestinationPerDay => format!("{} a day per destination", limit.max),
                Limit::AtOnce => format!("{} at once", limit.max),
                Limit::SpendPerDay => format!("{} a day", limit.max),
            })
            .collect();
        if !limits.is_empty() {
            parts.push(format!("at most {}", limits.join(", ")));
        }
        parts.push(never.to_owned());
        format!("Calling rules: {}.", parts.join("; "))
    }

    /// The rules in force as a structure.
    #[must_use]
    pub fn structured(&self) -> PolicySummary {
        let limits = self.limits_by_name();
        PolicySummary {
            text: self.summary(),
            mode: self.mode,
            default: self.default,
            unknown_timezone: self.unknown_timezone,
            quiet_hours: self.quiet_hours,
            limits: limits.into_iter().map(|(limit, summary)| (limit.name(), summary)).collect(),
            rules: self
                .rules
                .iter()
                .enumerate()
                .map(|(at, rule)| RuleSummary {
                    name: rule.name.clone().unwrap_or_else(|| format!("rule {}", at + 1)),
                    action: rule.action,
                    mode: rule.mode,
                    applies_to: applies_to(rule),
                })
                .collect(),
            always_refused: ["emergency", "premium"],
        }
    }

    /// What would happen to a call, and why: several lines for people.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>, verdict: &Verdict) -> String {
        let destination = request.destination;
        let country =
            destination.country.map_or("no country".to_owned(), |country| country.to_string());
        let clocks = destination.zones.local_times(request.now);
        let clocks = if clocks.is_empty() { "unknown".to_owned() } else { clocks.join(", ") };
        let mut lines = vec![
            format!("number     {} ({country}, {})", request.to, destination.kind),
            format!("at         {} (there: {clocks})", second(request.now)),
            match &verdict.decision {
                Decision::Allow => format!("verdict    allow, by `{}`", verdict.rule),
                Decision::Ask(reason) => {
                    format!("verdict    ask the human, by `{}`: {reason}", verdict.rule)
                }
                Decision::Refuse(refusal) => format!("verdict    refuse. {refusal}"),
            },
        ];
        lines.extend(verdict.explanation.iter().map(|line| format!("looked at  {line}")));
        if self.mode != Mode::Enforce {
            lines.push(format!("note       the calling rules are in mode {}", self.mode));
        }
        lines.join("\n")
    }

    fn limits_by_name(&self) -> Vec<(Limit, LimitSummary)> {
        let limits = &self.limits;
        let count = |setting: &super::Setting<u32>| (setting.max.to_string(), setting.mode);
        [
            (Limit::PerHour, count(&limits.per_hour)),
            (Limit::PerDay, count(&limits.per_day)),
            (Limit::PerDestinationPerHour, count(&limits.per_destination_per_hour)),
            (Limit::PerDestinationPerDay, count(&limits.per_destination_per_day)),
            (Limit::AtOnce, count(&limits.at_once)),
            (Limit::SpendPerDay, (limits.spend_per_day.max.to_string(), limits.spend_per_day.mode)),
        ]
        .into_iter()
        .filter(|(_, (_, mode))| *mode != Mode::Off)
        .map(|(limit, (max, mode))| (limit, LimitSummary { max, mode }))
        .collect()
    }
}

fn applies_to(rule: &Rule) -> String {
    fn list<T: ToString>(name: &str, items: &[T]) -> Option<String> {
        let items: Vec<_> = items.iter().map(ToString::to_string).collect();
        (!items.is_empty()).then(|| format!("{name} {}", items.join(" or ")))
    }
    let fields: Vec<String> = [
        list("number", &rule.to),
        list("prefix", &rule.prefix),
        list("country", &rule.country),
        list("kind", &rule.kind),
        list("agent", &rule.agent),
        rule.hours.map(|hours| format!("hours {hours}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if fields.is_empty() { "every call".to_owned() } else { fields.join(", ") }
}
