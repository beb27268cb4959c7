//! Plans, shows and makes one change of one client's file. Only [`InstallPlan::apply`] writes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::client_app::{ClientApp, ClientFile, Format};
use super::document::{ConfigDocument, EditError};
use super::entry::{EntryPatch, ServerEntry, VscodePrompt, collect_strings, is_own_flag};
use super::json_config::JsonDocument;
use super::program::PROGRAM;
use super::toml_config::TomlDocument;
use super::{InstallError, file};

/// How many backups uninstalling compares with the file.
const MAX_BACKUPS: usize = 20;

/// The folder of the container image.
const IMAGE_FOLDER: &str = "ghcr.io/callingbox/";

/// The default name of this server in a client.
pub const DEFAULT_NAME: &str = "callingbox";

fn parse_document(client: ClientApp, text: &str) -> Result<Box<dyn ConfigDocument>, EditError> {
    Ok(match client.format() {
        Format::Json => Box::new(JsonDocument::parse(text, false)?),
        Format::Json5 => Box::new(JsonDocument::parse(text, true)?),
        Format::Toml => Box::new(TomlDocument::parse(text)?),
    })
}

/// The file after the change.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NewContent {
    Unchanged,
    Written(String),
    Removed,
}

/// A change of a client's file that has not been made yet.
#[derive(Debug)]
pub struct InstallPlan {
    client: ClientApp,
    path: PathBuf,
    before: Option<String>,
    after: NewContent,
    /// The strings that this program writes; the diff may show them.
    own_strings: BTreeSet<String>,
}

impl ClientFile {
    /// Plans to add this server under this name.
    ///
    /// # Errors
    /// The client does not support such a server, or the file cannot be read or edited.
    pub fn plan_install(
        &self,
        name: &str,
        server: &ServerEntry,
    ) -> Result<InstallPlan, InstallError> {
        let patch = server.patch(self.client)?;
        let mut own_strings = BTreeSet::new();
        collect_strings(&Value::from(patch.entry.clone()), &mut own_strings);
        if let Some(input) = &patch.input {
            collect_strings(input, &mut own_strings);
        }
        self.plan_patch(name, &patch, own_strings)
    }

    /// Plans to let the server of this name start another program, and to keep the rest of its entry. The diff shows the
    /// program before, too.
    ///
    /// # Errors
    /// The file cannot be read or edited.
    pub fn plan_program(
        &self,
        name: &str,
        entry: &InstalledEntry,
        command: &str,
    ) -> Result<InstallPlan, InstallError> {
        let change = Map::from_iter([("command".to_owned(), Value::from(command))]);
        let patch = EntryPatch { entry: change, input: None };
        let own_strings = entry.command.iter().cloned().chain([command.to_owned()]).collect();
        self.plan_patch(name, &patch, own_strings)
    }

    fn plan_patch(
        &self,
        name: &str,
        patch: &EntryPatch,
        own_strings: BTreeSet<String>,
    ) -> Result<InstallPlan, InstallError> {
        let path = self.resolve()?;
        let before = read_text(&path)?;
        let text = without_bom(before.as_deref().unwrap_or_default());
        let edited = apply_patch(self.client, &path, text, name, patch)?;
        let after = match &before {
            Some(before) if edited == *before => NewContent::Unchanged,
            _ => NewContent::Written(edited),
        };
        Ok(InstallPlan { client: self.client, path, before, after, own_strings })
    }

