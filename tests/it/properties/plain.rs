//! Plain calls of tools: whatever is read as one at first sight, rmcp reads as the same request. Two
//! readers of one message that understand it differently would let a call past what is held against it.

use callingbox_mcp::plain::PlainCall;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rmcp::model::{ClientJsonRpcMessage, GetMeta, JsonRpcMessage};

use super::{config, json};

/// An object of these members in any order, some of them missing, twice or something else.
fn object(members: Vec<(&'static str, BoxedStrategy<String>)>) -> BoxedStrategy<String> {
    let member = |(name, value): (&'static str, BoxedStrategy<String>)| {
        let value = prop_oneof![12 => value, 1 => json().prop_map(|any| any.to_string())];
        let times = prop_oneof![20 => Just(1_usize), 1 => Just(0), 1 => Just(2)];
        (value, times).prop_map(move |(value, times)| vec![format!("\"{name}\":{value}"); times])
    };
    let members: Vec<_> = members.into_iter().map(member).collect();
    let more = prop_oneof![
        12 => Just(Vec::new()),
        1 => (prop::sample::select(vec!["result", "error", "Id", "requestState", "task"]), json())
            .prop_map(|(name, any)| vec![format!("\"{name}\":{any}")]),
    ];
    (members, more)
        .prop_map(|(members, more)| members.into_iter().flatten().chain(more).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_map(|members| format!("{{{}}}", members.join(", ")))
        .boxed()
}

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}

fn message() -> BoxedStrategy<String> {
    let meta = object(vec![
        ("progressToken", one_of(&["7", "\"p\"", "null"])),
        ("io.modelcontextprotocol/protocolVersion", one_of(&["\"2026-07-28\"", "\"x\""])),
        ("io.modelcontextprotocol/clientCapabilities", one_of(&["{}", "{\"elicitation\":{}}"])),
    ]);
    let arguments = json().prop_map(|any| any.to_string());
    let params = object(vec![
        ("name", one_of(&["\"place_call\"", "\"\\u0070lace_call\"", "\"\""])),
        ("arguments", prop_oneof![Just("{}".to_owned()), arguments].boxed()),
        ("_meta", meta),
    ]);
    object(vec![
        ("jsonrpc", one_of(&["\"2.0\""])),
        ("id", one_of(&["1", "-1", "\"a\"", "9007199254740993", "1.5", "null"])),
        ("method", one_of(&["\"tools/call\"", "\"tools\\/call\""])),
        ("params", params),
    ])
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_read_as_a_plain_call_is_that_call_to_rmcp_too(text in message()) {
        let Some(ours) = PlainCall::read(text.as_bytes()) else { return Ok(()) };
        let tool = ours.tool().to_owned();
        let JsonRpcMessage::Request(ours) = ours.into_message() else { panic!("{text}") };
        let theirs = serde_json::from_str::<ClientJsonRpcMessage>(&text);
        let Ok(JsonRpcMessage::Request(theirs)) = theirs else { panic!("{text}: {theirs:?}") };
        let written = serde_json::to_value(&ours).unwrap();
        prop_assert_eq!(&written, &serde_json::to_value(&theirs).unwrap());
        prop_assert_eq!(&written["params"]["name"], &tool);
        prop_assert_eq!(ours.request.get_meta(), theirs.request.get_meta());
        prop_assert_eq!(ours.id, theirs.id);
    }
}

#[test]
fn a_good_part_of_these_messages_is_plain() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut next = || message().new_tree(&mut runner).unwrap().current();
    let plain = (0..500).filter(|_| PlainCall::read(next().as_bytes()).is_some()).count();
    assert!((50..450).contains(&plain), "{plain} of 500");
}
