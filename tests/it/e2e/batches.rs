//! Lists of people through the tools: the yes, the table, what is refused, what a second request does. The tests move the
//! simulator's clock, by which windows, hours and limits go.

use callingbox_sandbox::Options;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::harness::{Era, Reader, Session, within_limit};

fn config(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// A server with these settings, and another one in the same home, which has made an agent.
pub(super) struct Fixture {
    pub(super) reader: Reader,
    pub(super) maker: Session,
    pub(super) agent: Value,
    _files: Vec<NamedTempFile>,
}

impl Fixture {
    pub(super) async fn new(settings: &str) -> Self {
        Self::with(settings, Options::default()).await
    }

    /// The same on a simulator with these options.
    async fn with(settings: &str, options: Options) -> Self {
        let mut maker = Session::on_simulator(Era::Modern, &[], options).await;
        let returns = json!({"confirmed": "boolean", "reschedule_to": "string"});
        let agent = json!(maker.outbound_agent(returns).await);
        maker.control().credit(1_000_000_000).await;
        let settings = config(settings);
        let flags = ["--config", settings.path().to_str().unwrap()];
        let mut session = maker.start_beside(&flags);
        session.open(Era::Modern).await;
        let mut reader = Reader::new(session);
        reader.name(&agent, "AGENT");
        Self { reader, maker, agent, _files: vec![settings] }
    }

    /// A server with these calling rules.
    async fn with_rules(rules: &str) -> Self {
        let rules = config(rules);
        let mut fixture =
            Self::new(&format!("policy_file = \"{}\"\n", rules.path().display())).await;
        fixture._files.push(rules);
        fixture
    }

    async fn call(&mut self, tool: &str, arguments: Value, then: &str) -> Value {
        self.reader.call(tool, arguments, then).await["structuredContent"].clone()
    }

    pub(super) async fn data(&mut self, tool: &str, arguments: Value) -> Value {
        self.reader.session.data(tool, arguments).await
    }

    /// Moves the clock in steps of ten minutes, which are longer than a pause without credit, until the batch has ended.
    pub(super) async fn finish(&mut self, batch: &Value) -> Value {
        self.finish_in_steps(batch, 600).await
    }

    async fn finish_in_steps(&mut self, batch: &Value, seconds: u64) -> Value {
        for _ in 0..60 {
            self.maker.control().advance(seconds).await;
            let report = self.wait_while_paused(batch).await;
            if report["state"] == "ended" {
                return report;
            }
        }
        panic!("the batch does not end");
    }

    /// The report after a second. For a batch that pauses the answer comes immediately, also if the clock has moved beyond
    /// the pause and its server has not seen that yet: then the clock must not move on, or the time is over before a call.
    async fn wait_while_paused(&mut self, batch: &Value) -> Value {
        let wait = json!({"batch_id": batch, "wait_seconds": 1});
        within_limit("the end of the pause", async {
            loop {
                let report = self.data("get_batch", wait.clone()).await;
                if report["state"] != "paused" {
                    return report;
                }
            }
        })
        .await
    }

    pub(super) async fn dialed(&self) -> Vec<Value> {
        self.maker.control().dialed().await
    }

    pub(super) async fn close(self) {
        self.reader.session.finish_well().await;
        self.maker.finish_well().await;
    }
}

/// People whose calls end in each of the usual ways.
fn people() -> Value {
    let person = |digits: &str, name: &str, time: &str| json!({"to": format!("+1415555{digits}"), "name": name, "context": {"time": time}});
    json!([
        person("0100", "Ada", "10:00"),
        person("0101", "Ben", "10:30"),
        person("0102", "Cleo", "11:00"),
        person("0103", "Dan", "11:30"),
        person("0105", "Eve", "12:00"),
        person("0108", "Finn", "12:30"),
    ])
}

fn list(agent: &Value) -> Value {
    json!({
        "agent_id": agent, "people": people(), "instructions": "Confirm {name}'s appointment at {time}.",
    })
}

#[tokio::test]
async fn a_list_is_confirmed_once_called_and_reported_as_a_table() {
    let mut fixture = Fixture::new("[dialing]\nconfirm = \"always\"\n").await;
    let agent = fixture.agent.clone();
    let shown = fixture.call("place_calls", list(&agent), "shows the list to the user").await;
    let batch = shown["batch_id"].clone();
    assert_eq!(fixture.dialed().await.len(), 0);
    let yes = json!({"batch_id": batch, "confirmation_token": shown["confirmation_token"]});
    fixture.call("place_calls", yes.clone(), "waits with get_batch").await;
    let ended = fixture.finish(&batch).await;
    assert_eq!(ended["counts"], json!({"done": 6}), "{ended}");
    // How far the clock was moved depends on the machine.
    let control = fixture.maker.control();
    let later: jiff::Timestamp = "2026-11-02T17:00:00Z".parse().unwrap();
    control.advance(later.duration_since(control.now().await).as_secs().unsigned_abs()).await;
    // The agent is told whom it calls.
    let calls = fixture.maker.control().request("GET", "/v1/calls?limit=100", None).await;
    let context = &calls["data"].as_array().unwrap().last().unwrap()["context"];
    assert_eq!(context, &json!({"name": "Ada", "time": "10:00"}), "{calls}");
    for row in ended["rows"].as_array().unwrap() {
        fixture.reader.name(&row["call_id"], &format!("CALL-{}", row["row"]));
    }
    fixture.call("get_batch", json!({"batch_id": batch}), "reports the table to the user").await;
    fixture.call("get_batch", json!({}), "knows which lists there are").await;
    fixture.call("place_calls", yes, "does nothing: nobody was called again").await;
    fixture.call("place_calls", list(&agent), "asks whether to call them again").await;
    assert_eq!(fixture.dialed().await.len(), 6);
    insta::assert_snapshot!("a_list", fixture.reader.transcript());
    fixture.close().await;
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_list_is_one_error_and_nothing_rings() {
    let mut fixture = Fixture::new("").await;
    let agent = fixture.agent.clone();
    let call = |people: Value, more: Value| {
        let mut arguments = json!({"agent_id": agent, "people": people});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let wrong = json!([
        {"to": "+14155550100", "name": "Ada"}, {"to": "+14155550100"}, {"to": "+141555501"},
        {"to": "+390612345", "metadata": {"callingbox_mcp_dispatch_id": "x"}},
    ]);
    let more = json!({
        "instructions": "Hello {name}, about {topic}.", "start_at": "2026-11-03T12:00:00Z",
        "end_by": "2026-11-03T11:00:00Z", "from_number": "+14155550111",
        "stop_when": {"field": "price", "equals": "5", "count": 1},
    });
    fixture.call("place_calls", call(wrong, more), "corrects the list").await;
    let many: Vec<Value> =
        (0..101).map(|n| json!({"to": format!("+1212{:07}", 5_550_100 + n)})).collect();
    let error = fixture.reader.session.failure("place_calls", call(json!(many), json!({}))).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("it has 101 people, and a batch may have 100"), "{message}");
    let one = json!([{"to": "+14155550100"}]);
    for (more, then) in [
        (json!({"instructions": "Say {"}), "corrects the braces"),
        (json!({"end_by": "2026-12-03T11:00:00Z"}), "chooses an earlier end"),
        (json!({"retry": {"max_attempts": 4}}), "asks for three attempts at most"),
    ] {
        fixture.call("place_calls", call(one.clone(), more), then).await;
    }
    fixture.call("place_calls", json!({"batch_id": "batch_1"}), "looks for the right id").await;
    let unknown = json!({"batch_id": "batch_000000000000", "confirmation_token": "x"});
    fixture.call("place_calls", unknown, "asks for the list anew").await;
    fixture.call("place_calls", json!({"agent_id": agent}), "names the people").await;
    fixture
        .call("cancel_batch", json!({"batch_id": "batch_000000000000"}), "lists the batches")
        .await;
    assert_eq!(fixture.dialed().await.len(), 0);
    insta::assert_snapshot!("a_list_with_errors", fixture.reader.transcript());
    fixture.close().await;
}

#[tokio::test]
async fn with_the_shipped_limits_80_of_100_people_fit_into_four_hours() {
    let mut fixture = Fixture::new("[dialing]\nconfirm = \"always\"\n").await;
    let agent = fixture.agent.clone();
    let many: Vec<Value> =
        (0..100).map(|n| json!({"to": format!("+1212{:07}", 5_550_100 + n)})).collect();
    let list = json!({"agent_id": agent, "people": many});
    let shown = fixture.data("place_calls", list).await;
    assert_eq!(shown["unreached"], 20, "{shown}");
    let text = shown["note"].as_str().unwrap();
    assert!(
        text.contains("80 of 100; 20 will not be reached in time: the limit `per_hour` of the calling rules is reached first"),
        "{text}"
    );
    fixture.close().await;
}

#[tokio::test]
async fn a_row_waits_for_the_end_of_the_quiet_hours_there() {
    let mut fixture = Fixture::new("[dialing]\nsandbox_quiet_hours = true\n").await;
    let agent = fixture.agent.clone();
    // 15:00 UTC on a Monday: 10:00 in New York, 05:00 in Honolulu, 07:00 in San Francisco.
    let people = json!([
        {"to": "+12125550100", "name": "New York"}, {"to": "+14155550100", "name": "San Francisco"},
        {"to": "+18085550100", "name": "Honolulu"},
    ]);
    let list = json!({"agent_id": agent, "people": people});
    let started = fixture.data("place_calls", list).await;
    let batch = started["batch_id"].clone();
    fixture.maker.control().advance(300).await;
    let report = json!({"batch_id": batch, "wait_seconds": 1});
    let mut open = fixture.data("get_batch", report.clone()).await;
    while open["rows"][0]["state"] == "calling" {
        open = fixture.data("get_batch", report.clone()).await;
    }
    let rows = open["rows"].as_array().unwrap();
    let states: Vec<_> = rows.iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["done", "waiting", "waiting"], "{open}");
    assert!(rows[1]["note"].as_str().unwrap().contains("within the quiet hours"), "{open}");
    let ended = fixture.finish_in_steps(&batch, 3_600).await;
    assert_eq!(ended["counts"], json!({"done": 3}), "{ended}");
    let dialed = fixture.dialed().await;
    let times: Vec<_> = dialed.iter().map(|call| call["dialed_at"].as_str().unwrap()).collect();
    assert!(times[1] >= "2026-11-02T16:00:00Z", "{times:?}");
    assert!(times[2] >= "2026-11-02T18:00:00Z", "{times:?}");
    fixture.close().await;
}

#[tokio::test]
async fn a_list_that_waits_for_a_limit_says_for_which_and_until_when() {
    let mut fixture = Fixture::with_rules("[limits]\nper_hour = 1\n").await;
    let people = json!([{"to": "+14155550100"}, {"to": "+14155550103"}, {"to": "+12125550100"}]);
    let list = json!({"agent_id": fixture.agent, "people": people});
    let started = fixture.data("place_calls", list).await;
    let batch = started["batch_id"].clone();
    fixture.maker.control().advance(300).await;
    let report = within_limit("the limit", async {
        loop {
            let report = json!({"batch_id": batch, "wait_seconds": 1});
            let report = fixture.data("get_batch", report).await;
            if report["rows"][1].get("note").is_some() {
                return report;
            }
        }
    })
    .await;
    let note = "calling rule `limits.per_hour`: 1 call was made in the last hour; possible again at 2026-11-02T16:00:00Z";
    assert_eq!(report["rows"][1]["note"], note, "{report}");
    let ended = fixture.finish_in_steps(&batch, 3_600).await;
    assert_eq!(ended["counts"], json!({"done": 3}), "{ended}");
    assert!(ended["rows"][1].get("note").is_none(), "{ended}");
    fixture.close().await;
}

#[tokio::test]
async fn a_list_goes_on_when_a_call_ends_that_nobody_waits_for() {
    let mut fixture = Fixture::with_rules("[limits]\nconcurrent = 1\n").await;
    let call = json!({"agent_id": fixture.agent, "to": "+13055550100"});
    fixture.maker.data("place_call", call).await;
    let people = json!([{"to": "+14155550100"}, {"to": "+12125550100"}]);
    let list = json!({"agent_id": fixture.agent, "people": people});
    let started = fixture.data("place_calls", list).await;
    let batch = started["batch_id"].clone();
    let report = fixture.data("get_batch", json!({"batch_id": batch})).await;
    let note = "calling rule `limits.concurrent`: 1 call is in progress; wait for it to end";
    assert_eq!(report["rows"][0]["note"], note, "{report}");
    let mut ended = report;
    for _ in 0..6 {
        fixture.maker.control().advance(300).await;
        ended = fixture.wait_while_paused(&batch).await;
    }
    assert_eq!(ended["counts"], json!({"done": 2}), "{ended}");
    fixture.close().await;
}

#[tokio::test]
async fn those_who_were_not_reached_are_called_again_after_a_pause() {
    let scenarios = config(
        "[[scenario]]\nname = 'second'\nto = '+14155550198'\nendings = ['no_answer', 'completed']\n",
    );
    let options =
        Options { scenario_files: vec![scenarios.path().to_owned()], ..Options::default() };
    let mut fixture = Fixture::with("", options).await;
    let agent = fixture.agent.clone();
    let people = json!([
        {"to": "+14155550101"}, {"to": "+14155550198"}, {"to": "+14155550100"}, {"to": "+14155550103"},
    ]);
    let list = json!({
        "agent_id": agent, "people": people, "retry": {"max_attempts": 3, "after_minutes": 10},
    });
    let started = fixture.data("place_calls", list).await;
    let ended = fixture.finish(&started["batch_id"]).await;
    let rows = ended["rows"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.map(|row| json!([row["outcome"], row["attempts"]])).collect();
    let expected = json!([["no_answer", 3], ["completed", 2], ["completed", 1], ["voicemail", 1]]);
    assert_eq!(json!(rows), expected, "{ended}");
    assert_eq!(fixture.dialed().await.len(), 7);
    fixture.close().await;
}

#[tokio::test]
async fn no_new_call_starts_once_enough_results_fit() {
    let mut fixture = Fixture::new("").await;
    let agent = fixture.agent.clone();
    let people: Vec<Value> =
        (0..6).map(|n| json!({"to": format!("+1{}5550100", 212 + n * 100)})).collect();
    let stop = json!({"field": "confirmed", "equals": "true", "count": 1});
    let list = json!({"agent_id": agent, "people": people, "stop_when": stop});
    let started = fixture.data("place_calls", list).await;
    let ended = fixture.finish(&started["batch_id"]).await;
    let rows = ended["rows"].as_array().unwrap();
    let matches = rows.iter().filter(|row| row["result"]["confirmed"] == true).count();
    assert_eq!(matches, 1, "{ended}");
    assert!(ended["counts"]["not_called"].as_u64().unwrap() >= 1, "{ended}");
    fixture.close().await;
}

#[tokio::test]
async fn a_canceled_list_starts_no_more_calls_and_names_those_that_go_on() {
    let mut fixture = Fixture::new("").await;
    let agent = fixture.agent.clone();
    let mut people: Vec<Value> = vec![json!({"to": "+14155550107"})];
    people.extend((0..9).map(|n| json!({"to": format!("+1{}5550107", 212 + n * 10)})));
    let started = fixture.data("place_calls", json!({"agent_id": agent, "people": people})).await;
    let batch = started["batch_id"].clone();
    fixture.maker.control().wait_for_requests("POST", "/v1/calls", 5).await;
    let canceled = fixture.data("cancel_batch", json!({"batch_id": batch})).await;
    assert_eq!(canceled["state"], "canceled", "{canceled}");
    fixture.maker.control().advance(20_000).await;
    let report = json!({"batch_id": batch, "wait_seconds": 2});
    let report = fixture.data("get_batch", report).await;
    assert_eq!(report["counts"]["not_called"], 5, "{report}");
    assert_eq!(fixture.dialed().await.len(), 5);
    // The numbers are free again.
    let again = json!({"agent_id": agent, "to": "+12925550107", "instructions": "Ask."});
    assert_eq!(fixture.data("place_call", again).await["outcome"], "in_progress");
    fixture.close().await;
}

#[tokio::test]
async fn a_number_is_in_one_list_at_a_time_and_a_single_call_is_a_conflict() {
    let mut fixture = Fixture::new("").await;
    let agent = fixture.agent.clone();
    let later = json!({
        "agent_id": agent, "people": [{"to": "+14155550100"}, {"to": "+14155550101"}],
        "start_at": "2026-11-03T15:00:00Z",
    });
    let first = fixture.data("place_calls", later).await;
    let other = json!({
        "agent_id": agent, "people": [{"to": "+14155550101"}, {"to": "+14155550102"}],
        "start_at": "2026-11-03T15:00:00Z",
    });
    fixture.reader.name(&first["batch_id"], "FIRST");
    fixture.call("place_calls", other, "tells the user who is in another list").await;
    let single = json!({"agent_id": agent, "to": "+14155550100"});
    fixture.call("place_call", single, "leaves the call to the list").await;
    insta::assert_snapshot!("one_list_at_a_time", fixture.reader.transcript());
    fixture.close().await;
}

#[tokio::test]
async fn a_list_of_a_process_that_ended_is_interrupted_until_it_is_resumed() {
    let mut fixture = Fixture::new("").await;
    let agent = fixture.agent.clone();
    let people: Vec<Value> =
        (0..8).map(|n| json!({"to": format!("+1{}5550100", 212 + n * 10)})).collect();
    let list = json!({"agent_id": agent, "people": people});
    let started = fixture.data("place_calls", list).await;
    let batch = started["batch_id"].clone();
    fixture.maker.control().wait_for_requests("POST", "/v1/calls", 5).await;
    fixture.reader.session.end_input();
    fixture.reader.session.wait_for_exit().await;
    let waited = json!({"batch_id": batch, "wait_seconds": 1});
    let report = fixture.maker.data("get_batch", waited.clone()).await;
    assert_eq!(report["state"], "interrupted", "{report}");
    assert_eq!(fixture.dialed().await.len(), 5);
    fixture.maker.data("place_calls", json!({"batch_id": batch, "resume": true})).await;
    let mut ended = Value::Null;
    while ended["state"] != "ended" {
        fixture.maker.control().advance(600).await;
        ended = fixture.maker.data("get_batch", waited.clone()).await;
    }
    assert_eq!(ended["counts"], json!({"done": 8}), "{ended}");
    assert_eq!(fixture.dialed().await.len(), 8);
    fixture.maker.finish_well().await;
}

#[tokio::test]
async fn a_batch_is_a_task_and_a_resource_that_can_be_followed() {
    let mut fixture = Fixture::new("").await;
    let agent = fixture.agent.clone();
    let session = &mut fixture.reader.session;
    session.capabilities = json!({"extensions": {super::following::TASKS: {}}});
    let people = json!([{"to": "+14155550100"}, {"to": "+14155550101"}]);
    let answer = session.call("place_calls", json!({"agent_id": agent, "people": people})).await;
    let task = answer["result"]["taskId"].clone();
    let id = task.as_str().unwrap().split('~').next().unwrap().to_owned();
    let uri = format!("callingbox://batches/{id}");
    let running = session.request("tasks/get", json!({"taskId": task})).await;
    assert_eq!(running["result"]["status"], "working", "{running}");
    let read = session.request("resources/read", json!({"uri": uri})).await;
    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
    let content: Value = serde_json::from_str(text).unwrap();
    assert_eq!(content["state"], "running", "{read}");
    fixture.finish(&json!(id)).await;
    let session = &mut fixture.reader.session;
    let table = json!({"uri": format!("{uri}.csv")});
    let table = session.request("resources/read", table).await;
    let table = table["result"]["contents"][0]["text"].as_str().unwrap();
    assert!(table.starts_with("row,to,name,state,outcome,result.confirmed,"), "{table}");
    assert!(table.contains("2,'+14155550101,,done,no_answer,"), "{table}");
    let done = session.request("tasks/get", json!({"taskId": task})).await;
    assert_eq!(done["result"]["status"], "completed", "{done}");
    let rows = &done["result"]["result"]["structuredContent"]["rows"];
    assert_eq!(rows[1]["outcome"], "no_answer", "{done}");
    let canceled = session.request("tasks/cancel", json!({"taskId": task})).await;
    assert!(canceled.get("result").is_some(), "{canceled}");
    fixture.close().await;
}

#[tokio::test]
async fn twelve_people_cost_four_requests_and_2500_tokens() {
    let tokens = |text: &str| tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len();
    let mut fixture = Fixture::new("[dialing]\nconfirm = \"always\"\n").await;
    let names =
        ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea"];
    let endings = [100, 101, 102, 103, 100, 100, 105, 100, 100, 104, 100, 108];
    let people: Vec<Value> = (0..)
        .zip(names.iter().zip(endings))
        .map(|(n, (name, ending))| {
            json!({
                "to": format!("+1{}555{ending:04}", 201 + n * 10), "name": name,
                "context": {"time": format!("{}:30", 8 + n)},
            })
        })
        .collect();
    let list = json!({
        "agent_id": fixture.agent, "people": people,
        "instructions": "Confirm {name}'s appointment at {time} on Tuesday.",
    });
    let (mut requests, mut cost) = (0, 0);
    let mut count = |arguments: &Value, answer: &Value| {
        requests += 1;
        let text = answer["content"][0]["text"].as_str().unwrap();
        cost += tokens(&arguments.to_string()) + tokens(text);
    };
    let shown = fixture.reader.session.call("place_calls", list.clone()).await;
    count(&list, &shown["result"]);
    let shown = &shown["result"]["structuredContent"];
    let batch = shown["batch_id"].clone();
    let yes = json!({"batch_id": batch, "confirmation_token": shown["confirmation_token"]});
    let started = fixture.reader.session.call("place_calls", yes.clone()).await;
    count(&yes, &started["result"]);
    fixture.finish(&batch).await;
    let wait = json!({"batch_id": batch, "wait_seconds": 300});
    let table = fixture.reader.session.call("get_batch", wait.clone()).await;
    count(&wait, &table["result"]);
    assert_eq!(requests, 3);
    assert!(cost <= 2_500, "{cost} tokens");
    println!("{requests} requests, {cost} tokens");
    fixture.close().await;
}
