//! What a tool is, the list of all of them, and which of them are offered.
//!
//! A tool is a type. It must say what it does to the world ([`Kind`]) and whether its answers carry
//! words from outside, or it does not compile. Definitions (schemas above all) are built once, at
//! their first use, and shared by all sessions.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clap::ValueEnum;
use futures::future::BoxFuture;
use rmcp::model::{CallToolResult, InputRequiredResult, Tool as Definition, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::arguments::{self, Arguments};
use super::error::ToolError;
use super::gate::ToolContext;
use super::present::{self, Reply};
use super::scope::Scope;
use super::{schema, tools};
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

/// The groups in which tools are switched on and off.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Toolset {
    /// Placing calls and reading their results.
    Calls,
    /// The agents that speak.
    Agents,
    /// Phone numbers.
    Numbers,
    /// Webhook endpoints and deliveries; off unless asked for.
    Webhooks,
    /// What only the simulator can do; there only with it.
    Sandbox,
}

impl Toolset {
    /// All of them, in the order of the catalogue.
    pub const ALL: [Self; 5] =
        [Self::Calls, Self::Agents, Self::Numbers, Self::Webhooks, Self::Sandbox];
}

impl fmt::Display for Toolset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls",
            Self::Agents => "agents",
            Self::Numbers => "numbers",
            Self::Webhooks => "webhooks",
            Self::Sandbox => "sandbox",
        })
    }
}

impl FromStr for Toolset {
    type Err = SelectionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|set| set.to_string() == name).ok_or_else(|| {
            SelectionError::unknown("toolset", name, Self::ALL.iter().map(Self::to_string))
        })
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
    /// The call whose end is still to come.
    pub followed: Option<CallId>,
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
            let reply = T::run(input, cx).await?;
            let followed = reply.followed.clone();
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

