//! Describes the calling rules: one line for the model, a structure for a resource, and the answer of `policy check`.
//! For the whole [`DialingRules`] they describe what happens in the end; `confirm` alone decides what needs a
//! confirmation.

use std::collections::BTreeMap;

use serde::Serialize;

use super::confirm::{ConfirmContext, ConfirmMode, Confirmation, confirmation_required};
use super::destination::CountryCode;
use super::limits::{Limit, OrderKind, count_calls};
use super::policy::{
    Action, Decision, LimitSetting, Policy, PolicyDecision, PolicyInput, PolicyMode, QuietHours,
    Rule, RuleName, format_utc, list_countries,
};
use super::rules::DialingRules;
use callingbox::MilliCents;

/// The rules in force, with numbers masked, and who must say yes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RulesSummary {
    /// The rules in one sentence.
    pub text: String,
    /// Caps the mode of every part.
    pub mode: PolicyMode,
    /// What happens to a call that no rule matches; if absent, it is allowed to the home countries only, and needs the
    /// user's confirmation elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Action>,
    pub home_countries: Vec<CountryCode>,
    /// What happens to a personal, shared-cost, satellite or unknown number.
    pub unusual_kinds: Action,
    /// What happens to a toll-free number, which has no time zone.
    pub toll_free: Action,
    /// What happens to another number without a time zone.
    pub unknown_timezone: Action,
    /// When people sleep, in the local time of the destination.
    pub quiet_hours: QuietHours,
    /// The limits that are not off, by name.
    pub limits: BTreeMap<String, LimitSummary>,
    /// The rules in their order.
    pub rules: Vec<RuleSummary>,
    /// The types of numbers that are refused whatever the rules say.
    pub always_refused: [&'static str; 4],
    /// When the user is asked to confirm.
    pub confirm: ConfirmMode,
    /// Only the user's own answer counts as a confirmation.
    pub require_human: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitSummary {
    /// The limit; money in dollars.
    pub max: String,
    pub mode: PolicyMode,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleSummary {
    pub name: String,
    /// What happens to a call that matches.
    pub action: Action,
    pub mode: PolicyMode,
    /// Which calls match.
    pub applies_to: String,
    /// The keys that a call must carry in its metadata.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require_metadata: Vec<String>,
}

impl DialingRules {
    /// One line for the model: the rules in force, with the effect of `[dialing]`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = self.policy.describe_parts(|action| self.effective_action(action));
        if self.confirm == ConfirmMode::Never && !self.require_human && self.policy.can_ask() {
            parts.push("what needs the user's confirmation is refused".to_owned());
        }
        if self.require_human {
            parts.push(
                "the first call to a number and every purchase need the user's own answer; where it \
                 is needed, a client that cannot ask is refused"
                    .to_owned(),
            );
        }
        parts.extend(self.disclosure.describe().map(str::to_owned));
        format!("Calling rules: {}.", parts.join("; "))
    }

    /// The summary as a structure.
    #[must_use]
    pub fn structured(&self) -> RulesSummary {
        let policy = &self.policy;
        let limits = policy.active_limits().into_iter();
        let rules = policy.rules.iter().enumerate().map(|(index, rule)| RuleSummary {
            name: rule.name_at(index),
            action: rule.action,
            mode: rule.mode,
            applies_to: describe_scope(rule),
            require_metadata: rule.require_metadata.clone(),
        });
        RulesSummary {
            text: self.summary(),
            mode: policy.mode,
            default: policy.default,
            home_countries: policy.home_countries.clone(),
            unusual_kinds: policy.unusual_kinds,
            toll_free: policy.toll_free,
            unknown_timezone: policy.unknown_timezone,
            quiet_hours: policy.quiet_hours,
            limits: limits.map(|(limit, summary)| (limit.to_string(), summary)).collect(),
            rules: rules.collect(),
            always_refused: ["emergency", "premium", "short", "impossible"],
            confirm: self.confirm,
            require_human: self.require_human,
        }
    }

    /// What would happen to a call, and why, in several lines for people. If the result depends on the client, both
    /// cases are described.
    #[must_use]
    pub fn explain(
        &self,
        request: &PolicyInput<'_>,
        decision: &PolicyDecision,
        known_destination: bool,
    ) -> String {
        let (result, client) = self.explain_confirmation(decision, known_destination);
        let destination = request.destination;
        let country = match (destination.country, destination.calling_code) {
            (Some(country), _) => country.to_string(),
            (None, Some(1)) => "North America".to_owned(),
            (None, _) => "no country".to_owned(),
        };
        let clocks = destination.zones.local_times(request.now);
        let clocks = if clocks.is_empty() { "unknown".to_owned() } else { clocks.join(", ") };
        let mut lines = vec![
            format!("number     {} ({country}, {})", request.to, destination.number_type),
            format!("time       {} (local: {clocks})", format_utc(request.now)),
            format!("decision   {result}"),
        ];
        lines.extend(decision.explanation.iter().map(|line| format!("checked    {line}")));
        if self.policy.mode != PolicyMode::Enforce {
            lines.push(format!("note       the calling rules are in mode {}", self.policy.mode));
        }
        lines.extend(client.map(|client| format!("client     {client}")));
        lines.extend(self.disclosure.describe().map(|text| format!("disclosure {text}")));
        lines.join("\n")
    }

    /// The decision on the call, with a client that can ask its user and with one that cannot.
    fn explain_confirmation(
        &self,
        decision: &PolicyDecision,
        known_destination: bool,
    ) -> (String, Option<String>) {
        let confirmation =
            |client_can_ask| self.confirmation_for(decision, known_destination, client_can_ask);
        let allow = || format!("allow, by `{}`", decision.rule);
        // Names the rule only if the rule asks.
        let ask = |reason: String| match &decision.decision {
            Decision::Ask(_) => format!("ask the user, by `{}`: {reason}", decision.rule),
            Decision::Allow | Decision::Refuse(_) => format!("ask the user: {reason}"),
        };
        match (confirmation(true), confirmation(false)) {
            (Confirmation::Refuse(refusal), _) => {
                (format!("refuse. {}", refusal.describe_for_person()), None)
            }
            (Confirmation::NotRequired, _) => (allow(), None),
            (Confirmation::Ask(reason), Confirmation::NotRequired) => {
                (allow(), Some(format!("a client that can ask its user asks first: {reason}")))
            }
            (Confirmation::Ask(reason), Confirmation::Ask(_)) => {
                let client = "a client that cannot ask its user gets a preview with a token";
                (ask(reason), Some(client.to_owned()))
            }
            (Confirmation::Ask(reason), Confirmation::Refuse(_)) => {
                let why = if self.require_human { " (require_human = true)" } else { "" };
                (ask(reason), Some(format!("a client that cannot ask its user is refused{why}")))
            }
        }
    }

    /// Whether the call needs a confirmation.
    fn confirmation_for(
        &self,
        decision: &PolicyDecision,
        known_destination: bool,
        client_can_ask: bool,
    ) -> Confirmation {
        let context = ConfirmContext {
            kind: OrderKind::Call,
            known_destination,
            client_can_ask,
            is_live: true,
            require_human: self.require_human,
        };
        confirmation_required(self.confirm, decision, context)
    }

    /// The effect of an action for a client that can ask its user.
    fn effective_action(&self, action: Action) -> Action {
        let decision = match action {
            Action::Allow => Decision::Allow,
            Action::Ask => Decision::Ask(String::new()),
            Action::Refuse => return Action::Refuse,
        };
        let (rule, shadow, explanation) = (RuleName::Default, Vec::new(), Vec::new());
        let required_metadata = Vec::new();
        let decision = PolicyDecision { decision, rule, shadow, explanation, required_metadata };
        match self.confirmation_for(&decision, true, true) {
            Confirmation::NotRequired => Action::Allow,
            Confirmation::Ask(_) => Action::Ask,
            Confirmation::Refuse(_) => Action::Refuse,
        }
    }
}

impl Policy {
    /// Describes each part of the rules, with the effect of its action.
    fn describe_parts(&self, effective: impl Fn(Action) -> Action) -> Vec<String> {
        let never =
            "emergency, premium, short and impossible numbers are always refused".to_owned();
        let every_call = "every call needs the user's confirmation".to_owned();
        let all_need_confirmation = effective(Action::Allow) == Action::Ask;
        if self.mode != PolicyMode::Enforce {
            let stops = format!("the other rules are in mode {} and stop nothing", self.mode);
            return [never, stops]
                .into_iter()
                .chain(all_need_confirmation.then_some(every_call))
                .collect();
        }
        let mut parts = Vec::new();
        let rules = self.rules.iter().filter(|rule| rule.mode == PolicyMode::Enforce).count();
        match (rules, effective(self.default.unwrap_or(Action::Allow))) {
            (0, Action::Allow) => {}
            (0, Action::Ask) => parts.push(every_call),
            (0, Action::Refuse) => parts.push("every call is refused".to_owned()),
            (rules, default) => {
                let plural = if rules == 1 { "" } else { "s" };
                parts.push(format!("{rules} rule{plural} of the user, otherwise {default}"));
                if all_need_confirmation {
                    parts.push(
                        "every call that they allow needs the user's confirmation".to_owned(),
                    );
                }
            }
        }
        let effect = |action, asked, refused| match effective(action) {
            Action::Ask if !all_need_confirmation => Some(asked),
            Action::Refuse => Some(refused),
            Action::Allow | Action::Ask => None,
        };
        let abroad = effect(Action::Ask, "need the user's confirmation", "are refused");
        if let (None, Some(then)) = (self.default, abroad) {
            parts.push(format!("numbers outside {} {then}", list_countries(&self.home_countries)));
        }
        let quiet = &self.quiet_hours;
        let then = effect(quiet.action, "needs the user's confirmation", "is refused");
        if let (PolicyMode::Enforce, Some(then)) = (quiet.mode, then) {
            parts.push(format!("{} at the destination {then}", quiet.range()));
        }
        let limits: Vec<String> = self
            .active_limits()
            .into_iter()
            .filter(|(_, limit)| limit.mode == PolicyMode::Enforce)
            .map(|(name, limit)| match name {
                Limit::PerHour => format!("{} an hour", count_calls(self.limits.per_hour.max)),
                Limit::PerDay => format!("{} a day", limit.max),
                Limit::PerDestinationPerHour => format!("{} an hour per destination", limit.max),
                Limit::PerDestinationPerDay => format!("{} a day per destination", limit.max),
                Limit::Concurrent => format!("{} in progress", limit.max),
                Limit::SpendPerDay => format!("{} a day", limit.max),
                Limit::PurchasesPerDay if self.limits.purchases_per_day.max == 1 => {
                    "1 purchase a day".to_owned()
                }
                Limit::PurchasesPerDay => format!("{} purchases a day", limit.max),
                Limit::CallerPerHour => format!("{} an hour per caller", limit.max),
                Limit::CallerPerDay => format!("{} a day per caller", limit.max),
                Limit::CallerConcurrent => format!("{} in progress per caller", limit.max),
                Limit::CallerSpendPerDay => format!("{} a day per caller", limit.max),
            })
            .collect();
        if !limits.is_empty() {
            parts.push(format!("at most {}", limits.join(", ")));
        }
        parts.push(never);
        parts
    }

    /// Whether any part that acts requires a confirmation.
    fn can_ask(&self) -> bool {
        let rules = self.rules.iter().map(|rule| (rule.mode, rule.action));
        let clock = [self.quiet_hours.action, self.toll_free, self.unknown_timezone]
            .map(|action| (self.quiet_hours.mode, action));
        let others = [self.default.unwrap_or(Action::Ask), self.unusual_kinds]
            .map(|action| (PolicyMode::Enforce, action));
        rules.chain(clock).chain(others).any(|(mode, action)| {
            mode.min(self.mode) == PolicyMode::Enforce && action == Action::Ask
        })
    }

    fn active_limits(&self) -> Vec<(Limit, LimitSummary)> {
        let limits = &self.limits;
        let count = |setting: &LimitSetting<u32>| (setting.max.to_string(), setting.mode);
        let money = |setting: &LimitSetting<MilliCents>| (setting.max.to_string(), setting.mode);
        [
            (Limit::PerHour, count(&limits.per_hour)),
            (Limit::PerDay, count(&limits.per_day)),
            (Limit::PerDestinationPerHour, count(&limits.per_destination_per_hour)),
            (Limit::PerDestinationPerDay, count(&limits.per_destination_per_day)),
            (Limit::Concurrent, count(&limits.concurrent)),
            (Limit::SpendPerDay, money(&limits.spend_limit())),
            (Limit::PurchasesPerDay, count(&limits.purchases_per_day)),
            (Limit::CallerPerHour, count(&limits.per_caller.per_hour)),
            (Limit::CallerPerDay, count(&limits.per_caller.per_day)),
            (Limit::CallerConcurrent, count(&limits.per_caller.concurrent)),
            (Limit::CallerSpendPerDay, money(&limits.per_caller.spend_per_day)),
        ]
        .into_iter()
        .filter(|(_, (_, mode))| *mode != PolicyMode::Off)
        .map(|(limit, (max, mode))| (limit, LimitSummary { max, mode }))
        .collect()
    }
}

fn describe_scope(rule: &Rule) -> String {
    fn list<T: ToString>(name: &str, items: &[T]) -> Option<String> {
        let items: Vec<_> = items.iter().map(ToString::to_string).collect();
        (!items.is_empty()).then(|| format!("{name} {}", items.join(" or ")))
    }
    let fields: Vec<String> = [
        list("number", &rule.to),
        list("prefix", &rule.prefix),
        list("country", &rule.country),
        list("type", &rule.kind),
        list("agent", &rule.agent),
        list("caller", &rule.caller),
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
    use crate::dialing::caller::CallerName;
    use crate::dialing::destination::Destination;
    use crate::dialing::limits::Usage;
    use crate::dialing::rules::CardIsHuman;
    use callingbox::E164;

    fn rules(confirm: ConfirmMode, require_human: bool, policy: &str) -> DialingRules {
        DialingRules {
            policy: Policy::from_toml(policy).unwrap(),
            confirm,
            require_human,
            ask_do_not_call: true,
            card_is_human: CardIsHuman::Never,
            repeat_window: SignedDuration::from_secs(600),
            thinking_time: std::time::Duration::from_secs(120),
            webhook_hosts: Default::default(),
            disclosure: Default::default(),
            keep_people: jiff::SignedDuration::from_hours(720),
        }
    }

    /// With the usual settings beside the policy.
    fn usual(policy: &str) -> DialingRules {
        rules(ConfirmMode::Auto, false, policy)
    }

    #[test]
    fn the_summary_describes_the_effect_of_the_dialing_settings() {
        use ConfirmMode::{Always, Auto, Never};
        let needs = "21:00–08:00 at the destination needs the user's confirmation";
        let refused = "21:00–08:00 at the destination is refused";
        let why = "what needs the user's confirmation is refused";
        let own = "the first call to a number and every purchase need the user's own answer; where it \
                   is needed, a client that cannot ask is refused";
        let allow = "[[rules]]\naction = 'allow'\nto = ['+14155550100']";
        let quiet_off = "[quiet_hours]\nmode = 'off'";
        /// Nothing asks.
        const USUAL: &str =
            "default = 'allow'\nunusual_kinds = 'allow'\n[quiet_hours]\nmode = 'off'";
        for (confirm, require_human, policy, expected, unexpected) in [
            (
                Auto,
                false,
                "default = 'ask'",
                &["every call needs the user's confirmation", needs][..],
                why,
            ),
            (
                Never,
                false,
                "default = 'ask'",
                &["every call is refused", refused, why],
                "needs the user's confirmation;",
            ),
            (Never, false, "", &[refused, why], "every call"),
            (Never, false, USUAL, &["at most 20 calls"], "the user's"),
            (
                Never,
                false,
                quiet_off,
                &["numbers outside US and CA are refused", why],
                "confirmation;",
            ),
            (
                Auto,
                false,
                "",
                &["numbers outside US and CA need the user's confirmation", needs],
                why,
            ),
            (Auto, false, "home_countries = ['GB']", &["numbers outside GB need"], why),
            (Auto, false, "default = 'allow'", &[needs], "outside US"),
            (Never, true, quiet_off, &["at most 20 calls", own], why),
            (Never, true, "", &[needs, own], why),
            (
                Never,
                false,
                &format!("unknown_timezone = 'ask'\n{USUAL}"),
                &["at most 20 calls"],
                why,
            ),
            (
                Never,
                false,
                "default = 'allow'\nunusual_kinds = 'allow'\nunknown_timezone = 'ask'\n[quiet_hours]\naction = 'allow'",
                &["at most 20 calls", why],
                "needs the user's confirmation;",
            ),
            (
                Always,
                false,
                "",
                &["Calling rules: every call needs the user's confirmation; at most"],
                "outside",
            ),
            (
                Always,
                false,
                "mode = 'off'",
                &["stop nothing; every call needs the user's confirmation."],
                why,
            ),
            (
                Always,
                false,
                allow,
                &[
                    "1 rule of the user, otherwise ask; every call that they allow needs the user's confirmation",
                ],
                why,
            ),
            (Always, false, "default = 'refuse'", &["every call is refused"], "the user's"),
            (Auto, true, "", &[needs, own], why),
        ] {
            let rules = rules(confirm, require_human, policy);
            let summary = rules.summary();
            for part in expected {
                assert!(
                    summary.contains(part),
                    "{confirm:?} {policy}: `{part}` is not in: {summary}"
                );
            }
            assert!(!summary.contains(unexpected), "{confirm:?} {policy}: {summary}");
            let structured = serde_json::to_value(rules.structured()).unwrap();
            assert_eq!(structured["text"], summary);
            assert_eq!(structured["confirm"], serde_json::to_value(confirm).unwrap());
            assert_eq!(structured["require_human"], require_human);
        }
    }

    #[test]
    fn the_rules_are_described_in_words() {
        assert_eq!(
            usual("").summary(),
            "Calling rules: numbers outside US and CA need the user's confirmation; 21:00–08:00 at the destination needs the user's confirmation; at most 20 calls an \
             hour, 100 a day, 3 a day per destination, 5 in progress, $20.00 a day, 3 purchases a day; emergency, premium, short and impossible numbers are always refused."
        );
        assert_eq!(
            usual("mode = 'shadow'").summary(),
            "Calling rules: emergency, premium, short and impossible numbers are always refused; the other rules are in mode \
             shadow and stop nothing."
        );
        let own = usual(
            "default = 'refuse'\n[limits]\nspend_per_day = '10'\n[[rules]]\naction = 'allow'\nto = ['+14155550100']",
        );
        assert_eq!(
            own.summary(),
            "Calling rules: 1 rule of the user, otherwise refuse; 21:00–08:00 at the destination needs the \
             user's confirmation; at most 20 calls an hour, 100 a day, 3 a day per destination, 5 in progress, $10.00 \
             a day, 3 purchases a day; emergency, premium, short and impossible numbers are always refused."
        );
        assert!(usual("[limits]\nper_hour = 1").summary().contains("at most 1 call an hour"));
        let structured = serde_json::to_value(own.structured()).unwrap();
        assert_eq!(
            structured["rules"],
            serde_json::json!([{
                "name": "rule 1", "action": "allow", "mode": "enforce", "applies_to": "number +141******00",
            }])
        );
        assert_eq!(structured["limits"]["spend_per_day"]["max"], "$10.00");
        assert!(!structured.to_string().contains("4155550100"));

        let (rules, to) = (usual(""), E164::parse("+14155550100").unwrap());
        let request = PolicyInput {
            to: &to,
            destination: &Destination::from_number(&to),
            agent_id: "agt_1",
            caller: &CallerName::local(),
            is_batch: false,
            metadata: None,
            metadata_source: Default::default(),
            now: "2026-03-03T07:00:00Z".parse().unwrap(),
            usage: &Usage::default(),
            hold: MilliCents::ZERO,
        };
        assert_eq!(
            rules.explain(&request, &rules.policy.evaluate(&request), true),
            "number     +141******00 (US, fixed_or_mobile)\n\
             time       2026-03-03T07:00:00Z (local: 23:00 (America/Los_Angeles))\n\
             decision   ask the user, by `quiet_hours`: it is 23:00 (America/Los_Angeles) there, within \
             the quiet hours 21:00–08:00\n\
             checked    default: allow: no rule matches, and the default is allow\n\
             checked    quiet_hours: ask: it is 23:00 (America/Los_Angeles) there, within the quiet hours \
             21:00–08:00\n\
             client     a client that cannot ask its user gets a preview with a token"
        );
    }
}
