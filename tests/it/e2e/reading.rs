//! What a client reads besides calling tools: resources, prompts, completions, the skill; and that what no
//! tool that is offered shows is seen in no other way.

use serde_json::{Value, json};

use crate::e2e::following::{TASKS, place, progress_until, waiting};
use crate::harness::{Era, Session};

#[tokio::test]
async fn resources_prompts_completions_and_the_skill_are_there_in_both_eras() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        let agent = session.outbound_agent(json!({"confirmed": "boolean"})).await;
        let listed = session.request("resources/list", json!({})).await;
        let uris: Vec<&str> = listed["result"]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| resource["uri"].as_str().unwrap())
            .collect();
        assert_eq!(
            uris,
            [
                "callingbox://numbers",
                "callingbox://policy",
                "callingbox://guide",
                "skill://callingbox-telephone/SKILL.md"
            ]
        );
        let agent_uri = format!("callingbox://agents/{agent}");
        for uri in uris.iter().copied().chain([agent_uri.as_str()]) {
            let read = session.request("resources/read", json!({"uri": uri})).await;
            let contents = &read["result"]["contents"][0];
            assert_eq!(contents["uri"], uri, "{read}");
            assert!(contents["text"].as_str().unwrap().len() > 20, "{read}");
        }
        let templates = session.request("resources/templates/list", json!({})).await;
        assert_eq!(templates["result"]["resourceTemplates"].as_array().unwrap().len(), 3);
        let missing = json!({"uri": "callingbox://calls/no-such-call"});
        let missing = session.request("resources/read", missing).await;
        let code = if era == Era::Modern { -32602 } else { -32002 };
        assert_eq!(missing["error"]["code"], code, "{missing}");
        assert_eq!(missing["error"]["data"]["uri"], "callingbox://calls/no-such-call");

        let prompts = session.request("prompts/list", json!({})).await;
        assert_eq!(prompts["result"]["prompts"].as_array().unwrap().len(), 5, "{prompts}");
        let prompt = json!({"name": "receptionist", "arguments": {"business": "Northside Dental"}});
        let prompt = session.request("prompts/get", prompt).await;
        let text = prompt["result"]["messages"][0]["content"]["text"].as_str().unwrap();
        assert!(text.contains("Northside Dental") && text.contains("set_agent_numbers"), "{text}");

        let complete = |reference: Value, name: &str, value: &str| json!({"ref": reference, "argument": {"name": name, "value": value}});
        let prompt = json!({"type": "ref/prompt", "name": "appointment_confirmation"});
        let found =
            session.request("completion/complete", complete(prompt.clone(), "agent_id", "")).await;
        assert_eq!(found["result"]["completion"]["values"], json!([agent]), "{found}");
        let found =
            session.request("completion/complete", complete(prompt, "language", "en-")).await;
        assert_eq!(found["result"]["completion"]["values"], json!(["en-GB", "en-US"]), "{found}");
        let template = json!({"type": "ref/resource", "uri": "callingbox://agents/{id}"});
        let found = session
            .request(
                "completion/complete",
                complete(template, "id", agent.split_once('-').unwrap().0),
            )
            .await;
        assert_eq!(found["result"]["completion"]["values"], json!([agent]), "{found}");

        let skills = session.request("skills/list", json!({})).await;
        let uri = skills["result"]["skills"][0]["uri"].clone();
        assert_eq!(uri, "skill://callingbox-telephone/SKILL.md", "{skills}");
        let read = session.request("resources/read", json!({"uri": uri})).await;
        let file = std::fs::read_to_string("skills/callingbox-telephone/SKILL.md").unwrap();
        assert_eq!(read["result"]["contents"][0]["text"], file);
    }
}

#[tokio::test]
async fn who_is_offered_no_transcript_is_not_told_the_words_as_progress() {
    let mut whole = Session::modern().await;
    let call = place(&mut whole, "+13105550100").await;
    let follower = whole.begin("tools/call", waiting(&call, 60)).await;
    let mut narrowed = whole.beside(&["--tools", "get_call_result"]);
    narrowed.open(Era::Modern).await;
    let id = narrowed.begin("tools/call", waiting(&call, 60)).await;
    progress_until(&mut narrowed, "The call is queued.").await;
    progress_until(&mut whole, "The call is queued.").await;
    whole.control().advance(40).await;
    progress_until(&mut whole, "said: ").await;
    whole.control().advance(600).await;
    let answer = narrowed.answer(id).await;
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "completed", "{answer}");
    while let Some(message) = narrowed.early() {
        let told = message["params"]["message"].as_str().unwrap();
        assert!(told.starts_with("The call is ") || told.starts_with("Still waiting"), "{told}");
    }
    whole.answer(follower).await;
}

