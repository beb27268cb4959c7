//! The commands other than the servers, run as a user or a script runs them.

use std::process::Stdio;

use callingbox_mcp::mcp::catalogue::Catalogue;
use callingbox_mcp::mcp::registry::selection::Selection;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{Era, Home, Session, within_limit};

#[tokio::test]
async fn the_demo_does_the_main_job_and_prints_no_escape_codes_without_a_terminal() {
    let text = Home::new().print(&["demo", "--sandbox-speed", "1000"]).await;
    assert!(!text.contains('\u{1b}'), "no escape codes: {text}");
    assert!(text.starts_with("A simulated call, from start to finish."), "{text}");
    for tool in
        ["search_numbers", "purchase_number", "create_agent", "place_call", "get_call_result"]
    {
        assert!(text.contains(&format!("\n{tool} {{")), "{tool}: {text}");
    }
    for line in
        ["  callee: Hello?\n", "  agent: All right. Thank you very much for your time. Goodbye.\n"]
    {
        assert_eq!(text.matches(line.trim_start()).count(), 1, "{line}: {text}");
    }
    assert!(text.contains("SIMULATED: nobody real is called and nothing is charged."), "{text}");
    let last = text.lines().last().unwrap();
    let result = last.strip_prefix("completed: ").unwrap_or_else(|| panic!("{text}"));
    let result: Value = serde_json::from_str(result).unwrap();
    let expected = json!({
        "confirmed": true, "new_time": null, "notes": "mornings are best for me", "do_not_call": false,
    });
    assert_eq!(result, expected);
}

#[tokio::test]
async fn the_demo_always_runs_on_the_simulator() {
    let home = Home::new();
    let environment = [
        ("CALLINGBOX_API_KEY", "sk_live_real"),
        ("CALLINGBOX_BASE_URL", "http://127.0.0.1:1"),
        ("CALLINGBOX_MCP_READ_ONLY", "true"),
    ];
    let output = home.run(&["demo", "--sandbox-speed", "1000"], &environment).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("completed: {"), "{text}");
}

#[tokio::test]
async fn the_demo_ignores_the_calling_rules_and_waits_for_live_calls() {
    for (config, policy) in [
        ("[dialing]\nconfirm = \"always\"\n", ""),
        ("[dialing]\nconfirm = \"always\"\nrequire_human = true\n", ""),
        ("[wait]\nmax_seconds = 1\n", "default = \"refuse\"\n"),
    ] {
        let home = Home::new();
        home.write(".config/callingbox-mcp/config.toml", config);
        home.write(".config/callingbox-mcp/policy.toml", policy);
        let text = home.print(&["demo", "--sandbox-speed", "1000"]).await;
        assert!(text.contains("completed: {"), "{text}");
        // The demo's call is in the sandbox ledger.
        let receipts = home.print(&["receipts", "--sandbox"]).await;
        assert!(receipts.contains("+131"), "{receipts}");
    }
}

#[tokio::test]
async fn the_catalogue_is_printed_as_a_table_as_json_and_with_token_counts() {
    let home = Home::new();
    let table = home.print(&["catalogue"]).await;
    let rows = table.lines().filter(|line| line.starts_with("| ")).count();
    let selection = Selection::default();
    let catalogue = Catalogue::new();
    let offered = catalogue.offered(&selection).filter(|tool| !tool.meta.card.is_app_only());
    let offered = offered.count();
    assert_eq!(rows, 1 + offered, "{table}");
    assert!(table.contains("| calls | `place_call` | "), "{table}");
    assert!(table.contains(" | rings a phone, costs money |"), "{table}");

    // The JSON is exactly the result of tools/list.
    let json: Value =
        serde_json::from_str(&home.print(&["catalogue", "--format", "json"]).await).unwrap();
    let mut session = Session::with(Era::Modern, &[], &[]).await;
    let listed = session.request("tools/list", serde_json::json!({})).await;
    assert!(json == listed["result"]["tools"], "catalogue --format json is what tools/list serves");
    session.finish_well().await;

    let tokens = home.print(&["catalogue", "--tokens", "--all"]).await;
    let number = |line: &str| -> u64 { line.split_whitespace().next().unwrap().parse().unwrap() };
    let total = tokens.lines().find(|line| line.ends_with("total (o200k_base)")).unwrap();
    let (views, models): (Vec<&str>, Vec<&str>) = tokens
        .lines()
        .filter(|line| !line.contains(" = ") && *line != total)
        .partition(|line| line.contains("for views only"));
    assert_eq!(models.iter().map(|line| number(line)).sum::<u64>(), number(total), "{tokens}");
    let (sum, views) = views.split_last().unwrap();
    assert_eq!(views.iter().map(|line| number(line)).sum::<u64>(), number(sum), "{tokens}");
    assert!(tokens.lines().any(|line| line.ends_with("= webhooks")), "{tokens}");

    let few = home.print(&["catalogue", "--tools", "get_agent", "--tokens"]).await;
    assert_eq!(few.lines().count(), 3, "{few}");
}

