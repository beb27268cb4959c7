//! The calling rules: any text is parsed or refused with its line, and a rule that does not match a call cannot make the
//! decision about it less strict.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use callingbox::E164;
use callingbox::MilliCents;
use callingbox_mcp::dialing::caller::CallerName;
use callingbox_mcp::dialing::destination::Destination;
use callingbox_mcp::dialing::limits::{Usage, WindowUsage};
use callingbox_mcp::dialing::policy::{
    Action, Decision, Policy, PolicyDecision, PolicyInput, PolicyMode,
};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::proptest_config;

/// Destinations: fixed and mobile, toll-free, without a time zone, short, and numbers that are always refused.
const NUMBERS: [&str; 12] = [
    "+14155550100",
    "+12125550123",
    "+442071838750",
    "+4915112345678",
    "+18005550100",
    "+390612345678",
    "+88213300000",
    "+71",
    "+1911",
    "+112",
    "+19005550100",
    "+449091234567",
];

fn any_action() -> impl Strategy<Value = &'static str> {
    select(vec!["allow", "ask", "refuse"])
}

fn any_mode() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("enforce"), 1 => Just("shadow"), 1 => Just("off")]
}

fn list_of(items: impl Strategy<Value = &'static str>) -> impl Strategy<Value = String> {
    prop::collection::vec(items, 0..3).prop_map(|items| format!("{items:?}"))
}

fn any_time() -> impl Strategy<Value = String> {
    (0..24_u8, 0..60_u8).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}"))
}

/// One rule, with some of its keys missing. The caller adds `name`.
fn any_rule() -> impl Strategy<Value = String> {
    let line = |name: &'static str, value: BoxedStrategy<String>| {
        prop::option::weighted(0.25, value)
            .prop_map(move |value| value.map_or(String::new(), |v| format!("{name} = {v}\n")))
    };
    (
        any_action(),
        any_mode(),
        line("to", list_of(select(NUMBERS.to_vec())).boxed()),
        line("prefix", list_of(select(vec!["+1", "+1415", "+44", "+49", "+7"])).boxed()),
        line("country", list_of(select(vec!["US", "GB", "DE", "IT"])).boxed()),
        line("kind", list_of(select(vec!["mobile", "fixed", "toll_free", "premium", "emergency"])).boxed()),
        line("agent", list_of(select(vec!["agt_1", "agt_2"])).boxed()),
        line("hours", (any_time(), any_time()).prop_map(|(from, to)| format!("{{ from = {from:?}, to = {to:?} }}")).boxed()),
        line("any_hour", any::<bool>().prop_map(|yes| yes.to_string()).boxed()),
    )
        .prop_map(|(action, mode, to, prefix, country, kind, agent, hours, any_hour)| {
            format!("action = {action:?}\nmode = {mode:?}\n{to}{prefix}{country}{kind}{agent}{hours}{any_hour}")
        })
}

fn any_limits() -> impl Strategy<Value = String> {
    let names = [
        "per_hour",
        "per_day",
        "per_destination_per_hour",
        "per_destination_per_day",
        "concurrent",
    ];
    let limit = (0..12_u32, any_mode());
    prop::collection::btree_map(select(names.to_vec()), limit, 0..4).prop_map(|limits| {
        let lines = limits
            .into_iter()
            .map(|(name, (max, mode))| format!("{name} = {{ max = {max}, mode = {mode:?} }}\n"));
        format!("[limits]\n{}", lines.collect::<String>())
    })
}

/// The text of a policy without its rules, and the rules.
fn any_policy() -> impl Strategy<Value = (String, Vec<String>)> {
    let default =
        prop::option::of(any_action().prop_map(|action| format!("default = {action:?}\n")));
    (any_mode(), default, (any_action(), any_action()), any_action(), any_mode(), any_time(), any_time(), any_limits(), prop::collection::vec(any_rule(), 0..6))
        .prop_map(|(mode, default, (unknown, unusual), quiet, quiet_mode, from, to, limits, rules)| {
            let default = default.unwrap_or_default();
            let head = format!(
                "mode = {mode:?}\n{default}unusual_kinds = {unusual:?}\nunknown_timezone = {unknown:?}\n\
                 [quiet_hours]\nfrom = {from:?}\nto = {to:?}\naction = {quiet:?}\nmode = {quiet_mode:?}\n{limits}"
            );
            (head, rules)
        })
}

