//! The handler that the suite tests: tools, prompts and resources with the names and texts of its scenarios.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::ServerHandler;
use rmcp::model::{
    AudioContent, CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult,
    CancelTaskParams, ClientCapabilities, CompleteRequestParams, CompleteResult, CompletionInfo,
    ContentBlock, CreateMessageRequestParams, ElicitRequestParams, ErrorData,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, GetTaskParams, GetTaskResult,
    ImageContent, Implementation, InputRequiredResult, JsonObject, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam, Prompt,
    PromptArgument, PromptMessage, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, Resource, ResourceContents, ResourceTemplate, Role, SamplingMessage,
    ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscribeRequestParams,
    SubscriptionFilter, Tool, UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext, SubscriptionSink};
use serde_json::{Value, json};

use super::rounds::{self, Rounds};
use super::tasks::Tasks;

/// A PNG of one red pixel.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// A WAV file without samples.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";
const TTL_MS: u64 = 30_000;

type Outcome<T> = Result<T, ErrorData>;
type Context = RequestContext<RoleServer>;
type Page = Option<PaginatedRequestParams>;

#[derive(Clone)]
pub(crate) struct Fixtures {
    rounds: Arc<Rounds>,
    tasks: Arc<Tasks>,
    listeners: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
    listened: Arc<AtomicU64>,
}

/// Converts a literal to an object.
pub(crate) fn to_object(literal: Value) -> JsonObject {
    match literal {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

/// A tool result with one text.
pub(crate) fn text_result(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

fn text_resource(uri: &str, mime_type: &str, text: &str) -> ResourceContents {
    ResourceContents::TextResourceContents {
        uri: uri.into(),
        mime_type: Some(mime_type.into()),
        text: text.into(),
        meta: None,
    }
}

fn unknown_name(what: &str, name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("there is no {what} `{name}`"), None)
}

fn list_tools() -> Vec<Tool> {
    let nothing = || json!({ "type": "object", "properties": {} });
    let one = |name: &str, schema: Value| json!({ "type": "object", "properties": { name: schema }, "required": [name] });
    let special = [
        ("test_sampling", one("prompt", json!({ "type": "string" }))),
        ("test_elicitation", one("message", json!({ "type": "string" }))),
        ("test_custom_header", one("word", json!({ "type": "string", "x-mcp-header": "Word" }))),
        ("json_schema_2020_12_tool", schema_with_all_keywords()),
    ];
    let plain = [
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_tool_with_logging",
        "test_tool_with_progress",
        "test_error_handling",
        "test_elicitation_sep1034_defaults",
        "test_elicitation_sep1330_enums",
        "test_reconnection",
        "test_trigger_tool_change",
        "test_trigger_prompt_change",
        "test_missing_capability",
        "test_streaming_elicitation",
        "test_logging_tool",
    ];
    let plain = plain.into_iter().chain(Rounds::TOOLS);
    // The first tool must be a simple one: the suite uses it for its checks of headers.
    plain
        .map(|name| (name, nothing()))
        .chain(special)
        .chain(Tasks::tools())
        .map(|(name, schema)| Tool::new(name, format!("The fixture {name}"), to_object(schema)))
        .collect()
}

/// A schema with the keywords that must be served unchanged.
fn schema_with_all_keywords() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "address",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
        },
        "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
        "if": { "required": ["address"] },
        "then": { "properties": { "address": { "required": ["street"] } } },
        "else": { "required": ["name"] },
        "additionalProperties": false,
    })
}

