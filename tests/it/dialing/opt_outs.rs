//! People who asked not to be called again are not called: the result of a call, the tool and the terminal put them on the
//! list, and it holds for every tool, process and batch.

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask, data, failure, repeated};

/// The number whose person asks not to be called again.
const ASKS: &str = "+13105550116";
const MASKED: &str = "+131******16";
const OTHER: &str = "+13105550120";

/// A session with an agent whose results say whether the person asked not to be called again.
async fn fixture(config: &str) -> (DialingFixture, Session) {
    let mut fixture = DialingFixture::new(config, "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let returns = json!({"answered": "boolean", "do_not_call": "boolean"});
    fixture.agent = session.outbound_agent(returns).await;
    (fixture, session)
}

async fn place(fixture: &DialingFixture, session: &mut Session, to: &str, task: &str) -> Value {
    let placed = session.data("place_call", fixture.call(to, task)).await;
    fixture.control.advance(3_000).await;
    placed["call_id"].clone()
}

async fn is_refused(fixture: &DialingFixture, session: &mut Session, to: &str) -> String {
    let before = fixture.dialed().await;
    let answer = session.call("place_call", repeated(fixture.call(to, "Something else."))).await;
    let (class, done, message) = failure(&answer);
    assert_eq!((class, done), ("refused_by_policy", "nothing"), "{answer}");
    assert!(message.contains("do_not_call") && message.contains("Nobody was called"), "{message}");
    assert_eq!(fixture.dialed().await, before);
    assert!(!answer.to_string().contains("remove"), "{answer}");
    message.to_owned()
}

#[tokio::test]
async fn who_asks_on_a_call_is_not_called_again_and_the_result_says_why() {
    let (fixture, mut session) = fixture("").await;
    let call = place(&fixture, &mut session, ASKS, "Remind.").await;
    let read = session.call("get_call_result", json!({"call_id": call})).await;
    assert_eq!(data(&read)["result"]["do_not_call"], true);
    let text = read["result"]["content"][0]["text"].as_str().unwrap();
    for part in [
        "do-not-call list",
        MASKED,
        "callee: Please do not call me again",
        "agent: I understand. You will not be called again.",
        "callingbox-mcp optout",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let fence = text.find("<<<").unwrap();
    assert!(fence < text.find("Please do not call me").unwrap(), "{text}");
    assert!(!text.contains("remove"), "{text}");
    let message = is_refused(&fixture, &mut session, ASKS).await;
    assert!(message.contains(call.as_str().unwrap()), "{message}");
    // The person next door, and who only had the wrong number, can be called.
    place(&fixture, &mut session, OTHER, "Remind.").await;
    session.finish_well().await;

    // Another process, and the terminal.
    let mut other = fixture.session(Era::Modern, can_ask()).await;
    is_refused(&fixture, &mut other, ASKS).await;
    other.finish_well().await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let checked = fixture.home.print(&["policy", "check", ASKS, &flag]).await;
    assert!(checked.contains("decision   refuse") && checked.contains("do_not_call"), "{checked}");
    let listed = fixture.home.print(&["optout", "list", &flag]).await;
    assert!(listed.contains(MASKED) && !listed.contains(ASKS), "{listed}");
    let listed = fixture.home.print(&["optout", "list", "--full", &flag]).await;
    assert!(listed.contains(ASKS), "{listed}");
    let exported = fixture.home.print(&["optout", "export", &flag]).await;
    assert!(exported.contains(&format!("\n{ASKS},")), "{exported}");
    for receipt in fixture.receipts(&[]).await {
        assert!(!receipt.to_string().contains(ASKS), "{receipt}");
    }
}

#[tokio::test]
async fn a_result_that_nobody_read_is_read_before_the_number_is_dialed() {
    let (fixture, mut session) = fixture("").await;
    place(&fixture, &mut session, ASKS, "Remind.").await;
    session.finish_well().await;
    let mut other = fixture.session(LEGACY, cannot_ask()).await;
    is_refused(&fixture, &mut other, ASKS).await;
    other.finish_well().await;
}

#[tokio::test]
async fn a_wrong_person_a_machine_and_an_angry_callee_are_not_recorded() {
    let (fixture, mut session) = fixture("").await;
    for digits in ["0100", "0103", "0108", "0109"] {
        let to = format!("+1310555{digits}");
        let call = place(&fixture, &mut session, &to, "Remind.").await;
        session.data("get_call_result", json!({"call_id": call})).await;
        session.data("place_call", repeated(fixture.call(&to, "Again."))).await;
        fixture.control.credit(100_000_000).await;
    }
    session.finish_well().await;
}

#[tokio::test]
async fn the_tool_records_the_other_party_of_a_call_and_a_number_after_a_yes() {
    let (fixture, session) = fixture("").await;
    session.finish_well().await;
    let config = "[dialing]\nconfirm = \"auto\"\n";
    fixture.home.write(".config/callingbox-mcp/config.toml", config);
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let call = place(&fixture, &mut session, OTHER, "Remind.").await;
    let answer = session.call("record_opt_out", json!({"call_id": call})).await;
    assert_eq!(data(&answer)["recorded"], true);
    assert!(!answer.to_string().contains(OTHER), "{answer}");
    is_refused(&fixture, &mut session, OTHER).await;
    // Nor is a second call to them offered, however soon it is asked for.
    let again = session.call("place_call", fixture.call(OTHER, "Something else.")).await;
    assert_eq!(failure(&again).0, "refused_by_policy", "{again}");
    // A number that no call names needs a yes.
    let number = json!({"number": "+13105550121", "reason": "wrote a letter"});
    let asked = session.data("record_opt_out", number.clone()).await;
    assert_eq!(asked["recorded"], false);
    let mut agreed = number;
    agreed["confirmation_token"] = asked["confirmation_token"].clone();
    assert_eq!(session.data("record_opt_out", agreed).await["recorded"], true);
    is_refused(&fixture, &mut session, "+13105550121").await;
    for wrong in [json!({}), json!({"call_id": call, "number": OTHER})] {
        let answer = session.call("record_opt_out", wrong).await;
        assert_eq!(failure(&answer).0, "invalid_argument");
    }
    session.finish_well().await;
}

#[tokio::test]
async fn a_caller_who_asks_is_not_called_back() {
    let (fixture, mut session) = fixture("").await;
    let inbound = json!({
        "name": "Desk", "type": "inbound", "returns": {"do_not_call": "boolean"},
    });
    let agent = session.data("create_agent", inbound).await["agent_id"].clone();
    let numbers = session.data("list_numbers", json!({})).await;
    let number = &numbers["numbers"][0];
    let attach = json!({"agent_id": agent, "attach": [number["number_id"]]});
    session.data("set_agent_numbers", attach).await;
    let ringing = json!({"to": number["e164"], "from": ASKS});
    let call = session.data("simulate_inbound_call", ringing).await["call_id"].clone();
    fixture.control.advance(3_000).await;
    session.data("get_call_result", json!({"call_id": call})).await;
    is_refused(&fixture, &mut session, ASKS).await;
    session.finish_well().await;
}

#[tokio::test]
async fn a_waiting_row_is_refused_when_the_opt_out_arrives() {
    let (fixture, mut session) = fixture("").await;
    let call = place(&fixture, &mut session, OTHER, "Remind.").await;
    let start = fixture.control.now().await + jiff::SignedDuration::from_hours(2);
    let list = json!({
        "agent_id": fixture.agent, "start_at": start.to_string(), "allow_repeat": true,
        "people": [{"to": OTHER}, {"to": "+13105550122"}],
    });
    let batch = session.data("place_calls", list).await["batch_id"].clone();
    session.data("record_opt_out", json!({"call_id": call})).await;
    let row = super::harness::within_limit("the row is refused", async {
        loop {
            let batch = session.data("get_batch", json!({"batch_id": batch})).await;
            let row = batch["rows"][0].clone();
            if row["state"] == "refused" {
                return row;
            }
        }
    })
    .await;
    assert!(row.to_string().contains("asked not to be called again"), "{row}");
    // A new list does not begin with the number.
    let list =
        json!({"agent_id": fixture.agent, "people": [{"to": OTHER}, {"to": "+13105550123"}]});
    let batch = session.data("place_calls", list).await["batch_id"].clone();
    let report = session.data("get_batch", json!({"batch_id": batch})).await;
    assert_eq!(report["rows"][0]["state"], "refused", "{report}");
    session.finish_well().await;
}

#[tokio::test]
async fn the_terminal_adds_imports_and_does_not_remove_without_a_person() {
    let (fixture, mut session) = fixture("").await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let added = fixture.home.print(&["optout", "add", OTHER, "--reason", "wrote", &flag]).await;
    assert!(added.contains("+131******20 is not called again"), "{added}");
    fixture.home.write("list.csv", &format!("number,reason\n{OTHER},x\n+13105550124,y\n"));
    let path = fixture.home.path().join("list.csv");
    let imported = fixture.home.print(&["optout", "import", path.to_str().unwrap(), &flag]).await;
    assert_eq!(imported, "1 recorded, 1 known already.\n");
    is_refused(&fixture, &mut session, OTHER).await;
    is_refused(&fixture, &mut session, "+13105550124").await;
    let error = fixture.home.run_failing(&["optout", "add", "911", &flag]).await;
    assert!(error.contains("In an emergency, dial the number on a telephone yourself."), "{error}");
    let error = fixture.home.run_failing(&["optout", "remove", OTHER, &flag]).await;
    assert!(error.contains("only in a terminal"), "{error}");
    is_refused(&fixture, &mut session, OTHER).await;
    session.finish_well().await;
}

#[tokio::test]
async fn a_new_outbound_agent_says_whether_not_to_call_again_unless_the_user_does_not_want_it() {
    for (config, asks) in [("", true), ("[dialing]\nask_do_not_call = false\n", false)] {
        let fixture = DialingFixture::new(config, "").await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        for (kind, expected) in [("outbound", asks), ("inbound", false)] {
            let agent = json!({"name": "A", "type": kind, "returns": {"ok": "boolean"}});
            let answer = session.call("create_agent", agent).await;
            let agent = json!({"agent_id": data(&answer)["agent_id"]});
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            assert_eq!(text.contains("do_not_call"), expected, "{text}");
            let agent = session.data("get_agent", agent).await;
            assert_eq!(agent["returns"]["do_not_call"] == "boolean", expected, "{agent}");
        }
        session.finish_well().await;
    }
}

/// What the terminal lists, with whole numbers.
async fn listed(fixture: &DialingFixture, more: &[&str]) -> String {
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let arguments = [&["optout", "list", "--full", &flag], more].concat();
    fixture.home.print(&arguments).await
}

#[tokio::test]
async fn a_list_of_calls_and_a_batch_record_what_the_person_said() {
    let (fixture, mut session) = fixture("").await;
    let call = place(&fixture, &mut session, ASKS, "Remind.").await;
    assert!(!listed(&fixture, &[]).await.contains(ASKS), "nobody has read the result");
    let calls = session.data("list_calls", json!({})).await;
    assert_eq!(calls["calls"][0]["call_id"], call);
    let text = listed(&fixture, &[]).await;
    assert!(text.contains(ASKS) && text.contains(call.as_str().unwrap()), "{text}");

    let other = "+12125550116";
    let list = json!({"agent_id": fixture.agent, "people": [{"to": other}]});
    let batch = session.data("place_calls", list).await["batch_id"].clone();
    super::harness::within_limit("the end of the batch", async {
        loop {
            fixture.control.advance(60).await;
            let report = session.data("get_batch", json!({"batch_id": batch})).await;
            if report["state"] == "ended" {
                return;
            }
        }
    })
    .await;
    let text = listed(&fixture, &[]).await;
    assert!(text.contains(other), "{text}");
    session.finish_well().await;
}

#[tokio::test]
async fn each_check_reads_at_most_five_results_and_none_can_be_skipped_for_a_moment() {
    let policy = "[limits]\nper_destination_per_day = \"off\"\nconcurrent = \"off\"\nspend_per_day = \"off\"\n";
    let mut fixture = DialingFixture::new("", policy).await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let returns = json!({"answered": "boolean", "do_not_call": "boolean"});
    fixture.agent = session.outbound_agent(returns).await;
    for index in 0..12 {
        let call = fixture.call(OTHER, &format!("Remind, {index}."));
        session.data("place_call", repeated(call)).await;
    }
    fixture.control.advance(3_000).await;
    fixture.control.reset_counts().await;
    session.data("place_call", repeated(fixture.call(OTHER, "Once more."))).await;
    // Five by the check before the person is asked, and five by the one before the order is written down.
    assert_eq!(fixture.control.count("GET", "/v1/calls/{id}").await, 10);
    // A result that cannot be read at this moment may hold the wish.
    place(&fixture, &mut session, ASKS, "Remind.").await;
    fixture
        .control
        .fault(json!({
            "method": "GET", "path": "/v1/calls/*", "kind": "status", "status": 503, "times": 50,
        }))
        .await;
    let before = fixture.dialed().await;
    let answer = session.call("place_call", repeated(fixture.call(ASKS, "Again."))).await;
    let (class, done, _) = failure(&answer);
    assert_eq!((class, done), ("unavailable", "nothing"), "{answer}");
    assert_eq!(fixture.dialed().await, before);
    session.finish_well().await;
}

#[tokio::test]
async fn a_telephone_has_one_entry_whatever_the_spelling() {
    let (fixture, mut session) = fixture("").await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    fixture.home.print(&["optout", "add", "+4402071838750", &flag]).await;
    fixture.home.write("list.csv", "number\n+442071838750\n+5215512345678\n");
    let path = fixture.home.path().join("list.csv");
    let imported = fixture.home.print(&["optout", "import", path.to_str().unwrap(), &flag]).await;
    assert_eq!(imported, "1 recorded, 1 known already.\n");
    is_refused(&fixture, &mut session, "+442071838750").await;
    is_refused(&fixture, &mut session, "+525512345678").await;
    session.finish_well().await;
}

#[tokio::test]
async fn an_entry_that_is_for_some_days_ends() {
    let (fixture, mut session) = fixture("").await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    fixture.home.print(&["optout", "add", OTHER, "--days", "2", &flag]).await;
    let message = is_refused(&fixture, &mut session, OTHER).await;
    assert!(message.contains("Possible again at"), "{message}");
    fixture.control.advance(2 * 24 * 3_600).await;
    place(&fixture, &mut session, OTHER, "Remind.").await;
    assert!(!listed(&fixture, &[]).await.contains(OTHER));
    assert!(listed(&fixture, &["--all"]).await.contains(OTHER));
    session.finish_well().await;
}

#[tokio::test]
async fn an_export_is_imported_elsewhere() {
    let (fixture, session) = fixture("").await;
    session.finish_well().await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let reason = "said \"never, ever\", twice";
    fixture.home.print(&["optout", "add", OTHER, "--days", "30", &flag]).await;
    fixture
        .home
        .write("list.csv", "number,reason\n+442071838750,\"said \"\"never, ever\"\", twice\"\n");
    let path = fixture.home.path().join("list.csv");
    fixture.home.print(&["optout", "import", path.to_str().unwrap(), &flag]).await;
    let exported = fixture.home.print(&["optout", "export", &flag]).await;

    let elsewhere = DialingFixture::new("", "").await;
    elsewhere.home.write("exported.csv", &exported);
    let path = elsewhere.home.path().join("exported.csv");
    let flag = format!("--sandbox={}", elsewhere.sandbox.url());
    let imported = elsewhere.home.print(&["optout", "import", path.to_str().unwrap(), &flag]).await;
    assert_eq!(imported, "2 recorded, 0 known already.\n");
    // Number, reason and end are those of the first list.
    let of_lines = |csv: &str| -> Vec<Vec<String>> {
        let words = |line: &str| {
            let mut parts: Vec<String> = line.split(',').map(str::to_owned).collect();
            parts.drain(1..3);
            parts
        };
        csv.lines().map(words).collect()
    };
    let again = elsewhere.home.print(&["optout", "export", &flag]).await;
    assert_eq!(of_lines(&again), of_lines(&exported));
    assert!(exported.contains(&reason.replace('"', "\"\"")), "{exported}");
}

#[tokio::test]
async fn the_lists_of_real_and_simulated_calls_are_apart() {
    let (fixture, session) = fixture("").await;
    session.finish_well().await;
    let (url, flag) = (fixture.sandbox.url(), format!("--sandbox={}", fixture.sandbox.url()));
    fixture.home.print(&["optout", "add", OTHER, &flag]).await;
    let live = [
        ("CALLINGBOX_API_KEY", callingbox_mcp::simulator::KEY),
        ("CALLINGBOX_BASE_URL", url.as_str()),
    ];
    let run = async |arguments: &[&str]| {
        let output = fixture.home.run(arguments, &live).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["optout", "list"]).await, "The do-not-call list is empty.\n");
    run(&["optout", "add", "+13105550124"]).await;
    assert!(run(&["optout", "list", "--full"]).await.contains("+13105550124"));
    let simulated = listed(&fixture, &[]).await;
    assert!(simulated.contains(OTHER) && !simulated.contains("+13105550124"), "{simulated}");
}

#[tokio::test]
async fn no_tool_log_or_receipt_has_a_whole_number_of_the_list() {
    let (fixture, session) = fixture("").await;
    session.finish_well().await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let arguments = [flag.as_str(), "--log", "callingbox_mcp=trace"];
    let mut session = Session::start_in(fixture.home.clone(), &arguments, &[]);
    session.open(LEGACY).await;
    let call = place(&fixture, &mut session, OTHER, "Remind.").await;
    let recorded = session.call("record_opt_out", json!({"call_id": call})).await;
    let refused = session.call("place_call", repeated(fixture.call(OTHER, "Again."))).await;
    let list =
        json!({"agent_id": fixture.agent, "people": [{"to": OTHER}, {"to": "+13105550123"}]});
    let batch = session.data("place_calls", list).await["batch_id"].clone();
    session.data("get_batch", json!({"batch_id": batch})).await;
    for answer in [recorded, refused] {
        assert!(!answer.to_string().contains(OTHER), "{answer}");
    }
    let (status, log) = session.close().await;
    assert!(status.success() && log.contains("a number was put on the do-not-call list"), "{log}");
    assert!(!log.contains(OTHER), "{log}");
}

/// Removes a number at a terminal, with these lines typed; the output, and whether it succeeded.
#[cfg(target_os = "linux")]
async fn remove_at_terminal(fixture: &DialingFixture, number: &str, typed: &str) -> (String, bool) {
    use tokio::io::AsyncWriteExt as _;

    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let mut process =
        fixture.home.on_terminal(&["optout", "remove", number, &flag], &[]).spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).await.unwrap();
    let output = process.wait_with_output();
    let output = super::harness::within_limit("the end of the command", output).await.unwrap();
    drop(input);
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_person_at_a_terminal_types_the_last_digits_and_a_reason() {
    let (fixture, mut session) = fixture("").await;
    let call = place(&fixture, &mut session, ASKS, "Remind.").await;
    session.data("get_call_result", json!({"call_id": call})).await;
    for (typed, says) in [
        ("0117\nno\n", "these are not its last four digits"),
        ("\n", "these are not its last four digits"),
        ("0116\n\n", "a reason is needed"),
    ] {
        let (text, succeeded) = remove_at_terminal(&fixture, ASKS, typed).await;
        assert!(!succeeded && text.contains(says), "{text}");
        assert!(text.contains("the list was not changed"), "{text}");
        is_refused(&fixture, &mut session, ASKS).await;
    }
    let typed = "0116\nOnly meant at work.\n";
    let (text, succeeded) = remove_at_terminal(&fixture, ASKS, typed).await;
    assert!(succeeded && text.contains("The reason is kept."), "{text}");
    let all = listed(&fixture, &["--all"]).await;
    assert!(all.contains("(removed: Only meant at work.)"), "{all}");
    // The same result, read again, does not put the number back, and says so.
    let read = session.call("get_call_result", json!({"call_id": call})).await;
    assert!(read.to_string().contains("the user has corrected that since"), "{read}");
    place(&fixture, &mut session, ASKS, "Again.").await;
    let (text, succeeded) = remove_at_terminal(&fixture, OTHER, "").await;
    assert!(succeeded && text.contains("is not on the do-not-call list"), "{text}");
    session.finish_well().await;
}
