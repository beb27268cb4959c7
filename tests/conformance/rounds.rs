//! Tools that ask the client for something and are called again with the answer (SEP-2322).

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, CreateMessageRequest,
    CreateMessageRequestParams, ElicitRequest, ElicitRequestParams, ElicitationSchema, ErrorData,
    InputRequest, InputRequests, InputRequiredResult, InputResponses, ListRootsRequest,
    RequestStateCodec, SamplingMessage,
};
use serde_json::{Value, json};

use super::fixtures::text;

/// The tools, with the key that seals what they ask clients to bring back.
pub(crate) struct Rounds {
    seal: RequestStateCodec,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { seal: RequestStateCodec::new(vec![7; RequestStateCodec::MIN_KEY_LENGTH]) }
    }
}

/// A form with one field.
pub(crate) fn form(field: &str, kind: &str) -> InputRequest {
    let schema = json!({
        "type": "object",
        "properties": { field: { "type": kind } },
        "required": [field],
    });
    let schema: ElicitationSchema =
        serde_json::from_value(schema).expect("this is the schema of a form");
    InputRequest::Elicitation(ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("Please fill in: {field}"),
        requested_schema: schema,
    }))
}

fn sample(prompt: &str) -> InputRequest {
    let messages = vec![SamplingMessage::user_text(prompt)];
    let params = CreateMessageRequestParams::new(messages, 100);
    InputRequest::CreateMessage(CreateMessageRequest::new(params))
}

fn roots() -> InputRequest {
    InputRequest::ListRoots(ListRootsRequest::default())
}

/// What is asked, by name.
pub(crate) fn asking<const N: usize>(requests: [(&str, InputRequest); N]) -> InputRequests {
    requests.into_iter().map(|(name, request)| (name.into(), request)).collect()
}

/// The answer to a form of one field, as text; none when the client has not given a sound one.
pub(crate) fn answer(answers: Option<&InputResponses>, name: &str, field: &str) -> Option<String> {
    let answer = answers?.get(name)?.as_object()?;
    let value = answer.get("content").and_then(|content| content.get(field));
    Some(match value {
        Some(Value::String(value)) => value.clone(),
        other => other.map(Value::to_string).unwrap_or_default(),
    })
}

fn given(answers: Option<&InputResponses>, name: &str) -> Option<Value> {
    answers?.get(name).filter(|answer| answer.is_object()).cloned()
}

impl Rounds {
    /// Their names.
    pub(crate) const TOOLS: [&str; 8] = [
        "test_input_required_result_elicitation",
        "test_input_required_result_sampling",
        "test_input_required_result_list_roots",
        "test_input_required_result_request_state",
        "test_input_required_result_multiple_inputs",
        "test_input_required_result_multi_round",
        "test_input_required_result_tampered_state",
        "test_input_required_result_capabilities",
    ];

    fn sealed(&self, round: u64) -> Result<Option<String>, ErrorData> {
        let sealed = self.seal.seal_json(&json!({ "round": round }));
        sealed.map(Some).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    /// The round that the client's state speaks of: 0 without one, and an error when it is not ours.
    fn round(&self, request: &CallToolRequestParams) -> Result<u64, ErrorData> {
        let Some(state) = request.request_state.as_deref() else { return Ok(0) };
        let opened: Value = self.seal.open_json(state).map_err(|_| {
            ErrorData::invalid_params("requestState is not what this server gave out", None)
        })?;
        Ok(opened.get("round").and_then(Value::as_u64).unwrap_or_default())
    }

    /// One round of one of them.
    pub(crate) fn call(
        &self,
        request: &CallToolRequestParams,
        client: &ClientCapabilities,
    ) -> Result<CallToolResponse, ErrorData> {
        let answers = request.input_responses.as_ref();
        let ask = |requests| Ok(InputRequiredResult::from_input_requests(requests).into());
        let keep = |requests, round| {
            let state = self.sealed(round)?;
            Ok(InputRequiredResult::new(Some(requests), state).into())
        };
        let name = || form("name", "string");
        let done = |words: String| Ok(text(words).into());
        match request.name.as_ref() {
            "test_input_required_result_elicitation" => {
                match answer(answers, "user_name", "name") {
                    Some(name) => done(format!("Hello, {name}!")),
                    None => ask(asking([("user_name", name())])),
                }
            }
            "test_input_required_result_sampling" => match given(answers, "capital_question") {
                Some(answer) => done(format!("It was said: {answer}")),
                None => {
                    ask(asking([("capital_question", sample("What is the capital of France?"))]))
                }
            },
            "test_input_required_result_list_roots" => match given(answers, "client_roots") {
                Some(answer) => done(format!("The roots are {answer}")),
                None => ask(asking([("client_roots", roots())])),
            },
            "test_input_required_result_request_state"
            | "test_input_required_result_tampered_state" => match self.round(request)? {
                0 => keep(asking([("confirm", form("ok", "boolean"))]), 1),
                _ => done("state-ok".to_owned()),
            },
            "test_input_required_result_multiple_inputs" => {
                let round = self.round(request)?;
                let all = ["user_name", "greeting", "client_roots"];
                if round > 0 && all.iter().all(|name| given(answers, name).is_some()) {
                    return done("All of it is here".to_owned());
                }
                let [user_name, greeting, client_roots] = all;
                let asked = asking([
                    (user_name, name()),
                    (greeting, sample("Greet somebody")),
                    (client_roots, roots()),
                ]);
                keep(asked, 1)
            }
            "test_input_required_result_multi_round" => match self.round(request)? {
                0 => keep(asking([("step1", name())]), 1),
                1 => keep(asking([("step2", form("color", "string"))]), 2),
                _ => done("That was the last round".to_owned()),
            },
            _ => {
                if answers.is_some() {
                    return done("Thank you".to_owned());
                }
                let mut asked = InputRequests::new();
                if client.elicitation.is_some() {
                    asked.extend(asking([("user_name", name())]));
                }
                if client.sampling.is_some() {
                    asked.extend(asking([("greeting", sample("Greet somebody"))]));
                }
                if client.roots.is_some() {
                    asked.extend(asking([("client_roots", roots())]));
                }
                if asked.is_empty() {
                    return done("There is nothing that this client could be asked".to_owned());
                }
                ask(asked)
            }
        }
    }
}
