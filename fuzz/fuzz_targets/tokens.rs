//! Confirmation tokens: the first line of the input is what a token must be bound to, and the rest is a token. No input
//! is a valid token, since only the server can make one.

#![no_main]

use callingbox_mcp::mcp::confirmation::token::{ConfirmationTokens, TokenBinding, TokenPurpose};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (shown, token) = input.split_once('\n').unwrap_or_default();
    let binding = TokenBinding {
        purpose: TokenPurpose::Confirmation,
        account: "account",
        caller: "",
        session: "",
        tool: "place_call",
        arguments: "arguments",
        shown,
    };
    assert!(
        ConfirmationTokens::new([7; 32])
            .verify(&binding, token, jiff::Timestamp::UNIX_EPOCH)
            .is_err()
    );
});
