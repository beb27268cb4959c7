//! Confirmations that are carried back: the input is what one is bound to, an end of line, and what is carried back.
//! Nothing is a confirmation that this server did not seal.

#![no_main]

use callingbox_mcp::mcp::confirmation::seal::Seals;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (bound, seal) = input.split_once('\n').unwrap_or_default();
    assert!(Seals::new(vec![7; 32]).unwrap().open(bound, seal).is_err());
});
