//! Resources, prompts, completions and the skill; none of them shows data that no available tool shows.

use serde_json::{Value, json};

use crate::e2e::following::{TASKS, place, progress_until, waiting};
use crate::harness::{Era, Session};

#[tokio::test]
async fn resources_prompts_completions_and_the_skill_work_in_both_eras() {
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
                "skill://callingbox-telephone/SKILL.md",
                "ui://callingbox/call-1.html"
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
        assert_eq!(templates["result"]["resourceTemplates"].as_array().unwrap().len(), 5);
        let missing = json!({"uri": "callingbox://calls/no-such-call"});
        let missing = session.request("resources/read", missing).await;
        let code = if era == Era::Modern { -32602 } else { -32002 };
        assert_eq!(missing["error"]["code"], code, "{missing}");
        assert_eq!(missing["error"]["data"]["uri"], "callingbox://calls/no-such-call");

        let prompts = session.request("prompts/list", json!({})).await;
        assert_eq!(prompts["result"]["prompts"].as_array().unwrap().len(), 6, "{prompts}");
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
async fn without_the_transcript_tool_progress_has_no_spoken_words() {
    let mut full = Session::modern().await;
    let call = place(&mut full, "+13105550100").await;
    let follower = full.begin("tools/call", waiting(&call, 60)).await;
    let mut narrowed = full.start_beside(&["--tools", "get_call_result"]);
    narrowed.open(Era::Modern).await;
    let id = narrowed.begin("tools/call", waiting(&call, 60)).await;
    progress_until(&mut narrowed, "The call is queued.").await;
    progress_until(&mut full, "The call is queued.").await;
    full.control().advance(40).await;
    progress_until(&mut full, "said: ").await;
    full.control().advance(600).await;
    let answer = narrowed.answer(id).await;
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "completed", "{answer}");
    while let Some(message) = narrowed.take_early() {
        let text = message["params"]["message"].as_str().unwrap();
        assert!(text.starts_with("The call is ") || text.starts_with("Still waiting"), "{text}");
    }
    full.answer(follower).await;
}

#[tokio::test]
async fn resources_of_the_simulator_say_that_they_are_simulated() {
    let mut session = Session::modern().await;
    let call = place(&mut session, "+13105550100").await;
    let agent = session.data("list_agents", json!({})).await["agents"][0]["agent_id"].clone();
    let call = format!("callingbox://calls/{}", call.as_str().unwrap());
    let transcript = format!("{call}/transcript");
    let agent = format!("callingbox://agents/{}", agent.as_str().unwrap());
    for expected in ["Nothing was said so far.", "Spoken words (untrusted) follow"] {
        for uri in [&call, &transcript, &agent, "callingbox://numbers"] {
            let read = session.request("resources/read", json!({"uri": uri})).await;
            let text = read["result"]["contents"][0]["text"].as_str().unwrap();
            assert!(text.to_lowercase().contains("simulated"), "{uri}: {text}");
            assert!(uri != transcript || text.contains(expected), "{uri}: {text}");
        }
        session.control().advance(600).await;
    }
    session.finish_well().await;
}

