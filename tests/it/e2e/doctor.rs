//! `doctor`, on a working installation and with each kind of problem: its findings, its fixes, its exit code, and that
//! it prints neither API keys nor full telephone numbers.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
#[cfg(unix)]
use std::time::Duration;

use callingbox::{AgentCreate, AgentType, ApiClient, ApiKey, BaseUrl, ClientConfig, NumberSearch};
use callingbox_mcp::install::store_key;
use callingbox_sandbox::Options;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Home, simulator, within_limit};

const BINARY: &str = env!("CARGO_BIN_EXE_callingbox-mcp");

/// A key with a word that no output may hold.
const KEY: &str = "sk_live_5ecret";

/// The report of one run, as JSON.
struct Doctor {
    code: i32,
    report: Value,
}

impl Doctor {
    async fn run(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::run_in("", home, arguments, environment).await
    }

    /// Runs it in a folder of the home folder.
    async fn run_in(
        folder: &str,
        home: &Home,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let arguments: Vec<&str> = ["doctor", "--json"].iter().chain(arguments).copied().collect();
        let mut command = home.command(&arguments, environment);
        command.current_dir(home.path().join(folder)).stdin(Stdio::null());
        let output = within_limit("the end of the command", command.output()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error, "");
        assert!(!text.contains("5ecret"), "{text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let code = output.status.code().unwrap();
        let failed = report["findings"].as_array().unwrap().iter().any(|it| it["level"] == "fail");
        assert_eq!((code, &report["ok"]), (i32::from(failed), &json!(!failed)), "{text}");
        Self { code, report }
    }

    fn checks(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect()
    }

    fn finding(&self, check: &str) -> &Value {
        let findings = self.report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| {
            panic!("{check}: {}", self.report);
        })
    }

    /// Asserts the level of a finding, and parts of its message and fix.
    fn assert_finding(&self, check: &str, level: &str, message: &str, fix: &str) {
        let found = self.finding(check);
        assert_eq!(found["level"], level, "{found}");
        assert!(found["message"].as_str().unwrap().contains(message), "{found}");
        assert!(found["fix"].as_str().unwrap_or_default().contains(fix), "{found}");
    }
}

/// Makes an account with a number and an agent that calls from it.
async fn set_up_account(url: &str) {
    set_up_agent(url, "At the beginning of the call, say that you are an AI assistant.").await;
}

async fn set_up_agent(url: &str, instructions: &str) {
    let key = ApiKey::new(KEY.to_owned()).unwrap();
    let client = ApiClient::new(ClientConfig::new(BaseUrl::parse(url, false).unwrap(), key));
    let search = NumberSearch { area_code: Some("415".to_owned()), ..NumberSearch::default() };
    let offers = client.search_numbers(&search).await.unwrap().data;
    let number = client.purchase_number(&offers[0].phone_number).await.unwrap();
    let agent = AgentCreate {
        instructions: Some(instructions.to_owned()),
        number_ids: Some(vec![number.id]),
        ..AgentCreate::new("Reminders", AgentType::Outbound)
    };
    client.create_agent(&agent).await.unwrap();
}

/// Stores the key where `setup` stores it.
fn store_api_key(home: &Home) {
    let path = home.path().join(".config/callingbox-mcp/api-key");
    store_key(&path, &ApiKey::new(KEY.to_owned()).unwrap()).unwrap();
}

/// Replaces what differs from run to run.
fn redact_run(text: &str, home: &Home, url: &str) -> String {
    let text = text
        .replace(home.path().to_str().unwrap(), "[home]")
        .replace(url, "[url]")
        .replace(BINARY, "[binary]")
        .replace(env!("CARGO_PKG_VERSION"), "[version]");
    let within = regex_lite::Regex::new("within [0-9]+ ms").unwrap();
    let text = within.replace_all(&text, "within [n] ms");
    let zones =
        regex_lite::Regex::new(r"20\d\d[a-z]+, of this (program|machine)( \([^)]*\))?").unwrap();
    zones.replace_all(&text, "[time zone data]").into_owned()
}

