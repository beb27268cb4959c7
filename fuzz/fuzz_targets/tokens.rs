//! Confirmation tokens: the first line of the input is the call that a token must be bound to, and the rest is a token.
//! No input is a valid token, since only the server can sign one.

#![no_main]

use callingbox_mcp::mcp::confirmation::token::ConfirmationTokens;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (bound, token) = input.split_once('\n').unwrap_or_default();
    assert!(ConfirmationTokens::new(vec![7; 32]).unwrap().verify(bound, token).is_err());
});