    /// Plans to remove the server of this name.
    ///
    /// If installing the entry into a backup (or into nothing) gives exactly this file, the plan restores the backup
    /// (or removes the file). Otherwise it only removes the entry.
    ///
    /// # Errors
    /// The file cannot be read or edited.
    pub fn plan_uninstall(&self, name: &str) -> Result<InstallPlan, InstallError> {
        let client = self.client;
        let path = self.resolve()?;
        let before = read_text(&path)?;
        let mut plan = InstallPlan {
            client,
            path,
            before,
            after: NewContent::Unchanged,
            own_strings: BTreeSet::new(),
        };
        let Some(text) = plan.before.as_deref().map(without_bom) else { return Ok(plan) };
        let to_error = |error| edit_error(&plan.path, error);
        let mut document = parse_document(client, text).map_err(to_error)?;
        let keys = entry_keys(client, name);
        let Some(entry) = document.get(&keys) else { return Ok(plan) };
        let prompt = VscodePrompt::ALL.into_iter().find(|prompt| uses_answer(*prompt, &entry));
        let inputs = document.get(&["inputs"]);
        let input = prompt.and_then(|prompt| Some((prompt, find_input(prompt, inputs.as_ref()?)?)));
        document.remove(&keys).map_err(to_error)?;
        if let Some((prompt, input)) = &input
            && !uses_answer(*prompt, &document.get(client.servers_key()).unwrap_or_default())
        {
            document.remove_input(input);
        }
        let removed = document.to_text();

        // Find the backup from which installing this entry would make exactly this file.
        let patch = entry
            .as_object()
            .map(|entry| EntryPatch { entry: entry.clone(), input: input.map(|(_, input)| input) });
        let replays = |earlier: &str| {
            patch.as_ref().is_some_and(|patch| {
                let lacks_entry =
                    parse_document(client, earlier).is_ok_and(|old| old.get(&keys).is_none());
                let replayed = apply_patch(client, &plan.path, earlier, name, patch);
                lacks_entry && replayed.is_ok_and(|replayed| replayed == text)
            })
        };
        let earlier = file::backups(&plan.path)
            .iter()
            .take(MAX_BACKUPS)
            .filter_map(|backup| read_text(backup).ok().flatten())
            .map(|backup| without_bom(&backup).to_owned())
            .find(|backup| replays(backup));
        plan.after = match earlier {
            Some(earlier) => NewContent::Written(earlier),
            None if replays("") => NewContent::Removed,
            None => NewContent::Written(removed),
        };
        Ok(plan)
    }

    /// Every server in the file, by name, in the file's order.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn read_entries(&self) -> Result<Vec<(String, InstalledEntry)>, InstallError> {
        let Some(text) = read_text(&self.path)? else { return Ok(Vec::new()) };
        let document = parse_document(self.client, without_bom(&text))
            .map_err(|error| edit_error(&self.path, error))?;
        let Some(Value::Object(servers)) = document.get(self.client.servers_key()) else {
            return Ok(Vec::new());
        };
        let entries = servers.into_iter();
        Ok(entries
            .filter_map(|(name, entry)| Some((name, parse_entry(entry.as_object()?))))
            .collect())
    }

    /// The file to change; for a symbolic link, its target.
    fn resolve(&self) -> Result<PathBuf, InstallError> {
        file::resolve(&self.path, self.project.as_deref())
    }
}

