//! Authentication by keys and tokens, and the isolation of tenants.

use std::process::Output;
use std::time::Duration;

use callingbox_mcp::toolset::Toolset;
use callingbox_sandbox::Options;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Control, simulator, tool_names};
use crate::http::support::{Events, Server, initialize, message, names, program, with};

#[tokio::test]
async fn every_route_challenges_a_caller_without_a_key() {
    let server = Server::start(&["--auth", "key"]).await;
    for (method, path) in [
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("DELETE", "/mcp"),
        ("GET", "/sse"),
        ("POST", "/messages"),
    ] {
        for bearer in [None, Some("unknown-key"), Some("sk a")] {
            let url = format!("{}{path}?api_key=sk_test_a&access_token=sk_test_a", server.base);
            let request = server.http.request(method.parse().unwrap(), url);
            let answer = with(request, bearer).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{method} {path} {bearer:?}");
            let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
            let expected =
                if bearer.is_some() { "error=\"invalid_token\"" } else { "Bearer realm=" };
            assert!(challenge.contains(expected), "{challenge}");
        }
    }
    let health = server.http.get(format!("{}/healthz", server.base)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn each_key_is_a_tenant() {
    let server = Server::start(&["--auth", "key"]).await;
    let (one, other) = (Some("sk_test_one"), Some("sk_test_other"));
    let agent =
        json!({"name": "Mine", "type": "inbound", "persona": "Mia.", "instructions": "Talk."});
    let made = server.modern("tools/call", json!({"name": "create_agent", "arguments": agent}));
    let made = message(with(made, one).send().await.unwrap()).await;
    assert_eq!(made["result"]["isError"], json!(false), "{made}");
    let agents = async |bearer| {
        let listed = server.tool(bearer, "list_agents", json!({})).await;
        listed["agents"].as_array().unwrap().len()
    };
    assert_eq!((agents(one).await, agents(other).await), (1, 0));

    // A session belongs to the tenant that opened it.
    let session = server.open(one).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let url = format!("{}/mcp", server.base);
    for request in [
        server.post(&list),
        server.http.get(&url).header("accept", "text/event-stream"),
        server.http.delete(&url),
    ] {
        let foreign = request.header("mcp-session-id", &session.id);
        assert_eq!(with(foreign, other).send().await.unwrap().status(), 404);
    }
    assert!(session.tools().await.contains(&"place_call".to_owned()));

    let stream = with(server.http.get(format!("{}/sse", server.base)), one).send().await.unwrap();
    let mut events = Events::new(stream);
    let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
    let post = |bearer| with(server.http.post(&endpoint).body(initialize().to_string()), bearer);
    assert_eq!(post(other).send().await.unwrap().status(), 404);
    assert_eq!(post(None).send().await.unwrap().status(), 401);
    assert_eq!(post(one).send().await.unwrap().status(), 202);
    assert_eq!(events.next().await.unwrap().0, "message");
}

#[tokio::test]
async fn the_limits_of_one_key_do_not_count_calls_of_another() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/callingbox-mcp");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("policy.toml"), "[limits]\nper_hour = 1\n").unwrap();
    let server = Server::start_in(home, &["--auth", "key"]).await;
    let mut calls = Vec::new();
    for key in ["sk_test_one", "sk_test_other"] {
        calls.push(server.long_call_of(Some(key)).await);
        let agents = server.tool(Some(key), "list_agents", json!({})).await;
        let order = json!({"agent_id": agents["agents"][0]["agent_id"], "to": "+13105550100"});
        let order = server.modern("tools/call", json!({"name": "place_call", "arguments": order}));
        let refused = message(order.bearer_auth(key).send().await.unwrap()).await;
        let text = refused["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("limits.per_hour"), "{text}");
    }
    let read = json!({"name": "get_call_result", "arguments": {"call_id": calls[0]}});
    let read = server.modern("tools/call", read).bearer_auth("sk_test_other");
    let read = message(read.send().await.unwrap()).await;
    assert_eq!(read["result"]["_meta"]["callingbox-mcp/error"]["class"], "not_found", "{read}");
}

pub(super) async fn run_token_command(home: &std::path::Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        program(home).arg("token").args(arguments).output().await.unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn concurrent_token_commands_are_all_applied() {
    let home = tempfile::tempdir().unwrap();
    let token_names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    let each = |verb: &'static str| {
        join_all(
            token_names
                .iter()
                .map(async |name| run_token_command(home.path(), &[verb, name]).await),
        )
    };
    let left = async || run_token_command(home.path(), &["list"]).await;
    each("create").await;
    let made = left().await;
    for name in &token_names {
        assert!(made.lines().any(|line| line.starts_with(&format!("{name}:"))), "{name}: {made}");
    }
    each("revoke").await;
    assert_eq!(left().await, "There are no tokens.");
}

#[tokio::test]
async fn tokens_limit_the_offered_tools_and_can_be_revoked() {
    let home = tempfile::tempdir().unwrap();
    let whole = run_token_command(home.path(), &["create", "whole"]).await;
    let reading =
        run_token_command(home.path(), &["create", "reading", "--only", "numbers", "--read-only"])
            .await;
    let past = run_token_command(home.path(), &["create", "past", "--expires", "1ms"]).await;
    let server = Server::start_in(home, &["--auth", "token"]).await;
    let tools = async |bearer: &str| {
        let listed = with(server.modern("tools/list", json!({})), Some(bearer)).send().await;
        names(&message(listed.unwrap()).await)
    };
    assert!(tools(&whole).await.contains(&"place_call".to_owned()));
    let expected =
        tool_names(|tool| tool.toolset == Toolset::Numbers && tool.effect.is_read_only());
    assert_eq!(tools(&reading).await, expected);
    let call = json!({"name": "purchase_number", "arguments": {"phone_number": "+14155550100"}});
    let refused = with(server.modern("tools/call", call), Some(&reading)).send().await.unwrap();
    let refused = message(refused).await;
    assert_eq!(refused["result"]["isError"], json!(true), "{refused}");
    for bearer in [None, Some(past.as_str()), Some("cbmcp_00"), Some("sk_test_one")] {
        let answer = with(server.modern("tools/list", json!({})), bearer).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{bearer:?}");
    }

    let wait = json!({"call_id": server.long_call_of(Some(&whole)).await, "wait_seconds": 60});
    let wait = json!({"name": "get_call_result", "arguments": wait});
    let mut streamed = wait.clone();
    streamed["_meta"] = json!({"progressToken": "p"});
    let [waiting, streaming] = [wait, streamed]
        .map(|wait| tokio::spawn(with(server.modern("tools/call", wait), Some(&whole)).send()));

    let listed = run_token_command(server.home.path(), &["list"]).await;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["whole", "reading", "past"]);
    assert!(!listed.contains("cbmcp_"));

    let session = server.open(Some(&whole)).await;
    let foreign = server.post(&initialize()).header("mcp-session-id", &session.id);
    assert_eq!(with(foreign, Some(&reading)).send().await.unwrap().status(), 404);
    let stream = server.http.get(format!("{}/mcp", server.base));
    let stream = stream.header("accept", "text/event-stream").header("mcp-session-id", &session.id);
    let stream = with(stream, Some(&whole)).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    run_token_command(server.home.path(), &["revoke", "whole"]).await;
    // The open stream ends too.
    tokio::time::timeout(Duration::from_secs(20), stream.bytes()).await.unwrap().unwrap();
    // Pending requests are answered, and the answer does not blame the client.
    for waiting in [waiting, streaming] {
        let cut = message(waiting.await.unwrap().unwrap()).await;
        let cut = &cut["result"]["_meta"]["callingbox-mcp/error"];
        assert_eq!(
            (&cut["class"], &cut["message"]),
            (
                &json!("canceled"),
                &json!(
                    "get_call_result was cancelled by the client, or its session or token ended"
                )
            )
        );
    }
    assert_eq!(session.request("tools/list", json!({})).await.status(), 401);
    assert_eq!(tools(&reading).await.len(), 2);
}

#[tokio::test]
async fn a_token_for_numbers_reveals_no_calls_and_no_agents() {
    let home = tempfile::tempdir().unwrap();
    let whole = run_token_command(home.path(), &["create", "whole"]).await;
    let numbers =
        run_token_command(home.path(), &["create", "numbers", "--only", "numbers", "--read-only"])
            .await;
    let server = Server::start_in(home, &["--auth", "token"]).await;
    let call = server.long_call_of(Some(&whole)).await;
    let agents = server.tool(Some(&whole), "list_agents", json!({})).await;
    let agent = agents["agents"][0]["agent_id"].as_str().unwrap();
    let session = server.open(Some(&numbers)).await;
    for modern in [true, false] {
        let ask = async |method: &str, params: Value| {
            let answer = if modern {
                let uri = params["uri"].as_str().unwrap_or_default().to_owned();
                let request = server.modern(method, params).header("mcp-name", uri);
                with(request, Some(&numbers)).send().await.unwrap()
            } else {
                session.request(method, params).await
            };
            message(answer).await
        };
        let listed = ask("resources/list", json!({})).await;
        let listed = listed["result"]["resources"].as_array().unwrap().clone();
        let listed: Vec<&str> = listed.iter().map(|one| one["uri"].as_str().unwrap()).collect();
        assert_eq!(
            listed,
            [
                "callingbox://numbers",
                "callingbox://guide",
                "skill://callingbox-telephone/SKILL.md",
                "ui://callingbox/call-1.html"
            ]
        );
        let templates = ask("resources/templates/list", json!({})).await;
        assert_eq!(templates["result"]["resourceTemplates"], json!([]));
        let read = ask("resources/read", json!({"uri": "callingbox://numbers"})).await;
        assert!(read.to_string().contains("+1415"), "{read}");
        for uri in [
            format!("callingbox://calls/{call}"),
            format!("callingbox://calls/{call}/transcript"),
            format!("callingbox://agents/{agent}"),
            "callingbox://policy".to_owned(),
        ] {
            let read = ask("resources/read", json!({"uri": uri})).await;
            assert_eq!(read["error"]["data"]["uri"], uri, "{read}");
        }
        for uri in ["callingbox://calls/{id}", "callingbox://agents/{id}"] {
            let template = json!({"type": "ref/resource", "uri": uri});
            let typed = json!({"ref": template, "argument": {"name": "id", "value": ""}});
            let completed = ask("completion/complete", typed).await;
            assert_eq!(completed["result"]["completion"]["values"], json!([]), "{completed}");
        }
    }
    let task = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tasks/get",
        "params": {"taskId": "a~b", "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities":
                {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        }},
    });
    let task = server.post(&task).header("mcp-protocol-version", "2026-07-28");
    let task = task.header("mcp-method", "tasks/get").header("mcp-name", "a~b");
    let refused = message(with(task, Some(&numbers)).send().await.unwrap()).await;
    assert_eq!(
        refused["error"]["message"],
        "the task is not available here: it needs the tool `get_call_result`, which is not offered",
        "{refused}"
    );
}

