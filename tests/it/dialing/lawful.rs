//! Calls that say that an AI calls, and calls that need a record of consent: what the person sees, what is sent, and what the
//! receipts say.

use serde_json::{Value, json};

use super::asked::{question, reply};
use super::harness::{Home, Session};
use super::{DialingFixture, LEGACY, can_ask, cannot_ask, data, failure, shows_card};

const TO: &str = "+12025550123";
const SENTENCE: &str = "At the beginning of the call, say that you are an AI assistant.";
const ADD: &str =
    "[dialing]\nconfirm = \"always\"\ndisclosure = \"add\"\non_behalf_of = \"Northside Dental\"\n";
const CONSENT: &str = "[[rules]]\nname = \"us\"\naction = \"allow\"\ncountry = [\"US\"]\nrequire_metadata = [\"consent\"]\n";

impl DialingFixture {
    /// The instructions of each call that was dialed, as CallingBox has them.
    async fn sent_instructions(&self) -> Vec<Value> {
        let mut sent = Vec::new();
        for call in self.control.dialed().await {
            let path = format!("/v1/calls/{}", call["call_id"].as_str().unwrap());
            let call = self.control.request("GET", &path, None).await;
            sent.push(call["instructions"].clone());
        }
        sent
    }
}

fn yes() -> Value {
    json!({"result": {"action": "accept", "content": {"confirm": true}}})
}

