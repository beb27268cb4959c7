//! The policy in words: one line for the model, a structure for a resource, and the answer of
//! `policy check`. Of the whole [`DialingRules`] they tell what really happens; who must say yes is decided in
//! `confirm` alone, and only told here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::confirm::{ConfirmContext, ConfirmMode, Confirmation, confirmation_required};
use super::limits::{Limit, OrderKind};
use super::policy::{
    Action, Decision, LimitSetting, Policy, PolicyDecision, PolicyInput, PolicyMode, PolicyRefusal,
    QuietHours, Rule, RuleName, second,
};
use super::rules::DialingRules;

/// The rules in force, with numbers masked.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PolicySummary {
    /// All of it in one sentence.
    pub text: String,
    /// Caps the mode of every part.
    pub mode: PolicyMode,
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
    pub mode: PolicyMode,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RuleSummary {
    /// Its name.
    pub name: String,
    /// What happens to a call that matches.
    pub action: Action,
    /// Whether it acts.
    pub mode: PolicyMode,
    /// Which calls match.
    pub applies_to: String,
}

/// The rules in force, and who must say yes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RulesSummary {
    /// The calling rules; the sentence tells what becomes of them by the other two.
    #[serde(flatten)]
    pub policy: PolicySummary,
    /// When a human is asked.
    pub confirm: ConfirmMode,
    /// Only a human's own answer counts.
    pub require_human: bool,
}

impl DialingRules {
    /// One line for the model: what is in force, and what becomes of it by `[dialing]`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = self.policy.parts(|action| self.in_force(action));
        if self.confirm == ConfirmMode::Never && self.policy.asks() {
            parts.push("what needs the human's yes is refused (confirm = \"never\")".to_owned());
        }
        if self.confirm != ConfirmMode::Never && self.require_human {
            parts.push(
                "where the human's yes is needed, a client that cannot ask them is refused \
                 (require_human = true)"
                    .to_owned(),
            );
        }
        sentence(&parts)
    }

    /// The same as a structure.
    #[must_use]
    pub fn structured(&self) -> RulesSummary {
        let policy = PolicySummary { text: self.summary(), ..self.policy.structured() };
        RulesSummary { policy, confirm: self.confirm, require_human: self.require_human }
    }

    /// What would happen to a call, and why: several lines for people. Which client asks is not known,
    /// so what depends on it is told of both kinds.
    #[must_use]
    pub fn explain(
        &self,
        request: &PolicyInput<'_>,
        verdict: &PolicyDecision,
        known_destination: bool,
    ) -> String {
        let demanded = |client_can_ask| self.demanded(verdict, known_destination, client_can_ask);
        let (line, client) = match (demanded(true), demanded(false)) {
            (Confirmation::Refuse(refusal), _) => (refused(&refusal), None),
            (Confirmation::Nothing, _) => (allowed(&verdict.rule), None),
            (Confirmation::Ask(reason), Confirmation::Nothing) => (
                allowed(&verdict.rule),
                Some(format!("one that can ask its human asks first: {reason}")),
            ),
            (Confirmation::Ask(reason), Confirmation::Ask(_)) => (
                self.asked(verdict, &reason),
                Some("one that cannot ask its human gets a preview with a token".to_owned()),
            ),
            (Confirmation::Ask(reason), Confirmation::Refuse(_)) => (
                self.asked(verdict, &reason),
                Some("one that cannot ask its human is refused (require_human = true)".to_owned()),
            ),
        };
        let mut lines = self.policy.lines(request, verdict, line);
        lines.extend(client.map(|client| format!("client     {client}")));
        lines.join("\n")
    }

    /// What is demanded before a call.
    fn demanded(
        &self,
        verdict: &PolicyDecision,
        known_destination: bool,
        client_can_ask: bool,
    ) -> Confirmation {
        let situation = ConfirmContext {
            kind: OrderKind::Call,
            known_destination,
            client_can_ask,
            require_human: self.require_human,
        };
        confirmation_required(self.confirm, verdict, situation)
    }

    /// What becomes of an action in the end, where it is no matter which client asks.
    fn in_force(&self, action: Action) -> Action {
        let decision = match action {
            Action::Allow => Decision::Allow,
            Action::Ask => Decision::Ask(String::new()),
            Action::Refuse => return Action::Refuse,
        };
        let (rule, shadow, explanation) = (RuleName::Default, Vec::new(), Vec::new());
        let verdict = PolicyDecision { decision, rule, shadow, explanation };
        match self.demanded(&verdict, true, true) {
            Confirmation::Nothing => Action::Allow,
            Confirmation::Ask(_) => Action::Ask,
            Confirmation::Refuse(_) => Action::Refuse,
        }
    }

    /// The rule is named only if it is the rule that asks.
    fn asked(&self, verdict: &PolicyDecision, reason: &str) -> String {
        match &verdict.decision {
            Decision::Ask(_) => asked_by(&verdict.rule, reason),
            _ => format!("verdict    ask the human: {reason}"),
        }
    }
}

