//! Moving a number from the agent that answers it to another one: the user is asked, and whatever fails, the answer says
//! which agent has the number.

use serde_json::{Value, json};

use crate::harness::{Era, Reader, Session, within_limit};

/// A configuration file with these settings under `[dialing]`.
fn config_file(settings: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("[dialing]\n{settings}\n")).unwrap();
    file
}

/// An inbound agent `Reception` with two numbers, another one `Night shift` without any, and the number to move: the
/// second and primary one.
struct Desk {
    /// Its user is never asked.
    session: Session,
    /// Its user is asked for what a rule marks `ask`.
    reader: Reader,
    reception: Value,
    night: Value,
    number: Value,
}

impl Desk {
    async fn new() -> Self {
        let mut session = Session::modern().await;
        let offers = session.data("search_numbers", json!({"limit": 2})).await;
        session.control().credit(100_000_000).await;
        let mut numbers = Vec::new();
        let first = json!({"name": "Reception", "type": "inbound"});
        let reception = session.data("create_agent", first).await["agent_id"].clone();
        let second = json!({"name": "Night shift", "type": "inbound"});
        let night = session.data("create_agent", second).await["agent_id"].clone();
        for offer in offers["numbers"].as_array().unwrap() {
            let order = json!({"phone_number": offer["phone_number"]});
            let bought = session.data("purchase_number", order).await;
            numbers.push(bought["number"]["number_id"].clone());
        }
        let attach = json!({"agent_id": reception, "attach": numbers, "primary": numbers[1]});
        session.data("set_agent_numbers", attach).await;
        let config = config_file("confirm = \"auto\"");
        let flags = ["--config", config.path().to_str().unwrap()];
        let mut asking = session.start_beside(&flags);
        asking.open(Era::Modern).await;
        let mut reader = Reader::new(asking);
        reader.name(&reception, "RECEPTION");
        reader.name(&night, "NIGHT");
        reader.name(&numbers[0], "OTHER");
        reader.name(&numbers[1], "NUMBER");
        Self { session, reader, reception, night, number: numbers[1].clone() }
    }

    fn move_it(&self) -> Value {
        json!({"agent_id": self.night, "attach": [self.number], "take_over": true})
    }

    /// Asks for the move, and brings the token back.
    async fn confirmed_move(&mut self, then: &str) -> Value {
        let mut arguments = self.move_it();
        let preview = self.reader.session.data("set_agent_numbers", arguments.clone()).await;
        let token = preview["confirmation_token"].clone();
        self.reader.name(&token, "TOKEN");
        arguments["confirmation_token"] = token;
        self.reader.call("set_agent_numbers", arguments, then).await
    }

    async fn finish_well(self) {
        self.reader.session.finish_well().await;
        self.session.finish_well().await;
    }

    /// The ids of an agent's numbers, the primary one first.
    async fn numbers(&mut self, agent: &Value) -> Vec<Value> {
        let agent = self.session.data("get_agent", json!({"agent_id": agent})).await;
        let numbers = agent["numbers"].as_array().unwrap().iter();
        let mut ids: Vec<Value> = numbers.map(|number| number["number_id"].clone()).collect();
        ids.sort_by_key(|id| *id != agent["primary_number_id"]);
        ids
    }

    async fn fault(&self, mut fault: Value, agent: &Value, method: &str) {
        let path = format!("/v1/agents/{}/*", agent.as_str().unwrap());
        fault["path"] = json!(path);
        fault["method"] = json!(method);
        fault["times"] = json!(20);
        self.session.control().fault(fault).await;
    }
}

