//! Answers of the API: what is read as a record keeps its id and can be written again, and what a model is
//! told of a call can be put in words.

#![no_main]

use callingbox::{
    Agent, AvailableNumber, Call, PhoneNumber, Transcript, WebhookDelivery, WebhookEndpoint,
};
use callingbox_mcp::mcp::outcome::{CallReport, CallSummary};
use callingbox_mcp::mcp::present::{Fence, utterance};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The record, if it can be read; its id, if it is a text, is then the same.
fn read<T: DeserializeOwned + Serialize>(answer: &[u8]) -> Option<T> {
    let record: T = serde_json::from_slice(answer).ok()?;
    let written = serde_json::to_value(&record).unwrap();
    if let Ok(Value::Object(fields)) = serde_json::from_slice(answer)
        && let Some(id @ Value::String(_)) = fields.get("id")
    {
        assert_eq!(&written["id"], id);
    }
    Some(record)
}

fuzz_target!(|answer: &[u8]| {
    let fence = Fence::new();
    if let Some(call) = read::<Call>(answer) {
        assert!(!CallSummary::of(call.clone()).line().is_empty());
        assert!(!CallReport::of(call).text(&fence).is_empty());
    }
    if let Some(transcript) = read::<Transcript>(answer) {
        transcript.segments.iter().for_each(|segment| {
            utterance(segment);
        });
    }
    read::<Agent>(answer);
    read::<PhoneNumber>(answer);
    read::<AvailableNumber>(answer);
    read::<WebhookEndpoint>(answer);
    read::<WebhookDelivery>(answer);
});