/// The elicitation of a tool for the older protocol versions.
fn elicitation_params(tool: &str) -> Value {
    let titled = |values: [&str; 3]| -> Value {
        values.map(|value| json!({ "const": value, "title": format!("The {value}") })).into()
    };
    match tool {
        "test_elicitation" => json!({
            "username": { "type": "string" },
            "email": { "type": "string" },
        }),
        "test_elicitation_sep1034_defaults" => json!({
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": {
                "type": "string",
                "enum": ["active", "inactive", "pending"],
                "default": "active",
            },
            "verified": { "type": "boolean", "default": true },
        }),
        _ => json!({
            "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
            "titledSingle": { "type": "string", "oneOf": titled(["value1", "value2", "value3"]) },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {
                "type": "array",
                "items": { "type": "string", "enum": ["option1", "option2", "option3"] },
            },
            "titledMulti": {
                "type": "array",
                "items": { "anyOf": titled(["value1", "value2", "value3"]) },
            },
        }),
    }
}

impl Fixtures {
    pub(crate) fn new() -> Self {
        Self {
            rounds: Arc::default(),
            tasks: Arc::default(),
            listeners: Arc::default(),
            listened: Arc::default(),
        }
    }

    fn listeners(&self) -> Vec<SubscriptionSink> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.values().cloned().collect()
    }

    async fn call(
        &self,
        name: &str,
        arguments: &JsonObject,
        cx: &Context,
    ) -> Outcome<CallToolResult> {
        let argument =
            |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or("nothing");
        let image = || ContentBlock::image(PNG, "image/png");
        Ok(match name {
            "test_simple_text" => text_result("This is a simple text response for testing."),
            "test_image_content" => CallToolResult::success(vec![image()]),
            "test_audio_content" => {
                let audio = ContentBlock::Audio(AudioContent::new(WAV, "audio/wav"));
                CallToolResult::success(vec![audio])
            }
            "test_embedded_resource" => {
                let uri = "test://embedded-resource";
                let words = "This is an embedded resource content.";
                let resource = text_resource(uri, "text/plain", words);
                CallToolResult::success(vec![ContentBlock::resource(resource)])
            }
            "test_multiple_content_types" => {
                let data = json!({ "test": "data", "value": 123 }).to_string();
                let uri = "test://mixed-content-resource";
                CallToolResult::success(vec![
                    ContentBlock::text("Multiple content types test:"),
                    image(),
                    ContentBlock::resource(text_resource(uri, "application/json", &data)),
                ])
            }
            "test_error_handling" => {
                let words = "This tool intentionally returns an error for testing";
                CallToolResult::error(vec![ContentBlock::text(words)])
            }
            "test_tool_with_logging" => {
                for step in ["started", "processing data", "completed"] {
                    send_log(cx, LoggingLevel::Info, &format!("Tool execution {step}")).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                text_result("logged")
            }
            "test_logging_tool" => {
                if let Some(level) = cx.meta.log_level() {
                    send_log(cx, level, "this request asked for it").await;
                }
                text_result("logged, if that was asked for")
            }
            "test_tool_with_progress" => {
                if let Some(token) = cx.meta.get_progress_token() {
                    for progress in [0.0, 50.0, 100.0] {
                        let params = ProgressNotificationParam::new(token.clone(), progress);
                        let params =
                            params.with_total(100.0).with_message(format!("{progress} of 100"));
                        // Ignored if the client has disconnected.
                        let _ = cx.peer.notify_progress(params).await;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                text_result("done")
            }
            "test_sampling" => {
                let message = SamplingMessage::user_text(argument("prompt"));
                let request = CreateMessageRequestParams::new(vec![message], 100);
                let answer = cx.peer.create_message(request).await.map_err(internal_error)?;
                let said = answer.message.content.first().and_then(|content| content.as_text());
                text_result(format!("LLM response: {}", said.map_or("", |said| said.text.as_str())))
            }
            "test_elicitation"
            | "test_elicitation_sep1034_defaults"
            | "test_elicitation_sep1330_enums" => {
                let properties = elicitation_params(name);
                let schema = json!({ "type": "object", "properties": properties });
                let request = ElicitRequestParams::FormElicitationParams {
                    meta: None,
                    message: argument("message").into(),
                    requested_schema: serde_json::from_value(schema).map_err(internal_error)?,
                };
                let answer = cx.peer.create_elicitation(request).await.map_err(internal_error)?;
                let (action, content) = (json!(answer.action), json!(answer.content));
                text_result(format!(
                    "action={}, content={content}",
                    action.as_str().unwrap_or_default()
                ))
            }
            "json_schema_2020_12_tool" => text_result(format!("Hello, {}!", argument("name"))),
            "test_custom_header" => text_result(argument("word")),
            "test_reconnection" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                text_result("the connection may break now")
            }
            "test_trigger_tool_change" => {
                for listener in self.listeners() {
                    let _ = listener.notify_tool_list_changed().await;
                }
                text_result("notified")
            }
            "test_trigger_prompt_change" => {
                for listener in self.listeners() {
                    let _ = listener.notify_prompt_list_changed().await;
                }
                text_result("notified")
            }
            "test_missing_capability" => {
                let declared = cx.meta.client_capabilities().unwrap_or_default();
                if declared.sampling.is_none() {
                    let wanted = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(wanted));
                }
                text_result("the capability is there")
            }
            _ => return Err(unknown_name("tool", name)),
        })
    }
}

