//! One change of one client's file: planned, shown, and made. Everything but [`InstallPlan::apply`] only
//! reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::client_app::{ClientApp, Format, InstallScope, Machine};
use super::document::EditError;
use super::entry::{Patch, Prompt, ServerEntry, is_own_flag, texts};
use super::{InstallError, file, json_config, toml_config};

/// The byte order mark that some editors on Windows write first.
const BOM: &str = "\u{feff}";

/// How many backups are looked at for what was there before.
const MAX_BACKUPS: usize = 20;

/// A text of either format.
enum Document {
    Json(json_config::Document),
    Toml(toml_config::Document),
}

impl Document {
    fn parse(client: ClientApp, text: &str) -> Result<Self, EditError> {
        Ok(match client.format() {
            Format::Json => Self::Json(json_config::Document::parse(text, false)?),
            Format::Json5 => Self::Json(json_config::Document::parse(text, true)?),
            Format::Toml => Self::Toml(toml_config::Document::parse(text)?),
        })
    }

    fn get(&self, path: &[&str]) -> Option<Value> {
        match self {
            Self::Json(document) => document.get(path),
            Self::Toml(document) => document.get(path),
        }
    }

    fn merge(&mut self, path: &[&str], patch: &Patch) -> Result<(), EditError> {
        match self {
            Self::Json(document) => {
                if let Some(input) = &patch.input {
                    document.add_element("inputs", input)?;
                }
                document.merge(path, &patch.entry)
            }
            Self::Toml(document) => document.merge(path, &patch.entry),
        }
    }

    fn remove(&mut self, path: &[&str]) -> Result<(), EditError> {
        match self {
            Self::Json(document) => document.remove(path),
            Self::Toml(document) => document.remove(path),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Json(document) => document.text(),
            Self::Toml(document) => document.text(),
        }
    }

    fn masked(&self, shown: &dyn Fn(&str) -> bool) -> String {
        match self {
            Self::Json(document) => {
                document.mask(shown);
                document.text()
            }
            Self::Toml(document) => document.masked(shown),
        }
    }
}

/// What becomes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
    Unchanged,
    Written(String),
    Removed,
}

/// A change that has not been made yet.
#[derive(Debug)]
pub struct InstallPlan {
    client: ClientApp,
    path: PathBuf,
    before: Option<String>,
    after: After,
    /// The texts that this program writes: what the difference may show.
    ours: BTreeSet<String>,
}

/// Plans that the client has this server under this name.
///
/// # Errors
/// The client has no such place, or its file cannot be read or edited.
pub fn plan_install(
    client: ClientApp,
    scope: InstallScope,
    machine: &Machine,
    name: &str,
    server: &ServerEntry,
) -> Result<InstallPlan, InstallError> {
    let patch = server.patch(client)?;
    let path = file::resolve(&client.file(scope, machine)?)?;
    let before = read(&path)?;
    let (bom, text) = split_bom(before.as_deref().unwrap_or_default());
    let edited = edit(client, &path, text, name, &patch)?;
    let after = match &before {
        Some(_) if edited == text => After::Unchanged,
        _ => After::Written(format!("{bom}{edited}")),
    };
    let mut ours = BTreeSet::new();
    texts(&Value::from(patch.entry), &mut ours);
    texts(&patch.input.unwrap_or_default(), &mut ours);
    Ok(InstallPlan { client, path, before, after, ours })
}