impl Policy {
    /// One line: what the rules by themselves say.
    #[must_use]
    pub fn summary(&self) -> String {
        sentence(&self.parts(|action| action))
    }

    /// What the rules say, each action told as what becomes of it.
    fn parts(&self, in_force: impl Fn(Action) -> Action) -> Vec<String> {
        let never = "emergency and premium numbers are always refused".to_owned();
        let every_call = "every call needs the human's yes".to_owned();
        let all_asked = in_force(Action::Allow) == Action::Ask;
        if self.mode != PolicyMode::Enforce {
            let stops = format!("the others are in mode {} and stop nothing", self.mode);
            return [never, stops].into_iter().chain(all_asked.then_some(every_call)).collect();
        }
        let mut parts = Vec::new();
        let rules = self.rules.iter().filter(|rule| rule.mode == PolicyMode::Enforce).count();
        match (rules, in_force(self.default)) {
            (0, Action::Allow) => {}
            (0, Action::Ask) => parts.push(every_call),
            (0, Action::Refuse) => parts.push("every call is refused".to_owned()),
            (rules, default) => {
                let plural = if rules == 1 { "" } else { "s" };
                parts.push(format!("{rules} rule{plural} of the user, else {default}"));
                if all_asked {
                    parts.push("every call that they allow needs the human's yes".to_owned());
                }
            }
        }
        let quiet = &self.quiet_hours;
        let then = match in_force(quiet.action) {
            Action::Ask if !all_asked => Some("needs the human's yes"),
            Action::Refuse => Some("is refused"),
            Action::Allow | Action::Ask => None,
        };
        if let (PolicyMode::Enforce, Some(then)) = (quiet.mode, then) {
            parts.push(format!("{} at the destination {then}", quiet.hours()));
        }
        let limits: Vec<String> = self
            .limits_by_name()
            .into_iter()
            .filter(|(_, limit)| limit.mode == PolicyMode::Enforce)
            .map(|(name, limit)| match name {
                Limit::PerHour => format!("{} calls an hour", limit.max),
                Limit::PerDay => format!("{} a day", limit.max),
                Limit::PerDestinationPerHour => format!("{} an hour per destination", limit.max),
                Limit::PerDestinationPerDay => format!("{} a day per destination", limit.max),
                Limit::Concurrent => format!("{} at once", limit.max),
                Limit::SpendPerDay => format!("{} a day", limit.max),
            })
            .collect();
        if !limits.is_empty() {
            parts.push(format!("at most {}", limits.join(", ")));
        }
        parts.push(never);
        parts
    }

    /// Whether any part that acts asks the human.
    fn asks(&self) -> bool {
        let rules = self.rules.iter().map(|rule| (rule.mode, rule.action));
        let clock = [self.quiet_hours.action, self.unknown_timezone]
            .map(|action| (self.quiet_hours.mode, action));
        rules.chain(clock).chain([(PolicyMode::Enforce, self.default)]).any(|(mode, action)| {
            mode.min(self.mode) == PolicyMode::Enforce && action == Action::Ask
        })
    }

