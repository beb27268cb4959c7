//! What a tool is, and the list of all of them.
//!
//! A tool is a type. It must say what it does to the world ([`Kind`]) and whether its answers carry
//! words from outside, or it does not compile. Definitions (schemas above all) are built once, at
//! their first use, and shared by all sessions.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::future::BoxFuture;
use rmcp::model::{CallToolResult, InputRequiredResult, Tool as Definition, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::{self, Arguments};
use super::error::ToolError;
use super::gate::ToolContext;
use super::present::{self, Reply};
use super::scope::Scope;
use super::selection::Selection;
use super::toolset::{Toolset, UnknownName, nearest};
use super::{schema, tools};
use crate::account::World;
use crate::api::CallId;

/// What calling a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Changes nothing.
    Reads,
    /// Changes records of the account.
    Writes {
        /// Something is lost by it.
        destructive: bool,
        /// Doing it twice is the same as doing it once.
        idempotent: bool,
    },
    /// Spends credit.
    CostsMoney,
    /// Rings a real telephone, and spends credit.
    RingsPhone,
}

impl Kind {
    /// Whether the tool only reads.
    #[must_use]
    pub const fn is_read_only(self) -> bool {
        matches!(self, Self::Reads)
    }
}

/// What `run` ends with when it does not end with a reply.
#[derive(Debug)]
pub enum Stop {
    /// It failed; the model is told why.
    Failed(ToolError),
    /// The human must be asked first, by the multi-round request of 2026-07-28.
    NeedsInput(Box<InputRequiredResult>),
}

impl<E: Into<ToolError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// One tool of the catalogue.
pub trait Tool: Send + Sync + 'static {
    /// The name: a verb, then the API's noun.
    const NAME: &'static str;
    /// The name for people.
    const TITLE: &'static str;
    /// What it does to the world, when to use it, what it costs and what it returns.
    const DESCRIPTION: &'static str;
    /// The group it is switched on and off with.
    const TOOLSET: Toolset;
    /// What it does to the world.
    const KIND: Kind;
    /// Whether it reaches beyond the account, or brings in words from outside.
    const OPEN_WORLD: bool;
    /// What it is given.
    type Input: DeserializeOwned + JsonSchema + Send;
    /// What it answers.
    type Output: Serialize + JsonSchema + Send;

    /// How long it may take altogether.
    #[must_use]
    fn deadline(_input: &Self::Input, _cx: &ToolContext) -> Duration {
        Duration::from_secs(55)
    }

    /// Does it.
    fn run(
        input: Self::Input,
        cx: &ToolContext,
    ) -> impl Future<Output = Result<Reply<Self::Output>, Stop>> + Send;
}

/// A call of a tool whose arguments were found good, with the time it may take.
pub struct Ready<'a> {
    /// The longest it may take.
    pub deadline: Duration,
    /// The work.
    pub work: BoxFuture<'a, Result<Finished, Stop>>,
}

/// A finished run.
pub struct Finished {
    /// The answer.
    pub result: CallToolResult,
    /// The call whose end is still to come, and the answer as text.
    pub followed: Option<(CallId, String)>,
}

/// A tool without its type parameters.
pub struct Entry {
    /// The tool's name.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// The tool's group.
    pub toolset: Toolset,
    /// What it does to the world.
    pub kind: Kind,
    definition: LazyLock<Definition>,
    prepare: for<'a> fn(Arguments, &'a ToolContext) -> Result<Ready<'a>, ToolError>,
}

impl Entry {
    pub(super) fn of<T: Tool>() -> Self {
        Self {
            name: T::NAME,
            title: T::TITLE,
            toolset: T::TOOLSET,
            kind: T::KIND,
            definition: LazyLock::new(define::<T>),
            prepare: prepare::<T>,
        }
    }

    /// The tool as tools/list serves it.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// What a caller must be granted to call it, where callers are granted anything.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(self.toolset, self.kind)
    }

    /// Checks the arguments and makes the call ready to run.
    ///
    /// # Errors
    /// The arguments do not fit; nothing was done.
    pub fn prepare<'a>(
        &self,
        arguments: Arguments,
        cx: &'a ToolContext,
    ) -> Result<Ready<'a>, ToolError> {
        (self.prepare)(arguments, cx)
    }
}

fn define<T: Tool>() -> Definition {
    let (read_only, destructive, idempotent) = match T::KIND {
        Kind::Reads => (true, false, true),
        Kind::Writes { destructive, idempotent } => (false, destructive, idempotent),
        Kind::CostsMoney | Kind::RingsPhone => (false, true, false),
    };
    Definition::new(T::NAME, T::DESCRIPTION, schema::input::<T::Input>())
        .with_title(T::TITLE)
        .with_raw_output_schema(schema::output::<T::Output>())
        .with_annotations(ToolAnnotations::from_raw(
            None,
            Some(read_only),
            Some(destructive),
            Some(idempotent),
            Some(T::OPEN_WORLD),
        ))
}

fn prepare<T: Tool>(arguments: Arguments, cx: &ToolContext) -> Result<Ready<'_>, ToolError> {
    let input = arguments::parse::<T::Input>(arguments)?;
    Ok(Ready {
        deadline: T::deadline(&input, cx),
        work: Box::pin(async move {
            let mut reply = T::run(input, cx).await?;
            if cx.account.world() == World::Sandbox {
                present::mark_simulated(&mut reply.text);
            }
            let followed = reply.followed.clone().map(|call| (call, reply.text.clone()));
            Ok(Finished { result: present::reply(reply)?, followed })
        }),
    })
}

/// Every tool there is, offered or not.
pub struct Catalogue {
    entries: Vec<Entry>,
}

impl Catalogue {
    /// The whole catalogue. Cheap: schemas are built when they are first asked for.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: tools::all() }
    }

    /// A catalogue of a test's own tools.
    #[cfg(test)]
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// All tools in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The tool of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// What is said of a tool that does not exist.
    #[must_use]
    pub fn no_tool(&self, name: &str) -> UnknownName {
        UnknownName::new("tool", name, self.entries.iter().map(|entry| entry.name.to_owned()))
    }

    /// The existing name that is most like `name`, if any is.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.entries.iter().map(|entry| entry.name))
    }

    /// The tools that `selection` offers, in their order.
    pub fn offered<'a>(&'a self, selection: &'a Selection) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(|entry| selection.withheld(entry).is_none())
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

/// The catalogue as it is shared by sessions.
pub type SharedCatalogue = Arc<Catalogue>;