#[tokio::test]
async fn a_number_moves_once_the_user_agreed() {
    let mut desk = Desk::new().await;
    let attach = json!({"agent_id": desk.night, "attach": [desk.number]});
    let refused = desk
        .reader
        .call(
            "set_agent_numbers",
            attach,
            "asks the user whether the number may leave Reception, or calls with take_over: true, which asks",
        )
        .await;
    assert_eq!(refused["isError"], true);
    let preview =
        desk.reader.call("set_agent_numbers", desk.move_it(), "shows the user the question").await;
    let mut confirmed = desk.move_it();
    confirmed["confirmation_token"] = preview["structuredContent"]["confirmation_token"].clone();
    assert_eq!(desk.numbers(&desk.night.clone()).await, [""; 0]);
    let then = "tells the user that Night shift answers the number now, and that Reception kept the other one";
    desk.reader.call("set_agent_numbers", confirmed.clone(), then).await;
    let (night, reception) = (desk.night.clone(), desk.reception.clone());
    assert_eq!(desk.numbers(&night).await, [desk.number.clone()]);
    assert_eq!(desk.numbers(&reception).await.len(), 1);
    // Again, nothing has to move.
    let then = "tells the user that it is as they wanted";
    desk.reader.call("set_agent_numbers", confirmed, then).await;
    insta::assert_snapshot!("a_number_moves", desk.reader.transcript());
    // On a simulator whose user is never asked it moves at once.
    let back = json!({"agent_id": reception, "attach": [desk.number], "take_over": true});
    desk.session.data("set_agent_numbers", back).await;
    assert_eq!(desk.numbers(&reception).await.len(), 2);
    desk.finish_well().await;
}

