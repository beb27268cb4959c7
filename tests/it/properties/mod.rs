//! Properties of the parsers of untrusted input: lines of standard input, webhook deliveries and calling rules. No input
//! causes a panic, a lost message or a weaker rule.
//!
//! Grammars generate the cases, and the results are compared with an independent model, such as the text of an RFC.
//! `fuzz/` finds further cases by code coverage. An ordinary run takes seconds; `tests/it/properties/run.sh MINUTES`
//! continues with new seeds. Related properties are in `tests/it/api/mutilated.rs`, `tests/it/install/random.rs` and
//! beside the confirmation tokens in `src/mcp/confirmation/`.

mod deliveries;
mod lines;
mod numbers;
mod rules;

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Runs `PROPTEST_CASES` cases and writes no regression files.
fn proptest_config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Any JSON value.
fn any_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("\\PC{0,6}", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
    .boxed()
}
