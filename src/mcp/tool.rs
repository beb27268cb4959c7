//! The definition of a tool.
//!
//! A tool is a type. It must declare its effect ([`ToolEffect`]) and whether its answers contain words from outside,
//! or it does not compile. Its definition with the schemas is built at its first use and shared by all sessions.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use futures::future::BoxFuture;
use rmcp::model::{
    CallToolResult, InputRequiredResult, JsonObject, Tool as Definition, ToolAnnotations,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::account::Environment;
use crate::mcp::card;
use crate::mcp::input::arguments::{self, Arguments};
use crate::mcp::input::schema;
use crate::mcp::registry::available::AvailableTools;
use crate::mcp::registry::description::render_description;
use crate::mcp::registry::index::ToolMeta;
use crate::mcp::reply::answer;
use crate::mcp::reply::error::ToolError;
use crate::mcp::task_subject::TaskSubject;

// What the definition of a tool is made of.
pub use crate::mcp::registry::description::Sentence::{self, Always, Live, Sandbox, With};
pub use crate::mcp::registry::effect::ToolEffect;
pub use crate::mcp::registry::index::CardRole;
pub use crate::mcp::registry::name::ToolName;
pub use crate::mcp::reply::answer::Reply;
pub use crate::mcp::request::context::ToolContext;

/// The result of a `run` that did not produce a reply.
#[derive(Debug)]
pub enum ToolExit {
    /// It failed; the model is told why.
    Failed(ToolError),
    /// The human must be asked first, by the multi-round request of 2026-07-28.
    NeedsInput(Box<InputRequiredResult>),
}

impl<E: Into<ToolError>> From<E> for ToolExit {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// One tool of the catalogue.
pub trait Tool: Send + Sync + 'static {
    /// The name: a verb, then the API's noun. It has its toolset with it.
    const NAME: ToolName;
    /// The name for people.
    const TITLE: &'static str;
    /// What the tool does, when to use it, what it costs and what it returns.
    const DESCRIPTION: &'static [Sentence];
    /// The effect of a call.
    const EFFECT: ToolEffect;
    /// Whether it reaches beyond the account, or brings in words from outside.
    const OPEN_WORLD: bool;
    /// What the call card has to do with it.
    const CARD: CardRole = CardRole::Unrelated;
    /// What it is given.
    type Input: DeserializeOwned + JsonSchema + Send;
    /// What it answers.
    type Output: Serialize + JsonSchema + Send;

    /// The deadline of a call.
    #[must_use]
    fn deadline(_input: &Self::Input, _cx: &ToolContext) -> Duration {
        Duration::from_secs(55)
    }

    /// Does it.
    fn run(
        input: Self::Input,
        cx: &ToolContext,
    ) -> impl Future<Output = Result<Reply<Self::Output>, ToolExit>> + Send;
}

/// A tool call with valid arguments, and its deadline.
pub struct PreparedCall<'a> {
    /// The longest it may take.
    pub deadline: Duration,
    /// The work.
    pub work: BoxFuture<'a, Result<ToolOutcome, ToolExit>>,
}

/// A finished run.
pub struct ToolOutcome {
    /// The answer.
    pub result: CallToolResult,
    /// What is still in progress, and the answer as text.
    pub followed: Option<(TaskSubject, String)>,
}

/// A tool without its type parameters.
pub struct ToolEntry {
    /// What it is called and what it does to the world.
    pub meta: ToolMeta,
    description: &'static [Sentence],
    definition: LazyLock<Definition>,
    prepare:
        for<'a> fn(&JsonObject, Arguments, &'a ToolContext) -> Result<PreparedCall<'a>, ToolError>,
}

impl ToolEntry {
    pub(super) fn new<T: Tool>() -> Self {
        Self {
            meta: tool_metadata::<T>(),
            description: T::DESCRIPTION,
            definition: LazyLock::new(build_definition::<T>),
            prepare: prepare_call::<T>,
        }
    }

    /// The tool on the live service, described for a reader who is offered all tools.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The tool as tools/list serves it to this caller.
    #[must_use]
    pub fn definition_for(&self, tools: &AvailableTools) -> Definition {
        let is_offered = |tool| tools.contains(tool);
        let text = render_description(self.description, tools.environment(), is_offered);
        let mut definition = self.definition().clone();
        definition.description = Some(text.into());
        if !tools.has_card() {
            definition.meta = None;
        }
        definition
    }

    /// Checks the arguments and prepares the call.
    ///
    /// # Errors
    /// The arguments are not valid; nothing was done.
    pub fn prepare_call<'a>(
        &self,
        arguments: Arguments,
        cx: &'a ToolContext,
    ) -> Result<PreparedCall<'a>, ToolError> {
        (self.prepare)(&self.definition.input_schema, arguments, cx)
    }
}

/// What is known about a tool without calling it.
pub(super) const fn tool_metadata<T: Tool>() -> ToolMeta {
    ToolMeta {
        name: T::NAME.as_str(),
        title: T::TITLE,
        toolset: T::NAME.toolset(),
        effect: T::EFFECT,
        card: T::CARD,
    }
}

fn build_definition<T: Tool>() -> Definition {
    let (read_only, destructive, idempotent) = match T::EFFECT {
        ToolEffect::Reads => (true, false, true),
        ToolEffect::Writes { destructive, idempotent } => (false, destructive, idempotent),
        ToolEffect::CostsMoney | ToolEffect::RingsPhone => (false, true, false),
    };
    let description = render_description(T::DESCRIPTION, Environment::Live, |_| true);
    let input = schema::input_schema::<T::Input>();
    let mut definition = Definition::new(T::NAME.as_str(), description, input)
        .with_title(T::TITLE)
        .with_annotations(ToolAnnotations::from_raw(
            None,
            Some(read_only),
            Some(destructive),
            Some(idempotent),
            Some(T::OPEN_WORLD),
        ));
    // A tool that no model calls need not describe its answers to one.
    if !T::CARD.is_app_only() {
        definition = definition.with_raw_output_schema(schema::output_schema::<T::Output>());
    }
    definition.meta = card::tool_meta(T::CARD);
    definition
}

fn prepare_call<'a, T: Tool>(
    schema: &JsonObject,
    arguments: Arguments,
    cx: &'a ToolContext,
) -> Result<PreparedCall<'a>, ToolError> {
    let input = arguments::parse::<T::Input>(schema, arguments)?;
    Ok(PreparedCall {
        deadline: T::deadline(&input, cx),
        work: Box::pin(async move {
            let mut reply = T::run(input, cx).await?;
            reply.simulated |= cx.account.environment() == Environment::Sandbox;
            let followed = reply.followed.clone().map(|subject| (subject, reply.full_text()));
            Ok(ToolOutcome { result: answer::render_reply(reply)?, followed })
        }),
    })
}