#[tokio::test]
async fn the_effective_configuration_is_printed_without_the_key() {
    let home = Home::new();
    let plain = |text: &str| text.replace(home.path().to_str().unwrap(), "[home]");
    let text = home.print(&["config"]).await;
    insta::assert_snapshot!("config_without_anything", plain(&text));
    home.write("key", "sk_live_5ecret\n");
    home.write(
        "c.toml",
        "read_only = true\ntoolsets = [\"calls\"]\npolicy_file = \"mine.toml\"\nlog = \"info\"\n\
         request_timeout_seconds = 7000\n[wait]\nmax_seconds = 60\n[dialing]\nconfirm = \"always\"\n\
         require_human = true\nconfirm_timeout_seconds = 30\nledger = \"dialed.sqlite3\"\n",
    );
    home.write("mine.toml", "default = \"ask\"\n");
    let key_file = home.path().join("key");
    let environment = [
        ("CALLINGBOX_API_KEY_FILE", key_file.to_str().unwrap()),
        ("CALLINGBOX_MCP_LOG_FORMAT", "json"),
        ("CALLINGBOX_MCP_LOG_ARGUMENTS", "true"),
    ];
    let output = home.run(&["config", "--config", "c.toml"], &environment).await;
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && !text.contains("5ecret"), "{text}");
    insta::assert_snapshot!("config_with_a_file_and_a_key", plain(&text));
    std::fs::remove_file(home.path().join("mine.toml")).unwrap();
    let text = home.print(&["config", "--config", "c.toml"]).await;
    assert!(text.contains("\"mine.toml does not exist: no server starts\""), "{text}");
    let environment = [("CALLINGBOX_API_KEY", "sk_live_5ecret"), ("CALLINGBOX_MCP_LOG", "trace")];
    let output = home.run(&["config"], &environment).await;
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(text.contains("api_key = \"from CALLINGBOX_API_KEY\""), "{text}");
    assert!(!text.contains("5ecret"), "{text}");
    let text = home.print(&["config", "--sandbox"]).await;
    insta::assert_snapshot!("config_on_the_simulator", plain(&text));
    let complaint =
        home.run_failing(&["config", "--sandbox=http://me:5ecret@127.0.0.1:4010"]).await;
    assert!(complaint.contains("password") && !complaint.contains("5ecret"), "{complaint}");

    let schema: Value = serde_json::from_str(&home.print(&["config", "--schema"]).await).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    // Every key of the file is printed; instead of the key file, the source of the key.
    let printed: toml::Table = text.parse().unwrap();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let name = if name == "api_key_file" { "api_key" } else { name };
        let value = printed.get(name).unwrap_or_else(|| panic!("{name}: {text}"));
        let Some(reference) = property["$ref"].as_str() else { continue };
        let table = schema.pointer(reference.trim_start_matches('#')).unwrap();
        for inner in table["properties"].as_object().unwrap().keys() {
            assert!(value.get(inner).is_some(), "[{name}] {inner}: {text}");
        }
    }
}