/// Plans that the client has no server of this name.
///
/// A file that says, byte for byte, what installing makes of one of its backups (or of nothing) gets
/// that back (or goes away); any other only loses the entry.
///
/// # Errors
/// The client has no such place, or its file cannot be read or edited.
pub fn plan_uninstall(
    client: ClientApp,
    scope: InstallScope,
    machine: &Machine,
    name: &str,
) -> Result<InstallPlan, InstallError> {
    let path = file::resolve(&client.file(scope, machine)?)?;
    let before = read(&path)?;
    let mut plan =
        InstallPlan { client, path, before, after: After::Unchanged, ours: BTreeSet::new() };
    let Some(before) = plan.before.as_deref() else { return Ok(plan) };
    let (bom, text) = split_bom(before);
    let refuse = |error| refused(&plan.path, error);
    let mut document = Document::parse(client, text).map_err(refuse)?;
    let at = at(client, name);
    let Some(entry) = document.get(&at) else { return Ok(plan) };
    let prompt = Prompt::ALL.into_iter().find(|prompt| asks(*prompt, &entry));
    let inputs = document.get(&["inputs"]);
    let input = prompt.and_then(|prompt| Some((prompt, question(prompt, inputs.as_ref()?)?)));
    document.remove(&at).map_err(refuse)?;
    if let (Some((prompt, input)), Document::Json(json)) = (&input, &document)
        && !asks(*prompt, &document.get(client.servers_key()).unwrap_or_default())
    {
        json.remove_element("inputs", input);
    }
    let removed = document.text();

    // What was written when it was installed, replayed on what was there before.
    let patch = entry
        .as_object()
        .map(|entry| Patch { entry: entry.clone(), input: input.map(|(_, question)| question) });
    let replays = |earlier: &str| {
        patch.as_ref().is_some_and(|patch| {
            let (earlier_bom, earlier) = split_bom(earlier);
            let lacks = Document::parse(client, earlier).is_ok_and(|old| old.get(&at).is_none());
            let made = edit(client, &plan.path, earlier, name, patch);
            lacks && earlier_bom == bom && made.is_ok_and(|made| made == text)
        })
    };
    let earlier = file::backups(&plan.path)
        .iter()
        .take(MAX_BACKUPS)
        .filter_map(|backup| read(backup).ok().flatten())
        .find(|backup| replays(backup));
    plan.after = match earlier {
        Some(earlier) => After::Written(earlier),
        None if replays("") => After::Removed,
        None => After::Written(format!("{bom}{removed}")),
    };
    Ok(plan)
}

impl InstallPlan {
    /// The file it is about; behind a symbolic link, what the link leads to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.after == After::Unchanged
    }

    /// The change as a unified diff.
    ///
    /// Every text that this program did not write, but for its own flags, and every comment is shown as
    /// `…`: a configuration holds other programs' secrets.
    #[must_use]
    pub fn diff(&self) -> String {
        let after = match &self.after {
            After::Unchanged => return String::new(),
            After::Written(text) => Some(text.as_str()),
            After::Removed => None,
        };
        let shown = |text: &str| self.ours.contains(text) || is_own_flag(text);
        let masked = |text: Option<&str>| {
            let text = text.map(|text| split_bom(text).1).filter(|text| !text.trim().is_empty());
            text.map_or_else(String::new, |text| {
                Document::parse(self.client, text)
                    .map_or_else(|_| String::new(), |document| document.masked(&shown))
            })
        };
        let (before, after) = (masked(self.before.as_deref()), masked(after));
        let name = self.path.display().to_string();
        similar::TextDiff::from_lines(&before, &after)
            .unified_diff()
            .missing_newline_hint(false)
            .header(&name, &name)
            .to_string()
    }

    /// Makes the change, with a backup beside the file. Answers where the file is kept as it was, if
    /// there was one.
    ///
    /// # Errors
    /// The file changed since it was read, or the operating system refused. Either way it is whole.
    pub fn apply(&self, now: Timestamp) -> Result<Option<PathBuf>, InstallError> {
        if self.is_done() {
            return Ok(None);
        }
        if read(&self.path)? != self.before {
            return Err(InstallError::ChangedMeanwhile { path: self.path.clone() });
        }
        let backup = self
            .before
            .as_ref()
            .map(|before| file::back_up(&self.path, before.as_bytes(), now))
            .transpose()?;
        match &self.after {
            After::Unchanged => {}
            After::Written(text) => {
                let permissions = file::Permissions::Of(&self.path);
                file::put(&self.path, text.as_bytes(), permissions, true)?;
            }
            After::Removed => file::remove(&self.path)?,
        }
        Ok(backup)
    }
}

/// An entry that is in a client's file.
#[derive(Debug)]
pub struct InstalledEntry {
    /// The program that the client starts.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// The environment it is given, which may hold secrets.
    pub env: Vec<(String, SecretString)>,
    /// The address that the client connects to.
    pub url: Option<String>,
}

