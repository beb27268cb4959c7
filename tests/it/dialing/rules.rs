//! The calling rules through the tool, and the commands that explain and list.

use std::time::Duration;

use serde_json::json;

use super::harness::{Era, Home, within_limit};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask, failure, repeated};

const TO: &str = "+12025550123";

#[tokio::test]
async fn emergency_and_premium_numbers_are_never_dialed() {
    // Not even where all rules are off.
    let fixture = DialingFixture::new("", "mode = \"off\"\n").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    for (to, rule) in [
        ("+19005550100", "never dial premium numbers"),
        ("+1911", "never dial emergency numbers"),
        ("+44999", "never dial emergency numbers"),
        ("+449990", "never dial emergency numbers"),
        ("+398991234560", "never dial premium numbers"),
        ("+1411", "never dial short numbers"),
        // As they are dialed, and as people write them.
        ("911", "never dial emergency numbers"),
        ("9-1-1", "never dial emergency numbers"),
        ("112", "never dial emergency numbers"),
        ("999", "never dial emergency numbers"),
        ("000", "never dial emergency numbers"),
        ("988", "never dial emergency numbers"),
        ("1911", "never dial emergency numbers"),
        ("+44 999", "never dial emergency numbers"),
        ("tel:911", "never dial emergency numbers"),
        ("411", "never dial short numbers"),
        ("933", "never dial emergency numbers"),
        ("+1 (900) 555-0100", "never dial premium numbers"),
        ("+141555501990", "only numbers that can exist"),
        ("+5215512345678", "its E.164 form is +525512345678"),
    ] {
        let answer = session.call("place_call", fixture.call(to, "Remind.")).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("refused_by_policy", "nothing"), "{to}");
        assert!(message.contains(rule) && message.contains("Nobody was called"), "{message}");
    }
    assert_eq!(fixture.dialed().await, 0);
    let answer = session.call("record_opt_out", json!({"number": "911"})).await;
    assert!(failure(&answer).2.contains("never dial emergency numbers"), "{answer}");
    // A row of a list is refused, and the others are called.
    let people = json!([{"to": "+13105550100"}, {"to": "911"}, {"to": 112}]);
    let list = json!({"agent_id": fixture.agent, "instructions": "Remind.", "people": people});
    let answer = session.call("place_calls", list).await;
    let refused = &answer["result"]["structuredContent"]["refused"];
    assert_eq!(refused.as_array().map(Vec::len), Some(2), "{answer}");
    for row in refused.as_array().unwrap() {
        assert!(row["reason"].as_str().unwrap().contains("emergency"), "{row}");
    }
    assert_eq!(fixture.dialed().await, 1);
}