#[tokio::test]
async fn the_resource_of_the_numbers_equals_their_list() {
    let mut session = Session::modern().await;
    session.outbound_agent(json!({})).await;
    // As an account that is older than agents has them, with secrets.
    let mut numbers = session.control().request("GET", "/v1/numbers", None).await;
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
async fn resources_and_completions_show_only_what_a_tool_shows() {
    let mut full = Session::modern().await;
    let call = place(&mut full, "+13105550107").await;
    let agent = full.data("list_agents", json!({})).await["agents"][0]["agent_id"].clone();
    let number = full.data("list_numbers", json!({})).await;
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
        // The tools, the resources that they make readable, and whether agents, calls and numbers are completed.
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
            let mut session = full.start_beside(&["--tools", tools]);
            session.open(era).await;
            let mut listed = Vec::new();
            for (method, list, name) in [
                ("resources/list", "resources", "uri"),
                ("resources/templates/list", "resourceTemplates", "uriTemplate"),
            ] {
                let answer = session.request(method, json!({})).await;
                for resource in answer["result"][list].as_array().unwrap() {
                    let uri = resource[name].as_str().unwrap();
                    let agents = uri.contains("agents");
                    let id = if agents { agent.as_str() } else { call.as_str() };
                    listed.push(uri.replace("{id}", id.unwrap()));
                }
            }
            listed.retain(|uri| !uri.starts_with("skill://") && !uri.starts_with("ui://"));
            listed.sort_by_key(|uri| all.iter().position(|known| known == uri));
            assert_eq!(listed, shown, "{era:?} {tools}");

            for uri in all {
                let read = session.request("resources/read", json!({"uri": uri})).await;
                if shown.contains(&uri) {
                    assert_eq!(read["result"]["contents"][0]["uri"], uri, "{tools}: {read}");
                    // The guide names the tools that are not offered.
                    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
                    let names_missing_tools =
                        text.starts_with("Not offered here, with the steps that need them: ");
                    assert_eq!(names_missing_tools, uri == free, "{tools}: {read}");
                } else {
                    assert_eq!(read["error"]["code"], code, "{tools}: {read}");
                    assert_eq!(read["error"]["data"]["uri"], uri, "{tools}: {read}");
                    let prefix = format!("{uri} is not available here: it needs the tool ");
                    let message = read["error"]["message"].as_str().unwrap();
                    assert!(message.starts_with(&prefix), "{tools}: {read}");
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
                complete_id(&mut session, "callingbox://agents/{id}", "").await,
                complete_id(&mut session, "callingbox://calls/{id}", "").await,
                complete_argument(&mut session, "receptionist", "number", "").await,
            ];
            let present = [json!([agent]), json!([call]), json!([number])];
            for ((found, present), completed) in found.iter().zip(present).zip(completed) {
                let expected = if completed { present } else { json!([]) };
                assert_eq!(found, &expected, "{era:?} {tools}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_is_a_task_only_if_its_result_is_available() {
    let mut full = Session::modern().await;
    let agent = full.outbound_agent(json!({})).await;
    let order = json!({"agent_id": agent, "to": "+13105550107"});
    let open = async |tools: &str| {
        let mut session = full.start_beside(&["--tools", tools]);
        session.capabilities = json!({"extensions": {TASKS: {}}});
        session.open(Era::Modern).await;
        session
    };
    let mut with_result = open("place_call,get_call_result").await;
    let placed = with_result.call("place_call", order.clone()).await;
    let task = json!({"taskId": placed["result"]["taskId"]});
    assert_eq!(with_result.request("tasks/get", task.clone()).await["result"]["status"], "working");

    let mut without_result = open("place_call").await;
    let repeated = without_result.data("place_call", order).await;
    assert!(task["taskId"].as_str().unwrap().starts_with(repeated["call_id"].as_str().unwrap()));
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        let mut params = task.clone();
        if method == "tasks/update" {
            params["inputResponses"] = json!({});
        }
        let refused = without_result.request(method, params).await;
        assert_eq!(
            refused["error"]["message"],
            "the task is not available here: it needs the tool `get_call_result`, which is not offered",
            "{method}: {refused}"
        );
    }
}

fn completion_params(reference: Value, name: &str, value: &str) -> Value {
    json!({"ref": reference, "argument": {"name": name, "value": value}})
}

/// The completions for the id in a resource template.
async fn complete_id(session: &mut Session, template: &str, typed: &str) -> Value {
    let template = json!({"type": "ref/resource", "uri": template});
    let found =
        session.request("completion/complete", completion_params(template, "id", typed)).await;
    found["result"]["completion"]["values"].clone()
}

/// The completions for an argument of a prompt.
async fn complete_argument(
    session: &mut Session,
    prompt: &str,
    argument: &str,
    typed: &str,
) -> Value {
    let prompt = json!({"type": "ref/prompt", "name": prompt});
    let found =
        session.request("completion/complete", completion_params(prompt, argument, typed)).await;
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
        assert_eq!(complete_id(&mut session, agent, "front D").await, json!([inbound]));
        assert_eq!(complete_id(&mut session, agent, "remind").await, json!([outbound]));
        let both = complete_id(&mut session, agent, "").await;
        let both = both.as_array().unwrap();
        assert!(both.len() == 2 && both.contains(&inbound) && both.contains(outbound), "{both:?}");
        // Only an outbound agent can place calls.
        let job = "appointment_confirmation";
        assert_eq!(
            complete_argument(&mut session, job, "agent_id", "REMIND").await,
            json!([outbound])
        );
        assert_eq!(complete_argument(&mut session, job, "agent_id", "front").await, json!([]));

        let part = call.as_str().unwrap().split_once('-').unwrap().0;
        for template in ["callingbox://calls/{id}", "callingbox://calls/{id}/transcript"] {
            assert_eq!(complete_id(&mut session, template, part).await, json!([call]));
            assert_eq!(complete_id(&mut session, template, "no such call").await, json!([]));
        }
        let part = number.as_str().unwrap().get(2..8).unwrap();
        assert_eq!(
            complete_argument(&mut session, "receptionist", "number", part).await,
            json!([number])
        );
    }
}
