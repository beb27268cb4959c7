//! `webhook_hosts`: events and data of calls go to no host that the operator does not list, by whichever tool.

use serde_json::{Value, json};

use super::harness::{Era, Session};
use super::{DialingFixture, cannot_ask, failure};

const TO: &str = "+12025550123";

fn tool(url: &str) -> Value {
    json!([{"type": "http", "name": "t", "description": "d", "url": url}])
}

#[tokio::test]
async fn only_listed_hosts_receive_events_and_data_of_calls() {
    let config = "toolsets = [\"calls\", \"agents\", \"numbers\", \"webhooks\"]\n\
                  [dialing]\nwebhook_hosts = [\"ok.example\", \"*.ok.example\"]\n";
    let fixture = DialingFixture::new(config, "").await;
    let (ok, evil) = ("https://a.ok.example/hook", "https://ok.example@evil.example/ok.example");
    for era in Era::BOTH {
        let mut session = fixture.session(era, cannot_ask()).await;
        let hook = session.data("create_webhook", json!({"url": ok})).await["webhook_id"].clone();
        let named = |url: &str| {
            [
                ("create_webhook", json!({"url": url})),
                ("update_webhook", json!({"webhook_id": hook, "url": url})),
                ("create_agent", json!({"name": "A", "type": "inbound", "webhook_url": url})),
                ("create_agent", json!({"name": "A", "type": "inbound", "tools": tool(url)})),
                ("update_agent", json!({"agent_id": fixture.agent, "webhook_url": url})),
                ("update_agent", json!({"agent_id": fixture.agent, "tools": tool(url)})),
                ("place_call", json!({"agent_id": fixture.agent, "to": TO, "webhook_url": url})),
            ]
        };
        let before = fixture.dialed().await;
        for (name, arguments) in named(evil) {
            let answer = session.call(name, arguments).await;
            let (class, done, message) = failure(&answer);
            assert_eq!((class, done), ("refused_by_policy", "nothing"), "{name}");
            assert!(message.contains("`dialing.webhook_hosts`"), "{message}");
            assert!(
                message.contains("to evil.example; allowed: ok.example, *.ok.example"),
                "{message}"
            );
        }
        assert_eq!(fixture.dialed().await, before);
        for (name, arguments) in named(ok) {
            session.data(name, arguments).await;
        }
    }
}

#[tokio::test]
async fn an_agent_that_was_set_up_elsewhere_sends_nothing_to_other_hosts_either() {
    let fixture = DialingFixture::new("[dialing]\nwebhook_hosts = []\n", "").await;
    let flag = format!("--sandbox={}", fixture.sandbox.url());
    let mut elsewhere = Session::with(Era::Modern, &[&flag], &[]).await;
    let mut session = fixture.session(Era::Modern, cannot_ask()).await;
    let call = fixture.call(TO, "Remind.");
    for (change, undo) in [
        (json!({"webhook_url": "https://evil.example"}), json!({"clear": ["webhook_url"]})),
        (json!({"tools": tool("https://evil.example")}), json!({"tools": []})),
    ] {
        let set = |mut change: Value| {
            change["agent_id"] = json!(fixture.agent);
            change
        };
        elsewhere.data("update_agent", set(change)).await;
        let answer = session.call("place_call", call.clone()).await;
        assert_eq!(failure(&answer).0, "refused_by_policy");
        assert!(failure(&answer).2.contains("to evil.example; allowed: no host"), "{answer}");
        elsewhere.data("update_agent", set(undo)).await;
    }
    assert_eq!(fixture.dialed().await, 0);
    session.data("place_call", call).await;
    assert_eq!(fixture.dialed().await, 1);
}