impl InstallPlan {
    /// The file to change; for a symbolic link, its target.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file needs no change.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.after == NewContent::Unchanged
    }

    /// The change as a unified diff.
    ///
    /// Every comment, and every string that is neither of this program nor one of its flags, is shown as `…`, because a
    /// configuration holds other programs' secrets.
    #[must_use]
    pub fn diff(&self) -> String {
        let after = match &self.after {
            NewContent::Unchanged => return String::new(),
            NewContent::Written(text) => Some(text.as_str()),
            NewContent::Removed => None,
        };
        let is_shown = |text: &str| self.own_strings.contains(text) || is_own_flag(text);
        let masked = |text: Option<&str>| {
            let text = text.map(without_bom).filter(|text| !text.trim().is_empty());
            text.map_or_else(String::new, |text| {
                parse_document(self.client, text)
                    .map_or_else(|_| String::new(), |document| document.into_masked_text(&is_shown))
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

    /// Makes the change. Returns the path of the backup, if the file existed.
    ///
    /// # Errors
    /// The file changed since it was read, or cannot be written. In either case it is intact.
    pub fn apply(&self, now: Timestamp) -> Result<Option<PathBuf>, InstallError> {
        if self.is_done() {
            return Ok(None);
        }
        if read_text(&self.path)? != self.before {
            return Err(InstallError::ChangedMeanwhile { path: self.path.clone() });
        }
        let backup = self
            .before
            .as_ref()
            .map(|before| file::back_up(&self.path, before.as_bytes(), now))
            .transpose()?;
        match &self.after {
            NewContent::Unchanged => {}
            NewContent::Written(text) => {
                let permissions = file::Permissions::Of(&self.path);
                file::put(&self.path, text.as_bytes(), permissions, true)?;
            }
            NewContent::Removed => file::remove(&self.path)?,
        }
        Ok(backup)
    }
}

/// A server's entry in a client's file.
#[derive(Debug)]
pub struct InstalledEntry {
    pub command: Option<String>,
    pub args: Vec<String>,
    /// Environment variables; they may hold secrets.
    pub env: Vec<(String, SecretString)>,
    /// The URL of a server over HTTP.
    pub url: Option<String>,
}

impl InstalledEntry {
    /// Whether this entry of this name is for this server: by its name, or because it starts this program, itself or by
    /// a package runner or a container engine.
    #[must_use]
    pub fn is_own(&self, name: &str) -> bool {
        let starts_program = |command: &String| {
            let stem = Path::new(command).file_stem();
            stem.is_some_and(|stem| stem == PROGRAM)
        };
        // A version may follow, as in `callingbox-mcp@0.1.0`, `callingbox-mcp==0.1.0` and `…/callingbox-mcp:0.1.0`.
        let names_package = |word: &String| {
            let name = word.strip_prefix(IMAGE_FOLDER).unwrap_or(word);
            name.split(['@', '=', ':']).next() == Some(PROGRAM)
        };
        name == DEFAULT_NAME
            || self.command.as_ref().is_some_and(starts_program)
            || self.args.iter().any(names_package)
    }
}

fn parse_entry(entry: &Map<String, Value>) -> InstalledEntry {
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
    /// A client's file with this entry and nothing else.
    ///
    /// # Errors
    /// The client does not support such an entry.
    pub fn example_file(&self, client: ClientApp, name: &str) -> Result<String, InstallError> {
        apply_patch(client, Path::new(""), "", name, &self.patch(client)?)
    }

    /// This entry in the form that most clients read.
    ///
    /// # Errors
    /// A path is not Unicode.
    pub fn generic_file(&self, name: &str) -> Result<String, InstallError> {
        let shared_form = match self {
            Self::Stdio { .. } => ClientApp::ClaudeDesktop,
            Self::Http { .. } => ClientApp::ClaudeCode,
        };
        self.example_file(shared_form, name)
    }
}

fn apply_patch(
    client: ClientApp,
    path: &Path,
    text: &str,
    name: &str,
    patch: &EntryPatch,
) -> Result<String, InstallError> {
    let to_error = |error| edit_error(path, error);
    let mut document = parse_document(client, text).map_err(to_error)?;
    if let Some(input) = &patch.input {
        document.add_input(input).map_err(to_error)?;
    }
    document.merge(&entry_keys(client, name), &patch.entry).map_err(to_error)?;
    Ok(document.to_text())
}

fn entry_keys(client: ClientApp, name: &str) -> Vec<&str> {
    client.servers_key().iter().copied().chain([name]).collect()
}

fn read_text(path: &Path) -> Result<Option<String>, InstallError> {
    file::read(path)?
        .map(|bytes| {
            String::from_utf8(bytes).map_err(|_| InstallError::Unparsable {
                path: path.to_owned(),
                message: "it is not UTF-8".to_owned(),
            })
        })
        .transpose()
}

/// A file that begins with a byte order mark, as some editors on Windows write it, is never written with one: some
/// clients would no longer read it.
fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn edit_error(path: &Path, error: EditError) -> InstallError {
    let path = path.to_owned();
    match error {
        EditError::Syntax(message) => InstallError::Unparsable { path, message },
        EditError::Structure(message) => InstallError::Unexpected { path, message },
    }
}

/// The input of this prompt among VS Code's inputs.
fn find_input(prompt: VscodePrompt, inputs: &Value) -> Option<Value> {
    let id = Value::from(prompt.id());
    inputs.as_array()?.iter().find(|input| input.get("id") == Some(&id)).cloned()
}

/// Whether a string in this value uses the answer to this prompt.
fn uses_answer(prompt: VscodePrompt, value: &Value) -> bool {
    value.to_string().contains(&prompt.answer_reference())
}
