//! The file of calling rules: an input is refused with its line, or is parsed and written as the same rules. No rules
//! allow an emergency number.

#![no_main]

use std::sync::LazyLock;

use callingbox::E164;
use callingbox::MilliCents;
use callingbox_mcp::dialing::caller::CallerName;
use callingbox_mcp::dialing::destination::Destination;
use callingbox_mcp::dialing::limits::Usage;
use callingbox_mcp::dialing::policy::{Decision, Policy, PolicyInput};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static EMERGENCY: LazyLock<(E164, Destination)> = LazyLock::new(|| {
    let number = E164::parse("+1911").unwrap();
    let destination = Destination::from_number(&number);
    (number, destination)
});

fuzz_target!(|text: &str| {
    let policy = match Policy::from_toml(text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!((1..=1 + text.matches('\n').count()).contains(&error.line), "{error:?}");
            return;
        }
    };
    let written = toml::to_string(&policy).unwrap();
    let again = Policy::from_toml(&written).unwrap();
    assert_eq!(toml::to_string(&again).unwrap(), written);
    let (to, destination) = &*EMERGENCY;
    let verdict = policy.evaluate(&PolicyInput {
        to,
        destination,
        agent_id: "agt_1",
        caller: &CallerName::local(),
        is_batch: false,
        metadata: None,
        metadata_source: Default::default(),
        now: Timestamp::UNIX_EPOCH,
        usage: &Usage::default(),
        hold: MilliCents::from_cents(300),
    });
    assert!(matches!(verdict.decision, Decision::Refuse(_)), "{verdict:?}");
});
