//! The parts of end-to-end tests: a simulator whose clock the test moves, the real binary in an empty home folder, and
//! a client that speaks JSON-RPC lines. Every wait has a limit.

mod binary;
mod control;
mod reader;
mod session;

use std::time::Duration;

pub(crate) use binary::Home;
pub(crate) use control::{Control, simulator};
pub(crate) use reader::Reader;
pub(crate) use session::{Era, Session};

use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::index::ToolMeta;
use serde_json::{Value, json};

/// The names of the tools for models that `choose` accepts, in the order of the catalogue. `catalogue.rs` alone lists the
/// tools of each toolset by name.
pub(crate) fn tool_names(choose: impl Fn(&ToolMeta) -> bool) -> Vec<&'static str> {
    Catalogue::new()
        .index()
        .iter()
        .filter(|tool| !tool.card.is_app_only() && choose(tool))
        .map(|tool| tool.name)
        .collect()
}

/// The names of the tools for models in a result of `tools/list`.
pub(crate) fn listed_names(result: &Value) -> Vec<&str> {
    let tools = result["tools"].as_array().expect("a list of tools").iter();
    tools
        .filter(|tool| tool["_meta"]["ui"]["visibility"] != json!(["app"]))
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect()
}

/// How long a test waits for one event.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `work`, and panics with `what` if it takes too long.
pub(crate) async fn within_limit<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen within {LIMIT:?}"),
    }
}
