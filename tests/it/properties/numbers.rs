//! Numbers that are never dialed cannot be dialed with other digits after them, with fewer digits, or in another spelling.

use std::sync::LazyLock;

use callingbox::{E164, MilliCents};
use callingbox_mcp::dialing::caller::CallerName;
use callingbox_mcp::dialing::destination::{Destination, NumberFault, NumberType, canonical_form};
use callingbox_mcp::dialing::limits::Usage;
use callingbox_mcp::dialing::policy::{Decision, Policy, PolicyInput, RuleName};
use proptest::prelude::*;
use proptest::sample::select;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};

use super::proptest_config;

/// The most permissive rules.
static GENEROUS: LazyLock<Policy> = LazyLock::new(|| {
    let rules = "default = 'allow'\nunusual_kinds = 'allow'\nunknown_timezone = 'allow'\n\
                 quiet_hours.mode = 'off'\n[[rules]]\naction = 'allow'\nany_hour = true";
    Policy::from_toml(rules).unwrap()
});

fn refusal(number: &E164) -> Option<RuleName> {
    let decision = GENEROUS.evaluate(&PolicyInput {
        to: number,
        destination: &Destination::from_number(number),
        agent_id: "agt_1",
        caller: &CallerName::local(),
        is_batch: false,
        metadata: None,
        metadata_source: Default::default(),
        now: "2026-11-28T18:00:00Z".parse().unwrap(),
        usage: &Usage::default(),
        hold: MilliCents::ZERO,
    });
    match decision.decision {
        Decision::Refuse(refusal) => Some(refusal.rule),
        _ => None,
    }
}

/// libphonenumber's example of this type for every country that has one.
fn examples(number_type: PhoneNumberType) -> Vec<String> {
    let examples = PHONE_NUMBER_UTIL.get_supported_regions().filter_map(|region| {
        PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(region, number_type).ok()
    });
    examples
        .map(|number| PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).to_string())
        .collect()
}

static NEVER_DIALED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let emergency = [
        "+1911",
        "+112",
        "+1988",
        "+44999",
        "+49110",
        "+3315",
        "+81119",
        "+61000",
        "+19005550100",
        "+14159761234",
        "+979123456789",
    ];
    examples(PhoneNumberType::PremiumRate).into_iter().chain(emergency.map(str::to_owned)).collect()
});

/// `+` and at most 15 digits (ITU-T E.164).
const MAX_LENGTH: usize = 16;
/// `+` and the fewest digits of a number here.
const MIN_LENGTH: usize = 3;

static SUBSCRIBERS: LazyLock<Vec<String>> = LazyLock::new(|| {
    [PhoneNumberType::FixedLine, PhoneNumberType::Mobile].into_iter().flat_map(examples).collect()
});

/// Whether another telephone has this number.
fn belongs_to_another(number: &E164) -> bool {
    let number_type = Destination::from_number(number).number_type;
    number_type != NumberType::Unknown && !number_type.is_never_dialed()
}

/// A number that is never dialed, with up to six digits more.
fn longer_number() -> impl Strategy<Value = String> {
    let numbers: Vec<_> = NEVER_DIALED.iter().filter(|number| number.len() < MAX_LENGTH).collect();
    select(numbers).prop_flat_map(|number| {
        let more = (MAX_LENGTH - number.len()).min(6);
        let digits = prop::collection::vec(prop::char::range('0', '9'), 1..=more);
        digits.prop_map(move |digits| number.chars().chain(digits).collect())
    })
}

/// A number that is never dialed, with up to seven digits fewer.
fn shorter_number() -> impl Strategy<Value = String> {
    let numbers: Vec<_> = NEVER_DIALED.iter().filter(|number| number.len() > MIN_LENGTH).collect();
    select(numbers).prop_flat_map(|number| {
        let fewer = (number.len() - MIN_LENGTH).min(7);
        (1..=fewer).prop_map(move |fewer| number.chars().take(number.len() - fewer).collect())
    })
}

#[test]
fn every_country_with_premium_numbers_has_an_example_that_is_refused() {
    assert!(NEVER_DIALED.len() > 100, "{}", NEVER_DIALED.len());
    for number in &*NEVER_DIALED {
        let number = E164::parse(number).unwrap();
        assert!(matches!(refusal(&number), Some(RuleName::Never(_))), "{}", number.as_str());
    }
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn a_number_that_is_never_dialed_stays_refused_with_more_digits(longer in longer_number()) {
        let longer = E164::parse(&longer).unwrap();
        prop_assert!(refusal(&longer).is_some() || belongs_to_another(&longer), "{}", longer.as_str());
    }

    #[test]
    fn a_number_that_is_never_dialed_stays_refused_with_fewer_digits(shorter in shorter_number()) {
        let shorter = E164::parse(&shorter).unwrap();
        prop_assert!(refusal(&shorter).is_some() || belongs_to_another(&shorter), "{}", shorter.as_str());
    }

    #[test]
    fn limits_and_rules_count_one_telephone_whatever_the_spelling(number in select(SUBSCRIBERS.as_slice()), prefix in "0{1,2}|1|01|044|045|8", more in "[0-9]{0,2}") {
        let code = Destination::from_number(&E164::parse(&number).unwrap()).calling_code.unwrap().to_string();
        let national = number.get(1 + code.len()..).unwrap();
        for spelling in [format!("+{code}{prefix}{national}"), format!("{number}{more}")] {
            let Ok(spelling) = E164::parse(&spelling) else { continue };
            let canonical = canonical_form(&spelling);
            prop_assert_eq!(canonical_form(&canonical), canonical.clone());
            if spelling != canonical {
                prop_assert_eq!(Destination::from_number(&spelling).fault, Some(NumberFault::NationalPrefix(canonical)));
                prop_assert!(refusal(&spelling).is_some(), "{}", spelling.as_str());
            }
        }
    }

    #[test]
    fn any_digits_are_looked_up(digits in "[1-9][0-9]{1,14}") {
        let number = E164::parse(&format!("+{digits}")).unwrap();
        let destination = Destination::from_number(&number);
        // A number that can be dialed has its own name only.
        prop_assert!(destination.fault.is_some() || canonical_form(&number) == number);
        prop_assert!(destination.calling_code.is_some() || refusal(&number).is_some());
    }
}

/// The national prefix of a mobile number, in every country.
#[test]
fn a_mobile_number_after_a_zero_is_refused_or_another_number() {
    for number in examples(PhoneNumberType::Mobile) {
        let code = Destination::from_number(&E164::parse(&number).unwrap())
            .calling_code
            .unwrap()
            .to_string();
        let Ok(spelling) =
            E164::parse(&format!("+{code}0{}", number.get(1 + code.len()..).unwrap()))
        else {
            continue;
        };
        assert!(
            refusal(&spelling).is_some() || belongs_to_another(&spelling),
            "{}",
            spelling.as_str()
        );
    }
}
