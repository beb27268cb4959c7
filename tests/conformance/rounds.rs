//! Tools that request input from the client and are called again with the response (SEP-2322).

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, CreateMessageRequest,
    CreateMessageRequestParams, ElicitRequest, ElicitRequestParams, ElicitationSchema, ErrorData,
    InputRequest, InputRequests, InputRequiredResult, InputResponses, ListRootsRequest,
    RequestStateCodec, SamplingMessage,
};
use serde_json::{Value, json};

use super::fixtures::text_result;

/// The tools, with the key that signs their request state.
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

fn sampling_request(prompt: &str) -> InputRequest {
    let messages = vec![SamplingMessage::user_text(prompt)];
    let params = CreateMessageRequestParams::new(messages, 100);
    InputRequest::CreateMessage(CreateMessageRequest::new(params))
}

fn roots_request() -> InputRequest {
    InputRequest::ListRoots(ListRootsRequest::default())
}

/// The requests, by name.
pub(crate) fn input_requests<const N: usize>(requests: [(&str, InputRequest); N]) -> InputRequests {
    requests.into_iter().map(|(name, request)| (name.into(), request)).collect()
}

/// The value of a form with one field, as text; `None` if there is no valid response.
pub(crate) fn form_value(
    answers: Option<&InputResponses>,
    name: &str,
    field: &str,
) -> Option<String> {
    let answer = answers?.get(name)?.as_object()?;
    let value = answer.get("content").and_then(|content| content.get(field));
    Some(match value {
        Some(Value::String(value)) => value.clone(),
        other => other.map(Value::to_string).unwrap_or_default(),
    })
}

fn response_value(answers: Option<&InputResponses>, name: &str) -> Option<Value> {
    answers?.get(name).filter(|answer| answer.is_object()).cloned()
}

impl Rounds {
    /// The names of the tools.
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

    fn signed_state(&self, round: u64) -> Result<Option<String>, ErrorData> {
        let sealed = self.seal.seal_json(&json!({ "round": round }));
        sealed.map(Some).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    /// The round in the request state: 0 without a state, and an error if the state has an invalid signature.
    fn current_round(&self, request: &CallToolRequestParams) -> Result<u64, ErrorData> {
        let Some(state) = request.request_state.as_deref() else { return Ok(0) };
        let opened: Value = self.seal.open_json(state).map_err(|_| {
            ErrorData::invalid_params("requestState is not what this server gave out", None)
        })?;
        Ok(opened.get("round").and_then(Value::as_u64).unwrap_or_default())
    }

    /// Runs one round of a tool.
    pub(crate) fn call(
        &self,
        request: &CallToolRequestParams,
        client: &ClientCapabilities,
    ) -> Result<CallToolResponse, ErrorData> {
        let answers = request.input_responses.as_ref();
        let ask = |requests| Ok(InputRequiredResult::from_input_requests(requests).into());
        let keep = |requests, round| {
            let state = self.signed_state(round)?;
            Ok(InputRequiredResult::new(Some(requests), state).into())
        };
        let name = || form("name", "string");
        let done = |words: String| Ok(text_result(words).into());
        match request.name.as_ref() {
            "test_input_required_result_elicitation" => {
                match form_value(answers, "user_name", "name") {
                    Some(name) => done(format!("Hello, {name}!")),
                    None => ask(input_requests([("user_name", name())])),
                }
            }
            "test_input_required_result_sampling" => {
                match response_value(answers, "capital_question") {
                    Some(answer) => done(format!("It was said: {answer}")),
                    None => ask(input_requests([(
                        "capital_question",
                        sampling_request("What is the capital of France?"),
                    )])),
                }
            }
            "test_input_required_result_list_roots" => {
                match response_value(answers, "client_roots") {
                    Some(answer) => done(format!("The roots are {answer}")),
                    None => ask(input_requests([("client_roots", roots_request())])),
                }
            }
            "test_input_required_result_request_state"
            | "test_input_required_result_tampered_state" => match self.current_round(request)? {
                0 => keep(input_requests([("confirm", form("ok", "boolean"))]), 1),
                _ => done("state-ok".to_owned()),
            },
            "test_input_required_result_multiple_inputs" => {
                let round = self.current_round(request)?;
                let all = ["user_name", "greeting", "client_roots"];
                if round > 0 && all.iter().all(|name| response_value(answers, name).is_some()) {
                    return done("All of it is here".to_owned());
                }
                let [user_name, greeting, client_roots] = all;
                let asked = input_requests([
                    (user_name, name()),
                    (greeting, sampling_request("Greet somebody")),
                    (client_roots, roots_request()),
                ]);
                keep(asked, 1)
            }
            "test_input_required_result_multi_round" => match self.current_round(request)? {
                0 => keep(input_requests([("step1", name())]), 1),
                1 => keep(input_requests([("step2", form("color", "string"))]), 2),
                _ => done("That was the last round".to_owned()),
            },
            _ => {
                if answers.is_some() {
                    return done("Thank you".to_owned());
                }
                let mut asked = InputRequests::new();
                if client.elicitation.is_some() {
                    asked.extend(input_requests([("user_name", name())]));
                }
                if client.sampling.is_some() {
                    asked
                        .extend(input_requests([("greeting", sampling_request("Greet somebody"))]));
                }
                if client.roots.is_some() {
                    asked.extend(input_requests([("client_roots", roots_request())]));
                }
                if asked.is_empty() {
                    return done("There is nothing that this client could be asked".to_owned());
                }
                ask(asked)
            }
        }
    }
}
