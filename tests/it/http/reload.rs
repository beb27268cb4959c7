//! The files that a running server reads again. A broken file changes nothing.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::http::support::{
    Events, Server, Session, TEST_TIMEOUT, initialize, message, program, with,
};

/// A server, its files and its log.
struct Running {
    server: Server,
    log: PathBuf,
}

const SANDBOX: &[&str] = &["--sandbox", "--sandbox-speed=1"];

impl Running {
    async fn start(files: &[(&str, &str)], more: &[&str]) -> Self {
        Self::start_in(SANDBOX, files, more).await
    }

    async fn start_in(environment: &[&str], files: &[(&str, &str)], more: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = home.path().join("config/callingbox-mcp").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let log = home.path().join("log");
        let mut program = program(home.path());
        program.env("CALLINGBOX_API_KEY", "sk_live_unused");
        program.env("CALLINGBOX_BASE_URL", "http://127.0.0.1:1");
        program.args(environment).stderr(File::create(&log).unwrap());
        Self { server: Server::run(home, program, more).await, log }
    }

    fn write(&self, name: &str, text: &str) {
        let folder = self.server.home.path().join("config/callingbox-mcp");
        // In one step, so that the server never reads half a file.
        let new = folder.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, folder.join(name)).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends SIGHUP and waits until the log has this text once more.
    async fn hang_up(&self, logged: &str) {
        let before = self.log().matches(logged).count();
        let id = self.server.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().await.unwrap().success());
        self.wait_for_log(logged, before + 1).await;
    }

    /// Waits until the log has this text so many times.
    async fn wait_for_log(&self, logged: &str, times: usize) {
        let begun = Instant::now();
        while self.log().matches(logged).count() < times {
            assert!(begun.elapsed() < TEST_TIMEOUT, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn calling_rules_are_reloaded_and_invalid_ones_are_ignored() {
    let running = Running::start(&[("policy.toml", "default = \"refuse\"\n")], &[]).await;
    let server = &running.server;
    let offers = server.tool(None, "search_numbers", json!({"area_code": "415"})).await;
    let number = json!({"phone_number": offers["numbers"][0]["phone_number"]});
    let bought = server.tool(None, "purchase_number", number).await;
    let agent = json!({
        "name": "A", "type": "outbound", "persona": "Mia.", "instructions": "Talk.",
        "number_ids": [bought["number"]["number_id"]],
    });
    let agent_id = server.tool(None, "create_agent", agent).await["agent_id"].clone();
    let call = async |to: &str| -> Value {
        let params = json!({"name": "place_call", "arguments": {"agent_id": agent_id, "to": to}});
        let answer = server.modern("tools/call", params).send().await.unwrap();
        message(answer).await["result"]["_meta"]["callingbox-mcp/error"]["class"].clone()
    };
    assert_eq!(call("+13105550100").await, "refused_by_policy");

    running.write("policy.toml", "default = \"allow\"\n");
    running.hang_up("calling rules reloaded").await;
    assert_eq!(call("+13105550103").await, Value::Null);

    running.write("policy.toml", "default = \"refuse\"\n\n[limits]\nper_huor = 3\n");
    running.hang_up("calling rules not reloaded").await;
    let log = running.log();
    assert!(log.contains("policy.toml: the calling rules cannot be read, line 4: "), "{log}");
    // CallingBox is asked, and has a reason of its own.
    assert_eq!(call("+13105550111").await, "insufficient_credit");

    running.write("policy.toml", "default = \"refuse\"\n");
    running.hang_up("calling rules reloaded").await;
    assert_eq!(call("+13105550102").await, "refused_by_policy");
    let policy = server.modern("resources/read", json!({"uri": "callingbox://policy"}));
    let policy =
        message(policy.header("mcp-name", "callingbox://policy").send().await.unwrap()).await;
    let policy = policy["result"]["contents"][0]["text"].as_str().unwrap();
    assert!(policy.contains("\"default\":\"refuse\""), "{policy}");

    let folder = running.server.home.path().join("config/callingbox-mcp");
    std::fs::remove_file(folder.join("policy.toml")).unwrap();
    running.hang_up("calling rules not reloaded").await;
    assert_eq!(call("+13105550101").await, "refused_by_policy");
}

/// Windows has no SIGHUP.
#[tokio::test]
async fn calling_rules_are_read_again_when_their_file_changes() {
    let running = Running::start(&[("policy.toml", "default = \"allow\"\n")], &[]).await;
    for (text, logged) in [
        (Some("default = \"refuse\"\n"), "calling rules reloaded"),
        (Some("default = \"refus\"\n"), "calling rules not reloaded"),
        (Some("default = \"refuse\" # again\n"), "calling rules reloaded"),
        (None, "calling rules not reloaded"),
    ] {
        let before = running.log().matches(logged).count();
        match text {
            Some(text) => running.write("policy.toml", text),
            None => {
                let folder = running.server.home.path().join("config/callingbox-mcp");
                std::fs::remove_file(folder.join("policy.toml")).unwrap();
            }
        }
        running.wait_for_log(logged, before + 1).await;
    }
    let policy = running.server.modern("resources/read", json!({"uri": "callingbox://policy"}));
    let policy = policy.header("mcp-name", "callingbox://policy").send().await.unwrap();
    let policy = message(policy).await["result"]["contents"][0]["text"].clone();
    assert!(policy.as_str().unwrap().contains("\"default\":\"refuse\""), "{policy}");
    // Each change is read once.
    assert_eq!(running.log().matches(" reloaded").count(), 4, "{}", running.log());
}

#[tokio::test]
async fn a_rule_that_is_added_before_the_user_answers_applies() {
    let config = "[dialing]\nconfirm = \"always\"\n";
    let running = Running::start(&[("config.toml", config)], &[]).await;
    let server = &running.server;
    let agent = json!({
        "name": "A", "type": "outbound", "persona": "Mia.", "instructions": "Talk.",
    });
    let agent_id = server.tool(None, "create_agent", agent).await["agent_id"].clone();
    let mut hello = initialize();
    hello["params"]["capabilities"] = json!({"elicitation": {"form": {}}});
    let opened = server.post(&hello).send().await.unwrap();
    let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let session = Session { server, id, bearer: None };
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    session.post(&initialized).send().await.unwrap();
    let call = json!({"agent_id": agent_id, "to": "+13105550100"});
    let params = json!({"name": "place_call", "arguments": call});
    let mut events = Events::new(session.request("tools/call", params).await);
    let question = events.message(|message| message["method"] == "elicitation/create").await;
    running.write("policy.toml", "default = \"refuse\"\n");
    running.hang_up("calling rules reloaded").await;
    let yes = json!({"action": "accept", "content": {"confirm": true}});
    let yes = json!({"jsonrpc": "2.0", "id": question["id"], "result": yes});
    assert_eq!(session.post(&yes).send().await.unwrap().status(), 202);
    let answer = events.message(|message| message["id"] == 7).await;
    let class = &answer["result"]["_meta"]["callingbox-mcp/error"]["class"];
    assert_eq!(class, "refused_by_policy", "{answer}");
}

#[tokio::test]
async fn tokens_are_reloaded_and_an_invalid_file_is_ignored() {
    let running = Running::start(&[("tokens.toml", "")], &["--auth", "token"]).await;
    let create = async |name: &str| {
        let arguments = ["token", "create", name];
        let made = program(running.server.home.path()).args(arguments).output().await.unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let status = async |token: &str| {
        let asked = with(running.server.modern("tools/list", json!({})), Some(token));
        asked.send().await.unwrap().status().as_u16()
    };
    let first = create("first").await;
    running.hang_up("token file reloaded").await;
    assert_eq!(status(&first).await, 200);

    running.write("tokens.toml", "[[token]]\nname = \"x\"\nhsah = \"sha256:00\"\n");
    running.hang_up("token file unreadable; keeping the tokens loaded before").await;
    let log = running.log();
    assert!(log.contains("tokens.toml: line 3: unknown field `hsah`"), "{log}");
    assert!(log.contains("Did you mean `hash`?"), "{log}");
    assert_eq!(status(&first).await, 200);

    running.write("tokens.toml", "");
    let begun = Instant::now();
    // Without a signal.
    while status(&first).await == 200 {
        assert!(begun.elapsed() < TEST_TIMEOUT);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_session_and_the_stream_of_a_token_end_when_it_expires() {
    let home = tempfile::tempdir().unwrap();
    let create = async |arguments: &[&str]| {
        let made = program(home.path()).args(["token", "create"]).args(arguments).output().await;
        String::from_utf8(made.unwrap().stdout).unwrap().trim().to_owned()
    };
    let lasting = create(&["lasting"]).await;
    let short = create(&["short", "--expires", "5s"]).await;
    let server = Server::start_in(home, &["--auth", "token"]).await;
    let (session, kept) = (server.open(Some(&short)).await, server.open(Some(&lasting)).await);
    let stream = server.http.get(format!("{}/sse", server.base)).bearer_auth(&short);
    let stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    tokio::time::timeout(TEST_TIMEOUT, stream.bytes()).await.unwrap().unwrap();
    assert_eq!(session.request("tools/list", json!({})).await.status(), 401);
    assert!(!kept.tools().await.is_empty());
}

#[tokio::test]
async fn the_start_of_a_live_server_says_that_no_spending_limit_is_set() {
    let notice = "no spending limit is set: `spend_per_day` under [limits] in policy.toml sets one";
    for (file, limit, noticed) in [
        ("", None, true),
        ("[limits]\nspend_per_day = \"off\"\n", None, true),
        ("[limits]\nspend_per_day = { max = \"5.00\", mode = \"shadow\" }\n", Some("$5.00"), true),
        ("[limits]\nspend_per_day = \"5.00\"\n", Some("$5.00"), false),
    ] {
        let files = [("policy.toml", file)];
        let files = if file.is_empty() { &files[..0] } else { &files[..] };
        for environment in [&[][..], SANDBOX] {
            let running = Running::start_in(environment, files, &[]).await;
            // Reading the rules again, with or without a file, changes nothing of it.
            running.hang_up("calling rules reloaded").await;
            let is_live = environment.is_empty();
            let expected = notice.repeat((noticed && is_live).into());
            assert_eq!(running.server.notice.trim_end(), expected, "{file}");
            let policy =
                running.server.modern("resources/read", json!({"uri": "callingbox://policy"}));
            let policy = policy.header("mcp-name", "callingbox://policy").send().await.unwrap();
            let policy = message(policy).await;
            let policy = policy["result"]["contents"][0]["text"].as_str().unwrap();
            let policy: Value = serde_json::from_str(policy).unwrap();
            let limits = &policy["limits"];
            assert_eq!(limits["spend_per_day"]["max"].as_str(), limit, "{file}: {policy}");
            assert_eq!(limits["purchases_per_day"]["max"], "3", "{file}: {policy}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn rules_that_others_can_change_by_now_are_not_read_again() {
    use std::os::unix::fs::PermissionsExt;

    let running = Running::start(&[("policy.toml", "default = \"refuse\"\n")], &[]).await;
    let path = running.server.home.path().join("config/callingbox-mcp/policy.toml");
    let new = path.with_file_name("new");
    std::fs::write(&new, "default = \"allow\"\n").unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::rename(new, &path).unwrap();
    running.hang_up("calling rules not reloaded").await;
    let log = running.log();
    assert!(log.contains("other users of this machine can change"), "{log}");
    // Without a signal, as a person would repair it.
    let reloaded = running.log().matches("calling rules reloaded").count();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    running.wait_for_log("calling rules reloaded", reloaded + 1).await;
    let refused = running.log().matches("calling rules not reloaded").count();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    running.wait_for_log("calling rules not reloaded", refused + 1).await;
}
