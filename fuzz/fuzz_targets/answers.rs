//! Answers of the API: a record that is parsed keeps its id and can be serialized, and a call can be rendered as text.

#![no_main]

use std::sync::LazyLock;

use callingbox::{
    Agent, AvailableNumber, Call, PhoneNumber, Transcript, WebhookDelivery, WebhookEndpoint,
};
use callingbox_mcp::dialing::Environment;
use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::available::AvailableTools;
use callingbox_mcp::mcp::registry::selection::Selection;
use callingbox_mcp::mcp::reply::call_report::CallReport;
use callingbox_mcp::mcp::reply::call_summary::CallSummary;
use callingbox_mcp::mcp::reply::text::format_utterance;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

static TOOLS: LazyLock<AvailableTools> = LazyLock::new(|| {
    AvailableTools::new(Catalogue::new().index(), &Selection::default().into(), Environment::Live)
});

/// Reads a record. If its id is a string, the record keeps it.
fn read_record<T: DeserializeOwned + Serialize>(answer: &[u8]) -> Option<T> {
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
    if let Some(call) = read_record::<Call>(answer) {
        assert!(!CallSummary::from(call.clone()).summary_line().is_empty());
        assert!(!CallReport::new(call, &Default::default(), &TOOLS).text().is_empty());
    }
    if let Some(transcript) = read_record::<Transcript>(answer) {
        transcript.segments.iter().for_each(|segment| {
            assert!(!format_utterance(segment, None).is_empty());
        });
    }
    read_record::<Agent>(answer);
    read_record::<PhoneNumber>(answer);
    read_record::<AvailableNumber>(answer);
    read_record::<WebhookEndpoint>(answer);
    read_record::<WebhookDelivery>(answer);
});