#[tokio::test]
async fn what_is_read_of_the_account_says_that_it_is_simulated() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550100").await;
    let agent = session.data("list_agents", json!({})).await["agents"][0]["agent_id"].clone();
    let call = format!("callingbox://calls/{}", call.as_str().unwrap());
    let transcript = format!("{call}/transcript");
    let agent = format!("callingbox://agents/{}", agent.as_str().unwrap());
    for begins in ["Nothing was said so far.", "Spoken words follow"] {
        for uri in [&call, &transcript, &agent, "callingbox://numbers"] {
            let read = session.request("resources/read", json!({"uri": uri})).await;
            let text = read["result"]["contents"][0]["text"].as_str().unwrap();
            assert!(text.to_lowercase().contains("simulated"), "{uri}: {text}");
            assert!(uri != transcript || text.contains(begins), "{uri}: {text}");
        }
        session.control().advance(600).await;
    }
    session.finish_well().await;
}

#[tokio::test]
async fn the_owned_numbers_are_read_as_they_are_listed() {
    let mut session = Session::modern().await;
    session.outbound_agent(json!({})).await;
    // As an account of before agents has them, with secrets beside.
    let mut numbers = session.control().ask("GET", "/v1/numbers", None).await;
    let number = &mut numbers["data"][0];
    number["inbound_webhook_url"] = json!("https://e.com/h?token=SECRET");
    number["inbound_tools"] = json!([{"type": "http", "headers": {"Authorization": "SECRET"}}]);
    let old = json!({"method": "GET", "path": "/v1/numbers", "kind": "status", "status": 200, "body": numbers, "times": 2});
    session.control().fault(old).await;
    let listed = session.data("list_numbers", json!({})).await;
    let read = session.request("resources/read", json!({"uri": "callingbox://numbers"})).await;
    let read = read["result"]["contents"][0]["text"].as_str().unwrap();
    assert!(!read.contains("SECRET"), "{read}");
    assert_eq!(serde_json::from_str::<Value>(read).unwrap(), listed);
    session.finish_well().await;
}

