//! Verifies a webhook delivery. Reads the body from standard input:
//! `cargo run --example verify_webhook whsec_… 't=1776263400,v1=…' < body.json`.
#![expect(clippy::print_stdout, reason = "an example may print")]

use std::io::Read as _;

use callingbox::webhook_signature::{SIGNATURE_HEADER, SigningSecrets};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(secret), Some(signature)) = (arguments.next(), arguments.next()) else {
        return Err("usage: verify_webhook SECRET SIGNATURE < BODY".into());
    };
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE_HEADER, HeaderValue::from_str(&signature)?);
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    SigningSecrets::new([secret])?.verify(&headers, &body, Timestamp::now())?;
    println!("the delivery is authentic");
    Ok(())
}
