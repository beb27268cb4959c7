//! The document of the call card over HTTP: without a session, with every kind of authentication, behind the same checks
//! of host and origin, and switched off by a header.

use serde_json::{Value, json};

use super::auth::run_token_command;
use super::support::{Server, initialize, message};
use crate::dialing::shows_card;

const URI: &str = "ui://callingbox/call-1.html";

fn read(uri: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": uri}})
}

/// Whether an answer is the document.
fn is_document(answer: &Value) -> bool {
    let contents = &answer["result"]["contents"][0];
    answer["id"] == 7
        && contents["mimeType"] == "text/html;profile=mcp-app"
        && contents["text"].as_str().is_some_and(|text| text.starts_with("<!doctype html>"))
}

#[tokio::test]
async fn the_document_is_read_without_a_session_and_nothing_else_is() {
    for arguments in [&[][..], &["--stateless"]] {
        let server = Server::start(arguments).await;
        let answer = server.post(&read(URI)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(is_document(&message(answer).await));
        let with_version = server.post(&read(URI)).header("mcp-protocol-version", "2025-11-25");
        assert!(is_document(&message(with_version.send().await.unwrap()).await));
        let json_only = server.http.post(format!("{}/mcp", server.base));
        let json_only = json_only
            .header("content-type", "application/json")
            .header("accept", "application/json");
        let json_only = json_only.body(read(URI).to_string()).send().await.unwrap();
        assert!(is_document(&message(json_only).await));
        let missing = server.post(&read("ui://callingbox/call-0.html")).send().await.unwrap();
        let missing = message(missing).await;
        assert!(missing["error"]["message"].as_str().unwrap().contains("no resource"), "{missing}");

        // A page of another origin, and another host.
        let foreign = server.post(&read(URI)).header("origin", "https://evil.example");
        assert_eq!(foreign.send().await.unwrap().status(), 403);
        let foreign = server.post(&read(URI)).header("host", "evil.example");
        assert_eq!(foreign.send().await.unwrap().status(), 403);

        let off = server.post(&read(URI)).header("X-MCP-No-UI", "true").send().await.unwrap();
        assert!(message(off).await["error"].is_object());
    }
    let server = Server::start(&[]).await;
    let other = server.post(&read("callingbox://numbers")).send().await.unwrap();
    assert_eq!(other.status(), 400);
    // With a session, it is read as everything else is.
    let session = server.open(None).await;
    let answer = session.request("resources/read", json!({"uri": URI})).await;
    assert!(message(answer).await["result"]["contents"][0]["text"].is_string());
}

#[tokio::test]
async fn every_authenticated_caller_reads_the_document() {
    let home = tempfile::tempdir().unwrap();
    let token = run_token_command(home.path(), &["create", "numbers", "--only", "numbers"]).await;
    let server = Server::start_in(home, &["--auth", "token"]).await;
    assert_eq!(server.post(&read(URI)).send().await.unwrap().status(), 401);
    let answer = server.post(&read(URI)).bearer_auth(&token).send().await.unwrap();
    assert!(is_document(&message(answer).await));
}

#[tokio::test]
async fn the_header_leaves_the_card_out_of_a_session() {
    let server = Server::start(&[]).await;
    let opened = server.post(&initialize()).header("X-MCP-No-UI", "true").send().await.unwrap();
    let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let opened = message(opened).await;
    assert_eq!(
        opened["result"]["capabilities"]["extensions"].get("io.modelcontextprotocol/ui"),
        None
    );
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let listed = server.post(&list).header("mcp-session-id", id).send().await.unwrap();
    let listed = message(listed).await.to_string();
    assert!(
        listed.contains("place_call")
            && !listed.contains("follow_call")
            && !listed.contains("ui://")
    );
    // One tool of the card is excluded by its name, the other goes with the tools that it serves.
    let listed =
        server.modern("tools/list", json!({})).header("X-MCP-Exclude-Tools", "follow_call");
    let listed = message(listed.send().await.unwrap()).await.to_string();
    assert!(listed.contains("confirm_call") && !listed.contains("follow_call"));
    let listed = server.modern("tools/list", json!({})).header("X-MCP-Tools", "get_call_result");
    let listed = message(listed.send().await.unwrap()).await.to_string();
    assert!(listed.contains("follow_call") && !listed.contains("confirm_call"));
}

#[tokio::test]
async fn over_http_a_card_is_no_human_unless_the_operator_says_so() {
    for (setting, is_asked) in [("", false), ("card_is_human = \"known_hosts\"\n", true)] {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("config/callingbox-mcp");
        std::fs::create_dir_all(&folder).unwrap();
        let config = format!("[dialing]\nconfirm = \"always\"\nrequire_human = true\n{setting}");
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let server = Server::start_in(home, &[]).await;
        let offers = server.tool(None, "search_numbers", json!({"limit": 1})).await;
        let order = json!({"phone_number": offers["numbers"][0]["phone_number"]});
        let params = json!({"name": "purchase_number", "arguments": order, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "claude-ai", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": shows_card(),
        }});
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let request = server
            .post(&request)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "purchase_number");
        let answer = message(request.send().await.unwrap()).await;
        let meta = &answer["result"]["_meta"];
        assert_eq!(meta.get("callingbox-mcp/confirm").is_some(), is_asked, "{answer}");
        let class = &meta["callingbox-mcp/error"]["class"];
        assert_eq!(*class == json!("refused_by_policy"), !is_asked, "{answer}");
    }
}