#[tokio::test]
async fn what_no_tool_shows_is_shown_in_no_other_way() {
    let mut whole = Session::modern().await;
    let call = place(&mut whole, "+13105550107").await;
    let agent = whole.data("list_agents", json!({})).await["agents"][0]["agent_id"].clone();
    let number = whole.data("list_numbers", json!({})).await;
    let number = number["numbers"][0]["e164"].clone();
    let [free, call_uri, transcript, agent_uri, numbers, policy] = [
        "callingbox://guide",
        &format!("callingbox://calls/{}", call.as_str().unwrap()),
        &format!("callingbox://calls/{}/transcript", call.as_str().unwrap()),
        &format!("callingbox://agents/{}", agent.as_str().unwrap()),
        "callingbox://numbers",
        "callingbox://policy",
    ];
    let all = [free, call_uri, transcript, agent_uri, numbers, policy];
    for era in Era::BOTH {
        let code = if era == Era::Modern { -32602 } else { -32002 };
        // The tools, what can be read with them, and which of agents, calls and numbers are completed.
        for (tools, shown, completed) in [
            ("search_numbers", &[free][..], [false, false, false]),
            ("list_numbers", &[free, numbers], [false, false, true]),
            ("get_call_result", &[free, call_uri], [false; 3]),
            ("get_call_transcript", &[free, transcript], [false; 3]),
            ("get_agent", &[free, agent_uri], [false; 3]),
            ("list_agents", &[free], [true, false, false]),
            ("list_calls", &[free, policy], [false, true, false]),
            ("place_call", &[free, policy], [false; 3]),
        ] {
            let mut session = whole.beside(&["--tools", tools]);
            session.open(era).await;
            let mut listed = Vec::new();
            for (method, list, name) in [
                ("resources/list", "resources", "uri"),
                ("resources/templates/list", "resourceTemplates", "uriTemplate"),
            ] {
                let answer = session.request(method, json!({})).await;
                for one in answer["result"][list].as_array().unwrap() {
                    let uri = one[name].as_str().unwrap();
                    let agents = uri.contains("agents");
                    let id = if agents { agent.as_str() } else { call.as_str() };
                    listed.push(uri.replace("{id}", id.unwrap()));
                }
            }
            listed.retain(|uri| !uri.starts_with("skill://"));
            listed.sort_by_key(|uri| all.iter().position(|one| one == uri));
            assert_eq!(listed, shown, "{era:?} {tools}");

            for uri in all {
                let read = session.request("resources/read", json!({"uri": uri})).await;
                if shown.contains(&uri) {
                    assert_eq!(read["result"]["contents"][0]["uri"], uri, "{tools}: {read}");
                    // The guide says what is not to be had.
                    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
                    let lacks =
                        text.starts_with("Not offered here, with the steps that need them: ");
                    assert_eq!(lacks, uri == free, "{tools}: {read}");
                } else {
                    assert_eq!(read["error"]["code"], code, "{tools}: {read}");
                    assert_eq!(read["error"]["data"]["uri"], uri, "{tools}: {read}");
                    let why = format!("{uri} is not available here: it needs the tool ");
                    let message = read["error"]["message"].as_str().unwrap();
                    assert!(message.starts_with(&why), "{tools}: {read}");
                }
            }
            for uri in [call_uri, transcript] {
                let is_shown = shown.contains(&uri);
                if era == Era::Modern {
                    let filter = json!({"notifications": {"resourceSubscriptions": [uri]}});
                    session.begin("subscriptions/listen", filter).await;
                    let accepted = session.next().await.unwrap();
                    let expected = is_shown.then(|| json!({"resourceSubscriptions": [uri]}));
                    let expected = expected.unwrap_or_else(|| json!({}));
                    assert_eq!(accepted["params"]["notifications"], expected, "{tools}");
                } else {
                    let answer = session.request("resources/subscribe", json!({"uri": uri})).await;
                    assert_eq!(answer.get("result").is_some(), is_shown, "{tools}: {answer}");
                }
            }

            let found = [
                ids(&mut session, "callingbox://agents/{id}", "").await,
                ids(&mut session, "callingbox://calls/{id}", "").await,
                values(&mut session, "receptionist", "number", "").await,
            ];
            let there = [json!([agent]), json!([call]), json!([number])];
            for ((found, there), completed) in found.iter().zip(there).zip(completed) {
                let expected = if completed { there } else { json!([]) };
                assert_eq!(found, &expected, "{era:?} {tools}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_is_a_task_only_for_whom_its_result_is_offered_to() {
    let mut whole = Session::modern().await;
    let agent = whole.outbound_agent(json!({})).await;
    let order = json!({"agent_id": agent, "to": "+13105550107"});
    let open = async |tools: &str| {
        let mut session = whole.beside(&["--tools", tools]);
        session.capabilities = json!({"extensions": {TASKS: {}}});
        session.open(Era::Modern).await;
        session
    };
    let mut both = open("place_call,get_call_result").await;
    let placed = both.call("place_call", order.clone()).await;
    let task = json!({"taskId": placed["result"]["taskId"]});
    assert_eq!(both.request("tasks/get", task.clone()).await["result"]["status"], "working");

    let mut one = open("place_call").await;
    let again = one.data("place_call", order).await;
    assert!(task["taskId"].as_str().unwrap().starts_with(again["call_id"].as_str().unwrap()));
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        let mut params = task.clone();
        if method == "tasks/update" {
            params["inputResponses"] = json!({});
        }
        let refused = one.request(method, params).await;
        assert_eq!(
            refused["error"]["message"],
            "the task is not available here: it needs the tool `get_call_result`, which is not offered",
            "{method}: {refused}"
        );
    }
}

fn completing(reference: Value, name: &str, value: &str) -> Value {
    json!({"ref": reference, "argument": {"name": name, "value": value}})
}

/// What completes the variable of a resource template.
async fn ids(session: &mut Session, template: &str, typed: &str) -> Value {
    let template = json!({"type": "ref/resource", "uri": template});
    let found = session.request("completion/complete", completing(template, "id", typed)).await;
    found["result"]["completion"]["values"].clone()
}

/// What completes the argument of a prompt.
async fn values(session: &mut Session, prompt: &str, argument: &str, typed: &str) -> Value {
    let prompt = json!({"type": "ref/prompt", "name": prompt});
    let found = session.request("completion/complete", completing(prompt, argument, typed)).await;
    found["result"]["completion"]["values"].clone()
}

#[tokio::test]
async fn completions_find_agents_by_name_calls_and_numbers() {
    for era in Era::BOTH {
        let mut session = Session::new(era).await;
        let call = place(&mut session, "+13105550107").await;
        let agents = session.data("list_agents", json!({})).await;
        let outbound = &agents["agents"][0]["agent_id"];
        let number = session.data("list_numbers", json!({})).await;
        let number = &number["numbers"][0]["e164"];
        let inbound = json!({
            "name": "Front desk", "type": "inbound", "persona": "You are Leo.", "instructions": "Greet.",
        });
        let inbound = session.data("create_agent", inbound).await["agent_id"].clone();

        let agent = "callingbox://agents/{id}";
        assert_eq!(ids(&mut session, agent, "front D").await, json!([inbound]));
        assert_eq!(ids(&mut session, agent, "remind").await, json!([outbound]));
        let both = ids(&mut session, agent, "").await;
        let both = both.as_array().unwrap();
        assert!(both.len() == 2 && both.contains(&inbound) && both.contains(outbound), "{both:?}");
        // Who is to call somebody is an agent that can.
        let job = "appointment_confirmation";
        assert_eq!(values(&mut session, job, "agent_id", "REMIND").await, json!([outbound]));
        assert_eq!(values(&mut session, job, "agent_id", "front").await, json!([]));

        let part = call.as_str().unwrap().split_once('-').unwrap().0;
        for template in ["callingbox://calls/{id}", "callingbox://calls/{id}/transcript"] {
            assert_eq!(ids(&mut session, template, part).await, json!([call]));
            assert_eq!(ids(&mut session, template, "no such call").await, json!([]));
        }
        let part = number.as_str().unwrap().get(2..8).unwrap();
        assert_eq!(values(&mut session, "receptionist", "number", part).await, json!([number]));
    }
}