#[tokio::test]
async fn a_client_that_can_ask_its_user_asks() {
    for (reply, moved) in [
        (json!({"action": "decline"}), false),
        (json!({"action": "accept", "content": {"confirm": true}}), true),
    ] {
        let mut desk = Desk::new().await;
        let config = config_file("confirm = \"auto\"");
        let flags = ["--config", config.path().to_str().unwrap()];
        let mut asking = desk.session.start_beside(&flags);
        asking.capabilities = json!({"elicitation": {}});
        asking.open(Era::Legacy("2025-11-25")).await;
        let id = asking.begin_call("set_agent_numbers", desk.move_it()).await;
        let question = asking.next().await.unwrap();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        let text = question["params"]["message"].as_str().unwrap();
        for line in [
            "Move a phone number to another agent (simulated)?",
            "From: Reception (agent_id ",
            "whose primary number it is",
            "To: Night shift (agent_id ",
            "Meanwhile: nobody answers the number for a moment",
            "You are asked because another agent would lose its number.",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        asking.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": reply})).await;
        let answer = asking.answer(id).await;
        assert_eq!(answer["result"]["isError"], !moved, "{answer}");
        let night = desk.night.clone();
        assert_eq!(desk.numbers(&night).await.len(), usize::from(moved));
        asking.finish_well().await;
        desk.finish_well().await;
    }
}

#[tokio::test]
async fn a_move_that_has_begun_is_completed_or_undone_without_its_client() {
    const ATTACH: &str = "/v1/agents/{id}/numbers";
    const DETACH: &str = "/v1/agents/{id}/numbers/{number_id}";
    for (is_cancelled, is_refused) in [(true, false), (true, true), (false, false)] {
        let mut desk = Desk::new().await;
        let (night, reception) = (desk.night.clone(), desk.reception.clone());
        let late = json!({"kind": "delay", "when": "after", "delay_ms": 700});
        desk.fault(late, &reception, "DELETE").await;
        if is_refused {
            let refused = json!({"kind": "status", "status": 400, "when": "before"});
            desk.fault(refused, &night, "POST").await;
        }
        let mut client = desk.session.start_beside(&[]);
        client.open(Era::Legacy("2025-11-25")).await;
        let (attached, detached) = (
            desk.session.control().count("POST", ATTACH).await,
            desk.session.control().count("DELETE", DETACH).await,
        );
        let id = client.begin_call("set_agent_numbers", desk.move_it()).await;
        desk.session.control().wait_for_requests("DELETE", DETACH, detached + 1).await;
        if is_cancelled {
            client.notify("notifications/cancelled", json!({"requestId": id})).await;
        }
        client.close().await;
        let requests = if is_refused { 2 } else { 1 };
        desk.session.control().wait_for_requests("POST", ATTACH, attached + requests).await;
        // The next answer says what is so.
        let holder = if is_refused { reception } else { night };
        within_limit("the number", async {
            while desk.numbers(&holder).await.first() != Some(&desk.number) {}
        })
        .await;
        desk.finish_well().await;
    }
}

#[tokio::test]
async fn without_questions_nothing_moves() {
    let desk = Desk::new().await;
    let flag = format!("--sandbox={}", desk.session.simulator_url());
    let url = desk.session.simulator_url();
    let live = [
        ("CALLINGBOX_BASE_URL", url.as_str()),
        ("CALLINGBOX_API_KEY", callingbox_mcp::simulator::KEY),
    ];
    for (flags, environment, config, rule) in [
        (&[][..], &live[..], "confirm = \"never\"", "dialing.confirm"),
        (&[flag.as_str()], &[], "require_human = true", "dialing.require_human"),
    ] {
        let config = config_file(config);
        let flags = [flags, &["--config", config.path().to_str().unwrap()]].concat();
        let mut strict = Session::with(Era::Modern, &flags, environment).await;
        let refused = strict.failure("set_agent_numbers", desk.move_it()).await;
        assert_eq!(refused["class"], "refused_by_policy", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(rule), "{refused}");
        strict.finish_well().await;
    }
    desk.finish_well().await;
}

#[tokio::test]
async fn every_failure_says_who_has_the_number() {
    let before = |status: u16| json!({"kind": "status", "status": status, "when": "before"});
    let reset = |when: &str| json!({"kind": "reset", "when": when});
    let mut transcripts = Vec::new();
    // The fault of attaching to Night shift, of detaching from Reception, of attaching to Reception; and the numbers of
    // Reception and of Night shift afterwards.
    for (name, night, detach, back, then, left) in [
        (
            "attaching is refused",
            Some(before(400)),
            None,
            None,
            "tells the user that nothing changed, and why",
            (2, 0),
        ),
        (
            "the answer to attaching is lost",
            Some(reset("after")),
            None,
            None,
            "tells the user that it is moved",
            (1, 1),
        ),
        (
            "attaching is lost",
            Some(reset("before")),
            None,
            None,
            "calls set_agent_numbers as it says, since nobody answers the number",
            (1, 0),
        ),
        (
            "detaching is refused",
            None,
            Some(before(400)),
            None,
            "tells the user that nothing changed, and why",
            (2, 0),
        ),
        (
            "detaching is lost",
            None,
            Some(reset("before")),
            None,
            "tells the user that nothing changed, and tries again if they wish",
            (2, 0),
        ),
        (
            "giving it back is refused too",
            Some(before(400)),
            None,
            Some(before(400)),
            "gives it back as it says, and tells the user",
            (1, 0),
        ),
    ] {
        let mut desk = Desk::new().await;
        let (night_id, reception_id) = (desk.night.clone(), desk.reception.clone());
        if let Some(fault) = night {
            desk.fault(fault, &night_id, "POST").await;
        }
        if let Some(fault) = detach {
            desk.fault(fault, &reception_id, "DELETE").await;
        }
        if let Some(fault) = back {
            desk.fault(fault, &reception_id, "POST").await;
        }
        desk.confirmed_move(then).await;
        desk.session.control().request("DELETE", "/sandbox/faults", None).await;
        transcripts.push(format!("# {name}\n{}", desk.reader.transcript()));
        let (reception, night) = (desk.numbers(&reception_id).await, desk.numbers(&night_id).await);
        assert_eq!((reception.len(), night.len()), left, "{name}");
        if reception.len() == 2 {
            assert_eq!(reception[0], desk.number, "{name}: it is the primary number as before");
        }
        desk.finish_well().await;
    }
    insta::assert_snapshot!("a_move_that_fails", transcripts.join("\n\n"));
}