#[tokio::test]
async fn other_machines_are_served_only_with_authentication_or_the_unsafe_flag() {
    let home = tempfile::tempdir().unwrap();
    let run = async |more: &[&str]| {
        let mut command = program(home.path());
        command.args(["--sandbox", "http", "--listen", "192.0.2.1:0"]).args(more);
        let output = command.output().await.unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let refused = run(&[]).await;
    assert!(refused.contains("--unsafe-no-auth") && refused.contains("--auth key"), "{refused}");
    // With either flag, startup fails only because this machine lacks the address.
    assert!(run(&["--unsafe-no-auth"]).await.contains("cannot listen on"));
    assert!(run(&["--auth", "key"]).await.contains("cannot listen on"));
    assert!(run(&["--auth", "token"]).await.contains("callingbox-mcp token create"));
}

#[tokio::test]
async fn an_address_for_other_machines_without_an_allowed_host_is_warned_of() {
    for (more, warns) in [(&[][..], true), (&["--allowed-host", "phone.example.com"], false)] {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("log");
        let mut command = program(home.path());
        command.args(["--sandbox", "http", "--listen", "0.0.0.0:0", "--auth", "key"]).args(more);
        command.stderr(std::fs::File::create(&log).unwrap());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = tokio::io::BufReader::new(child.stdout.take().unwrap());
        tokio::io::AsyncBufReadExt::read_line(&mut output, &mut line).await.unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        let log = std::fs::read_to_string(log).unwrap();
        let says = log.contains("--listen 0.0.0.0:0: other machines get 403")
            && log.contains("--allowed-host");
        assert_eq!(says, warns, "{log}");
    }
}

#[tokio::test]
async fn readiness_names_the_failed_check() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]).await;
    let admin = server.admin.clone().unwrap();
    let get = async |url: String| {
        let answer = server.http.get(url).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap())
    };
    let ready = json!({"ready": true, "key": "ok", "ledger": "ok"});
    assert_eq!(get(format!("{admin}/readyz")).await, (200, ready));
    assert_eq!(get(format!("{admin}/healthz")).await, (200, json!({"alive": true})));
    assert_eq!(get(format!("{}/healthz", server.base)).await.0, 404);
    assert_eq!(get(format!("{}/metrics", server.base)).await.0, 404);

    let home = tempfile::tempdir().unwrap();
    let mut child = program(home.path())
        .args(["http", "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = tokio::io::BufReader::new(child.stdout.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut output, &mut line).await.unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap().replace("/mcp", "/readyz");
    let missing = json!({"ready": false, "key": "no key is set", "ledger": "ok"});
    assert_eq!(get(url).await, (503, missing));
}

#[tokio::test]
async fn metrics_on_the_public_listener_are_for_loopback_only() {
    let server = Server::start(&["--allowed-host", "phone.example.com"]).await;
    for (host, status) in
        [("localhost", 200), ("127.0.0.1:9", 200), ("[::1]", 200), ("phone.example.com", 404)]
    {
        let get = server.http.get(format!("{}/metrics", server.base)).header("host", host);
        let answer = get.send().await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
        let has_metrics = answer.text().await.unwrap().contains("callingbox_mcp_");
        assert_eq!(has_metrics, status == 200, "{host}");
    }
    let server =
        Server::start(&["--allowed-host", "phone.example.com", "--admin-listen", "127.0.0.1:0"])
            .await;
    let get = server.http.get(format!("{}/metrics", server.admin.as_ref().unwrap()));
    let get = get.header("host", "phone.example.com");
    assert_eq!(get.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_key_that_callingbox_refuses_to_a_tool_ends_the_access_of_its_tenant() {
    // The control endpoints act on the organization of this key.
    let key = callingbox_mcp::simulator::KEY;
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let server = Server::start_on(&sandbox, &["--auth", "key"]).await;
    let session = server.open(Some(key)).await;
    let stream = with(server.http.get(format!("{}/sse", server.base)), Some(key)).send().await;
    let mut events = Events::new(stream.unwrap());
    events.next().await.unwrap();
    assert_eq!(control.count("GET", "/v1/numbers").await, 1, "the key is checked once");
    let refuse = |path: &str| json!({"method": "GET", "path": path, "kind": "status", "status": 401, "times": 1_000});
    control.fault(refuse("/v1/agents")).await;
    let list = json!({"name": "list_agents", "arguments": {}});
    let refused = message(session.request("tools/call", list.clone()).await).await;
    let class = &refused["result"]["_meta"]["callingbox-mcp/error"]["class"];
    assert_eq!(class, "unauthorized", "{refused}");
    // Its session and its stream end.
    assert_eq!(events.next().await, None);
    assert_eq!(session.request("tools/list", json!({})).await.status(), 404);
    // The key itself is checked again, and is still valid.
    let tools = with(server.modern("tools/list", json!({})), Some(key)).send().await.unwrap();
    assert_eq!(tools.status(), 200);
    assert_eq!(control.count("GET", "/v1/numbers").await, 2);
    control.fault(refuse("/v1/numbers")).await;
    with(server.modern("tools/call", list), Some(key)).send().await.unwrap();
    let tools = with(server.modern("tools/list", json!({})), Some(key)).send().await.unwrap();
    assert_eq!(tools.status(), 401);
}