#[tokio::test]
async fn the_model_sees_the_rules_as_they_are_applied() {
    for (confirm, says, applied) in [
        ("never", "what needs the user's confirmation is refused", "refused_by_policy"),
        ("always", "every call needs the user's confirmation", "asked"),
    ] {
        let config = format!("[dialing]\nconfirm = \"{confirm}\"\n");
        let fixture = DialingFixture::new(&config, "default = \"ask\"\n").await;
        let mut session = fixture.session(Era::Modern, cannot_ask()).await;
        let opening = session.request("server/discover", json!({})).await;
        let instructions = opening["result"]["instructions"].as_str().unwrap();
        let policy = session.request("resources/read", json!({"uri": "callingbox://policy"})).await;
        let policy = policy["result"]["contents"][0]["text"].as_str().unwrap();
        let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
        assert_eq!(policy["confirm"], confirm);
        for told in [instructions, policy["text"].as_str().unwrap()] {
            assert!(told.contains(says), "{confirm}: {told}");
        }
        let answer = session.call("place_call", fixture.call(TO, "Remind.")).await;
        match answer["result"]["isError"].as_bool() {
            Some(true) => assert_eq!(failure(&answer).0, applied),
            _ => {
                let token = &answer["result"]["structuredContent"]["confirmation_token"];
                assert!(token.is_string() && applied == "asked", "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn rules_that_are_changed_apply_to_a_session_that_runs() {
    let fixture = DialingFixture::new("", "default = \"allow\"\n").await;
    let mut session = fixture.session(Era::Modern, cannot_ask()).await;
    fixture.home.write(".config/callingbox-mcp/policy.toml", "default = \"refuse\"\n");
    within_limit("reading the new rules", async {
        loop {
            let policy = json!({"uri": "callingbox://policy"});
            let policy = session.request("resources/read", policy).await;
            if policy.to_string().contains(r#"\"default\":\"refuse\""#) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let answer = session.call("place_call", fixture.call(TO, "Remind.")).await;
    assert_eq!(failure(&answer).0, "refused_by_policy");
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn concurrent_calls_are_counted_until_they_end() {
    for (settings, limit) in [
        ("concurrent = 1", "`limits.concurrent`"),
        ("[limits.per_caller]\nconcurrent = 1", "`limits.per_caller.concurrent`"),
    ] {
        let policy = format!("[limits]\nper_destination_per_day = \"off\"\n{settings}\n");
        let fixture = DialingFixture::new("", &policy).await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        session.data("place_call", fixture.call(TO, "First.")).await;
        let answer = session.call("place_call", repeated(fixture.call(TO, "Second."))).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("refused_by_policy", "nothing"));
        assert!(message.contains(limit) && message.contains("Nobody was called"), "{message}");
        // It passes by itself.
        let error = &answer["result"]["_meta"]["callingbox-mcp/error"];
        let next = "get_call_result waits for the end of a call that is under way.";
        assert_eq!((&error["retry"], &error["next"]), (&json!("later"), &json!(next)), "{limit}");
        // No client waits for the end of the first call, and it still ends.
        fixture.control.advance(600).await;
        session.data("place_call", repeated(fixture.call(TO, "Second."))).await;
        assert_eq!(fixture.dialed().await, 2);
        assert_eq!(fixture.receipts(&["--outcome", "completed"]).await.len(), 1);
    }
}

#[tokio::test]
async fn the_highest_cost_of_calls_counts_until_they_end() {
    let policy = "[limits]\nspend_per_day = \"4.00\"\nper_destination_per_day = \"off\"\n";
    let fixture = DialingFixture::new("", policy).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    session.data("place_call", fixture.call(TO, "First.")).await;
    // Three dollars are held for it.
    let answer = session.call("place_call", repeated(fixture.call(TO, "Second."))).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("refused_by_policy", "nothing"));
    assert!(message.contains("limits.spend_per_day"), "{message}");
    // Nobody waits for its end; it cost cents.
    fixture.control.advance(600).await;
    session.data("place_call", repeated(fixture.call(TO, "Second."))).await;
    assert_eq!(fixture.dialed().await, 2);
    assert_eq!(fixture.receipts(&["--outcome", "completed"]).await.len(), 1);
    assert_eq!(fixture.receipts(&["--outcome", "placed"]).await.len(), 1);
}

#[tokio::test]
async fn over_stdio_spending_is_limited_without_a_file() {
    let fixture = DialingFixture::new("", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let policy = session.request("resources/read", json!({"uri": "callingbox://policy"})).await;
    let policy = policy["result"]["contents"][0]["text"].as_str().unwrap();
    let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    assert_eq!(policy["limits"]["spend_per_day"], json!({"max": "$20.00", "mode": "enforce"}));
    assert_eq!(policy["limits"]["purchases_per_day"], json!({"max": "3", "mode": "enforce"}));
}

#[tokio::test]
async fn a_check_on_a_simulator_counts_what_was_dialed_there() {
    let fixture = DialingFixture::new("", "[limits]\nper_day = 1\n").await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let check = async |flag: &str| fixture.home.print(&["policy", "check", TO, flag]).await;
    let before = check(&flag).await;
    assert!(before.contains("decision   allow") && !before.contains("not known"), "{before}");
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    session.data("place_call", fixture.call(TO, "First.")).await;
    let after = check(&flag).await;
    assert!(after.contains("decision   refuse") && after.contains("limits.per_day"), "{after}");
    assert!(!after.contains("not known"), "{after}");
    for (flag, why) in [
        ("--sandbox", "each run has a new simulator inside this program"),
        ("--sandbox=http://127.0.0.1:1", "no simulator answers"),
    ] {
        let text = check(flag).await;
        assert!(text.contains("decision   allow"), "{text}");
        let note = "note       the usage of the limits is unknown, so it is not counted: ";
        assert!(text.contains(note) && text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn a_rule_in_shadow_only_says_what_it_would_have_done() {
    let policy = "[[rules]]\nname = \"no Washington\"\nprefix = [\"+1202\"]\naction = \"refuse\"\nmode = \"shadow\"\n";
    let fixture = DialingFixture::new("", policy).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    session.data("place_call", fixture.call(TO, "Remind.")).await;
    let (_, _, log) = session.finish().await;
    assert!(log.contains("a calling rule in shadow mode would have acted"), "{log}");
    assert!(log.contains("no Washington"), "{log}");
    assert_eq!(fixture.dialed().await, 1);
}

#[tokio::test]
async fn a_limit_in_shadow_only_says_what_it_would_have_done() {
    let policy = "[limits]\nconcurrent = { max = 1, mode = \"shadow\" }\n";
    let fixture = DialingFixture::new("", policy).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    session.data("place_call", fixture.call(TO, "First.")).await;
    session.data("place_call", repeated(fixture.call(TO, "Second."))).await;
    let (_, _, log) = session.finish().await;
    assert_eq!(log.matches("a calling rule in shadow mode would have acted").count(), 1, "{log}");
    assert!(log.contains("limits.concurrent"), "{log}");
    assert_eq!(fixture.dialed().await, 2);
}

#[tokio::test]
async fn a_rule_refuses_or_asks_at_its_hours() {
    let rule = |action: &str| {
        format!(
            "[[rules]]\nname = \"all day\"\naction = \"{action}\"\nhours = {{ from = \"00:00\", to = \"00:00\" }}\n"
        )
    };
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", &rule("refuse")).await;
    for era in Era::BOTH {
        let mut session = fixture.session(era, can_ask()).await;
        let answer = session.call("place_call", fixture.call(TO, "Remind.")).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("refused_by_policy", "nothing"));
        assert!(
            message.contains("`all day`") && message.contains("Nobody was called"),
            "{message}"
        );
    }
    // Asking is a preview where the client cannot ask, and a refusal where nobody may be asked.
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", &rule("ask")).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let preview = session.data("place_call", fixture.call(TO, "Remind.")).await;
    assert!(preview["confirmation_token"].is_string(), "{preview}");
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"never\"\n", &rule("ask")).await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let answer = session.call("place_call", fixture.call(TO, "Remind.")).await;
    let (class, _, message) = failure(&answer);
    assert_eq!(class, "refused_by_policy");
    assert!(message.contains("forbids to ask the user"), "{message}");
    // The key that lifts the rule is for people.
    assert!(!message.contains("confirm ="), "{message}");
    let remedy = answer["result"]["_meta"]["callingbox-mcp/error"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("confirm = \"auto\""), "{remedy}");
    assert!(!answer["result"]["content"].to_string().contains("confirm ="), "{answer}");
    assert_eq!(fixture.dialed().await, 0);
}

#[tokio::test]
async fn the_server_says_its_rules_when_it_opens() {
    let fixture = DialingFixture::new("", "[limits]\nper_hour = 7\n").await;
    for era in Era::BOTH {
        let session = fixture.session(era, cannot_ask()).await;
        let said = session.opening["result"]["instructions"].as_str().unwrap().to_owned();
        assert!(
            said.contains("Calling rules: at most ") && said.contains("7 calls an hour"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn the_rules_are_written_explained_and_never_overwritten() {
    let home = Home::new();
    let said = home.print(&["policy", "init"]).await;
    assert!(said.starts_with("Wrote ") && said.contains("policy.toml"), "{said}");
    let path = home.path().join(".config/callingbox-mcp/policy.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, home.print(&["policy", "init", "--print"]).await);
    let complaint = home.run_failing(&["policy", "init"]).await;
    assert!(complaint.contains("already exists; it was not changed"), "{complaint}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    // 04:30 and 15:00 in New York.
    for (at, decision) in [
        ("2026-11-22T09:30:00Z", "decision   ask the user, by `quiet_hours`"),
        ("2026-11-22T20:00:00Z", "decision   allow, by `default`"),
    ] {
        let said = home.print(&["policy", "check", "+12125550123", "--at", at]).await;
        assert!(said.contains(decision) && !said.contains("+12125550123"), "{at}: {said}");
    }
    let said = home.print(&["policy", "check", "+19005550100"]).await;
    assert!(said.contains("never dial premium numbers"), "{said}");
    for number in ["911", "112", "+911", "999", "988"] {
        let said = home.print(&["policy", "check", number]).await;
        assert!(said.contains("dial the number on a telephone yourself."), "{number}: {said}");
    }
}

/// The clocks do not depend on the machine's time zone data, which is often older.
#[tokio::test]
async fn quiet_hours_do_not_depend_on_the_time_zones_of_the_machine() {
    let home = Home::new();
    // As in a container that has UTC alone.
    home.write("zoneinfo/tzdata.zi", "# version 2025b\n");
    home.write("zoneinfo/UTC", "");
    let folder = home.path().join("zoneinfo");
    let variables = [("TZDIR", folder.to_str().unwrap())];
    for (number, at, there, decision) in [
        ("+16045550123", "2026-11-28T04:30:00Z", "21:30", "ask the user, by `quiet_hours`"),
        ("+919876543210", "2026-11-27T21:30:00Z", "03:00", "ask the user, by `home_countries`"),
        ("+14035550123", "2026-11-28T03:30:00Z", "21:30", "ask the user, by `quiet_hours`"),
        ("+15652345678", "2026-11-28T07:00:00Z", "03:30", "ask the user, by `home_countries`"),
    ] {
        let check = ["policy", "check", number, "--at", at];
        let output = home.run(&check, &variables).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!("decision   {decision}")), "{number}: {said}");
        assert!(said.contains(there) && said.contains("checked    quiet_hours: ask"), "{said}");
    }
    let said = String::from_utf8(home.run(&["doctor"], &variables).await.stdout).unwrap();
    assert!(said.contains("of this program (this machine has 2025b)"), "{said}");
}

#[tokio::test]
async fn policy_check_says_what_the_server_does() {
    let (asks, token) = ("decision   ask the user", "gets a preview with a token");
    for (dialing, policy, says, server) in [
        (
            "confirm = \"never\"",
            "default = \"ask\"\n",
            &[
                "decision   refuse. ",
                "forbids to ask the user",
                "set confirm = \"auto\" under [dialing]",
            ][..],
            "refused_by_policy",
        ),
        (
            "confirm = \"always\"",
            "default = \"allow\"\n",
            &[asks, "every order needs confirmation", token],
            "preview",
        ),
        (
            "confirm = \"always\"",
            "mode = \"off\"\n",
            &[asks, "every order needs confirmation", token],
            "preview",
        ),
        (
            "confirm = \"auto\"",
            "default = \"ask\"\n",
            &["decision   ask the user, by `default`: ", token],
            "preview",
        ),
        (
            "confirm = \"auto\"\nrequire_human = true",
            "default = \"ask\"\n",
            &[asks, "a client that cannot ask its user is refused (require_human = true)"],
            "refused_by_policy",
        ),
        (
            "confirm = \"auto\"",
            "default = \"allow\"\n",
            &[
                "decision   allow, by `default`",
                "a client that can ask its user asks first: this number was never called before",
            ],
            "dialed",
        ),
        (
            "confirm = \"never\"",
            "default = \"allow\"\n",
            &["decision   allow, by `default`"],
            "dialed",
        ),
    ] {
        let fixture = DialingFixture::new(&format!("[dialing]\n{dialing}\n"), policy).await;
        let said = fixture.home.print(&["policy", "check", "--sandbox", TO]).await;
        for part in says {
            assert!(said.contains(part), "{dialing} {policy}: `{part}` is not in: {said}");
        }
        assert_eq!(
            said.contains("client  "),
            says.len() > 1 && !said.contains("refuse. "),
            "{said}"
        );

        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        let answer = session.call("place_call", fixture.call(TO, "Remind.")).await;
        let did = match answer["result"]["structuredContent"]["confirmation_token"].is_string() {
            true => "preview",
            false if answer["result"]["isError"] == true => failure(&answer).0,
            false => "dialed",
        };
        assert_eq!(did, server, "{dialing} {policy}: {answer}");
    }
}

#[tokio::test]
async fn receipts_describe_each_action_and_nothing_contains_a_key_or_a_whole_number() {
    let fixture = DialingFixture::new("log = \"debug\"\n", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let mut call = fixture.call(TO, "Remind.");
    call["idempotency_key"] = json!("appointment-17");
    let first = session.data("place_call", call).await;
    session.data("place_call", fixture.call("+12025550101", "Remind.")).await;
    fixture.control.advance(600).await;
    session.data("get_call_result", json!({"call_id": first["call_id"]})).await;
    let (_, _, log) = session.finish().await;
    assert!(!log.is_empty());

    let all = fixture.receipts(&[]).await;
    assert_eq!(all.len(), 2);
    let ended = fixture.receipts(&["--outcome", "completed"]).await;
    assert_eq!(ended.len(), 1);
    let receipt = &ended[0];
    assert_eq!(receipt["id"], first["call_id"]);
    assert_eq!(receipt["dispatch_id"], first["dispatch_id"]);
    assert_eq!(receipt["rule"], "default");
    assert_eq!(receipt["confirmed_by"], "not_required");
    assert_eq!(receipt["agent_id"], fixture.agent);
    assert_eq!(fixture.receipts(&["--since", "2026-11-02T15:00:00Z"]).await.len(), 2);
    assert_eq!(fixture.receipts(&["--since", "2099-01-01T00:00:00Z"]).await.len(), 0);
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let table = fixture.home.print(&["receipts", &flag]).await;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("completed") && table.contains("not required"), "{table}");

    let key = callingbox_mcp::simulator::KEY.as_bytes();
    let mut files = vec![log.into_bytes(), table.into_bytes(), format!("{all:?}").into_bytes()];
    let mut folders = vec![fixture.home.path().join(".local")];
    let mut ledgers = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                ledgers += usize::from(entry.path().to_string_lossy().contains("sqlite3"));
                files.push(std::fs::read(entry.path()).unwrap());
            }
        }
    }
    assert!(ledgers >= 1);
    for file in files {
        for secret in [key, TO.as_bytes(), b"12025550123", b"2025550101"] {
            let found = file.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} is in a file", String::from_utf8_lossy(secret));
        }
    }
}
