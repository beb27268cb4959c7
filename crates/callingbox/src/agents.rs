//! Agents: who speaks on a call, which results a call has, and from which number it is placed.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;

use crate::client::ApiClient;
use crate::error::Error;
use crate::ids::{AgentId, NumberId};
use crate::lenient::lenient_record;
use crate::model::{Change, OpenEnum, Timestamp, debug_fields};
use crate::numbers::PhoneNumber;
use crate::operation::ApiOperation;
use crate::page::Page;
use crate::response::ApiResponse;

/// Whether an agent answers calls or places them. It cannot be changed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AgentType {
    /// Answers calls to its number.
    Inbound,
    /// Places calls.
    Outbound,
}

impl AgentType {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What happens on an outbound call when a machine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum VoicemailAction {
    /// The call ends immediately. This is the API's default.
    Hangup,
    /// The line stays open, so that the agent can leave a message.
    LeaveMessage,
}

/// The type of a result field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ReturnType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A number.
    Number,
}

/// The fields that are extracted from each conversation, by name. If it is empty, nothing is extracted.
pub type ReturnsSchema = BTreeMap<String, ReturnType>;

/// When the agent may use an in-call tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ToolPolicy {
    /// Whenever it wants to.
    #[default]
    Read,
    /// Only if the other party said a clear yes in the turn before.
    ConfirmFirstWrite,
}

/// A function that the agent can use during a call. An agent has at most 16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(inline)]
pub enum InCallTool {
    /// A request to a server of the user.
    Http(HttpTool),
    /// A function of CallingBox.
    Builtin(BuiltinTool),
}

/// An in-call tool that posts its arguments to a server.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct HttpTool {
    /// Name by which the agent calls the tool.
    #[schemars(length(min = 1))]
    pub name: String,
    /// When and how the agent uses the tool.
    pub description: String,
    /// When the agent may use the tool.
    #[serde(default)]
    pub policy: ToolPolicy,
    /// The HTTPS address that the arguments are sent to.
    #[schemars(regex(pattern = r"^https://"))]
    pub url: String,
    /// The JSON Schema of the arguments; its type is `object`.
    #[serde(default = "no_parameters")]
    pub parameters: Map<String, Value>,
    /// Further request headers. They may hold secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How long the server may take to answer, in milliseconds.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub timeout_ms: Option<u32>,
}

// Shows the name alone, because address and headers may hold secrets.
debug_fields!(HttpTool { name });

/// An in-call tool that is a function of CallingBox, such as `end_call`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct BuiltinTool {
    /// Name by which the agent calls the tool.
    #[schemars(length(min = 1))]
    pub name: String,
    /// When and how the agent uses the tool.
    pub description: String,
    /// When the agent may use the tool.
    #[serde(default)]
    pub policy: ToolPolicy,
    /// The function's name. Only `end_call` is documented.
    pub builtin: String,
    /// The JSON Schema of the arguments; its type is `object`.
    #[serde(default = "no_parameters")]
    pub parameters: Map<String, Value>,
    /// The function's settings.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
}

// Shows the name alone, because the settings may hold secrets.
debug_fields!(BuiltinTool { name });

impl InCallTool {
    /// The parameters of a tool that takes no arguments, as CallingBox's Python SDK writes them.
    #[must_use]
    pub fn no_parameters() -> Map<String, Value> {
        no_parameters()
    }
}

