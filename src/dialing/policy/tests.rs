//! Tables of calls and rules: the decision, the rule that decided, and the text.

use jiff::Timestamp;

use super::*;
use crate::dialing::caller::CallerName;
use crate::dialing::destination::Destination;
use crate::dialing::limits::{Limit, Usage, WindowUsage};

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Noon in California, outside the quiet hours in all of America.
const NOON: &str = "2026-03-02T20:00:00Z";
/// Day in America and in Europe.
const DAY: &str = "2026-11-28T18:30:00Z";
/// 23:00 in California.
const NIGHT: &str = "2026-03-03T07:00:00Z";

fn evaluate_with(policy: &Policy, to: &str, now: &str, usage: &Usage) -> PolicyDecision {
    let to = E164::parse(to).unwrap();
    policy.evaluate(&PolicyInput {
        to: &to,
        destination: &Destination::from_number(&to),
        agent_id: "agt_1",
        caller: &CallerName::local(),
        is_batch: false,
        metadata: None,
        metadata_source: Default::default(),
        now: instant(now),
        usage,
        hold: MilliCents::from_cents(300),
    })
}

fn evaluate(policy: &Policy, to: &str, now: &str) -> PolicyDecision {
    evaluate_with(policy, to, now, &Usage::default())
}

/// `allow default`, `ask quiet_hours`, …
fn summarize(decision: &PolicyDecision) -> String {
    let word = match &decision.decision {
        Decision::Allow => "allow",
        Decision::Ask(_) => "ask",
        Decision::Refuse(_) => "refuse",
    };
    format!("{word} {}", decision.rule)
}

fn policy(text: &str) -> Policy {
    Policy::from_toml(text).unwrap()
}

