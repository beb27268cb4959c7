//! Properties of everything that reads what strangers wrote: lines of standard input, calls of tools,
//! webhook deliveries, calling rules. Whatever it is, nothing panics, nothing is lost, nothing is loosened.
//!
//! The cases are made by grammars, and held against what is said elsewhere, such as in the RFC; `fuzz/` looks for
//! others where the code branches. Seconds in an ordinary run; `tests/properties/run.sh MINUTES` goes on with new
//! seeds. Others of the same kind stand beside what they try: `tests/api/mutilated.rs`, `tests/clients/random.rs`,
//! and the seals of a confirmation in `src/mcp/confirmation/seal.rs`.

mod deliveries;
mod lines;
mod rules;

use proptest::prelude::*;
use serde_json::{Map, Value};

/// As many cases as `PROPTEST_CASES` says; nothing is written beside the sources.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Any JSON.
fn json() -> BoxedStrategy<Value> {
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
