//! Agents: who speaks on a call, what it is to find out, and from which number.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::{Answer, Client};
use super::error::Error;
use super::ids::{AgentId, NumberId};
use super::model::{Change, Open, Timestamp, model};
use super::numbers::PhoneNumber;
use super::operation::ApiOperation;
use super::page::Page;

/// Whether an agent answers calls or places them; fixed once it exists.
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
    /// The API's own word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What an outbound call does when a machine picks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum VoicemailAction {
    /// End at once.
    Hangup,
    /// Stay on the line so that the agent can speak.
    LeaveMessage,
}

/// The type of one result field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ReturnType {
    /// true or false.
    Boolean,
    /// Text.
    String,
    /// A number.
    Number,
}

/// The fields that are extracted from each conversation, by name; none means no extraction.
pub type ReturnsSchema = BTreeMap<String, ReturnType>;

/// Whether an in-call tool may be used freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ToolPolicy {
    /// Freely.
    #[default]
    Read,
    /// Only after a clear yes from the other party in the turn just before.
    ConfirmFirstWrite,
}

/// A function that the agent can use while a call runs. At most 16 for each agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(inline)]
pub enum InCallTool {
    /// One of the user's own servers.
    Http(HttpTool),
    /// A function of the platform.
    Builtin(BuiltinTool),
}

/// An in-call tool that sends its arguments to a server.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct HttpTool {
    /// Name by which the agent calls the tool.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Tells the agent when and how to use the tool.
    pub description: String,
    /// Whether it may be used freely.
    #[serde(default)]
    pub policy: ToolPolicy,
    /// HTTPS address that the arguments are sent to.
    #[schemars(regex(pattern = r"^https://"))]
    pub url: String,
    /// JSON Schema of the arguments, an object.
    #[serde(default = "no_parameters")]
    pub parameters: Map<String, Value>,
    /// Extra request headers; they may hold secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Time allowed for the answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub timeout_ms: Option<u32>,
}

/// The name alone: address and headers may hold secrets.
impl fmt::Debug for HttpTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTool").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An in-call tool that is a function of the platform, such as `end_call`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct BuiltinTool {
    /// Name by which the agent calls the tool.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Tells the agent when and how to use the tool.
    pub description: String,
    /// Whether it may be used freely.
    #[serde(default)]
    pub policy: ToolPolicy,
    /// Which function; `end_call` is the documented one.
    pub builtin: String,
    /// JSON Schema of the arguments, an object.
    #[serde(default = "no_parameters")]
    pub parameters: Map<String, Value>,
    /// Settings of the function.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
}

/// The name alone: the settings may hold secrets.
impl fmt::Debug for BuiltinTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltinTool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl InCallTool {
    /// The parameters of a tool without any, as CallingBox's own SDK writes them.
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

model! {
    /// An agent.
    pub struct Agent, key id: AgentId {
        /// Owning organization.
        org_id: Option<String>,
        /// Who made it.
        user_id: Option<String>,
        /// Label for people.
        name: Option<String>,
        /// Whether it answers calls or places them.
        r#type: Option<Open<AgentType>>,
        /// Identity and policy; absent stands for the built-in persona.
        persona: Option<String>,
        /// Default task of its calls.
        instructions: Option<String>,
        /// Id of the speaking voice; absent stands for the platform's default.
        voice: Option<String>,
        /// BCP 47 language tag.
        language: Option<String>,
        /// Result fields by name, each with its type word.
        returns: Option<Value>,
        /// In-call tools, in the API's form.
        tools: Option<Value>,
        /// Default receiver of the events of its calls.
        webhook_url: Option<String>,
        /// What happens when a machine picks up.
        voicemail_action: Option<Open<VoicemailAction>>,
        /// The number that is the caller ID by default, or that an inbound agent owns.
        primary_number_id: Option<NumberId>,
        /// When it was archived; absent while it is active.
        archived_at: Option<Timestamp>,
        /// When it was made.
        created_at: Option<Timestamp>,
        /// When it was last changed.
        updated_at: Option<Timestamp>,
        /// Attached numbers; may be absent in lists.
        numbers: Option<Vec<PhoneNumber>>,
    }
}

/// What a new agent is made from. Absent fields are not sent.
#[derive(Clone, PartialEq, Serialize)]
pub struct AgentCreate {
    /// Label for people.
    pub name: String,
    /// Whether it answers calls or places them.
    pub r#type: AgentType,
    /// Identity and policy; the built-in persona when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persona: Option<String>,
    /// Default task of its calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Id of the speaking voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// BCP 47 language tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Result fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<ReturnsSchema>,
    /// In-call tools, at most 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<InCallTool>>,
    /// Default receiver of call events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// What happens when a machine picks up; the API hangs up when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voicemail_action: Option<VoicemailAction>,
    /// Owned numbers to attach at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_ids: Option<Vec<NumberId>>,
    /// Which of `number_ids` is primary; the first when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_number_id: Option<NumberId>,
}

impl AgentCreate {
    /// A new agent with nothing but its name and type.
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

/// Name and type alone: the texts may hold telephone numbers.
impl fmt::Debug for AgentCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentCreate")
            .field("name", &self.name)
            .field("type", &self.r#type)
            .finish_non_exhaustive()
    }
}

/// What to change about an agent. Only what is set or cleared is sent; it holds from the next call.
#[derive(Clone, PartialEq, Default, Serialize)]
pub struct AgentUpdate {
    /// New label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New persona.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub persona: Change<String>,
    /// New default task.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub instructions: Change<String>,
    /// New voice id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// New language tag.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub language: Change<String>,
    /// New result fields; empty ends extraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<ReturnsSchema>,
    /// New in-call tools, in place of the old ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<InCallTool>>,
    /// New default receiver of call events.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub webhook_url: Change<String>,
    /// What happens when a machine picks up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voicemail_action: Option<VoicemailAction>,
}

/// Nothing of the content: the texts may hold telephone numbers.
impl fmt::Debug for AgentUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentUpdate").finish_non_exhaustive()
    }
}