#[test]
fn emergency_and_premium_numbers_are_refused_whatever_the_rules_say() {
    let generous = "unknown_timezone = 'allow'\n[[rules]]\naction = 'allow'\nany_hour = true\n\
                    to = ['+1911', '+19005550100']\nkind = ['emergency', 'premium']";
    for mode in ["off", "shadow", "enforce"] {
        let policy = policy(&format!("mode = '{mode}'\n{generous}"));
        for (number, number_type) in [
            ("+1911", "emergency"),
            ("+112", "emergency"),
            ("+44999", "emergency"),
            ("+1988", "emergency"),
            ("+19005550100", "premium"),
            ("+449091234567", "premium"),
        ] {
            let decision = evaluate(&policy, number, NOON);
            assert_eq!(
                summarize(&decision),
                format!("refuse never dial {number_type} numbers"),
                "{mode}"
            );
        }
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(
        "default = 'refuse'
         [quiet_hours]
         mode = 'off'
         [[rules]]
         name = 'office'
         action = 'allow'
         to = ['+14155550100', '+442071838750']
         [[rules]]
         name = 'skipped'
         action = 'refuse'
         mode = 'off'
         [[rules]]
         action = 'ask'
         prefix = ['+1415']
         [[rules]]
         name = 'free'
         action = 'allow'
         country = ['US']
         kind = ['toll_free']
         [[rules]]
         name = 'agent'
         action = 'ask'
         agent = ['agt_0', 'agt_1']
         country = ['DE']
         [[rules]]
         name = 'stranger'
         action = 'allow'
         agent = ['agt_2']
         [[rules]]
         name = 'office hours'
         action = 'allow'
         country = ['FR', 'US', 'CA']
         hours = { from = '09:00', to = '17:00' }",
    );
    for (number, now, expected) in [
        ("+14155550100", NOON, "allow office"),
        ("+442071838750", NOON, "allow office"),
        ("+14155550101", NOON, "ask rule 3"),
        ("+18005550100", NOON, "allow free"),
        ("+448001234567", NOON, "refuse default"),
        ("+493012345678", NOON, "ask agent"),
        ("+12125550100", NOON, "allow office hours"),
        ("+12125550100", NIGHT, "refuse default"),
        ("+15551234567", NOON, "refuse default"),
    ] {
        assert_eq!(summarize(&evaluate(&policy, number, now)), expected, "{number}");
    }
}

#[test]
fn quiet_hours_at_the_destination() {
    let policy = policy("default = 'allow'\nunusual_kinds = 'allow'");
    let (los_angeles, phoenix, kolkata, sydney, london, idaho) = (
        "+14155550100",
        "+16025550100",
        "+919876543210",
        "+61291234567",
        "+442071838750",
        "+12082995678",
    );
    let (allow, ask) = ("allow default", "ask quiet_hours");
    for (number, now, expected) in [
        // The edges: 20:59 and 21:00, 07:59 and 08:00 (Pacific Standard Time).
        (los_angeles, "2026-01-16T04:59:59Z", allow),
        (los_angeles, "2026-01-16T05:00:00Z", ask),
        (los_angeles, "2026-01-16T15:59:59Z", ask),
        (los_angeles, "2026-01-16T16:00:00Z", allow),
        // Daylight time begins on 8 March 2026 at 02:00: the same instant is an hour later.
        (los_angeles, "2026-03-07T15:30:00Z", ask),
        (los_angeles, "2026-03-08T15:30:00Z", allow),
        (los_angeles, "2026-03-08T04:30:00Z", allow),
        (los_angeles, "2026-03-09T04:30:00Z", ask),
        // It ends on 1 November.
        (los_angeles, "2026-10-31T15:30:00Z", allow),
        (los_angeles, "2026-11-01T15:30:00Z", ask),
        // Arizona does not change its clocks.
        (phoenix, "2026-03-07T14:30:00Z", ask),
        (phoenix, "2026-03-09T14:30:00Z", ask),
        (phoenix, "2026-03-09T15:00:00Z", allow),
        // An offset of half an hour, and the southern summer.
        (kolkata, "2026-03-02T02:29:00Z", ask),
        (kolkata, "2026-03-02T02:30:00Z", allow),
        (sydney, "2026-01-15T10:30:00Z", ask),
        (sydney, "2026-07-15T10:30:00Z", allow),
        (london, "2026-03-28T07:30:00Z", ask),
        (london, "2026-03-29T07:30:00Z", allow),
        // Two zones: 07:30 in the one is 08:30 in the other, and both must be awake.
        (idaho, "2026-01-15T15:30:00Z", ask),
        (idaho, "2026-01-15T16:00:00Z", allow),
        (idaho, "2026-01-16T03:59:00Z", allow),
        (idaho, "2026-01-16T04:00:00Z", ask),
        // British Columbia has stayed on daylight time since 1 November 2026.
        ("+16045550123", "2026-11-28T03:59:00Z", allow),
        ("+16045550123", "2026-11-28T04:30:00Z", ask),
        // An unknown area code: 13:00 to 19:30 in New York is day in all of North America.
        ("+15652345678", "2026-11-28T17:59:00Z", ask),
        ("+15652345678", "2026-11-28T18:00:00Z", allow),
        ("+15652345678", "2026-11-29T00:29:00Z", allow),
        ("+15652345678", "2026-11-29T00:30:00Z", ask),
        ("+15652345678", "2026-11-28T07:00:00Z", ask),
        // One exchange of two zones.
        ("+14236055555", "2026-11-28T02:30:00Z", ask),
        ("+12507825555", "2026-11-28T14:30:00Z", ask),
        // A toll-free number has no local time.
        ("+18005550100", NIGHT, allow),
    ] {
        assert_eq!(summarize(&evaluate(&policy, number, now)), expected, "{number} at {now}");
    }
    let sandbox = Policy::default().in_sandbox(false);
    for number in [los_angeles, kolkata, "+15552345678", "+447012345678", "+881612345678"] {
        assert_eq!(summarize(&evaluate(&sandbox, number, NIGHT)), allow, "{number}");
    }
    assert_eq!(sandbox.enforced_limits(), policy.enforced_limits());
}

#[test]
fn numbers_without_a_time_zone_follow_their_own_keys() {
    for (choice, expected) in [("allow", "allow default"), ("ask", "ask "), ("refuse", "refuse ")] {
        for (key, number) in [("toll_free", "+18005550100"), ("unknown_timezone", "+881612345678")]
        {
            let file = "default = 'allow'\nunusual_kinds = 'allow'\ntoll_free = 'allow'\n\
                        unknown_timezone = 'allow'";
            let (from, to) = (format!("{key} = 'allow'"), format!("{key} = '{choice}'"));
            let policy = policy(&file.replace(&from, &to));
            let key = if choice == "allow" { "" } else { key };
            assert_eq!(summarize(&evaluate(&policy, number, NOON)), format!("{expected}{key}"));
            assert_eq!(summarize(&evaluate(&policy, "+14155550100", NOON)), "allow default");
        }
    }
}

#[test]
fn calls_abroad_are_asked_about_unless_a_rule_or_the_default_decides() {
    let rule = "[[rules]]\nname = 'r'\naction = 'allow'\n";
    for (file, number, expected) in [
        ("", "+14155550100", "allow default"),
        ("", "+14165550100", "allow default"),
        ("", "+18765551234", "ask home_countries"),
        ("", "+442071838750", "ask home_countries"),
        ("", "+80012345678", "ask home_countries"),
        // In North America, in whatever country.
        ("", "+15652345678", "ask home_countries"),
        ("home_countries = ['GB']", "+442071838750", "allow default"),
        ("home_countries = ['GB']", "+14155550100", "ask home_countries"),
        ("default = 'allow'", "+442071838750", "allow default"),
        ("default = 'refuse'", "+14155550100", "refuse default"),
        (&format!("{rule}country = ['GB']"), "+442071838750", "allow r"),
        (&format!("{rule}country = ['US', 'CA']"), "+14165550100", "allow r"),
        // A rule for a country matches what can only be there.
        (&format!("{rule}country = ['US', 'CA']"), "+15652345678", "ask home_countries"),
    ] {
        assert_eq!(summarize(&evaluate(&policy(file), number, DAY)), expected, "{file} {number}");
    }
    let decision = evaluate(&Policy::default(), "+442071838750", DAY).decision;
    let why = "no rule matches, and the number is in GB; the home countries are US and CA";
    assert_eq!(decision, Decision::Ask(why.to_owned()));
}

#[test]
fn unusual_kinds_are_asked_about_unless_a_rule_names_them() {
    let rule =
        "default = 'allow'\nunknown_timezone = 'allow'\n[[rules]]\nname = 'r'\naction = 'allow'\n";
    let (ask, allow) = ("ask unusual_kinds", "allow r");
    for (fields, number, expected) in [
        ("", "+447012345678", ask),
        ("", "+881612345678", ask),
        ("", "+442071838750", allow),
        ("country = ['GB']", "+447012345678", ask),
        ("prefix = ['+44']", "+447012345678", ask),
        ("kind = ['personal']", "+447012345678", allow),
        ("to = ['+447012345678']", "+447012345678", allow),
        ("kind = ['satellite']", "+881612345678", allow),
        ("kind = ['mobile']", "+881612345678", ask),
    ] {
        let policy = policy(&format!("{rule}{fields}"));
        assert_eq!(summarize(&evaluate(&policy, number, DAY)), expected, "{fields} {number}");
    }
}

#[test]
fn a_rule_recognizes_a_number_in_whatever_spelling_it_is_written() {
    for spelling in ["+525512345678", "+5215512345678", "+52015512345678", "+520445512345678"] {
        let policy =
            policy(&format!("[[rules]]\nname = 'no'\naction = 'refuse'\nto = ['{spelling}']"));
        assert_eq!(summarize(&evaluate(&policy, "+525512345678", DAY)), "refuse no", "{spelling}");
    }
    // A number with another digit is another number, or none.
    let policy = policy("[[rules]]\naction = 'refuse'\nto = ['+14155550199']");
    assert_eq!(
        summarize(&evaluate(&policy, "+141555501990", DAY)),
        "refuse only numbers that can exist"
    );
}

#[test]
fn the_strictest_answer_applies() {
    let full = Usage { hour: WindowUsage { count: 20, frees_at: None }, ..Usage::default() };
    let free = Usage::default();
    for (rule, quiet, usage, expected) in [
        ("allow", "ask", &free, "ask quiet_hours"),
        ("ask", "allow", &free, "ask mine"),
        ("ask", "ask", &free, "ask mine"),
        ("ask", "refuse", &free, "refuse quiet_hours"),
        ("refuse", "refuse", &free, "refuse mine"),
        ("refuse", "ask", &free, "refuse mine"),
        ("allow", "ask", &full, "refuse limits.per_hour"),
        ("allow", "allow", &full, "refuse limits.per_hour"),
        ("refuse", "ask", &full, "refuse mine"),
        ("allow\"\nany_hour = true#", "refuse", &free, "allow mine"),
        ("allow\"\nany_hour = true#", "refuse", &full, "refuse limits.per_hour"),
    ] {
        let policy = policy(&format!(
            "[quiet_hours]\naction = \"{quiet}\"\n[[rules]]\nname = 'mine'\naction = \"{rule}\"\n"
        ));
        let decision = evaluate_with(&policy, "+14155550100", NIGHT, usage);
        assert_eq!(summarize(&decision), expected, "{rule} {quiet}");
    }
}

#[test]
fn limits_at_their_boundaries() {
    let frees_at = Some(instant("2026-03-02T21:00:00.001Z"));
    let used = |count| WindowUsage { count, frees_at };
    let none = Usage::default();
    let defaults = "";
    for (file, usage, expected) in [
        (defaults, Usage { hour: used(19), ..none }, None),
        (defaults, Usage { hour: used(20), ..none }, Some(Limit::PerHour)),
        (defaults, Usage { day: used(99), ..none }, None),
        (defaults, Usage { day: used(100), ..none }, Some(Limit::PerDay)),
        (defaults, Usage { destination_hour: used(50), ..none }, None),
        (defaults, Usage { destination_day: used(2), ..none }, None),
        (defaults, Usage { destination_day: used(3), ..none }, Some(Limit::PerDestinationPerDay)),
        (defaults, Usage { concurrent: 4, ..none }, None),
        (defaults, Usage { concurrent: 5, ..none }, Some(Limit::Concurrent)),
        (defaults, Usage { spent: MilliCents(1_700_000), ..none }, None),
        (
            defaults,
            Usage { spent: MilliCents(1_700_001), spend_frees_at: frees_at, ..none },
            Some(Limit::SpendPerDay),
        ),
        (defaults, Usage { purchases: used(9), ..none }, None),
        ("spend_per_day = 'off'", Usage { spent: MilliCents(u64::MAX), ..none }, None),
        ("spend_per_day = '10.00'", Usage { spent: MilliCents(700_000), ..none }, None),
        (
            "spend_per_day = '10.00'",
            Usage { spent: MilliCents(700_001), spend_frees_at: frees_at, ..none },
            Some(Limit::SpendPerDay),
        ),
        ("per_hour = 'off'", Usage { hour: used(500), ..none }, None),
        (
            "per_destination_per_hour = 1",
            Usage { destination_hour: used(1), ..none },
            Some(Limit::PerDestinationPerHour),
        ),
        ("concurrent = 0", none, Some(Limit::Concurrent)),
    ] {
        let policy = policy(&format!("[limits]\n{file}"));
        let decision = evaluate_with(&policy, "+14155550100", NOON, &usage);
        match (expected, decision.decision) {
            (None, Decision::Allow) => {}
            (Some(limit), Decision::Refuse(refusal)) => {
                assert_eq!(refusal.rule, RuleName::Limit(limit));
                let until = if limit == Limit::Concurrent { None } else { frees_at };
                assert_eq!(refusal.until, until);
                let text = refusal.to_string();
                assert!(text.contains(&format!("`limits.{limit}`")), "{text}");
                assert!(text.contains("Nobody was called."), "{text}");
                assert!(refusal.remedy.contains(&format!("raise `{limit}` under [limits]")));
                assert_eq!(
                    until.is_some(),
                    text.contains("Possible again at 2026-03-02T21:00:01Z.")
                );
                let reached = crate::dialing::limits::LimitReached { limit, until, unknown: 0 };
                assert_eq!(policy.limit_refusal(reached), refusal);
            }
            (expected, decision) => panic!("{file}: expected {expected:?}, found {decision:?}"),
        }
    }
}

#[test]
fn a_limit_of_one_is_described_in_the_singular() {
    let used = WindowUsage { count: 1, frees_at: None };
    for (limit, expected) in [
        ("per_hour", "1 call was made in the last hour"),
        ("per_destination_per_day", "1 call to this destination was made in the last 24 hours"),
        ("concurrent", "1 call is in progress; wait for it to end"),
    ] {
        let usage = Usage { hour: used, destination_day: used, concurrent: 1, ..Usage::default() };
        let policy = policy(&format!("[limits]\n{limit} = 1"));
        let decision = evaluate_with(&policy, "+14155550100", NOON, &usage).decision;
        assert!(
            matches!(&decision, Decision::Refuse(refusal) if refusal.reason == expected),
            "{limit}: {decision:?}"
        );
    }
}

#[test]
fn purchases_know_only_the_limits_on_purchases_and_money() {
    let policy = policy("[limits]\nspend_per_day = '10'\nper_hour = 0\nconcurrent = 0");
    let spent = |cents| Usage { spent: MilliCents::from_cents(cents), ..Usage::default() };
    let buy = |cents| policy.evaluate_purchase(&spent(cents), MilliCents::from_cents(300));
    assert_eq!(summarize(&buy(700)), "allow default");
    assert_eq!(summarize(&buy(701)), "refuse limits.spend_per_day");
    let bought = |count| {
        let purchases = WindowUsage { count, frees_at: None };
        policy.evaluate_purchase(&Usage { purchases, ..Usage::default() }, MilliCents::ZERO)
    };
    assert_eq!(summarize(&bought(2)), "allow default");
    assert_eq!(summarize(&bought(3)), "refuse limits.purchases_per_day");
}

#[test]
fn the_full_text_of_refusals() {
    let refusal =
        |file: &str, now: &str| match evaluate(&policy(file), "+14155550100", now).decision {
            Decision::Refuse(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        };
    assert_eq!(
        refusal("quiet_hours.action = 'refuse'", NIGHT),
        "Refused by the calling rule `quiet_hours`: it is 23:00 (America/Los_Angeles) there, within \
         the quiet hours 21:00–08:00. Nobody was called. Possible again at 2026-03-03T16:00:00Z."
    );
    assert_eq!(
        refusal("rules = [{ name = 'no', action = 'refuse' }]", NOON),
        "Refused by the calling rule `no`: the first matching rule says refuse. Nobody was called."
    );
    assert_eq!(
        refusal("default = 'refuse'", NOON),
        "Refused by the calling rule `default`: no rule matches, and the default is refuse. Nobody \
         was called."
    );
    let Decision::Refuse(refusal) = evaluate(&Policy::default(), "+19005550100", NOON).decision
    else {
        panic!()
    };
    assert_eq!(
        refusal.describe_for_person(),
        "Refused by the calling rule `never dial premium numbers`: +190******00 is of the type \
         premium. Nobody was called. No setting changes this."
    );
    let Decision::Refuse(refusal) = evaluate(&Policy::default(), "+911", NOON).decision else {
        panic!()
    };
    assert!(refusal.remedy.ends_with("dial the number on a telephone yourself."), "{refusal}");
    let Decision::Refuse(refusal) = evaluate(&Policy::default(), "+114155550100", NOON).decision
    else {
        panic!()
    };
    assert_eq!(
        refusal.describe_for_person(),
        "Refused by the calling rule `only numbers in E.164 form`: +114*******00: it has a national \
         prefix after its calling code; its E.164 form is +14155550100. Nobody was called. Call that number instead."
    );
}

#[test]
fn quiet_hours_end_at_the_right_instant_when_clocks_change() {
    let policy = policy("quiet_hours.action = 'refuse'");
    for (number, now, until) in [
        ("+14155550100", "2026-03-08T07:00:00Z", "2026-03-08T15:00:00Z"),
        ("+14155550100", "2026-11-01T06:30:17Z", "2026-11-01T16:00:00Z"),
        // Two zones: 21:30 in one, 20:30 in the other; the quiet hours must have ended in both.
        ("+12082995678", "2026-01-16T04:30:00Z", "2026-01-16T16:00:00Z"),
    ] {
        let Decision::Refuse(refusal) = evaluate(&policy, number, now).decision else { panic!() };
        assert_eq!(refusal.until, Some(instant(until)), "{number} at {now}");
    }
    // Quiet hours that last all day never end.
    let always = self::policy("quiet_hours = { from = '00:00', to = '00:00', action = 'refuse' }");
    let Decision::Refuse(refusal) = evaluate(&always, "+14155550100", NOON).decision else {
        panic!()
    };
    assert_eq!(refusal.until, None);
}

/// The parts in shadow mode that would have acted.
fn shadows(decision: &PolicyDecision) -> Vec<String> {
    decision.shadow.iter().map(|shadow| format!("{} {}", shadow.action, shadow.rule)).collect()
}

#[test]
fn a_part_acts_reports_or_is_off_by_its_mode() {
    let file = "[quiet_hours]\naction = 'refuse'\n[limits]\nper_hour = 1\n[[rules]]\nname = 'r'\naction = 'ask'";
    let full = Usage { hour: WindowUsage { count: 1, frees_at: None }, ..Usage::default() };
    for (mode, decided, shadow) in [
        ("enforce", "refuse quiet_hours", &[][..]),
        ("shadow", "allow default", &["ask r", "refuse quiet_hours", "refuse limits.per_hour"]),
        ("off", "allow default", &[]),
    ] {
        let decision = evaluate_with(
            &policy(&format!("mode = '{mode}'\n{file}")),
            "+14155550100",
            NIGHT,
            &full,
        );
        assert_eq!(summarize(&decision), decided);
        assert_eq!(shadows(&decision), shadow, "{mode}");
    }
    let parts = policy(
        "quiet_hours = { mode = 'shadow' }
         limits = { per_hour = { max = 1, mode = 'shadow' }, concurrent = { mode = 'off' } }
         rules = [{ name = 'try', action = 'refuse', mode = 'shadow' }, { name = 'real', action = 'ask' }]",
    );
    let decision = evaluate_with(&parts, "+14155550100", NIGHT, &full);
    assert_eq!(summarize(&decision), "ask real");
    assert_eq!(shadows(&decision), ["refuse try", "ask quiet_hours", "refuse limits.per_hour"]);
    assert_eq!(
        (parts.measured_limits().per_hour, parts.enforced_limits().per_hour),
        (Some(1), None)
    );
    assert_eq!(
        (parts.measured_limits().concurrent, parts.measured_limits().per_day),
        (None, Some(100))
    );
}

#[test]
fn a_policy_in_shadow_mode_reports_what_it_would_do() {
    let file = "[quiet_hours]\naction = 'refuse'
         [[rules]]\nname = 'tried'\naction = 'ask'\nmode = 'shadow'
         [[rules]]\nname = 'family'\naction = 'allow'\nto = ['+14155550100']\nany_hour = true
         [[rules]]\nname = 'the rest'\naction = 'refuse'";
    for (number, enforced, shadowed) in [
        ("+14155550100", "allow family", &["ask tried", "allow family"][..]),
        (
            "+14155550101",
            "refuse the rest",
            &["ask tried", "refuse the rest", "refuse quiet_hours"],
        ),
    ] {
        assert_eq!(summarize(&evaluate(&policy(file), number, NIGHT)), enforced);
        let decision = evaluate(&policy(&format!("mode = 'shadow'\n{file}")), number, NIGHT);
        assert_eq!(summarize(&decision), "allow default");
        assert_eq!(shadows(&decision), shadowed, "{number}");
    }
}

#[test]
fn the_starter_file_is_the_default() {
    let mut default = Policy::default();
    default.limits.spend_per_day = Some(default.limits.spend_limit());
    assert_eq!(Policy::from_toml(starter_file()), Ok(default));
    assert_eq!(Policy::from_toml(""), Ok(Policy::default()));
    // The commented rules are valid too.
    let rules: String = starter_file()
        .lines()
        .skip_while(|line| *line != "# [[rules]]")
        .filter_map(|line| line.strip_prefix('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    let names: Vec<_> = policy(&rules).rules.into_iter().filter_map(|rule| rule.name).collect();
    assert_eq!(
        names,
        [
            "my own phone",
            "our customers, in office hours",
            "the night desk",
            "reminders",
            "who agreed",
            "abroad"
        ]
    );
}

#[test]
fn a_policy_survives_being_written_and_read() {
    let policy = policy(
        "mode = 'shadow'
         [limits]
         per_day = { max = 7, mode = 'shadow' }
         spend_per_day = '12.5'
         [[rules]]
         action = 'ask'
         to = ['+14155550100']
         prefix = ['+44']
         hours = { from = '09:00', to = '17:30' }",
    );
    let written = toml::to_string(&policy).unwrap();
    assert_eq!(Policy::from_toml(&written), Ok(policy), "{written}");
}

#[test]
fn errors_name_the_line_and_the_nearest_name() {
    for (file, line, nearest, says) in [
        ("mode = 'enforce'\nquiet_hour = 1", 2, Some("quiet_hours"), "unknown field `quiet_hour`"),
        ("\n[limits]\nper_hours = 1", 3, Some("per_hour"), "unknown field `per_hours`"),
        ("[limits]\nper_hour = { maxx = 1 }", 2, Some("max"), "unknown field `maxx`"),
        ("[quiet_hours]\nfrm = '21:00'", 2, Some("from"), "unknown field `frm`"),
        ("[[rules]]\naction = 'allow'\ncontry = ['US']", 3, Some("country"), "unknown field"),
        ("mode = 'enforced'", 1, Some("enforce"), "unknown variant `enforced`"),
        ("default = 'deny'", 1, None, "unknown variant `deny`"),
        (
            "[[rules]]\naction = 'allow'\nkind = ['tollfree']",
            3,
            Some("toll_free"),
            "unknown variant",
        ),
        ("[[rules]]\nname = 'x'", 1, None, "missing field `action`"),
        ("[[rules]]\naction = 'allow'\nto = ['415-555']", 3, None, "not an E.164 number"),
        ("[[rules]]\naction = 'allow'\nto = ['911']", 3, None, "such a number is never dialed"),
        ("[[rules]]\naction = 'allow'\nprefix = ['1415']", 3, None, "not a prefix"),
        ("[[rules]]\naction = 'allow'\ncountry = ['usa']", 3, None, "\"usa\" is not a country"),
        ("[quiet_hours]\nfrom = '9pm'", 2, None, "not a time of day"),
        ("[quiet_hours]\nfrom = '24:00'", 2, None, "not a time of day"),
        ("[limits]\nper_hour = -1", 2, None, "expected a whole number"),
        ("[limits]\nper_hour = 'many'", 2, None, "expected a whole number"),
        ("[limits]\nspend_per_day = 10.5", 2, None, "US dollars in quotes"),
        ("[limits]\nspend_per_day = '1e3'", 2, None, "US dollars in quotes"),
        ("[limits]\nspend_per_day = { mode = 'shadow' }", 2, None, "missing field `max`"),
        ("mode = ", 1, None, ""),
    ] {
        let error = Policy::from_toml(file).unwrap_err();
        assert_eq!(error.line, line, "{file}: {error}");
        assert!(error.message.contains(says), "{file}: {error}");
        if let Some(nearest) = nearest {
            assert_eq!(error.nearest.as_deref(), Some(nearest), "{error}");
            assert!(
                error.to_string().ends_with(&format!(". Did you mean `{nearest}`?")),
                "{error}"
            );
        }
    }
}

#[test]
fn money_is_written_in_dollars() {
    for (text, amount) in [("10", 1_000_000), ("10.00", 1_000_000), ("0.00001", 1), ("0.5", 50_000)]
    {
        let policy = policy(&format!("[limits]\nspend_per_day = '{text}'"));
        assert_eq!(policy.limits.spend_limit(), LimitSetting::new(MilliCents(amount)));
    }
}

#[test]
fn the_schema_accepts_the_starter_file_and_rejects_unknown_keys() {
    let schema = serde_json::to_value(schemars::schema_for!(Policy)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let shipped: serde_json::Value = toml::from_str(starter_file()).unwrap();
    assert!(validator.is_valid(&shipped));
    for wrong in [
        serde_json::json!({"quiet_hour": {}}),
        serde_json::json!({"limits": {"per_hour": "many"}}),
        serde_json::json!({"limits": {"spend_per_day": 10.5}}),
        serde_json::json!({"rules": [{"name": "no action"}]}),
        serde_json::json!({"rules": [{"action": "allow", "country": ["usa"]}]}),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn calls_with_an_unknown_result_are_named_when_they_reach_the_limit() {
    let until = "2026-11-28T05:00:00Z".parse().ok();
    let defaults = Policy::default();
    let refuse = |limit, unknown| {
        let reached = crate::dialing::limits::LimitReached { limit, until, unknown };
        defaults.limit_refusal(reached).to_string()
    };
    let all = refuse(Limit::Concurrent, 5);
    assert!(all.contains("5 calls whose fate is unknown"), "{all}");
    assert!(all.contains("Possible again at 2026-11-28T05:00:00Z."), "{all}");
    let some = refuse(Limit::Concurrent, 2);
    assert!(
        some.contains("3 calls are in progress, and there are 2 whose fate is unknown"),
        "{some}"
    );
    let none = refuse(Limit::Concurrent, 0);
    assert!(none.contains("5 calls are in progress; wait for one to end"), "{none}");
}

#[test]
fn limits_of_each_caller_take_the_older_name_of_the_calls_in_progress_too() {
    let older = "[limits]\nat_once = 4\n[limits.per_caller]\nat_once = 2\nper_hour = 7\n";
    let newer = older.replace("at_once", "concurrent");
    let (older, newer) = (Policy::from_toml(older).unwrap(), Policy::from_toml(&newer).unwrap());
    assert_eq!(older, newer);
    let limits = newer.enforced_limits();
    assert_eq!(limits.concurrent, Some(4));
    let per_caller = limits.per_caller;
    assert_eq!(
        (per_caller.concurrent, per_caller.per_hour, per_caller.per_day),
        (Some(2), Some(7), None)
    );
}