#[tokio::test]
async fn a_working_installation_has_no_problems() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    set_up_account(&url).await;
    let home = Home::new();
    let entry = json!({"mcpServers": {"callingbox": {"command": BINARY, "args": ["stdio"]}}});
    home.write(".cursor/mcp.json", &entry.to_string());
    home.write(".gemini/settings.json", "{}");
    store_api_key(&home);
    let environment = [("CALLINGBOX_BASE_URL", url.as_str())];

    let output = home.run(&["doctor"], &environment).await;
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    insta::assert_snapshot!("doctor_of_a_working_installation", redact_run(&text, &home, &url));

    let output = home.run(&["doctor", "--json"], &environment).await;
    let text = String::from_utf8(output.stdout).unwrap();
    insta::assert_snapshot!("doctor_as_json", redact_run(&text, &home, &url));
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn agents_without_an_ai_disclosure_are_named() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    set_up_agent(&url, "Remind. If asked, say that you are an AI assistant.").await;
    let home = Home::new();
    store_api_key(&home);
    let environment = [("CALLINGBOX_BASE_URL", url.as_str())];
    for (setting, is_named) in [("remind", true), ("require", true), ("add", false), ("off", false)]
    {
        let config = format!("[dialing]\ndisclosure = \"{setting}\"\n");
        home.write(".config/callingbox-mcp/config.toml", &config);
        let doctor = Doctor::run(&home, &[], &environment).await;
        assert_eq!(doctor.checks().contains(&"disclosure"), is_named, "{setting}");
        if is_named {
            let words = "that they are an AI: Reminders";
            doctor.assert_finding("disclosure", "warn", words, "disclosure = \"add\"");
        }
    }
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn outbound_agents_that_do_not_report_who_must_not_be_called_are_named() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    set_up_account(&url).await;
    let home = Home::new();
    store_api_key(&home);
    let environment = [("CALLINGBOX_BASE_URL", url.as_str())];
    let words = "do not report who asked not to be called again: Reminders";
    let doctor = Doctor::run(&home, &[], &environment).await;
    doctor.assert_finding("do_not_call", "warn", words, "result field do_not_call (boolean)");
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_simulator_has_no_problems_either() {
    let home = Home::new();
    let text = home.print(&["doctor", "--sandbox"]).await;
    insta::assert_snapshot!(
        "doctor_on_the_simulator",
        redact_run(&text, &home, "http://127.0.0.1")
    );

    let none = Doctor::run(&home, &["--sandbox=http://127.0.0.1:1"], &[]).await;
    none.assert_finding(
        "base_url",
        "fail",
        "no simulator answers at http://127.0.0.1:1",
        "callingbox-mcp sandbox",
    );
    for incomplete in ["--sandbox=127.0.0.1:4021", "--sandbox=localhost"] {
        let doctor = Doctor::run(&home, &[incomplete], &[]).await;
        let (message, fix) = (
            "not a URL; write the simulator's URL like http://127.0.0.1:4010",
            "--sandbox=http://127.0.0.1:4010",
        );
        doctor.assert_finding("base_url", "fail", message, fix);
    }
    let elsewhere = Doctor::run(&home, &["--sandbox=https://api.example"], &[]).await;
    elsewhere.assert_finding("base_url", "fail", "the host is not this machine", "--sandbox");
}

