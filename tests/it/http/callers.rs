//! Receipts, limits and rules name the caller.

use serde_json::{Value, json};

use crate::http::support::{Server, message, program, with};

const POLICY: &str = "
[limits.per_caller]
per_hour = 1

[[rules]]
name = \"not at night\"
caller = [\"token:night\"]
country = [\"GB\"]
action = \"refuse\"

[[rules]]
action = \"allow\"
";

async fn run(home: &std::path::Path, arguments: &[&str]) -> String {
    let output = program(home).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn each_caller_has_a_name_in_receipts_limits_of_its_own_and_its_rules() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("policy.toml"), POLICY).unwrap();
    let front = run(home.path(), &["token", "create", "front"]).await;
    let night = run(home.path(), &["token", "create", "night"]).await;
    let (front, night) = (front.trim(), night.trim());
    let server = Server::start_in(home, &["--auth", "token"]).await;
    let agent = server.agent_of(Some(front)).await;
    let place = async |bearer: &str, to: &str| -> Value {
        let call = json!({"name": "place_call", "arguments": {"agent_id": agent, "to": to}});
        let answer = with(server.modern("tools/call", call), Some(bearer)).send().await.unwrap();
        message(answer).await["result"].clone()
    };
    let placed = place(front, "+13105550107").await;
    assert_eq!(placed["isError"], false, "{placed}");
    let refused = place(front, "+13105550108").await["content"].to_string();
    assert!(refused.contains("`limits.per_caller.per_hour`"), "{refused}");
    assert!(refused.contains("1 call for this caller was made in the last hour"), "{refused}");
    let refused = place(night, "+442071838750").await["content"].to_string();
    assert!(refused.contains("`not at night`"), "{refused}");
    // The limit of one caller is not that of another.
    let placed_at_night = place(night, "+13105550108").await;
    assert_eq!(placed_at_night["isError"], false, "{placed_at_night}");

    let receipts = async |arguments: &[&str]| {
        let arguments = [&["receipts", "--json", "--sandbox"], arguments].concat();
        let text = run(server.home.path(), &arguments).await;
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let calls = rows.filter(|row| row["kind"] == "call");
        calls.map(|row| (row["caller"].clone(), row["id"].clone())).collect::<Vec<_>>()
    };
    let id = |placed: &Value| placed["structuredContent"]["call_id"].clone();
    let rows = [(json!("token:night"), id(&placed_at_night)), (json!("token:front"), id(&placed))];
    assert_eq!(receipts(&[]).await, rows);
    assert_eq!(receipts(&["--caller", "token:front"]).await, rows[1..]);
    assert_eq!(receipts(&["--caller", "local"]).await, []);
    let table = run(server.home.path(), &["receipts", "--sandbox"]).await;
    assert!(table.contains(" CALLER ") && table.contains(" token:night "), "{table}");
    let secret = front.strip_prefix("cbmcp_").unwrap();
    assert!(!table.contains(secret), "{table}");
}
