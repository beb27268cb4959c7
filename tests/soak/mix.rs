//! What is asked for, in which proportion, and what each answer must be like at least.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Era, Http};
use crate::random::Random;
use crate::stdio::Stdio;

/// Calls that are remembered to ask about.
const REMEMBERED: usize = 500;

/// What an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// A success, or a failure that the broken upstream explains.
    Any,
    /// A failure of this class, whatever the upstream does.
    Class(&'static str),
    /// A protocol error.
    Protocol,
}

/// One request.
struct Ask {
    kind: &'static str,
    method: &'static str,
    params: Value,
    wanted: Wanted,
}

impl Ask {
    fn tool(kind: &'static str, arguments: Value) -> Self {
        let params = json!({"name": kind, "arguments": arguments});
        Self { kind, method: "tools/call", params, wanted: Wanted::Any }
    }
}

pub(crate) struct Mix {
    random: Arc<Random>,
    agent: String,
    ids: AtomicI64,
    calls: Mutex<Vec<String>>,
    /// By what was asked: how many, and how many of them succeeded.
    counts: Mutex<BTreeMap<&'static str, (usize, usize)>>,
}

impl Mix {
    /// An agent with a number.
    pub(crate) async fn prepare(lines: &Stdio, random: Arc<Random>) -> Self {
        let tool = async |name: &str, arguments: Value| {
            let answer =
                lines.request("tools/call", json!({"name": name, "arguments": arguments})).await;
            assert_eq!(answer["result"]["isError"], false, "{answer}");
            answer["result"]["structuredContent"].clone()
        };
        let offers = tool("search_numbers", json!({"limit": 1})).await;
        let number = offers["numbers"][0]["phone_number"].clone();
        let bought = tool("purchase_number", json!({"phone_number": number})).await;
        let agent = json!({
            "name": "Soak", "type": "outbound", "persona": "You are Mia.", "instructions": "Remind.",
            "returns": {"ok": "boolean", "day": "string"},
            "number_ids": [bought["number"]["number_id"]],
        });
        let agent = tool("create_agent", agent).await["agent_id"].as_str().unwrap().to_owned();
        let mut calls = Vec::new();
        for number in 0..20 {
            let to = format!("+1{}5550100", 310 + number);
            let call = tool("place_call", json!({"agent_id": agent, "to": to})).await;
            calls.push(call["call_id"].as_str().unwrap().to_owned());
        }
        let (calls, counts) = (Mutex::new(calls), Mutex::default());
        Self { random, agent, ids: AtomicI64::new(0), calls, counts }
    }

    fn known_call(&self) -> Value {
        let calls = self.calls.lock().unwrap();
        json!(calls[self.random.below(calls.len() as u64) as usize])
    }

    fn draw(&self) -> Ask {
        let random = &self.random;
        let call = |more: Value| {
            let mut arguments = json!({"call_id": self.known_call()});
            arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            arguments
        };
        let failing = |kind, arguments, wanted| Ask { wanted, ..Ask::tool(kind, arguments) };
        match random.below(100) {
            0..38 => Ask::tool("get_call_result", call(json!({"wait_seconds": 0}))),
            38..40 => Ask::tool("get_call_result", call(json!({"wait_seconds": 1}))),
            40..58 => {
                let limit = 1 + random.below(50);
                Ask::tool("get_call_transcript", call(json!({"limit": limit})))
            }
            58..64 => Ask::tool("list_calls", json!({"limit": 1 + random.below(20)})),
            64..67 => Ask::tool("list_calls", json!({"limit": 5, "status": "completed"})),
            67..72 => Ask::tool(
                "search_numbers",
                json!({"area_code": (201 + random.below(700)).to_string()}),
            ),
            72..75 => Ask::tool("list_numbers", json!({})),
            75..78 => Ask::tool("list_agents", json!({})),
            78..80 => Ask::tool("get_agent", json!({"agent_id": self.agent})),
            80..83 => {
                let instructions =
                    format!("Remind, {}.", "kindly ".repeat(random.below(50) as usize));
                Ask::tool(
                    "update_agent",
                    json!({"agent_id": self.agent, "instructions": instructions}),
                )
            }
            83..87 => {
                // Mostly those that end in some way; the lost and refused ones take seconds of searching.
                // 0113 withholds its answer for a minute.
                let ending = match random.below(40) {
                    at @ 0..=2 => 10 + at,
                    at @ 3..=4 => 11 + at,
                    at => at % 10,
                };
                let area = 201 + random.below(700);
                Ask::tool(
                    "place_call",
                    json!({
                        "agent_id": self.agent,
                        "to": format!("+1{area}55501{ending:02}"),
                        "instructions": format!("Task {}.", random.below(1_000_000)),
                        "context": {"patient": "Sam", "phone": "+14155550177"},
                    }),
                )
            }
            87..89 => failing(
                "get_call_result",
                json!({"call_id": 5.5}),
                Wanted::Class("invalid_argument"),
            ),
            89..91 => failing(
                "place_call",
                json!({"agent_id": "a", "to": "555"}),
                Wanted::Class("invalid_argument"),
            ),
            91..92 => failing(
                "list_calls",
                json!({"nmber": "+14155550100"}),
                Wanted::Class("invalid_argument"),
            ),
            92..94 => {
                Ask::tool("get_call_result", json!({"call_id": "no-such-call", "wait_seconds": 0}))
            }
            94..95 => failing(
                "rotate_webhook_secret",
                json!({"webhook_id": "w"}),
                Wanted::Class("switched_off"),
            ),
            95..96 => failing("no_such_tool", json!({"key": crate::KEY}), Wanted::Protocol),
            96..97 => Ask {
                kind: "tools/list",
                method: "tools/list",
                params: json!({}),
                wanted: Wanted::Any,
            },
            _ => Ask {
                kind: "taken back",
                ..Ask::tool("get_call_result", call(json!({"wait_seconds": 2})))
            },
        }
    }