/// The entry of this name in a client's file, if there is one.
///
/// # Errors
/// The client has no such place, or its file cannot be read or parsed.
pub fn find_entry(
    client: ClientApp,
    scope: InstallScope,
    machine: &Machine,
    name: &str,
) -> Result<Option<InstalledEntry>, InstallError> {
    let mut entries = read_entries(client, scope, machine)?.into_iter();
    let found = entries.find(|(found, _)| found == name);
    Ok(found.map(|(_, entry)| entry))
}

/// Every server in a client's file, by name, in the file's order.
///
/// # Errors
/// The client has no such place, or its file cannot be read or parsed.
pub fn read_entries(
    client: ClientApp,
    scope: InstallScope,
    machine: &Machine,
) -> Result<Vec<(String, InstalledEntry)>, InstallError> {
    let path = client.file(scope, machine)?;
    let Some(text) = read(&path)? else { return Ok(Vec::new()) };
    let document =
        Document::parse(client, split_bom(&text).1).map_err(|error| refused(&path, error))?;
    let Some(Value::Object(servers)) = document.get(client.servers_key()) else {
        return Ok(Vec::new());
    };
    let entries = servers.into_iter();
    Ok(entries.filter_map(|(name, entry)| Some((name, installed(entry.as_object()?)))).collect())
}

fn installed(entry: &Map<String, Value>) -> InstalledEntry {
    let text = |word: &str| entry.get(word).and_then(Value::as_str).map(str::to_owned);
    let args = entry.get("args").and_then(Value::as_array).into_iter().flatten();
    let env = entry.get("env").and_then(Value::as_object).into_iter().flat_map(Map::iter);
    InstalledEntry {
        command: text("command"),
        args: args.filter_map(Value::as_str).map(str::to_owned).collect(),
        env: env
            .filter_map(|(name, value)| Some((name.clone(), SecretString::from(value.as_str()?))))
            .collect(),
        url: ["url", "serverUrl", "httpUrl"].iter().find_map(|word| text(word)),
    }
}

impl ServerEntry {
    /// What the client's file would say if it held nothing else.
    ///
    /// # Errors
    /// The client cannot be told that.
    pub fn example(&self, client: ClientApp, name: &str) -> Result<String, InstallError> {
        edit(client, Path::new(""), "", name, &self.patch(client)?)
    }
}

fn edit(
    client: ClientApp,
    path: &Path,
    text: &str,
    name: &str,
    patch: &Patch,
) -> Result<String, InstallError> {
    let refuse = |error| refused(path, error);
    let mut document = Document::parse(client, text).map_err(refuse)?;
    document.merge(&at(client, name), patch).map_err(refuse)?;
    Ok(document.text())
}

fn at(client: ClientApp, name: &str) -> Vec<&str> {
    client.servers_key().iter().copied().chain([name]).collect()
}

fn read(path: &Path) -> Result<Option<String>, InstallError> {
    file::read(path)?
        .map(|bytes| {
            String::from_utf8(bytes).map_err(|_| InstallError::Unparsable {
                path: path.to_owned(),
                message: "it is not UTF-8".to_owned(),
            })
        })
        .transpose()
}

fn split_bom(text: &str) -> (&str, &str) {
    match text.strip_prefix(BOM) {
        Some(rest) => (BOM, rest),
        None => ("", text),
    }
}

fn refused(path: &Path, error: EditError) -> InstallError {
    let path = path.to_owned();
    match error {
        EditError::Syntax(message) => InstallError::Unparsable { path, message },
        EditError::Shape(message) => InstallError::Unexpected { path, message },
    }
}

/// A question of ours among those of VS Code.
fn question(prompt: Prompt, inputs: &Value) -> Option<Value> {
    let id = Value::from(prompt.id());
    inputs.as_array()?.iter().find(|input| input.get("id") == Some(&id)).cloned()
}

/// Whether anything in here uses the answer to that question.
fn asks(prompt: Prompt, value: &Value) -> bool {
    let mut found = BTreeSet::new();
    texts(value, &mut found);
    let used = prompt.answer();
    found.iter().any(|text| text.contains(&used))
}