fn nearest<T: AsRef<str>>(name: &str, names: impl Iterator<Item = T>) -> Option<T> {
    names
        .map(|known| (strsim::jaro_winkler(name, known.as_ref()), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// Which tools are offered, as the user asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These groups; without them and without `tools`, the default ones.
    pub toolsets: Vec<Toolset>,
    /// These tools too; without `toolsets`, only these.
    pub tools: Vec<String>,
    /// Never these.
    pub exclude_tools: Vec<String>,
    /// Only tools that change nothing. Applied last; nothing overrules it.
    pub read_only: bool,
    /// Whether the server stands on the simulator.
    pub sandbox: bool,
    /// What the server offers to others, and not to this caller or request.
    pub narrowed: Vec<&'static str>,
}

/// A name in the selection that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{name}`{}; the valid names are: {valid}", .nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
pub struct SelectionError {
    what: &'static str,
    name: String,
    nearest: Option<String>,
    valid: String,
}

impl SelectionError {
    /// Of a tool that does not exist.
    #[must_use]
    pub fn no_tool(name: &str, catalogue: &Catalogue) -> Self {
        Self::unknown("tool", name, catalogue.iter().map(|entry| entry.name.to_owned()))
    }

    fn unknown(what: &'static str, name: &str, valid: impl Iterator<Item = String>) -> Self {
        let valid = valid.collect::<Vec<_>>();
        Self {
            what,
            name: name.to_owned(),
            nearest: nearest(name, valid.iter()).cloned(),
            valid: valid.join(", "),
        }
    }
}

impl Selection {
    const DEFAULT: [Toolset; 4] =
        [Toolset::Calls, Toolset::Agents, Toolset::Numbers, Toolset::Sandbox];

    /// Checks that every name exists.
    ///
    /// # Errors
    /// The first name that does not, with the valid ones.
    pub fn check(&self, catalogue: &Catalogue) -> Result<(), SelectionError> {
        match self
            .tools
            .iter()
            .chain(&self.exclude_tools)
            .find(|name| catalogue.get(name).is_none())
        {
            None => Ok(()),
            Some(name) => Err(SelectionError::no_tool(name, catalogue)),
        }
    }

    /// The groups of tools that are on.
    pub fn toolsets_in_force(&self) -> impl Iterator<Item = Toolset> {
        let toolsets: &[Toolset] = match (self.toolsets.as_slice(), self.tools.as_slice()) {
            ([], []) => &Self::DEFAULT,
            (toolsets, _) => toolsets,
        };
        toolsets.iter().copied().filter(|set| self.sandbox || *set != Toolset::Sandbox)
    }

    /// The same without the tools that `keep` leaves out: it can only become less.
    #[must_use]
    pub fn narrowed(&self, catalogue: &Catalogue, keep: impl Fn(&Entry) -> bool) -> Self {
        let mut narrow = self.clone();
        let left_out = catalogue.iter().filter(|entry| !keep(entry)).map(|entry| entry.name);
        narrow.narrowed.extend(left_out);
        narrow
    }

    /// Why a tool is not offered, or none if it is.
    #[must_use]
    pub fn withheld(&self, entry: &Entry) -> Option<&'static str> {
        let named = self.tools.iter().any(|name| name == entry.name);
        if entry.toolset == Toolset::Sandbox && !self.sandbox {
            Some("it exists only with --sandbox")
        } else if !named && !self.toolsets_in_force().any(|set| set == entry.toolset) {
            Some("its toolset is not switched on (--toolsets, --tools)")
        } else if self.exclude_tools.iter().any(|name| name == entry.name) {
            Some("it is switched off by --exclude-tools")
        } else if self.read_only && !entry.kind.is_read_only() {
            Some("the server is read-only (--read-only)")
        } else if self.narrowed.contains(&entry.name) {
            Some("it is not among those that this caller may use and asked for")
        } else {
            None
        }
    }
}

/// The catalogue as it is shared by sessions.
pub type SharedCatalogue = Arc<Catalogue>;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &Selection) -> Vec<&'static str> {
        let catalogue = Catalogue::new();
        catalogue.offered(selection).map(|entry| entry.name).collect()
    }

    #[test]
    fn the_default_offers_calls_agents_and_numbers() {
        let catalogue = Catalogue::new();
        let expected: Vec<_> = catalogue
            .iter()
            .filter(|entry| !matches!(entry.toolset, Toolset::Webhooks | Toolset::Sandbox))
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names(&Selection::default()), expected);
        assert!(expected.contains(&"place_call"));
    }

    #[test]
    fn read_only_is_last_and_nothing_overrules_it() {
        let offered = names(&Selection {
            toolsets: Toolset::ALL.to_vec(),
            tools: vec!["place_call".into(), "purchase_number".into()],
            read_only: true,
            sandbox: true,
            ..Selection::default()
        });
        let catalogue = Catalogue::new();
        assert!(!offered.is_empty());
        for name in offered {
            assert_eq!(catalogue.get(name).unwrap().kind, Kind::Reads, "{name}");
        }
    }

    #[test]
    fn tools_alone_are_all_there_is_and_exclusion_beats_them() {
        let only = Selection { tools: vec!["get_call_result".into()], ..Selection::default() };
        assert_eq!(names(&only), ["get_call_result"]);
        let both = Selection { toolsets: vec![Toolset::Numbers], ..only };
        assert_eq!(
            names(&both),
            ["get_call_result", "list_numbers", "search_numbers", "purchase_number"]
        );
        let less = Selection { exclude_tools: vec!["purchase_number".into()], ..both };
        assert_eq!(names(&less), ["get_call_result", "list_numbers", "search_numbers"]);
    }

    #[test]
    fn the_sandbox_toolset_needs_the_sandbox() {
        let asked = Selection { toolsets: vec![Toolset::Sandbox], ..Selection::default() };
        assert_eq!(names(&asked), [""; 0]);
        assert_eq!(names(&Selection { sandbox: true, ..asked }), ["simulate_inbound_call"]);
    }

    #[test]
    fn unknown_names_are_refused_with_the_valid_ones() {
        let selection = Selection { tools: vec!["place_cal".into()], ..Selection::default() };
        let text = selection.check(&Catalogue::new()).unwrap_err().to_string();
        assert!(
            text.starts_with("there is no tool `place_cal` (did you mean `place_call`?)"),
            "{text}"
        );
        let text = "call".parse::<Toolset>().unwrap_err().to_string();
        assert_eq!(
            text,
            "there is no toolset `call` (did you mean `calls`?); the valid names are: calls, agents, numbers, webhooks, sandbox"
        );
    }
}