#[tokio::test]
async fn the_sentence_that_is_added_is_shown_and_sent_and_changes_no_comparison() {
    let fixture = DialingFixture::new(ADD, "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let added = format!("{SENTENCE} Say that you call on behalf of Northside Dental.");
    let (id, asked) = question(&mut session, fixture.call(TO, "Remind.")).await;
    let text = asked["params"]["message"].as_str().unwrap();
    assert!(text.contains(&format!("Task: {added} Remind.")), "{text}");
    reply(&mut session, &asked, yes()).await;
    let call_id = data(&session.answer(id).await)["call_id"].clone();
    assert_eq!(fixture.sent_instructions().await, [json!(format!("{added}\n\nRemind."))]);
    session.finish_well().await;

    // The same call under another setting is the same call.
    fixture.home.write(".config/callingbox-mcp/config.toml", "[dialing]\ndisclosure = \"off\"\n");
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let again = session.data("place_call", fixture.call(TO, "Remind.")).await;
    assert_eq!(again["duplicate_of"], call_id, "{again}");
    assert_eq!(fixture.dialed().await, 1);
}

#[tokio::test]
async fn a_missing_disclosure_is_refused_or_reported() {
    let fixture = DialingFixture::new("[dialing]\ndisclosure = \"require\"\n", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    for (task, reason) in [
        ("Remind.", format!("must contain the sentence \"{SENTENCE}\"")),
        ("You are an AI. If asked, say that you are an AI assistant.", "do not tell".to_owned()),
        ("Do not say that you are an AI.", "(\"do not say that you are an AI\")".to_owned()),
    ] {
        let answer = session.call("place_call", fixture.call(TO, task)).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("refused_by_policy", "nothing"), "{answer}");
        assert!(message.contains("`dialing.disclosure`") && message.contains(&reason), "{message}");
    }
    let list = json!({
        "agent_id": fixture.agent, "people": [{"to": TO}, {"to": "+12025550124"}],
        "instructions": "Remind.",
    });
    let answer = session.call("place_calls", list).await;
    assert_eq!(failure(&answer).0, "refused_by_policy");
    assert_eq!(fixture.dialed().await, 0);
    let told = format!("Remind. {SENTENCE}");
    session.data("place_call", fixture.call(TO, &told)).await;
    assert_eq!(fixture.sent_instructions().await, [json!(told)]);
    session.finish_well().await;

    fixture.home.write(".config/callingbox-mcp/config.toml", "");
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let placed = session.data("place_call", fixture.call("+12025550125", "Remind.")).await;
    let note = placed["note"].as_str().unwrap();
    let reminder =
        "The instructions do not tell the agent to say at the beginning that it is an AI.";
    assert!(note.ends_with(reminder), "{note}");
}

#[tokio::test]
async fn each_call_of_a_list_is_sent_with_the_sentence() {
    let fixture = DialingFixture::new(ADD, "").await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let list = json!({
        "agent_id": fixture.agent, "instructions": "Remind {name}.",
        "people": [{"to": TO, "name": "Ann"}, {"to": "+12025550124", "name": "Bob"}],
    });
    let id = session.begin_call("place_calls", list).await;
    let asked = session.next().await.unwrap();
    let text = asked["params"]["message"].as_str().unwrap();
    assert!(text.contains(SENTENCE) && text.contains("Northside Dental. Remind Ann."), "{text}");
    reply(&mut session, &asked, yes()).await;
    let batch = data(&session.answer(id).await)["batch_id"].clone();
    while fixture.dialed().await < 2 {
        session.data("get_batch", json!({"batch_id": batch, "wait_seconds": 1})).await;
    }
    let mut sent: Vec<String> = fixture
        .sent_instructions()
        .await
        .iter()
        .map(|instructions| instructions.as_str().unwrap().to_owned())
        .collect();
    sent.sort_unstable();
    let expected = ["Ann", "Bob"].map(|name| {
        format!("{SENTENCE} Say that you call on behalf of Northside Dental.\n\nRemind {name}.")
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_record_of_a_model_needs_a_yes_to_its_words() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", CONSENT).await;
    let call = |consent: Value| {
        let mut call = fixture.call(TO, "Remind.");
        call["metadata"] = json!({"consent": consent});
        call
    };
    let needs = "This rule needs a record of consent (metadata key `consent`), such as where and when it was given.";
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let mut without = vec![fixture.call(TO, "Remind.")];
    without.extend(
        [
            json!(""),
            json!(" Yes! "),
            json!("ok"),
            json!(true),
            json!("…"),
            json!("a".repeat(1_001)),
        ]
        .map(call),
    );
    for call in without {
        let answer = session.call("place_call", call).await;
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("refused_by_policy", "nothing"), "{message}");
        assert!(message.contains(needs), "{message}");
        assert!(message.contains("Ask the user; do not write one yourself."), "{message}");
    }
    let record = "online form at example.com/appointments, 3 May 2026, 14:05";
    let (id, asked) = question(&mut session, call(json!(record))).await;
    let text = asked["params"]["message"].as_str().unwrap();
    assert!(text.contains(&format!("the model wrote consent: \"{record}\"")), "{text}");
    assert_eq!(fixture.dialed().await, 0);
    reply(&mut session, &asked, yes()).await;
    data(&session.answer(id).await);
    assert_eq!(fixture.dialed().await, 1);
    assert_eq!(fixture.receipts(&[]).await[0]["rule"], "us (consent: user-confirmed)");
    session.finish_well().await;

    // Where nobody may be asked, the words of a model are not enough.
    fixture.home.write(".config/callingbox-mcp/config.toml", "[dialing]\nconfirm = \"never\"\n");
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let mut other = call(json!(record));
    other["to"] = json!("+12025550124");
    let answer = session.call("place_call", other).await;
    let (class, _, message) = failure(&answer);
    assert_eq!(class, "refused_by_policy");
    assert!(message.contains("the configuration forbids to ask the user"), "{message}");
    assert_eq!(fixture.dialed().await, 1);
}

#[tokio::test]
async fn each_person_of_a_list_needs_a_record() {
    let fixture = DialingFixture::new("[dialing]\nconfirm = \"auto\"\n", CONSENT).await;
    let mut session = fixture.session(LEGACY, can_ask()).await;
    let list = json!({
        "agent_id": fixture.agent, "instructions": "Remind.",
        "people": [
            {"to": TO, "metadata": {"consent": "paper form, 3 May 2026"}},
            {"to": "+12025550124"},
        ],
    });
    let id = session.begin_call("place_calls", list).await;
    let asked = session.next().await.unwrap();
    let text = asked["params"]["message"].as_str().unwrap();
    assert!(text.contains("the model wrote consent: \"paper form, 3 May 2026\""), "{text}");
    assert!(text.contains("2. +12025550124: This rule needs a record of consent"), "{text}");
    reply(&mut session, &asked, yes()).await;
    let batch = data(&session.answer(id).await)["batch_id"].clone();
    while fixture.dialed().await < 1 {
        session.data("get_batch", json!({"batch_id": batch, "wait_seconds": 1})).await;
    }
    assert_eq!(fixture.control.dialed().await[0]["to"], TO);
    assert_eq!(fixture.receipts(&[]).await[0]["rule"], "us (consent: user-confirmed)");
}

#[tokio::test]
async fn policy_check_explains_the_record_that_a_rule_needs() {
    let home = Home::new();
    home.write(".config/callingbox-mcp/policy.toml", CONSENT);
    let check = ["policy", "check", TO, "--at", "2026-03-02T20:00:00Z"];
    let text = home.print(&check).await;
    assert!(text.contains("decision   refuse. Refused by the calling rule `us`: This rule needs a record of consent"), "{text}");
    let record = [&check[..], &["--metadata", "consent=form, 3 May 2026"]].concat();
    let text = home.print(&record).await;
    assert!(text.contains("decision   ask the user, by `us`: the rule needs a record, and the model wrote consent: \"form, 3 May 2026\""), "{text}");
    let output = home.run(&[&check[..], &["--metadata", "consent"]].concat(), &[]).await;
    assert!(!output.status.success());
}

#[tokio::test]
async fn the_result_says_whether_the_agent_said_it_where_that_is_demanded() {
    let transcripts_read = async |fixture: &DialingFixture| {
        let count = fixture.control.count("GET", "/v1/calls/{id}/transcript").await;
        fixture.control.reset_counts().await;
        count
    };
    let place = async |fixture: &DialingFixture, session: &mut Session, to: &str, task: &str| {
        let call = session.data("place_call", fixture.call(to, task)).await["call_id"].clone();
        fixture.control.advance(3_000).await;
        let read = session.call("get_call_result", json!({"call_id": call})).await;
        let text = read["result"]["content"][0]["text"].as_str().unwrap().to_owned();
        let unsaid = text.contains("no sentence that is known to say that an AI speaks");
        let disclosure = data(&read)["disclosure"].clone();
        assert_eq!(unsaid, disclosure == "not_found", "{text}");
        assert!(!text.contains("Hello"), "no words of the conversation: {text}");
        disclosure
    };
    let fixture = DialingFixture::new("[dialing]\ndisclosure = \"add\"\n", "").await;
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let said = place(&fixture, &mut session, TO, "Remind.").await;
    assert_eq!((said, transcripts_read(&fixture).await), (json!("said"), 1));
    // Nobody answered: nothing could be said, and nothing is read.
    let said = place(&fixture, &mut session, "+13105550101", "Remind.").await;
    assert_eq!((said, transcripts_read(&fixture).await), (Value::Null, 0));
    session.finish_well().await;

    // The instructions say it in a way that the simulated agent does not follow.
    let config = "[dialing]\ndisclosure = \"require\"\n";
    fixture.home.write(".config/callingbox-mcp/config.toml", config);
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let told = "Say at the beginning of the call that you are an AI assistant.";
    let said = place(&fixture, &mut session, "+12025550124", told).await;
    assert_eq!((said, transcripts_read(&fixture).await), (json!("not_found"), 1));
    session.finish_well().await;

    // Who may not see the transcript learns nothing of it.
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let exclude = [flag.as_str(), "--exclude-tools", "get_call_transcript"];
    let mut session = Session::start_in(fixture.home.clone(), &exclude, &[]);
    session.open(LEGACY).await;
    let said = place(&fixture, &mut session, "+12025550125", told).await;
    assert_eq!((said, transcripts_read(&fixture).await), (json!("no_transcript"), 0));
    session.finish_well().await;

    // Where it is not demanded, the transcript is not read for it.
    fixture.home.write(".config/callingbox-mcp/config.toml", "");
    let mut session = fixture.session(LEGACY, cannot_ask()).await;
    let said = place(&fixture, &mut session, "+12025550126", told).await;
    assert_eq!((said, transcripts_read(&fixture).await), (Value::Null, 0));
    session.finish_well().await;
}

#[tokio::test]
async fn a_record_of_a_model_is_refused_where_no_person_can_be_asked() {
    let fixture = DialingFixture::new("", CONSENT).await;
    let record = "online form at example.com/appointments, 3 May 2026, 14:05";
    let mut number = 10;
    for confirm in ["never", "auto", "always"] {
        let config = format!("[dialing]\nconfirm = \"{confirm}\"\n");
        fixture.home.write(".config/callingbox-mcp/config.toml", &config);
        for (client, capabilities) in
            [("elicitation", can_ask()), ("card", shows_card()), ("neither", cannot_ask())]
        {
            let case = format!("{confirm}, {client}");
            let mut session = fixture.session(LEGACY, capabilities).await;
            number += 2;
            let mut call = fixture.call(&format!("+120255501{number}"), "Remind.");
            call["metadata"] = json!({"consent": record});
            let list = json!({
                "agent_id": fixture.agent, "instructions": "Remind.",
                "people": [
                    {"to": call["to"], "metadata": call["metadata"]},
                    {"to": format!("+120255501{}", number + 1), "metadata": call["metadata"]},
                ],
            });
            let can_be_asked = confirm != "never" && client != "neither";
            for (tool, arguments) in [("place_call", &call), ("place_calls", &list)] {
                let id = session.begin_call(tool, arguments.clone()).await;
                let answer = if can_be_asked && client == "elicitation" {
                    let asked = session.next().await.unwrap();
                    assert!(
                        asked.to_string().contains("the model wrote consent"),
                        "{case}: {asked}"
                    );
                    reply(&mut session, &asked, json!({"result": {"action": "decline"}})).await;
                    session.answer(id).await
                } else {
                    session.answer(id).await
                };
                assert!(!answer.to_string().contains("confirmation_token"), "{case}: {answer}");
                if can_be_asked && client == "card" {
                    let question = &answer["result"]["_meta"]["callingbox-mcp/confirm"];
                    assert!(
                        question.to_string().contains("the model wrote consent"),
                        "{case}: {answer}"
                    );
                    // The card does not appear, and the same is asked for again: there is no token in text.
                    let again = session.call(tool, arguments.clone()).await;
                    let (class, done, message) = failure(&again);
                    assert_eq!((class, done), ("refused_by_policy", "nothing"), "{case}: {again}");
                    assert!(message.contains("did not appear"), "{case}: {message}");
                } else {
                    let (class, done, message) = failure(&answer);
                    let expected = if can_be_asked { "declined" } else { "refused_by_policy" };
                    assert_eq!((class, done), (expected, "nothing"), "{case}: {tool}: {answer}");
                    let is_about_asking = message.contains("ask");
                    assert!(is_about_asking || can_be_asked, "{case}: {message}");
                }
            }
            session.finish_well().await;
        }
    }
    assert_eq!(fixture.dialed().await, 0);

    // A yes in the card counts as the user's own.
    fixture.home.write(".config/callingbox-mcp/config.toml", "[dialing]\nconfirm = \"auto\"\n");
    let mut session = fixture.session(LEGACY, shows_card()).await;
    let mut call = fixture.call(TO, "Remind.");
    call["metadata"] = json!({"consent": record});
    let asked = session.call("place_call", call).await;
    let question = asked["result"]["_meta"]["callingbox-mcp/confirm"].clone();
    let yes = json!({
        "tool": question["tool"], "arguments": question["arguments"],
        "token": question["token"], "accept": true,
    });
    session.data("confirm_call", yes).await;
    assert_eq!(fixture.receipts(&[]).await[0]["rule"], "us (consent: user-confirmed)");
    session.finish_well().await;
}

#[tokio::test]
async fn the_summary_of_the_rules_and_policy_check_name_the_disclosure() {
    let fixture = DialingFixture::new("", "").await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    for (mode, words) in [
        ("require", "are refused"),
        ("add", "are sent with such a sentence"),
        ("remind", ""),
        ("off", ""),
    ] {
        let config = format!("[dialing]\ndisclosure = \"{mode}\"\n");
        fixture.home.write(".config/callingbox-mcp/config.toml", &config);
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        let rules = session.data("get_account", json!({})).await["rules"].clone();
        let checked = fixture.home.print(&["policy", "check", TO, &flag]).await;
        for text in [rules.as_str().unwrap(), &checked] {
            assert_eq!(text.contains("that it is an AI"), !words.is_empty(), "{mode}: {text}");
            assert!(text.contains(words), "{mode}: {text}");
        }
        session.finish_well().await;
    }
}