    /// The same as a structure.
    #[must_use]
    pub fn structured(&self) -> PolicySummary {
        let limits = self.limits_by_name();
        PolicySummary {
            text: self.summary(),
            mode: self.mode,
            default: self.default,
            unknown_timezone: self.unknown_timezone,
            quiet_hours: self.quiet_hours,
            limits: limits.into_iter().map(|(limit, summary)| (limit.as_str(), summary)).collect(),
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

    /// What the rules by themselves say to a call, and why: several lines for people.
    #[must_use]
    pub fn explain(&self, request: &PolicyInput<'_>, verdict: &PolicyDecision) -> String {
        let line = match &verdict.decision {
            Decision::Allow => allowed(&verdict.rule),
            Decision::Ask(reason) => asked_by(&verdict.rule, reason),
            Decision::Refuse(refusal) => refused(refusal),
        };
        self.lines(request, verdict, line).join("\n")
    }

    /// The call, this line about it, and what was looked at.
    fn lines(
        &self,
        request: &PolicyInput<'_>,
        verdict: &PolicyDecision,
        line: String,
    ) -> Vec<String> {
        let destination = request.destination;
        let country =
            destination.country.map_or("no country".to_owned(), |country| country.to_string());
        let clocks = destination.zones.local_times(request.now);
        let clocks = if clocks.is_empty() { "unknown".to_owned() } else { clocks.join(", ") };
        let mut lines = vec![
            format!("number     {} ({country}, {})", request.to, destination.kind),
            format!("at         {} (there: {clocks})", second(request.now)),
            line,
        ];
        lines.extend(verdict.explanation.iter().map(|line| format!("looked at  {line}")));
        if self.mode != PolicyMode::Enforce {
            lines.push(format!("note       the calling rules are in mode {}", self.mode));
        }
        lines
    }

    fn limits_by_name(&self) -> Vec<(Limit, LimitSummary)> {
        let limits = &self.limits;
        let count = |setting: &LimitSetting<u32>| (setting.max.to_string(), setting.mode);
        [
            (Limit::PerHour, count(&limits.per_hour)),
            (Limit::PerDay, count(&limits.per_day)),
            (Limit::PerDestinationPerHour, count(&limits.per_destination_per_hour)),
            (Limit::PerDestinationPerDay, count(&limits.per_destination_per_day)),
            (Limit::Concurrent, count(&limits.concurrent)),
            (Limit::SpendPerDay, (limits.spend_per_day.max.to_string(), limits.spend_per_day.mode)),
        ]
        .into_iter()
        .filter(|(_, (_, mode))| *mode != PolicyMode::Off)
        .map(|(limit, (max, mode))| (limit, LimitSummary { max, mode }))
        .collect()
    }
}

fn sentence(parts: &[String]) -> String {
    format!("Calling rules: {}.", parts.join("; "))
}

fn allowed(rule: &RuleName) -> String {
    format!("verdict    allow, by `{rule}`")
}

fn asked_by(rule: &RuleName, reason: &str) -> String {
    format!("verdict    ask the human, by `{rule}`: {reason}")
}

fn refused(refusal: &PolicyRefusal) -> String {
    format!("verdict    refuse. {refusal}")
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn rules(confirm: ConfirmMode, require_human: bool, policy: &str) -> DialingRules {
        DialingRules {
            policy: Policy::from_toml(policy).unwrap(),
            confirm,
            require_human,
            repeat_window: SignedDuration::from_secs(600),
            thinking_time: std::time::Duration::from_secs(120),
        }
    }

    #[test]
    fn the_summary_tells_what_becomes_of_the_rules_by_dialing() {
        use ConfirmMode::{Always, Auto, Never};
        let needs = "21:00–08:00 at the destination needs the human's yes";
        let refused = "21:00–08:00 at the destination is refused";
        let why = "what needs the human's yes is refused (confirm = \"never\")";
        let own = "where the human's yes is needed, a client that cannot ask them is refused \
                   (require_human = true)";
        let allow = "[[rules]]\naction = 'allow'\nto = ['+14155550100']";
        let quiet_off = "[quiet_hours]\nmode = 'off'";
        for (confirm, require_human, policy, says, says_not) in [
            (Auto, false, "default = 'ask'", &["every call needs the human's yes", needs][..], why),
            (
                Never,
                false,
                "default = 'ask'",
                &["every call is refused", refused, why],
                "needs the human's yes;",
            ),
            (Never, false, "", &[refused, why], "every call"),
            (Never, false, quiet_off, &["at most 20 calls"], "the human"),
            (Never, true, quiet_off, &["at most 20 calls"], "require_human"),
            (
                Never,
                false,
                "unknown_timezone = 'ask'\n[quiet_hours]\nmode = 'off'",
                &["at most 20 calls"],
                why,
            ),
            (
                Never,
                false,
                "unknown_timezone = 'ask'\n[quiet_hours]\naction = 'allow'",
                &["at most 20 calls", why],
                "needs the human's yes;",
            ),
            (
                Always,
                false,
                "",
                &["Calling rules: every call needs the human's yes; at most"],
                "21:00",
            ),
            (
                Always,
                false,
                "mode = 'off'",
                &["stop nothing; every call needs the human's yes."],
                why,
            ),
            (
                Always,
                false,
                allow,
                &["1 rule of the user, else ask; every call that they allow needs the human's yes"],
                why,
            ),
            (Always, false, "default = 'refuse'", &["every call is refused"], "the human"),
            (Auto, true, "", &[needs, own], why),
        ] {
            let rules = rules(confirm, require_human, policy);
            let said = rules.summary();
            for part in says {
                assert!(said.contains(part), "{confirm:?} {policy}: `{part}` is not in: {said}");
            }
            assert!(!said.contains(says_not), "{confirm:?} {policy}: {said}");
            let structured = serde_json::to_value(rules.structured()).unwrap();
            assert_eq!(structured["text"], said);
            assert_eq!(structured["confirm"], serde_json::to_value(confirm).unwrap());
            assert_eq!(structured["require_human"], require_human);
        }
        assert_eq!(rules(Auto, false, "").summary(), Policy::default().summary());
    }
}
