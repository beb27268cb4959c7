//! The mix of requests, and what is expected of each answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Era, Http};
use crate::random::Random;
use crate::stdio::Stdio;

/// The area codes of the destinations. Other numbers cannot exist, or are asked about.
const AREA_CODES: [u32; 20] = [
    201, 202, 212, 213, 303, 305, 310, 312, 313, 404, 412, 415, 503, 512, 602, 617, 702, 713, 801,
    916,
];

/// How many calls are kept for later requests.
const MAX_KNOWN_CALLS: usize = 500;

/// The expected answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A success, or a failure that the broken upstream explains.
    Any,
    /// A failure of this class, whatever the upstream does.
    Class(&'static str),
    /// A protocol error.
    Protocol,
}

/// One request.
struct PlannedRequest {
    kind: &'static str,
    method: &'static str,
    params: Value,
    expected: Expected,
}

impl PlannedRequest {
    fn tool(kind: &'static str, arguments: Value) -> Self {
        let params = json!({"name": kind, "arguments": arguments});
        Self { kind, method: "tools/call", params, expected: Expected::Any }
    }
}

pub(crate) struct Mix {
    random: Arc<Random>,
    agent: String,
    ids: AtomicI64,
    calls: Mutex<Vec<String>>,
    /// For each kind of request, how many were made and how many succeeded.
    counts: Mutex<BTreeMap<&'static str, (usize, usize)>>,
}