#[tokio::test]
async fn a_mistake_is_refused_with_the_correct_form() {
    let home = Home::new();
    home.write("typo.toml", "read_onyl = true\n");
    home.write("broken.toml", "toolsets = [\n");
    home.write("set.toml", "toolsets = [\"cals\"]\n");
    home.write("tool.toml", "tools = [\"place_cal\"]\n");
    home.write("rules.toml", "policy_file = \"policy.toml\"\n");
    home.write("policy.toml", "[[rules]]\naction = \"allow\"\nto = [\"4155550100\"]\n");
    for (arguments, says) in [
        (
            &["--toolsets", "cals", "catalogue"][..],
            &["cals", "calls, account, agents, numbers, webhooks, sandbox"][..],
        ),
        (
            &["--tools", "place_cal", "catalogue"],
            &["there is no tool `place_cal` (did you mean `place_call`?)", "list_numbers"],
        ),
        (&["--exclude-tools", "nope"], &["there is no tool `nope`", "place_call"]),
        (&["config", "--config", "typo.toml"], &["typo.toml", "Did you mean `read_only`?"]),
        (&["config", "--config", "broken.toml"], &["broken.toml", "line "]),
        (&["config", "--config", "set.toml"], &["set.toml", "expected one of `calls`"]),
        (&["--config", "tool.toml"], &["there is no tool `place_cal`"]),
        (&["config", "--config", "none.toml"], &["none.toml cannot be read"]),
        (&["--log", "callingbox=loud", "config"], &["the log filter `callingbox=loud`"]),
        (&["--log", "inof", "config"], &["the log filter `inof`", "did you mean `info`?"]),
        (&["--log", "warn,DEBGU", "config"], &["`DEBGU` is not a level", "did you mean `debug`?"]),
        (&["--log", "hyper", "config"], &["`hyper` is not a level", "or `hyper=info`"]),
        (&["policy", "check", "4155550100"], &["not an E.164 number", "such as +1"]),
        (&["--config=rules.toml"], &["policy.toml", "line 3: not an E.164 number", "such as +1"]),
        (&["sandbox", "--listen", "0.0.0.0:0"], &["loopback"]),
        (
            &["sandbox", "--listen", "localhost:4010"],
            &["an IP address and a port, such as 127.0.0.1:"],
        ),
        (&["http", "--listen=8080"], &["an IP address and a port, such as 127.0.0.1:"]),
        (&["http", "--admin-listen=localhost:9"], &["an IP address and a port"]),
        (
            &["install", "cursor", "--http=host/mcp"],
            &["the URL must begin with http:// or https://"],
        ),
        (&["sandbox", "--speed", "0", "--listen", "127.0.0.1:0"], &["speed"]),
        (&["sandbox", "--manual", "--speed", "2"], &["cannot be used with"]),
        (&["dmo"], &["unrecognized subcommand 'dmo'", "'demo'"]),
        (&["--sandbox", "dmo"], &["unrecognized subcommand 'dmo'", "'demo'"]),
        (&["--sandbox", "http://127.0.0.1:1"], &["--sandbox=http://127.0.0.1:4010"]),
        (&["config", "--sandbox", "localhost:1"], &["--sandbox=http://127.0.0.1:4010"]),
        (&["install", "--sandbox", "http://a:1"], &["--sandbox=http://127.0.0.1:4010"]),
        (&["config", "--sandbox=127.0.0.1:1"], &["--sandbox: ", "like http://127.0.0.1:4010"]),
        (&["--sandbox-speed", "60"], &["this command is live", "add --sandbox"]),
        (&["install", "cursor", "--sandbox-speed=60"], &["add --sandbox"]),
        (&["--sandbox-credit", "60"], &["--sandbox-credit is for", "this command is live"]),
        (&["--sandbox", "--sandbox-credit=-5"], &["expected US dollars such as 5.00"]),
        (&["sandbox", "--sandbox-speed=60", "--listen=127.0.0.1:0"], &["`sandbox` has --speed"]),
        (&["--api-key", "sk_x"], &["unexpected argument '--api-key'"]),
    ] {
        let text = home.run_failing(arguments).await;
        for part in says {
            assert!(text.contains(part), "{arguments:?}: {text}");
        }
        assert!(!text.contains("**"), "the correct form is not masked: {text}");
    }
    for (name, value, says) in [
        ("CALLINGBOX_MCP_SANDBOX", "https://127.0.0.1:1", "such as http://127.0.0.1:4010"),
        ("CALLINGBOX_BASE_URL", "http://api.example", "CALLINGBOX_BASE_URL: "),
        ("CALLINGBOX_API_KEY", "two words", "CALLINGBOX_API_KEY: "),
        ("CALLINGBOX_API_KEY_FILE", "/none/key", "/none/key cannot be read"),
        ("CALLINGBOX_MCP_TOOLSETS", "cals", "calls, account, agents, numbers, webhooks, sandbox"),
    ] {
        let output = home.run(&["config"], &[(name, value)]).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(says), "{name}: {text}");
        assert!(!text.contains("two words"), "a key is not shown, good or bad: {text}");
    }
}

