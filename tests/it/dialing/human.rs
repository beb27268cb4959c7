//! Who must say yes, for every kind of client, every `confirm` mode, with and without `require_human`.

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, LEGACY, cannot_ask, failure};

const KNOWN: &str = "+12025550123";

/// What clients say that they can do, and whether that lets them ask their user. The answer in the card of a client that is not
/// known does not count with `require_human`.
fn clients(human: bool) -> [(Value, bool); 8] {
    let tasks = json!({"io.modelcontextprotocol/tasks": {}});
    let apps = json!({"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}});
    [
        (json!({"elicitation": {}}), true),
        (json!({"elicitation": {"form": {}}}), true),
        (json!({"elicitation": {"form": {}, "url": {}}, "extensions": tasks}), true),
        (json!({"elicitation": {"url": {}}}), false),
        (json!({"extensions": apps}), !human),
        (json!({"extensions": tasks}), false),
        (json!({"sampling": {}, "roots": {"listChanged": true}}), false),
        (json!({}), false),
    ]
}

/// What an order leads to: it is placed, the user is asked, a token is issued, or it is refused. A question is declined.
async fn outcome(session: &mut Session, tool: &str, order: Value) -> &'static str {
    let id = session.begin_call(tool, order).await;
    let answer = session.next().await.unwrap();
    if answer["method"] == "elicitation/create" {
        let no = json!({"jsonrpc": "2.0", "id": answer["id"], "result": {"action": "decline"}});
        session.send(&no).await;
        assert_eq!(failure(&session.answer(id).await).0, "declined");
        return "asked";
    }
    let result = &answer["result"];
    if result["resultType"] == "input_required" {
        return "asked";
    }
    if result["isError"] == true {
        let (class, done, message) = failure(&answer);
        assert_eq!((class, done), ("refused_by_policy", "nothing"), "{answer}");
        assert!(message.contains("this client cannot ask its user"), "{message}");
        assert!(!message.contains("require_human ="), "{message}");
        let remedy = result["_meta"]["callingbox-mcp/error"]["remedy"].as_str().unwrap();
        assert!(remedy.contains("require_human = false under [dialing]"), "{remedy}");
        assert!(remedy.contains("a client that asks its user"), "{remedy}");
        return "refused";
    }
    if let Some(question) = result["_meta"].get("callingbox-mcp/confirm") {
        let shown = json!({"question_id": question["question_id"]});
        assert_eq!(session.data("follow_call", shown).await["question"], "open");
        return "asked";
    }
    match result["structuredContent"]["confirmation_token"].is_string() {
        true => "token",
        false => "placed",
    }
}

#[tokio::test]
async fn with_require_human_no_client_and_no_mode_goes_without_the_users_answer() {
    let limits = "[limits]\nper_hour = \"off\"\nper_day = \"off\"\nconcurrent = \"off\"\n\
                  per_destination_per_day = \"off\"\npurchases_per_day = \"off\"\nspend_per_day = \"off\"\n";
    for (mode, human, known, first, purchase) in [
        ("never", false, ["placed", "placed"], ["placed", "placed"], ["placed", "placed"]),
        ("auto", false, ["placed", "placed"], ["asked", "placed"], ["asked", "token"]),
        ("always", false, ["asked", "token"], ["asked", "token"], ["asked", "token"]),
        ("never", true, ["placed", "placed"], ["asked", "refused"], ["asked", "refused"]),
        ("auto", true, ["placed", "placed"], ["asked", "refused"], ["asked", "refused"]),
        ("always", true, ["asked", "refused"], ["asked", "refused"], ["asked", "refused"]),
    ] {
        let fixture = DialingFixture::new("", limits).await;
        let mut session = fixture.session(LEGACY, cannot_ask()).await;
        session.data("place_call", fixture.call(KNOWN, "Remind.")).await;
        let config = format!("[dialing]\nconfirm = \"{mode}\"\nrequire_human = {human}\n");
        fixture.home.write(".config/callingbox-mcp/config.toml", &config);
        let mut next = 0;
        for era in Era::BOTH {
            for (capabilities, can_ask) in clients(human) {
                let case = format!("{mode}, {human}, {era:?}, {capabilities}");
                let column = usize::from(!can_ask);
                let mut session = fixture.session(era, capabilities).await;
                let mut again = fixture.call(KNOWN, "Remind.");
                again["allow_repeat"] = json!(true);
                let answer = outcome(&mut session, "place_call", again).await;
                assert_eq!(answer, known[column], "known: {case}");
                next += 1;
                let new = fixture.call(&format!("+120255502{next:02}"), "Remind.");
                let answer = outcome(&mut session, "place_call", new).await;
                assert_eq!(answer, first[column], "first: {case}");
                let offers = session.data("search_numbers", json!({"limit": 1})).await;
                let number = json!({"phone_number": offers["numbers"][0]["phone_number"]});
                let answer = outcome(&mut session, "purchase_number", number).await;
                assert_eq!(answer, purchase[column], "purchase: {case}");
            }
        }
    }
}

#[tokio::test]
async fn with_require_human_each_ask_needs_the_users_answer_in_every_mode() {
    for mode in ["never", "auto", "always"] {
        let config = format!("[dialing]\nconfirm = \"{mode}\"\nrequire_human = true\n");
        let fixture = DialingFixture::new(&config, "default = \"ask\"\n").await;
        for era in Era::BOTH {
            for (capabilities, can_ask) in clients(true) {
                let case = format!("{mode}, {era:?}, {capabilities}");
                let mut session = fixture.session(era, capabilities).await;
                let answer = outcome(&mut session, "place_call", fixture.call(KNOWN, "Hi.")).await;
                assert_eq!(answer, if can_ask { "asked" } else { "refused" }, "{case}");
            }
        }
        assert_eq!(fixture.dialed().await, 0);
    }
}