fn no_parameters() -> Map<String, Value> {
    [
        ("type", Value::from("object")),
        ("properties", Value::Object(Map::new())),
        ("required", Value::Array(Vec::new())),
        ("additionalProperties", Value::Bool(false)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// An agent. Every field but the id may be absent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct Agent {
    /// The id.
    pub id: AgentId,
    /// The organization that owns it.
    pub org_id: Option<String>,
    /// The user who created it.
    pub user_id: Option<String>,
    /// Its name in the dashboard.
    pub name: Option<String>,
    /// Whether it answers calls or places them.
    pub r#type: Option<OpenEnum<AgentType>>,
    /// Who the agent is and how it behaves. If it is absent, CallingBox uses its own persona.
    pub persona: Option<String>,
    /// The task of its calls, unless a call has instructions of its own.
    pub instructions: Option<String>,
    /// The id of its voice. If it is absent, CallingBox uses its default voice.
    pub voice: Option<String>,
    /// The language it speaks, as a BCP 47 tag.
    pub language: Option<String>,
    /// The result fields; see [`ReturnsSchema`]. Kept as JSON, because the API may accept further types.
    pub returns: Option<Value>,
    /// The in-call tools; see [`InCallTool`]. Kept as JSON, because the API may have further kinds.
    pub tools: Option<Value>,
    /// The URL that receives the events of its calls, unless a call has its own.
    pub webhook_url: Option<String>,
    /// What happens when a machine answers.
    pub voicemail_action: Option<OpenEnum<VoicemailAction>>,
    /// The number that an outbound agent calls from by default, or that an inbound agent owns.
    pub primary_number_id: Option<NumberId>,
    /// When it was archived. Absent while it is active.
    pub archived_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// The numbers attached to it. May be absent in lists.
    pub numbers: Option<Vec<PhoneNumber>>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

lenient_record!(Agent {
    id;
    org_id, user_id, name, r#type, persona, instructions, voice, language, returns, tools,
    webhook_url, voicemail_action, primary_number_id, archived_at, created_at, updated_at, numbers,
});

/// A new agent. Absent fields are not sent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize)]
pub struct AgentCreate {
    /// Its name in the dashboard.
    pub name: String,
    /// Whether it answers calls or places them.
    pub r#type: AgentType,
    /// Who the agent is and how it behaves; CallingBox's own persona if absent.
    pub persona: Option<String>,
    /// The task of its calls, unless a call has instructions of its own.
    pub instructions: Option<String>,
    /// The id of its voice.
    pub voice: Option<String>,
    /// The language it speaks, as a BCP 47 tag.
    pub language: Option<String>,
    /// The result fields of its calls.
    pub returns: Option<ReturnsSchema>,
    /// Its in-call tools, at most 16.
    pub tools: Option<Vec<InCallTool>>,
    /// The URL that receives the events of its calls.
    pub webhook_url: Option<String>,
    /// What happens when a machine answers; the call ends if absent.
    pub voicemail_action: Option<VoicemailAction>,
    /// Owned numbers to attach.
    pub number_ids: Option<Vec<NumberId>>,
    /// Which of `number_ids` is the primary one; the first if absent.
    pub primary_number_id: Option<NumberId>,
}

impl AgentCreate {
    /// An agent with a name, a type and no other field.
    #[must_use]
    pub fn new(name: impl Into<String>, r#type: AgentType) -> Self {
        Self {
            name: name.into(),
            r#type,
            persona: None,
            instructions: None,
            voice: None,
            language: None,
            returns: None,
            tools: None,
            webhook_url: None,
            voicemail_action: None,
            number_ids: None,
            primary_number_id: None,
        }
    }
}

/// Shows name and type alone, because the texts may hold telephone numbers.
impl fmt::Debug for AgentCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentCreate")
            .field("name", &self.name)
            .field("type", &self.r#type)
            .finish_non_exhaustive()
    }
}

/// Changes to an agent, for calls that begin later. Fields that are neither set nor cleared are not sent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Default, Serialize)]
pub struct AgentUpdate {
    /// The new name.
    pub name: Option<String>,
    /// The new persona.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub persona: Change<String>,
    /// The new instructions.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub instructions: Change<String>,
    /// The id of the new voice.
    pub voice: Option<String>,
    /// The new language, as a BCP 47 tag.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub language: Change<String>,
    /// The new result fields; none ends the extraction.
    pub returns: Option<ReturnsSchema>,
    /// The new in-call tools, in place of all old ones.
    pub tools: Option<Vec<InCallTool>>,
    /// The new URL that receives the events of its calls.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub webhook_url: Change<String>,
    /// What happens when a machine answers.
    pub voicemail_action: Option<VoicemailAction>,
}

// Shows no content, because the texts may hold telephone numbers.
debug_fields!(AgentUpdate {});

/// The body that attaches a number or makes it primary. The field's name is not documented; `number_id` is the name of
/// the path parameter that detaches one.
#[derive(Serialize)]
struct NumberRef<'a> {
    number_id: &'a NumberId,
}

impl ApiClient {
    /// Lists the organization's agents, of one type or all (`GET /v1/agents`). The list has no further pages.
    ///
    /// # Errors
    /// [`Error`] if no readable list comes back.
    pub async fn list_agents(&self, r#type: Option<AgentType>) -> Result<Page<Agent>, Error> {
        self.get(ApiOperation::ListAgents, &[], &[("type", r#type)]).await?.page()
    }

    /// Creates an agent (`POST /v1/agents`).
    ///
    /// # Errors
    /// [`Error`]. With [`crate::Effect::Unknown`] the agent may exist.
    pub async fn create_agent(&self, agent: &AgentCreate) -> Result<Agent, Error> {
        self.send_json(ApiOperation::CreateAgent, &[], agent).await?.record()
    }

    /// Fetches an agent, archived or not (`GET /v1/agents/{id}`).
    ///
    /// # Errors
    /// [`Error`] if there is no such agent, or no readable response comes back.
    pub async fn get_agent(&self, id: &AgentId) -> Result<Agent, Error> {
        self.get(ApiOperation::GetAgent, &[id.as_str()], &()).await?.record()
    }

    /// Changes an agent (`PATCH /v1/agents/{id}`). Live calls keep the agent as it was when they began.
    ///
    /// # Errors
    /// [`Error`] if the API rejects the change, or no readable response comes back.
    pub async fn update_agent(&self, id: &AgentId, update: &AgentUpdate) -> Result<Agent, Error> {
        let response = self.send_json(ApiOperation::UpdateAgent, &[id.as_str()], update).await?;
        self.read_changed_agent(response, id).await
    }

    /// Archives an agent (`DELETE /v1/agents/{id}`); its past calls stay. Returns the agent if the API sends it back:
    /// the body of the response is not documented.
    ///
    /// # Errors
    /// [`Error`] if the API rejects the request, or no response comes back.
    pub async fn archive_agent(&self, id: &AgentId) -> Result<Option<Agent>, Error> {
        match self.send(ApiOperation::ArchiveAgent, &[id.as_str()]).await {
            Ok(response) => Ok(response.record().ok()),
            Err(error) if error.is_repeated_delete() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Attaches an owned number to an agent (`POST /v1/agents/{id}/numbers`).
    ///
    /// # Errors
    /// [`Error`] if the API rejects the request, or no readable response comes back.
    pub async fn attach_number(&self, id: &AgentId, number: &NumberId) -> Result<Agent, Error> {
        let body = NumberRef { number_id: number };
        let response = self.send_json(ApiOperation::AttachNumber, &[id.as_str()], &body).await?;
        self.read_changed_agent(response, id).await
    }

    /// Detaches a number from an agent (`DELETE /v1/agents/{id}/numbers/{number_id}`).
    ///
    /// # Errors
    /// [`Error`] if the API rejects the request, or no readable response comes back.
    pub async fn detach_number(&self, id: &AgentId, number: &NumberId) -> Result<Agent, Error> {
        match self.send(ApiOperation::DetachNumber, &[id.as_str(), number.as_str()]).await {
            Ok(response) => self.read_changed_agent(response, id).await,
            Err(error) if error.is_repeated_delete() => self.get_agent(id).await.map_err(|_| error),
            Err(error) => Err(error),
        }
    }

    /// Makes an attached number the agent's primary one (`PUT /v1/agents/{id}/primary-number`).
    ///
    /// # Errors
    /// [`Error`] if the API rejects the request, or no readable response comes back.
    pub async fn set_primary_number(
        &self,
        id: &AgentId,
        number: &NumberId,
    ) -> Result<Agent, Error> {
        let body = NumberRef { number_id: number };
        let response =
            self.send_json(ApiOperation::SetPrimaryNumber, &[id.as_str()], &body).await?;
        self.read_changed_agent(response, id).await
    }

    /// Reads the changed agent from the response, or fetches it if the response does not hold it: the bodies of these
    /// responses are not documented. If the fetch fails too, the error says that the change was made.
    async fn read_changed_agent(
        &self,
        response: ApiResponse,
        id: &AgentId,
    ) -> Result<Agent, Error> {
        match response.record_matching(|agent: &Agent| agent.id == *id) {
            Ok(agent) => Ok(agent),
            Err(unreadable) => self.get_agent(id).await.map_err(|_| unreadable),
        }
    }
}