#[tokio::test]
async fn no_error_shows_a_key_or_a_full_number() {
    let home = Home::new();
    home.write("key.toml", "api_key = \"sk_live_ABCDEFG123456\" # of +1 415 555 0123\n");
    home.write("hook.toml", "secret = \"whsec_ABCDEFG123456\"\n");
    for (file, shown) in [("key.toml", "api_key = \"sk_***\""), ("hook.toml", "\"whsec_***\"")] {
        for command in [&["config"][..], &["stdio"], &["http"], &["install", "cursor"]] {
            let text = home.run_failing(&[&["--config", file], command].concat()).await;
            assert!(text.contains(file) && text.contains(shown), "{command:?}: {text}");
            assert!(!text.contains("ABCDEFG") && !text.contains("555 0123"), "{command:?}: {text}");
        }
    }
}

#[tokio::test]
async fn a_server_without_tools_logs_a_warning() {
    let home = Home::new();
    for (arguments, warns) in [
        (&["--toolsets=sandbox"][..], true),
        (&["--tools=place_call", "--read-only"], true),
        (&["--toolsets=sandbox", "catalogue"], false),
        (&["--toolsets=sandbox", "--sandbox"], false),
    ] {
        let text = String::from_utf8(home.run(arguments, &[]).await.stderr).unwrap();
        assert_eq!(text.contains("no tool is offered"), warns, "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn an_empty_ledger_has_no_receipts() {
    let home = Home::new();
    assert_eq!(home.print(&["receipts", "--sandbox"]).await, "Nothing has been dialed yet.\n");
    // `doctor` creates the ledger.
    home.print(&["doctor", "--sandbox"]).await;
    assert_eq!(home.print(&["receipts", "--sandbox"]).await, "Nothing has been dialed yet.\n");
    let few = home.print(&["receipts", "--sandbox", "--since=1d"]).await;
    assert_eq!(few, "No entry matches.\n");
}

#[tokio::test]
async fn http_names_the_file_that_it_cannot_use() {
    let home = Home::new();
    home.write("broken.toml", "x = 1\n");
    let hint = "create a token with `callingbox-mcp token create NAME`";
    let said = async |arguments: &[&str], environment: &[(&str, &str)]| {
        let http = ["--sandbox", "http", "--listen=127.0.0.1:0"];
        let output = home.run(&[&http, arguments].concat(), environment).await;
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = said(&["--auth=token", "--tokens=none.toml"], &[]).await;
    assert!(missing.contains(hint) && missing.contains("none.toml"), "{missing}");
    let broken = said(&["--auth=token", "--tokens=broken.toml"], &[]).await;
    assert!(broken.contains("broken.toml: line 1: unknown field `x`"), "{broken}");
    assert!(!broken.contains(hint), "a new token would not help: {broken}");
    let secret = said(&[], &[("CALLINGBOX_WEBHOOK_SECRET_FILE", "/none/secret")]).await;
    assert!(secret.contains("CALLINGBOX_WEBHOOK_SECRET_FILE: /none/secret: No such"), "{secret}");
    let secret = said(&[], &[("CALLINGBOX_WEBHOOK_SECRET", "wrong")]).await;
    assert!(secret.contains("a webhook signing secret begins with `whsec_` and"), "{secret}");
}

#[tokio::test]
async fn policy_init_names_the_file_that_it_cannot_write() {
    let home = Home::new();
    home.write("blocked", "not a folder");
    home.write("c.toml", "policy_file = \"blocked/policy.toml\"\n");
    let said = home.run_failing(&["policy", "init", "--config=c.toml"]).await;
    assert!(said.contains("blocked/policy.toml: making its folder failed"), "{said}");
}

#[tokio::test]
async fn only_a_typing_error_gets_a_suggestion() {
    for (config, policy, says) in [
        ("read_onyl = true", "", Some("Did you mean `read_only`?")),
        ("[dialing]\nconfrim = \"auto\"", "", Some("Did you mean `confirm`?")),
        ("[dialing]\nconfirm = \"alway\"", "", Some("Did you mean `always`?")),
        ("", "default = \"refuze\"", Some("Did you mean `refuse`?")),
        ("", "[limits]\nper_huor = 3", Some("Did you mean `per_hour`?")),
        ("bogus = 1", "", None),
        ("toolsets = [\"nope\"]", "", None),
        ("[dialing]\nconfirm = \"maybe\"", "", None),
        ("", "default = \"nope\"", None),
        ("", "bogus = 1", None),
    ] {
        let home = Home::new();
        home.write(".config/callingbox-mcp/config.toml", config);
        home.write(".config/callingbox-mcp/policy.toml", policy);
        let text = home.run_failing(&["policy", "check", "+13105550100"]).await;
        assert!(text.contains("unknown ") && text.contains("expected "), "{text}");
        match says {
            Some(says) => assert!(text.trim_end().ends_with(says), "{says}: {text}"),
            None => assert!(!text.to_lowercase().contains("did you mean"), "{text}"),
        }
    }
}

#[tokio::test]
async fn a_key_of_the_other_file_is_named_with_that_file() {
    for (config, policy, says) in [
        (
            "",
            "[dialing]\nconfirm = \"always\"",
            "policy.toml: the calling rules cannot be read, line 1: unknown field `dialing`",
        ),
        (
            "",
            "default = \"ask\"\n[dialing]\nconfirm = \"always\"",
            "`[dialing]` belongs in config.toml",
        ),
        ("", "read_only = true", "`read_only` belongs in config.toml"),
        ("[limits]\nper_hour = 3", "", "`[limits]` belongs in policy.toml"),
        ("[[rules]]\naction = \"ask\"", "", "`[[rules]]` belongs in policy.toml"),
        ("default = \"ask\"", "", "`default` belongs in policy.toml"),
    ] {
        let home = Home::new();
        home.write(".config/callingbox-mcp/config.toml", config);
        home.write(".config/callingbox-mcp/policy.toml", policy);
        for command in [&["policy", "check", "+13105550100"][..], &["stdio", "--sandbox"]] {
            let text = home.run_failing(command).await;
            assert!(text.contains(says) && text.contains(" belongs in "), "{says}: {text}");
            assert!(!text.to_lowercase().contains("did you mean"), "{text}");
        }
    }
}

#[tokio::test]
async fn the_help_is_as_published() {
    let home = Home::new();
    insta::assert_snapshot!("help", home.print(&["--help"]).await);
    insta::assert_snapshot!("help_sandbox", home.print(&["help", "sandbox"]).await);
    let version = home.print(&["--version"]).await;
    assert_eq!(version, format!("callingbox-mcp {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn the_simulator_alone_serves_a_session_and_ends_when_interrupted() {
    let home = Home::new();
    let mut simulator = home
        .command(&["sandbox", "--manual", "--listen", "127.0.0.1:0", "--state", "state.json"], &[])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(simulator.stdout.take().unwrap()).lines();
    let line = within_limit("its address", lines.next_line()).await.unwrap().unwrap();
    let url = line.strip_prefix("listening on ").unwrap();
    let flag = format!("--sandbox={url}");
    let mut session = Session::with(Era::Modern, &[&flag], &[]).await;
    let agent = serde_json::json!({"name": "Kept", "type": "inbound"});
    assert_eq!(session.data("create_agent", agent).await["simulated"], true);
    session.finish_well().await;
    let id = simulator.id().unwrap().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let status = within_limit("its end", simulator.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let state = std::fs::read_to_string(home.path().join("state.json")).unwrap();
    assert!(state.contains("Kept"), "the state is saved at the end");
}

#[tokio::test]
async fn a_state_file_that_cannot_be_written_stops_the_simulator_at_its_start() {
    let home = Home::new();
    home.write("file", "");
    let mut states = vec![
        ("none/state.json", "cannot be written: the folder none does not exist"),
        ("file/state.json", "file/state.json: "),
        (".", "state file .: "),
    ];
    // Not even root can write here.
    if cfg!(target_os = "linux") {
        states.push(("/proc/state.json", "state file /proc/state.json: cannot be written: "));
    }
    for (state, says) in states {
        let arguments = ["sandbox", "--listen", "127.0.0.1:0", "--state", state];
        let output = home.run(&arguments, &[]).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{state}: {text}");
        assert!(text.contains(says) && output.stdout.is_empty(), "{state}: {text}");
    }
}