#[tokio::test]
async fn a_new_account_still_needs_a_number_and_an_agent() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    let home = Home::new();
    home.write("key", &format!("{KEY}\n"));
    let path = home.path().join("key");
    let environment = [
        ("CALLINGBOX_BASE_URL", url.as_str()),
        ("CALLINGBOX_API_KEY_FILE", path.to_str().unwrap()),
    ];
    let doctor = Doctor::run(&home, &[], &environment).await;
    assert_eq!(doctor.code, 0);
    doctor.assert_finding("number", "warn", "has no number", "callingbox-mcp setup");
    doctor.assert_finding("agent", "warn", "no outbound agent", "callingbox-mcp setup");
    #[cfg(unix)]
    doctor.assert_finding("key", "warn", "other users of this machine can read", "chmod 600 ");

    // The fix for a simulated account must not buy a live number.
    let flag = format!("--sandbox={url}");
    home.write("c.toml", "");
    let config = format!("--config={}", home.path().join("c.toml").display());
    let doctor = Doctor::run(&home, &[&flag, &config], &environment).await;
    for check in ["number", "agent"] {
        assert_eq!(doctor.finding(check)["fix"], format!("callingbox-mcp setup {flag} {config}"));
    }
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_missing_or_wrong_key_differs_from_a_network_failure() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    let home = Home::new();
    let here = ("CALLINGBOX_BASE_URL", url.as_str());

    let none = Doctor::run(&home, &[], &[here]).await;
    none.assert_finding("key", "fail", "no API key is set", "callingbox-mcp setup");
    none.assert_finding("network", "ok", "the API responded", "");
    none.assert_finding("access", "warn", "no key is set", "");
    none.assert_finding("clock", "ok", "agrees with the API's", "");
    none.assert_finding("number", "warn", "no key is set", "");

    let wrong = Doctor::run(&home, &[], &[here, ("CALLINGBOX_API_KEY", "wr0ng_5ecret")]).await;
    wrong.assert_finding("key", "ok", "set in CALLINGBOX_API_KEY", "");
    wrong.assert_finding("network", "ok", "the API responded", "");
    wrong.assert_finding("access", "fail", "the API key was not accepted", "dashboard");

    let spaced = Doctor::run(&home, &[], &[here, ("CALLINGBOX_API_KEY", "5ecret words")]).await;
    spaced.assert_finding("key", "fail", "CALLINGBOX_API_KEY: ", "correct the setting named here");

    // Now nothing listens at that address.
    sandbox.shutdown().await.unwrap();
    let cut = Doctor::run(&home, &[], &[here, ("CALLINGBOX_API_KEY", KEY)]).await;
    cut.assert_finding("network", "fail", "no connection to the API could be made", "firewall");
    for check in ["access", "clock", "number", "agent"] {
        cut.assert_finding(check, "warn", "the API was not reached", "");
    }

    let nowhere = ("CALLINGBOX_BASE_URL", "https://callingbox.invalid");
    let lost = Doctor::run(&home, &[], &[nowhere, ("CALLINGBOX_API_KEY", KEY)]).await;
    lost.assert_finding("network", "fail", "the host of the API was not found", "DNS");
    let plain = simulator(Options::default()).await;
    let plain_url = plain.url().replace("http://", "https://");
    let plain_url = ("CALLINGBOX_BASE_URL", plain_url.as_str());
    let broken = Doctor::run(&home, &[], &[plain_url, ("CALLINGBOX_API_KEY", KEY)]).await;
    broken.assert_finding("network", "fail", "no secure connection", "the date of this machine");
    plain.shutdown().await.unwrap();
    let clear = ("CALLINGBOX_BASE_URL", "http://api.example");
    let clear = Doctor::run(&home, &[], &[clear, ("CALLINGBOX_API_KEY", KEY)]).await;
    clear.assert_finding("key", "fail", "must begin with https://", "callingbox-mcp config");
}

#[tokio::test]
async fn a_proxy_or_certificates_that_cannot_be_used_are_a_failure() {
    let home = Home::new();
    home.write("ca.der", "\u{30}\u{1}");
    let key = ("CALLINGBOX_API_KEY", KEY);
    let nowhere = ("CALLINGBOX_BASE_URL", "https://callingbox.invalid");
    for (check, variable, message) in [
        ("proxy", ("HTTPS_PROXY", "http//:5ecret@proxy"), "is not the URL of a proxy"),
        ("proxy", ("https_proxy", "socks5://:5ecret@proxy:1"), "names a SOCKS proxy"),
        ("certificates", ("SSL_CERT_FILE", "/none/ca.pem"), "/none/ca.pem, which cannot be read"),
        ("certificates", ("SSL_CERT_FILE", "ca.der"), "openssl x509 -inform der -in ca.der"),
    ] {
        if check == "certificates" && cfg!(not(target_os = "linux")) {
            continue;
        }
        let doctor = Doctor::run(&home, &[], &[key, nowhere, variable]).await;
        doctor.assert_finding(check, "fail", message, "correct the variable");
        // A server starts, and says it in its log.
        let output = home.run(&[], &[key, nowhere, variable]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("WARN") && error.contains(message), "{error}");
        assert!(!error.contains("5ecret"), "{error}");
    }
    let doctor = Doctor::run(&home, &[], &[key, nowhere]).await;
    assert!(!doctor.checks().contains(&"proxy"), "{}", doctor.report);
}

