//! Opening a session and listing the tools, in every version of the protocol.

use std::sync::Arc;

use callingbox_mcp::account::Environment;
use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::available::AvailableTools;
use callingbox_mcp::mcp::registry::selection::Selection;
use callingbox_mcp::toolset::Toolset;
use serde_json::{Value, json};

use crate::harness::{Era, Session, listed_names, tool_names};

#[tokio::test]
async fn every_version_opens_and_an_unknown_one_gets_the_newest_of_its_era() {
    let mut answers = Vec::new();
    for version in
        ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28", "2099-01-01"]
    {
        let session = Session::legacy(version).await;
        answers.push(json!([version, session.opening["result"]["protocolVersion"]]));
        session.finish_well().await;
    }
    assert_eq!(
        Value::from(answers),
        json!([
            ["2024-11-05", "2024-11-05"],
            ["2025-03-26", "2025-03-26"],
            ["2025-06-18", "2025-06-18"],
            ["2025-11-25", "2025-11-25"],
            ["2026-07-28", "2025-11-25"],
            ["2099-01-01", "2025-11-25"],
        ])
    );
}

/// The opening with a placeholder for the version of the program.
fn without_version(session: &Session, server_info: &str) -> Value {
    let mut opening = session.opening.clone();
    let server_info = opening.pointer_mut(server_info).unwrap();
    assert_eq!(server_info["version"], env!("CARGO_PKG_VERSION"));
    server_info["version"] = json!("[version]");
    opening
}

#[tokio::test]
async fn initialize_is_answered_whole() {
    let session = Session::legacy("2025-11-25").await;
    insta::assert_json_snapshot!(without_version(&session, "/result/serverInfo"));
    session.finish_well().await;
    // Without a simulator, the instructions are about real telephones.
    let session = Session::with(Era::Legacy("2025-11-25"), &[], &[]).await;
    insta::assert_json_snapshot!(
        "initialize_real",
        without_version(&session, "/result/serverInfo")
    );
    session.finish_well().await;
}

#[tokio::test]
async fn discover_is_answered_whole() {
    let session = Session::modern().await;
    let server_info = "/result/_meta/io.modelcontextprotocol~1serverInfo";
    insta::assert_json_snapshot!(without_version(&session, server_info));
    session.finish_well().await;
}

#[tokio::test]
async fn tools_are_listed_as_published_and_with_caching_in_the_modern_era_only() {
    let catalogue = Catalogue::new();
    let selection = Selection { sandbox: true, ..Selection::default() };
    let available =
        AvailableTools::new(catalogue.index(), &Arc::new(selection.clone()), Environment::Sandbox);
    let tools: Vec<Value> = catalogue
        .offered(&selection)
        .map(|entry| serde_json::to_value(entry.definition_for(&available)).unwrap())
        .collect();
    for (era, expected) in [
        (Era::Legacy("2024-11-05"), json!({"tools": tools})),
        (Era::Legacy("2025-11-25"), json!({"tools": tools})),
        (
            Era::Modern,
            json!({"resultType": "complete", "ttlMs": 3_600_000, "cacheScope": "private", "tools": tools}),
        ),
    ] {
        let mut session = Session::new(era).await;
        let answer = session.request("tools/list", json!({})).await;
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 2, "result": expected}), "{era:?}");
        session.finish_well().await;
    }
}

#[tokio::test]
async fn flags_and_variables_select_the_tools() {
    for (arguments, environment, expected) in [
        (
            &["--toolsets", "numbers"][..],
            &[][..],
            tool_names(|tool| tool.toolset == Toolset::Numbers),
        ),
        (
            &["--toolsets", "numbers", "--read-only"],
            &[],
            tool_names(|tool| tool.toolset == Toolset::Numbers && tool.effect.is_read_only()),
        ),
        (&["--tools", "get_agent,list_calls"], &[], vec!["list_calls", "get_agent"]),
        (
            &["--toolsets", "calls", "--exclude-tools", "place_call,list_calls"],
            &[],
            tool_names(|tool| {
                tool.toolset == Toolset::Calls && !["place_call", "list_calls"].contains(&tool.name)
            }),
        ),
        (&[], &[("CALLINGBOX_MCP_TOOLS", "get_agent")], vec!["get_agent"]),
        (&["--toolsets", "sandbox"], &[], vec![]),
    ] {
        let mut session = Session::with(Era::Modern, arguments, environment).await;
        let answer = session.request("tools/list", json!({})).await;
        let names = listed_names(&answer["result"]);
        assert_eq!(names, expected, "{arguments:?} {environment:?}");
        let (rest, status, log) = session.finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(0)));
        // The only log line is the warning that no tool is offered.
        assert_eq!(log.lines().count(), usize::from(expected.is_empty()), "{log}");
        assert_eq!(log.contains("no tool is offered"), expected.is_empty(), "{log}");
    }
}

#[tokio::test]
async fn a_client_may_ask_for_a_newer_version_first_and_fall_back() {
    for (first, code) in [("2099-01-01", Some(-32022)), ("2026-07-28", None)] {
        let mut session = Session::start(&[], &[]);
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": first,
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let discover = json!({
            "jsonrpc": "2.0", "id": "d", "method": "server/discover", "params": {"_meta": meta},
        });
        session.send(&discover).await;
        let answer = session.next().await.unwrap();
        assert_eq!(answer["error"]["code"].as_i64(), code, "{answer}");
        let supported = answer
            .pointer("/error/data/supported")
            .or(answer.pointer("/result/supportedVersions"))
            .and_then(Value::as_array)
            .unwrap();
        assert!(supported.contains(&json!("2025-11-25")), "{answer}");
        session.open(Era::Legacy("2025-11-25")).await;
        let answer = session.request("tools/list", json!({})).await;
        assert_eq!(answer["result"].get("ttlMs"), None, "{first}: the answer is of the older era");
        assert!(answer["result"]["tools"].is_array(), "{first}: {answer}");
        let (rest, status, _) = session.finish().await;
        assert_eq!((rest, status.code()), (vec![], Some(0)));
    }
}