fn internal_error(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

async fn send_log(cx: &Context, level: LoggingLevel, words: &str) {
    let message = LoggingMessageNotificationParam::new(level, json!(words)).with_logger("fixtures");
    // Ignored if the client has disconnected.
    let _ = cx.peer.notify_logging_message(message).await;
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tasks()
            .enable_tools()
            .enable_tool_list_changed();
        ServerConfig::new(capabilities.build())
            .with_server_info(Implementation::new("fixtures", env!("CARGO_PKG_VERSION")))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        list_tools().into_iter().find(|tool| tool.name == name)
    }

    async fn list_tools(&self, _: Page, _: Context) -> Outcome<ListToolsResult> {
        let list = ListToolsResult::with_all_items(list_tools());
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        cx: Context,
    ) -> Outcome<CallToolResponse> {
        if Rounds::TOOLS.contains(&request.name.as_ref()) {
            let capabilities = cx.meta.client_capabilities().unwrap_or_default();
            return self.rounds.call(&request, &capabilities);
        }
        if Tasks::has(&request.name) {
            return self.tasks.call(&request, cx.client_capabilities().as_ref()).await;
        }
        if request.name == "test_streaming_elicitation" {
            let asked = [("streaming_elicitation", rounds::form("value", "string"))];
            return Ok(
                InputRequiredResult::from_input_requests(rounds::input_requests(asked)).into()
            );
        }
        let arguments = request.arguments.unwrap_or_default();
        self.call(&request.name, &arguments, &cx).await.map(Into::into)
    }

    async fn get_task(&self, request: GetTaskParams, _: Context) -> Outcome<GetTaskResult> {
        Ok(GetTaskResult::new(self.tasks.manager().get_task(&request.task_id)?))
    }

    async fn update_task(&self, request: UpdateTaskParams, _: Context) -> Outcome<()> {
        self.tasks.manager().update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: Context) -> Outcome<()> {
        self.tasks.manager().cancel_task(&request.task_id)
    }

    async fn list_resources(&self, _: Page, _: Context) -> Outcome<ListResourcesResult> {
        let resources = vec![
            Resource::new("test://static-text", "A text").with_mime_type("text/plain"),
            Resource::new("test://static-binary", "A picture").with_mime_type("image/png"),
            Resource::new("test://watched-resource", "A text to follow")
                .with_mime_type("text/plain"),
        ];
        let list = ListResourcesResult::with_all_items(resources);
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn list_resource_templates(
        &self,
        _: Page,
        _: Context,
    ) -> Outcome<ListResourceTemplatesResult> {
        let template = ResourceTemplate::new("test://template/{id}/data", "Data by id")
            .with_mime_type("application/json");
        let list = ListResourceTemplatesResult::with_all_items(vec![template]);
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Context,
    ) -> Outcome<ReadResourceResponse> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let contents = match (uri, id) {
            (_, Some(id)) => {
                let data =
                    json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                text_resource(uri, "application/json", &data.to_string())
            }
            ("test://static-text" | "test://watched-resource", _) => {
                text_resource(uri, "text/plain", "This is the content of the static text resource.")
            }
            ("test://static-binary", _) => ResourceContents::BlobResourceContents {
                uri: uri.into(),
                mime_type: Some("image/png".into()),
                blob: PNG.into(),
                meta: None,
            },
            _ => {
                let data = Some(json!({ "uri": uri }));
                return Err(ErrorData::resource_not_found(format!("there is no {uri}"), data));
            }
        };
        let read = ReadResourceResult::new(vec![contents]);
        Ok(read.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public).into())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Context) -> Outcome<()> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Context) -> Outcome<()> {
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Outcome<()> {
        let listener = self.listened.fetch_add(1, Ordering::Relaxed);
        let listeners = || self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners().insert(listener, context.sink().clone());
        context.cancelled().await;
        listeners().remove(&listener);
        Ok(())
    }

    async fn list_prompts(&self, _: Page, _: Context) -> Outcome<ListPromptsResult> {
        let argument = |name| PromptArgument::new(name).with_required(true);
        let with = |name: &str, arguments| Prompt::new(name, Some("A fixture"), arguments);
        let prompts = vec![
            with("test_simple_prompt", None),
            with("test_prompt_with_arguments", Some(vec![argument("arg1"), argument("arg2")])),
            with("test_prompt_with_embedded_resource", Some(vec![argument("resourceUri")])),
            with("test_prompt_with_image", None),
            with("test_input_required_result_prompt", None),
        ];
        let list = ListPromptsResult::with_all_items(prompts);
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: Context,
    ) -> Outcome<GetPromptResponse> {
        let argument = |name: &str| {
            let value = request.arguments.as_ref().and_then(|arguments| arguments.get(name));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let says = |words: &str| PromptMessage::new_text(Role::User, words);
        let messages = match request.name.as_str() {
            "test_simple_prompt" => vec![says("This is a simple prompt for testing.")],
            "test_prompt_with_arguments" => {
                let (one, two) = (argument("arg1"), argument("arg2"));
                vec![says(&format!("Prompt with arguments: arg1='{one}', arg2='{two}'"))]
            }
            "test_prompt_with_embedded_resource" => {
                let uri = argument("resourceUri");
                let words = Some("Embedded resource content for testing.".to_owned());
                let mime = Some("text/plain".to_owned());
                let resource =
                    PromptMessage::new_resource(Role::User, uri, mime, words, None, None, None);
                vec![resource, says("Please process the embedded resource above.")]
            }
            "test_prompt_with_image" => {
                let image = ContentBlock::Image(ImageContent::new(PNG, "image/png"));
                let image = PromptMessage::new(Role::User, image);
                vec![image, says("Please analyze the image above.")]
            }
            "test_input_required_result_prompt" => {
                let answers = request.input_responses.as_ref();
                let Some(answer) = rounds::form_value(answers, "user_context", "context") else {
                    let asked = [("user_context", rounds::form("context", "string"))];
                    let asked = rounds::input_requests(asked);
                    return Ok(InputRequiredResult::from_input_requests(asked).into());
                };
                vec![says(&format!("The context is {answer}"))]
            }
            name => return Err(unknown_name("prompt", name)),
        };
        Ok(GetPromptResult::new(messages).into())
    }

    async fn complete(&self, _: CompleteRequestParams, _: Context) -> Outcome<CompleteResult> {
        let values = ["paris", "park", "party"].map(str::to_owned).to_vec();
        CompletionInfo::new(values).map(CompleteResult::new).map_err(internal_error)
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Context) -> Outcome<()> {
        Ok(())
    }
}