/// The body of attach and set primary. The field's name is not documented; `number_id` follows the
/// path parameter of detach.
#[derive(Serialize)]
struct NumberRef<'a> {
    number_id: &'a NumberId,
}

impl Client {
    /// The organization's agents, of one type or all. There is no next page to ask for.
    ///
    /// # Errors
    /// [`Error`] when no readable list comes back.
    pub async fn list_agents(&self, r#type: Option<AgentType>) -> Result<Page<Agent>, Error> {
        let query: Vec<_> = r#type.map(|t| ("type", t.as_str().to_owned())).into_iter().collect();
        self.get(ApiOperation::ListAgents, &[], &query).await?.page()
    }

    /// Makes an agent.
    ///
    /// # Errors
    /// [`Error`]; with [`super::Effect::Unknown`] the agent may exist.
    pub async fn create_agent(&self, agent: &AgentCreate) -> Result<Agent, Error> {
        self.send_json(ApiOperation::CreateAgent, &[], agent).await?.one()
    }

    /// One agent, archived or not.
    ///
    /// # Errors
    /// [`Error`] when there is none with this id, or no readable answer comes back.
    pub async fn get_agent(&self, id: &AgentId) -> Result<Agent, Error> {
        self.get(ApiOperation::GetAgent, &[id.as_str()], &[]).await?.one()
    }

    /// Changes an agent. Calls under way keep the form they began with.
    ///
    /// # Errors
    /// [`Error`] when the API refuses or no readable answer comes back.
    pub async fn update_agent(&self, id: &AgentId, update: &AgentUpdate) -> Result<Agent, Error> {
        let answer = self.send_json(ApiOperation::UpdateAgent, &[id.as_str()], update).await?;
        self.agent_after(answer, id).await
    }

    /// Archives an agent; past calls stay. Answers the agent where the API sends it back, which is
    /// not documented.
    ///
    /// # Errors
    /// [`Error`] when the API refuses or no answer comes back.
    pub async fn archive_agent(&self, id: &AgentId) -> Result<Option<Agent>, Error> {
        match self.send(ApiOperation::ArchiveAgent, &[id.as_str()]).await {
            Ok(answer) => Ok(answer.any()),
            Err(error) if error.is_own_removal() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Attaches an owned number to an agent.
    ///
    /// # Errors
    /// [`Error`] when the API refuses or no readable answer comes back.
    pub async fn attach_number(&self, id: &AgentId, number: &NumberId) -> Result<Agent, Error> {
        let body = NumberRef { number_id: number };
        let answer = self.send_json(ApiOperation::AttachNumber, &[id.as_str()], &body).await?;
        self.agent_after(answer, id).await
    }

    /// Detaches a number from an agent.
    ///
    /// # Errors
    /// [`Error`] when the API refuses or no readable answer comes back.
    pub async fn detach_number(&self, id: &AgentId, number: &NumberId) -> Result<Agent, Error> {
        match self.send(ApiOperation::DetachNumber, &[id.as_str(), number.as_str()]).await {
            Ok(answer) => self.agent_after(answer, id).await,
            Err(error) if error.is_own_removal() => self.get_agent(id).await.map_err(|_| error),
            Err(error) => Err(error),
        }
    }

    /// Makes an attached number the agent's caller ID, or the number it owns.
    ///
    /// # Errors
    /// [`Error`] when the API refuses or no readable answer comes back.
    pub async fn set_primary_number(
        &self,
        id: &AgentId,
        number: &NumberId,
    ) -> Result<Agent, Error> {
        let body = NumberRef { number_id: number };
        let answer = self.send_json(ApiOperation::SetPrimaryNumber, &[id.as_str()], &body).await?;
        self.agent_after(answer, id).await
    }

    /// The agent after a change: from the answer, or fetched where the answer does not hold it, since
    /// the bodies of these answers are not documented. When that fails too the error is the change's
    /// own, which says that it was done.
    async fn agent_after(&self, answer: Answer, id: &AgentId) -> Result<Agent, Error> {
        match answer.the(|agent: &Agent| agent.id == *id) {
            Ok(agent) => Ok(agent),
            Err(unreadable) => self.get_agent(id).await.map_err(|_| unreadable),
        }
    }
}