impl Mix {
    /// Buys a number, creates an agent that calls from it, and places the first calls.
    pub(crate) async fn prepare(lines: &Stdio, random: Arc<Random>) -> Self {
        let tool = async |name: &str, arguments: Value| {
            let answer =
                lines.request("tools/call", json!({"name": name, "arguments": arguments})).await;
            assert_eq!(answer["result"]["isError"], false, "{answer}");
            answer["result"]["structuredContent"].clone()
        };
        let offers = tool("search_numbers", json!({"limit": 1})).await;
        let number = offers["numbers"][0]["phone_number"].clone();
        // A purchase always asks; the client cannot ask and gets a token.
        let asked = tool("purchase_number", json!({"phone_number": number})).await;
        let yes =
            json!({"phone_number": number, "confirmation_token": asked["confirmation_token"]});
        let bought = tool("purchase_number", yes).await;
        let agent = json!({
            "name": "Soak", "type": "outbound", "persona": "You are Mia.", "instructions": "Remind.",
            "returns": {"ok": "boolean", "day": "string"},
            "number_ids": [bought["number"]["number_id"]],
        });
        let agent = tool("create_agent", agent).await["agent_id"].as_str().unwrap().to_owned();
        let mut calls = Vec::new();
        for area in AREA_CODES {
            let to = format!("+1{area}5550100");
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

    fn draw(&self) -> PlannedRequest {
        let random = &self.random;
        let call = |more: Value| {
            let mut arguments = json!({"call_id": self.known_call()});
            arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            arguments
        };
        let failing = |kind, arguments, expected| PlannedRequest {
            expected,
            ..PlannedRequest::tool(kind, arguments)
        };
        match random.below(100) {
            0..38 => PlannedRequest::tool("get_call_result", call(json!({"wait_seconds": 0}))),
            38..40 => PlannedRequest::tool("get_call_result", call(json!({"wait_seconds": 1}))),
            40..58 => {
                let limit = 1 + random.below(50);
                PlannedRequest::tool("get_call_transcript", call(json!({"limit": limit})))
            }
            58..64 => PlannedRequest::tool("list_calls", json!({"limit": 1 + random.below(20)})),
            64..67 => {
                PlannedRequest::tool("list_calls", json!({"limit": 5, "outcomes": ["completed"]}))
            }
            67..72 => PlannedRequest::tool(
                "search_numbers",
                json!({"area_code": (201 + random.below(700)).to_string()}),
            ),
            72..75 => PlannedRequest::tool("list_numbers", json!({})),
            75..78 => PlannedRequest::tool("list_agents", json!({})),
            78..80 => PlannedRequest::tool("get_agent", json!({"agent_id": self.agent})),
            80..83 => {
                let instructions =
                    format!("Remind, {}.", "kindly ".repeat(random.below(50) as usize));
                PlannedRequest::tool(
                    "update_agent",
                    json!({"agent_id": self.agent, "instructions": instructions}),
                )
            }
            83..87 => {
                // Mostly destinations that answer; after a lost answer the search takes seconds. 0113 delays its
                // answer for a minute.
                let ending = match random.below(40) {
                    choice @ 0..=2 => 10 + choice,
                    choice @ 3..=4 => 11 + choice,
                    choice => choice % 10,
                };
                let area = AREA_CODES[usize::try_from(random.below(20)).unwrap()];
                PlannedRequest::tool(
                    "place_call",
                    json!({
                        "agent_id": self.agent,
                        "to": format!("+1{area}55501{ending:02}"),
                        "instructions": format!("Task {}.", random.below(1_000_000)),
                        "allow_repeat": true,
                        "context": {"patient": "Sam", "phone": "+14155550177"},
                    }),
                )
            }
            87..89 => failing(
                "get_call_result",
                json!({"call_id": 5.5}),
                Expected::Class("invalid_argument"),
            ),
            89..91 => failing(
                "place_call",
                json!({"agent_id": "a", "to": "5550100555"}),
                Expected::Class("invalid_argument"),
            ),
            91..92 => failing(
                "list_calls",
                json!({"nmber": "+14155550100"}),
                Expected::Class("invalid_argument"),
            ),
            92..94 => PlannedRequest::tool(
                "get_call_result",
                json!({"call_id": "no-such-call", "wait_seconds": 0}),
            ),
            94..95 => failing(
                "rotate_webhook_secret",
                json!({"webhook_id": "w"}),
                Expected::Class("switched_off"),
            ),
            95..96 => failing("no_such_tool", json!({"key": crate::KEY}), Expected::Protocol),
            96..97 => PlannedRequest {
                kind: "tools/list",
                method: "tools/list",
                params: json!({}),
                expected: Expected::Any,
            },
            _ => PlannedRequest {
                kind: "cancelled",
                ..PlannedRequest::tool("get_call_result", call(json!({"wait_seconds": 2})))
            },
        }
    }

    /// Draws the next fault of the upstream.
    pub(crate) fn draw_fault(&self) -> Value {
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

    pub(crate) async fn send_over_stdio(&self, lines: &Stdio) {
        let request = self.draw();
        if request.kind == "cancelled" {
            lines.cancel(request.method, request.params).await;
            return self.record(request.kind, true);
        }
        let answer = lines.request(request.method, request.params.clone()).await;
        self.check_answer(&request, &answer);
    }

    pub(crate) async fn send_over_http(&self, http: &Http, era: &Era) {
        let request = self.draw();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let answer = http.request(era, id, request.method, request.params.clone());
        if request.kind == "cancelled" {
            let timeout = Duration::from_millis(self.random.below(30));
            let _ = tokio::time::timeout(timeout, answer).await;
            return self.record(request.kind, true);
        }
        self.check_answer(&request, &answer.await);
    }

    fn record(&self, kind: &'static str, success: bool) {
        let mut counts = self.counts.lock().unwrap();
        let (all, succeeded) = counts.entry(kind).or_default();
        *all += 1;
        *succeeded += usize::from(success);
    }

    fn check_answer(&self, request: &PlannedRequest, answer: &Value) {
        let result = &answer["result"];
        let class = result["_meta"]["callingbox-mcp/error"]["class"].as_str();
        match request.expected {
            Expected::Any => assert!(result.is_object(), "{}: {answer}", request.params),
            Expected::Class(expected) => {
                assert_eq!(class, Some(expected), "{}: {answer}", request.params)
            }
            Expected::Protocol => {
                assert!(answer["error"]["code"].is_i64(), "{}: {answer}", request.params)
            }
        }
        if class == Some("internal") {
            panic!("a defect: {}: {answer}", request.params);
        }
        if let (Some(id), "place_call") =
            (result["structuredContent"]["call_id"].as_str(), request.kind)
        {
            let mut calls = self.calls.lock().unwrap();
            if calls.len() < MAX_KNOWN_CALLS {
                calls.push(id.to_owned());
            } else {
                let index = self.random.below(MAX_KNOWN_CALLS as u64) as usize;
                calls[index] = id.to_owned();
            }
        }
        self.record(request.kind, class.is_none() && result.is_object());
    }

    /// Asserts that requests of all kinds were made, and that most of those that can succeed did.
    pub(crate) fn assert_mixed(&self, calls: usize) {
        let counts = self.counts.lock().unwrap();
        if calls < 1_000 {
            return;
        }
        assert!(counts.len() >= 13, "{counts:?}");
        for kind in
            ["get_call_transcript", "list_numbers", "update_agent", "place_call", "tools/list"]
        {
            let (all, succeeded) = counts[kind];
            assert!(succeeded * 2 > all, "{kind}: {succeeded} of {all} succeeded");
        }
    }

    pub(crate) fn summary(&self) -> String {
        let counts = self.counts.lock().unwrap();
        let each = counts
            .iter()
            .map(|(kind, (all, succeeded))| format!("{kind} {all} ({succeeded} succeeded)"));
        each.collect::<Vec<_>>().join(", ")
    }
}