    /// What goes wrong next at the upstream.
    pub(crate) fn fault(&self) -> Value {
        let random = &self.random;
        let path = match random.below(4) {
            0 => "/v1/calls",
            1 => "/v1/agents/*",
            _ => "/v1/calls/*",
        };
        let when = if random.percent(50) { "before" } else { "after" };
        let mut fault = match random.below(6) {
            0 => json!({"kind": "status", "status": 500, "when": when}),
            1 => json!({"kind": "status", "status": 429, "retry_after": 0, "when": "before"}),
            2 => json!({"kind": "delay", "delay_ms": random.below(300), "when": when}),
            3 => json!({"kind": "reset", "when": when}),
            4 => json!({"kind": "truncate", "when": "after"}),
            _ => json!({"kind": "slow_body", "delay_ms": random.below(300), "when": "after"}),
        };
        fault["path"] = json!(path);
        fault["times"] = json!(1 + random.below(3));
        fault
    }

    pub(crate) async fn stdio(&self, lines: &Stdio) {
        let ask = self.draw();
        if ask.kind == "taken back" {
            lines.abandon(ask.method, ask.params).await;
            return self.count(ask.kind, true);
        }
        let answer = lines.request(ask.method, ask.params.clone()).await;
        self.note(&ask, &answer);
    }

    pub(crate) async fn http(&self, http: &Http, era: &Era) {
        let ask = self.draw();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let answer = http.request(era, id, ask.method, ask.params.clone());
        if ask.kind == "taken back" {
            let patience = Duration::from_millis(self.random.below(30));
            let _ = tokio::time::timeout(patience, answer).await;
            return self.count(ask.kind, true);
        }
        self.note(&ask, &answer.await);
    }

    fn count(&self, kind: &'static str, good: bool) {
        let mut counts = self.counts.lock().unwrap();
        let (all, well) = counts.entry(kind).or_default();
        *all += 1;
        *well += usize::from(good);
    }

    fn note(&self, ask: &Ask, answer: &Value) {
        let result = &answer["result"];
        let class = result["_meta"]["callingbox-mcp/error"]["class"].as_str();
        match ask.wanted {
            Wanted::Any => assert!(result.is_object(), "{}: {answer}", ask.params),
            Wanted::Class(wanted) => assert_eq!(class, Some(wanted), "{}: {answer}", ask.params),
            Wanted::Protocol => {
                assert!(answer["error"]["code"].is_i64(), "{}: {answer}", ask.params)
            }
        }
        if class == Some("internal") {
            panic!("a defect: {}: {answer}", ask.params);
        }
        if let (Some(id), "place_call") =
            (result["structuredContent"]["call_id"].as_str(), ask.kind)
        {
            let mut calls = self.calls.lock().unwrap();
            if calls.len() < REMEMBERED {
                calls.push(id.to_owned());
            } else {
                let at = self.random.below(REMEMBERED as u64) as usize;
                calls[at] = id.to_owned();
            }
        }
        self.count(ask.kind, class.is_none() && result.is_object());
    }

    /// All kinds were asked for, and most of what can go well did.
    pub(crate) fn check(&self, calls: usize) {
        let counts = self.counts.lock().unwrap();
        if calls < 1_000 {
            return;
        }
        assert!(counts.len() >= 13, "{counts:?}");
        for kind in
            ["get_call_transcript", "list_numbers", "update_agent", "place_call", "tools/list"]
        {
            let (all, well) = counts[kind];
            assert!(well * 2 > all, "{kind}: {well} of {all} went well");
        }
    }

    pub(crate) fn summary(&self) -> String {
        let counts = self.counts.lock().unwrap();
        let each = counts.iter().map(|(kind, (all, well))| format!("{kind} {all} ({well} well)"));
        each.collect::<Vec<_>>().join(", ")
    }
}