/// A server that responds to everything with an empty list, and with this `Date`.
async fn serve_empty_lists(date: String) -> String {
    serve_body(date, r#"{"data":[],"has_more":false}"#).await
}

/// A server that responds to everything with this body.
async fn serve_body(date: String, body: &'static str) -> String {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let response = format!(
                "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn a_wrong_clock_is_reported_with_its_skew_and_direction() {
    let home = Home::new();
    let ago = |seconds: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    for (date, level, message) in [
        (
            "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            "fail",
            "s ahead of the API's; beyond 300 s every webhook",
        ),
        (ago(-3_600), "fail", "s behind the API's; beyond 300 s every webhook is refused"),
        (ago(150), "warn", "s ahead of the API's"),
        (ago(0), "ok", "agrees with the API's"),
    ] {
        let url = serve_empty_lists(date.clone()).await;
        let environment = [("CALLINGBOX_BASE_URL", url.as_str()), ("CALLINGBOX_API_KEY", KEY)];
        let doctor = Doctor::run(&home, &[], &environment).await;
        let fix = if level == "ok" { "" } else { "timedatectl set-ntp true" };
        doctor.assert_finding("clock", level, message, fix);
        doctor.assert_finding("access", "ok", "accepted", "");
    }
}

#[tokio::test]
async fn the_keys_of_the_authorization_server_are_fetched() {
    // The key of RFC 7517, appendix A.1.
    let keys = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","use":"sig","alg":"ES256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
    let date = "Sun, 22 Nov 2026 08:49:37 GMT".to_owned();
    let (good, empty) = (serve_body(date.clone(), keys).await, serve_empty_lists(date).await);
    let home = Home::new();
    let resource = ("CALLINGBOX_MCP_OAUTH_RESOURCE", "https://phone.example/mcp");
    let issuer = ("CALLINGBOX_MCP_OAUTH_ISSUER", "https://login.example");
    for (url, level, message) in [
        (good.as_str(), "ok", "has 1 key for its tokens"),
        (&empty, "fail", "no caller can be authenticated: the issuer's keys cannot be fetched: "),
        ("http://127.0.0.1:1/", "fail", "GET http://127.0.0.1:1/: Connection refused"),
        ("http://login.example/", "fail", "--oauth-jwks-url http://login.example/: give an https"),
    ] {
        let environment = [resource, issuer, ("CALLINGBOX_MCP_OAUTH_JWKS_URL", url)];
        let doctor = Doctor::run(&home, &["--sandbox"], &environment).await;
        let fix = if level == "ok" { "" } else { "correct --oauth-issuer" };
        doctor.assert_finding("issuer", level, message, fix);
    }
    let half =
        Doctor::run(&home, &["--sandbox", "--oauth-issuer=https://login.example"], &[]).await;
    half.assert_finding("issuer", "fail", "needs --oauth-resource", "CALLINGBOX_MCP_OAUTH_ISSUER");
    let none = Doctor::run(&home, &["--sandbox"], &[]).await;
    assert!(!none.checks().contains(&"issuer"), "{}", none.report);
}

#[tokio::test]
async fn replicas_have_their_ledger_in_the_shared_state() {
    let home = Home::new();
    // Nothing listens on port 1.
    let gone = ("CALLINGBOX_MCP_STATE", "redis://:5ecret@127.0.0.1:1/");
    let doctor = Doctor::run(&home, &["--sandbox"], &[gone]).await;
    doctor.assert_finding(
        "state",
        "fail",
        "the shared state is unavailable: the connection was refused",
        "CALLINGBOX_MCP_STATE",
    );
    doctor.assert_finding(
        "ledger",
        "warn",
        "not checked: it is in the state that the replicas share",
        "",
    );
    let wrong = Doctor::run(&home, &["--sandbox", "--state=http://:5ecret@a/"], &[]).await;
    wrong.assert_finding("state", "fail", "no server starts: --state: the address", "--state");
    let none = Doctor::run(&home, &["--sandbox"], &[]).await;
    assert!(!none.checks().contains(&"state"), "{}", none.report);
    none.assert_finding("ledger", "ok", "can be written", "");
}

#[tokio::test]
async fn an_invalid_file_is_named_with_its_line() {
    let home = Home::new();
    home.write("blocked", "not a folder");
    home.write("c.toml", "[dialing]\nledger = \"blocked/ledger.sqlite3\"\n");
    home.write(".config/callingbox-mcp/policy.toml", "\n[limits]\nper_huor = 3\n");
    let doctor = Doctor::run(&home, &["--sandbox", "--config=c.toml"], &[]).await;
    doctor.assert_finding(
        "ledger",
        "fail",
        "blocked/ledger.sandbox.sqlite3 cannot be opened",
        "make blocked a folder",
    );
    doctor.assert_finding(
        "policy",
        "fail",
        "policy.toml: the calling rules cannot be read, line 3: ",
        "policy init --print",
    );
    let policy = doctor.finding("policy")["message"].as_str().unwrap();
    assert!(policy.contains("Did you mean `per_hour`?"), "{policy}");

    home.write("broken.toml", "read_only = true\napi_key = \"sk_live_5ecret\" # +14155550123\n");
    let doctor = Doctor::run(&home, &["--config=broken.toml"], &[]).await;
    doctor.assert_finding(
        "configuration",
        "fail",
        "broken.toml: TOML parse error at line 2",
        "move the file away",
    );
    assert_eq!(doctor.checks(), ["configuration"]);
    let quoted = doctor.finding("configuration")["message"].as_str().unwrap();
    assert!(quoted.contains("\"sk_***\" # +141******23"), "{quoted}");
    let doctor = Doctor::run(&home, &["--config=c2.toml"], &[]).await;
    doctor.assert_finding(
        "configuration",
        "fail",
        "c2.toml cannot be read",
        "the file does not exist",
    );
    let doctor = Doctor::run(&home, &["--config=.config"], &[]).await;
    doctor.assert_finding(
        "configuration",
        "fail",
        ".config cannot be read",
        "make the file readable for you",
    );
    let doctor = Doctor::run(&home, &["--tools=place_cal"], &[]).await;
    doctor.assert_finding(
        "configuration",
        "fail",
        "did you mean `place_call`?",
        "correct the name",
    );
    home.write("log.toml", "log = \"inof\"\n");
    let doctor = Doctor::run(&home, &["--config=log.toml"], &[]).await;
    doctor.assert_finding(
        "configuration",
        "fail",
        "the log filter `inof` cannot be read",
        "correct `log`",
    );
    let doctor = Doctor::run(&home, &[], &[("CALLINGBOX_MCP_SANDBOX", "perhaps")]).await;
    doctor.assert_finding("configuration", "fail", "CALLINGBOX_MCP_SANDBOX", "true or false");
}

#[tokio::test]
async fn the_fix_for_a_damaged_ledger_is_to_move_it_away() {
    let home = Home::new();
    Doctor::run(&home, &["--sandbox"], &[]).await.assert_finding(
        "ledger",
        "ok",
        "can be written",
        "",
    );
    let path = ".local/share/callingbox-mcp/ledger.sandbox.sqlite3";
    let mut bytes = std::fs::read(home.path().join(path)).unwrap();
    bytes[100..].fill(0xff);
    for (bytes, message) in [(&b"no database"[..], "is not a ledger"), (&bytes, "malformed")] {
        std::fs::write(home.path().join(path), bytes).unwrap();
        let doctor = Doctor::run(&home, &["--sandbox"], &[]).await;
        doctor.assert_finding(
            "ledger",
            "fail",
            message,
            "ledger.sandbox.sqlite3 away, with its -wal and -shm",
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn each_client_entry_is_started_as_the_client_starts_it() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    let script = |name: &str, mode: u32, text: &str| {
        home.write(name, text);
        let path = home.path().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let breaks = script("breaks", 0o755, "#!/bin/sh\necho \"no license for $TOKEN\" >&2\nexit 3\n");
    let plain = script("plain", 0o644, "#!/bin/sh\n");
    let servers = |server: Value| json!({"mcpServers": {"callingbox": server}}).to_string();
    home.write(
        ".cursor/mcp.json",
        &servers(json!({"command": BINARY, "args": ["--sandbox", "--tools", "place_call,get_call_result"]})),
    );
    home.write(".claude.json", &servers(json!({"command": "/none/callingbox-mcp", "args": []})));
    home.write(
        ".gemini/settings.json",
        &servers(json!({"command": breaks, "env": {"TOKEN": "5ecret-token"}})),
    );
    home.write(".mcp.json", &servers(json!({"command": "no-such-program-here"})));
    home.write(".config/Code/User/mcp.json", "{ broken");
    home.write(".codex/config.toml", &format!("[mcp_servers.callingbox]\ncommand = {plain:?}\n"));
    home.write(
        ".codeium/windsurf/mcp_config.json",
        &servers(json!({"serverUrl": "https://user:5ecret@phone.example/mcp?token=5ecret"})),
    );
    home.write(".openclaw/openclaw.json", "{}");
    let doctor = Doctor::run(&home, &["--sandbox"], &[]).await;
    assert_eq!(doctor.code, 1);
    doctor.assert_finding("cursor", "ok", "starts and has 2 tools", "");
    doctor.assert_finding(
        "claude-code",
        "fail",
        "/none/callingbox-mcp, which does not exist",
        "install claude-code, then restart",
    );
    doctor.assert_finding(
        "claude-code-project",
        "fail",
        "which is not on the PATH",
        "install claude-code --scope project",
    );
    doctor.assert_finding("vscode", "fail", "cannot be parsed", "correct the file");
    doctor.assert_finding(
        "codex",
        "fail",
        "which is not executable",
        "callingbox-mcp install codex",
    );
    doctor.assert_finding(
        "gemini",
        "fail",
        "does not list its tools: no license for …",
        "callingbox-mcp install gemini",
    );
    doctor.assert_finding("windsurf", "ok", "connects to a server at phone.example", "");
    let elsewhere = doctor.finding("windsurf")["message"].as_str().unwrap();
    assert!(elsewhere.ends_with("which decides whether calls are live"), "{elsewhere}");
    let not_configured = "found, but not configured: `callingbox-mcp install openclaw --sandbox`";
    doctor.assert_finding("openclaw", "info", not_configured, "");
}

#[cfg(unix)]
#[tokio::test]
async fn an_entry_without_tools_is_a_failure() {
    let home = Home::new();
    let entry =
        json!({"command": BINARY, "args": ["--sandbox", "--tools=place_call", "--read-only"]});
    home.write(".cursor/mcp.json", &json!({"mcpServers": {"callingbox": entry}}).to_string());
    let doctor = Doctor::run(&home, &["--sandbox"], &[]).await;
    doctor.assert_finding(
        "cursor",
        "fail",
        "starts, but has no tools",
        "callingbox-mcp install cursor",
    );
}

#[tokio::test]
async fn a_key_set_only_in_this_terminal_is_missing_in_a_client() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    let home = Home::new();
    let entry = |env: Value| {
        let server = json!({"command": BINARY, "args": ["stdio"], "env": env});
        json!({"mcpServers": {"callingbox": server}}).to_string()
    };
    home.write(".cursor/mcp.json", &entry(json!({})));
    home.write(
        ".gemini/settings.json",
        &entry(json!({"CALLINGBOX_API_KEY": "${env:CALLINGBOX_API_KEY}"})),
    );
    let here = ("CALLINGBOX_BASE_URL", url.as_str());
    let doctor = Doctor::run(&home, &[], &[here, ("CALLINGBOX_API_KEY", KEY)]).await;
    doctor.assert_finding(
        "cursor",
        "warn",
        "set in this terminal only",
        "callingbox-mcp install cursor",
    );
    doctor.assert_finding("gemini", "ok", "starts and has 18 tools", "");
    store_api_key(&home);
    let doctor = Doctor::run(&home, &[], &[here, ("CALLINGBOX_API_KEY", KEY)]).await;
    doctor.assert_finding("cursor", "ok", "starts and has 18 tools", "");
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn each_entry_is_shown_as_live_or_simulated_with_its_url() {
    let home = Home::new();
    home.write("c.toml", "base_url = \"https://config.example\"\n");
    let config = format!("--config={}", home.path().join("c.toml").display());
    let staging = json!({"CALLINGBOX_BASE_URL": "https://entry.example"});
    let unfilled = json!({"CALLINGBOX_BASE_URL": "${env:CALLINGBOX_BASE_URL}"});
    let servers = json!({
        "usual": {"command": BINARY, "args": ["stdio"]},
        "staging": {"command": BINARY, "args": ["stdio"], "env": staging},
        "unfilled": {"command": BINARY, "args": ["stdio"], "env": unfilled},
        "named": {"command": BINARY, "args": ["stdio", config]},
        "embedded": {"command": BINARY, "args": ["--sandbox"], "env": staging},
        "switch": {"command": BINARY, "args": [], "env": {"CALLINGBOX_MCP_SANDBOX": "true"}},
    });
    home.write(".cursor/mcp.json", &json!({ "mcpServers": servers }).to_string());
    // The client does not see the variables of this terminal.
    let here = ("CALLINGBOX_BASE_URL", "https://terminal.example");
    let doctor = Doctor::run(&home, &["--sandbox"], &[here]).await;
    for (name, environment) in [
        ("usual", "its calls are live, at https://api.callingbox.io"),
        ("staging", "its calls are live, at https://entry.example"),
        ("unfilled", "its calls are live, at https://api.callingbox.io"),
        ("named", "its calls are live, at https://config.example"),
        ("embedded", "its calls are simulated"),
        ("switch", "its calls are simulated"),
    ] {
        doctor.assert_finding(&format!("cursor/{name}"), "ok", environment, "");
        assert!(
            doctor.finding(&format!("cursor/{name}"))["message"]
                .as_str()
                .unwrap()
                .ends_with(environment)
        );
    }
}

#[tokio::test]
async fn an_entry_with_another_name_is_found_by_its_program() {
    let home = Home::new();
    let servers = json!({
        "telephone": {"command": BINARY, "args": ["--sandbox"]},
        "gone": {"command": "/none/callingbox-mcp"},
        "not-ours": {"command": "/none/other-mcp"},
    });
    home.write(".cursor/mcp.json", &json!({ "mcpServers": servers }).to_string());
    let doctor = Doctor::run(&home, &["--sandbox"], &[]).await;
    assert!(doctor.checks().ends_with(&["cursor/telephone", "cursor/gone"]), "{}", doctor.report);
    doctor.assert_finding("cursor/telephone", "ok", "starts and has 19 tools", "");
    doctor.assert_finding(
        "cursor/gone",
        "fail",
        "does not exist",
        "install cursor --name gone, then restart",
    );
}

#[tokio::test]
async fn the_fix_for_an_entry_keeps_its_flags() {
    let home = Home::new();
    let gone = |args: Value| json!({"command": "/none/callingbox-mcp", "args": args});
    let sandbox = "--sandbox=http://127.0.0.1:4010";
    let servers = json!({
        "callingbox": gone(json!(["stdio", "--sandbox", "--read-only"])),
        "few": gone(json!([sandbox, "--toolsets", "calls,agents", "--exclude-tools=get_agent"])),
        "real": gone(json!(["stdio"])),
        "logs": gone(json!(["--log", "info", "--log-format=json", "--log-arguments"])),
        "odd": gone(json!(["--sandbox", "--config=/x; touch y/c.toml"])),
        "typo": gone(json!(["--sandbox", "--read-olny"])),
    });
    home.write(".cursor/mcp.json", &json!({ "mcpServers": servers }).to_string());
    home.write(".codex/other", "");
    let open = "with the flags to keep from its entry";
    for (flags, codex) in [
        (&["--sandbox"][..], "`callingbox-mcp install codex --sandbox` adds this server"),
        (&["--read-only"], "`callingbox-mcp install codex --read-only` adds this server"),
        (&[], "`callingbox-mcp install codex` adds this server"),
    ] {
        let doctor = Doctor::run(&home, flags, &[]).await;
        for (check, fix) in [
            ("cursor", "callingbox-mcp install cursor --sandbox --read-only, then"),
            (
                "cursor/few",
                &format!(
                    "install cursor --name few {sandbox} --toolsets=calls,agents \
                     --exclude-tools=get_agent, then"
                ),
            ),
            ("cursor/real", "install cursor --name real, then"),
            (
                "cursor/logs",
                "install cursor --name logs --log-format=json --log=info --log-arguments=true, then",
            ),
            ("cursor/odd", &format!("install cursor --name odd {open}")),
            ("cursor/typo", &format!("install cursor --name typo {open}")),
        ] {
            doctor.assert_finding(check, "fail", "does not exist", fix);
        }
        assert!(
            !doctor.finding("cursor/odd")["fix"].to_string().contains("touch"),
            "{}",
            doctor.report
        );
        doctor.assert_finding("codex", "info", codex, "");
    }
}

/// The files in a project that clients read, by the names of their checks.
#[cfg(unix)]
const PROJECT_FILES: [(&str, &str); 5] = [
    ("claude-code-project", ".mcp.json"),
    ("cursor-project", ".cursor/mcp.json"),
    ("vscode-project", ".vscode/mcp.json"),
    ("codex-project", ".codex/config.toml"),
    ("gemini-project", ".gemini/settings.json"),
];

/// Writes this server into every client's file in the folder `project`.
#[cfg(unix)]
fn write_project(home: &Home, server: &Value) {
    for (_, file) in PROJECT_FILES {
        let servers = json!({ "callingbox": server });
        let text = match file {
            ".codex/config.toml" => toml::to_string(&json!({ "mcp_servers": servers })).unwrap(),
            ".vscode/mcp.json" => json!({ "servers": servers }).to_string(),
            _ => json!({ "mcpServers": servers }).to_string(),
        };
        home.write(&format!("project/{file}"), &text);
    }
}

/// A project folder may come from anyone, and so may the commands in its files.
#[cfg(unix)]
#[tokio::test]
async fn a_project_entry_is_started_only_if_it_serves_with_this_program() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    let seen = home.path().join("seen");
    let spy = home.path().join("project/bin/callingbox-mcp");
    home.write("project/bin/callingbox-mcp", &format!("#!/bin/sh\nenv >> {}\n", seen.display()));
    std::fs::set_permissions(&spy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bin = spy.parent().unwrap().to_str().unwrap();
    let written = home.path().join("written");
    let written = written.to_str().unwrap();
    for (server, why) in [
        (json!({"command": spy}), "bin/callingbox-mcp, which is not this program"),
        (json!({"command": "bin/callingbox-mcp"}), "which is not this program"),
        (json!({"command": "callingbox-mcp", "env": {"PATH": bin}}), "which is not this program"),
        (
            json!({"command": BINARY, "args": ["man", "--to", written]}),
            "something other than serve",
        ),
        (json!({"command": BINARY, "args": ["--no-such-flag"]}), "something other than serve"),
        (
            json!({"command": BINARY, "args": ["stdio"], "env": {"LD_PRELOAD": "bin/evil.so"}}),
            "sets LD_PRELOAD, which is not a variable of this program",
        ),
    ] {
        write_project(&home, &server);
        let environment = [("CALLINGBOX_API_KEY", KEY)];
        let doctor = Doctor::run_in("project", &home, &["--sandbox"], &environment).await;
        assert_eq!(doctor.code, 0, "{}", doctor.report);
        for (check, file) in PROJECT_FILES {
            doctor.assert_finding(check, "warn", "was not started: ", &format!("project/{file}"));
            doctor.assert_finding(check, "warn", why, "--scope project");
        }
        let traces = [seen.exists(), home.path().join("written").exists()];
        assert_eq!(traces, [false, false], "{server}");
    }
}

/// Checking a project's entry must not send the API key to the URL in it.
#[cfg(unix)]
#[tokio::test]
async fn checking_a_project_entry_sends_no_request() {
    let home = Home::new();
    let elsewhere = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let url = format!("http://{}", elsewhere.local_addr().unwrap());
    std::fs::create_dir(home.path().join("project")).unwrap();
    std::os::unix::fs::symlink(BINARY, home.path().join("project/linked")).unwrap();
    for command in [BINARY, "./linked"] {
        let env = json!({"CALLINGBOX_BASE_URL": url});
        write_project(&home, &json!({"command": command, "args": ["stdio"], "env": env}));
        let environment = [("CALLINGBOX_API_KEY", KEY)];
        let doctor = Doctor::run_in("project", &home, &["--sandbox"], &environment).await;
        for (check, _) in PROJECT_FILES {
            doctor.assert_finding(check, "ok", "starts and has 18 tools", "");
        }
    }
    let connection = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept()).await;
    assert!(connection.is_err(), "a request arrived: {connection:?}");
}

/// A user may copy the command of a fix into a shell, so it must not contain words from a file.
#[tokio::test]
async fn an_invalid_server_name_is_neither_in_a_command_nor_an_escape_code() {
    let home = Home::new();
    let name = "x; touch y\u{1b}[2J";
    let servers = json!({ name: {"command": "/none/callingbox-mcp"} });
    home.write(".cursor/mcp.json", &json!({ "mcpServers": servers }).to_string());
    let doctor = Doctor::run(&home, &["--sandbox"], &[]).await;
    let check = doctor.checks().into_iter().find(|check| check.starts_with("cursor/")).unwrap();
    assert!(!check.contains('\u{1b}'), "{check:?}");
    doctor.assert_finding(check, "fail", "does not exist", "rename the server in ");
    assert!(!doctor.finding(check)["fix"].to_string().contains("touch"), "{}", doctor.report);
}