/// Parses a policy whose rules have names, so that their order does not affect the comparison.
fn parse_policy(head: &str, rules: &[(String, String)]) -> Policy {
    let rules: String =
        rules.iter().map(|(name, rule)| format!("[[rules]]\nname = {name:?}\n{rule}")).collect();
    let text = format!("{head}\n{rules}");
    Policy::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn name_rules(rules: Vec<String>) -> Vec<(String, String)> {
    rules.into_iter().enumerate().map(|(at, rule)| (format!("r{at}"), rule)).collect()
}

/// A call: destination, time and usage so far.
#[derive(Debug, Clone)]
struct Call {
    to: E164,
    now: Timestamp,
    usage: Usage,
}

fn any_call() -> impl Strategy<Value = Call> {
    (select(NUMBERS.to_vec()), 1_760_000_000..1_800_000_000_i64, prop::array::uniform5(0..12_u32))
        .prop_map(|(to, at, [hour, day, destination_hour, destination_day, concurrent])| {
            let used = |count| WindowUsage { count, frees_at: None };
            Call {
                to: E164::parse(to).unwrap(),
                now: Timestamp::from_second(at).unwrap(),
                usage: Usage {
                    hour: used(hour),
                    day: used(day),
                    destination_hour: used(destination_hour),
                    destination_day: used(destination_day),
                    concurrent,
                    ..Usage::default()
                },
            }
        })
}

fn evaluate(policy: &Policy, call: &Call) -> PolicyDecision {
    policy.evaluate(&PolicyInput {
        to: &call.to,
        destination: &DESTINATIONS[call.to.as_str()],
        agent_id: "agt_1",
        caller: &CallerName::local(),
        is_batch: false,
        metadata: None,
        metadata_source: Default::default(),
        now: call.now,
        usage: &call.usage,
        hold: MilliCents::from_cents(300),
    })
}

/// Looked up once, because a lookup takes longer than an evaluation.
static DESTINATIONS: LazyLock<BTreeMap<&str, Destination>> = LazyLock::new(|| {
    NUMBERS.iter().map(|to| (*to, Destination::from_number(&E164::parse(to).unwrap()))).collect()
});

/// The action of a decision, ordered by strictness.
fn strictness(decision: &PolicyDecision) -> Action {
    match decision.decision {
        Decision::Allow => Action::Allow,
        Decision::Ask(_) => Action::Ask,
        Decision::Refuse(_) => Action::Refuse,
    }
}

/// A text that resembles a policy.
fn nearly_a_policy() -> impl Strategy<Value = String> {
    let word = select(vec![
        "mode",
        "default",
        "rules",
        "limits",
        "quiet_hours",
        "action",
        "per_hour",
        "spend_per_day",
        "to",
        "from",
        "prefix",
        "hours",
        "max",
        "refuse",
        "enforce",
        "[[rules]]",
        "[limits]",
        "[quiet_hours]",
        "=",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "\"\"\"",
        ",",
        ".",
        "\n",
        " ",
        "-1",
        "3",
        "99999999999999999999",
        "1.5",
        "true",
        "\"5.00\"",
        "\"+14155550100\"",
        "\"21:00\"",
        "\"25:61\"",
        "nan",
        "#",
        "\\u0000",
        "2026-01-01",
        "ä",
        "\u{202e}",
    ]);
    let words = prop::collection::vec(word, 0..30).prop_map(|words| words.concat());
    let spaced = prop::collection::vec(("[a-z_]{1,12}", "\\PC{0,12}"), 0..6).prop_map(|pairs| {
        pairs.into_iter().map(|(name, value)| format!("{name} = {value}\n")).collect::<String>()
    });
    let broken =
        (any_policy(), any::<Index>(), any::<char>()).prop_map(|((head, rules), at, with)| {
            let text = format!("{head}\n[[rules]]\n{}", rules.join("[[rules]]\n"));
            let at = at.index(text.chars().count());
            text.chars().enumerate().map(|(place, c)| if place == at { with } else { c }).collect()
        });
    prop_oneof![words, spaced, broken, any::<String>()]
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn any_text_is_parsed_or_refused_with_its_line(text in nearly_a_policy()) {
        match Policy::from_toml(&text) {
            Ok(policy) => {
                let written = toml::to_string(&policy).unwrap();
                // A limit that is off is written without its other values.
                let again = Policy::from_toml(&written).unwrap();
                prop_assert_eq!(toml::to_string(&again).unwrap(), written);
            }
            Err(error) => {
                prop_assert!((1..=1 + text.matches('\n').count()).contains(&error.line), "{:?}", error);
                prop_assert!(!error.message.is_empty() && !error.message.contains('\n'));
            }
        }
    }

    #[test]
    fn a_rule_that_does_not_match_changes_nothing(
        (head, rules) in any_policy(),
        other in any_action(),
        any_hour: bool,
        at: Index,
        call in any_call(),
    ) {
        let mut rules = name_rules(rules);
        let before = evaluate(&parse_policy(&head, &rules), &call);
        // The most permissive rule, for a number that is not called.
        let other_rule = format!("action = {other:?}\nto = [\"+33142685300\"]\nany_hour = {any_hour}\n");
        rules.insert(at.index(rules.len() + 1), ("other".to_owned(), other_rule));
        let after = evaluate(&parse_policy(&head, &rules), &call);
        prop_assert_eq!((after.decision, after.rule), (before.decision, before.rule));
    }

    #[test]
    fn another_refusal_never_makes_a_decision_less_strict(
        (head, rules) in any_policy(),
        more in any_rule(),
        at: Index,
        call in any_call(),
    ) {
        let mut rules = name_rules(rules);
        let before = strictness(&evaluate(&parse_policy(&head, &rules), &call));
        let more = more.replace("action = \"allow\"", "action = \"refuse\"").replace("action = \"ask\"", "action = \"refuse\"");
        rules.insert(at.index(rules.len() + 1), ("more".to_owned(), more));
        let after = strictness(&evaluate(&parse_policy(&head, &rules), &call));
        prop_assert!(after >= before, "{:?} became {:?}", before, after);
    }

    #[test]
    fn no_rule_raises_a_limit_or_allows_a_number_that_is_always_refused(
        (head, rules) in any_policy(),
        call in any_call(),
    ) {
        let policy = parse_policy(&head, &name_rules(rules));
        let decision = evaluate(&policy, &call);
        let destination = &DESTINATIONS[call.to.as_str()];
        let never = destination.number_type.is_never_dialed() || destination.fault.is_some();
        let limits = policy.enforced_limits();
        let full = |max: Option<u32>, used: u32| max.is_some_and(|max| used >= max);
        let usage = &call.usage;
        let reached = full(limits.per_hour, usage.hour.count)
            || full(limits.per_day, usage.day.count)
            || full(limits.per_destination_per_hour, usage.destination_hour.count)
            || full(limits.per_destination_per_day, usage.destination_day.count)
            || full(limits.concurrent, usage.concurrent);
        if never || reached {
            prop_assert_eq!(strictness(&decision), Action::Refuse);
        } else if policy.mode != PolicyMode::Enforce {
            prop_assert_eq!(strictness(&decision), Action::Allow);
        }
    }

    #[test]
    fn rules_after_a_matching_one_are_ignored(
        (head, rules) in any_policy(),
        last in any_action(),
        more in prop::collection::vec(any_rule(), 0..4),
        call in any_call(),
    ) {
        let mut rules = name_rules(rules);
        rules.push(("last".to_owned(), format!("action = {last:?}\n")));
        let before = evaluate(&parse_policy(&head, &rules), &call);
        rules.extend(more.into_iter().enumerate().map(|(at, rule)| (format!("m{at}"), rule)));
        let after = evaluate(&parse_policy(&head, &rules), &call);
        if parse_policy(&head, &[]).mode == PolicyMode::Enforce {
            prop_assert_eq!(after, before);
        } else {
            prop_assert_eq!(after.decision, before.decision);
        }
    }

    #[test]
    fn more_calls_never_make_a_decision_less_strict((head, rules) in any_policy(), call in any_call(), more in 1..9_u32) {
        let policy = parse_policy(&head, &name_rules(rules));
        let before = strictness(&evaluate(&policy, &call));
        let mut later = call;
        later.usage.hour.count += more;
        later.usage.destination_day.count += more;
        later.usage.concurrent += more;
        prop_assert!(strictness(&evaluate(&policy, &later)) >= before);
    }
}
