//! Edits a TOML text and keeps its comments, order, layout and unknown keys. Knows no client.

use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml_edit::ser::ValueSerializer;
use toml_edit::visit::{Visit, visit_table};
use toml_edit::visit_mut::{VisitMut, visit_table_mut, visit_value_mut};
use toml_edit::{Decor, DocumentMut, Item, RawString, Table, TableLike, value};

use super::document::{ConfigDocument, EditError};
use super::entry::without_nulls;

/// A TOML text.
pub(super) struct TomlDocument {
    toml: DocumentMut,
    /// Whether lines end with CRLF. `toml_edit` writes LF, so `to_text` restores CRLF.
    has_crlf: bool,
}

impl TomlDocument {
    pub(super) fn parse(text: &str) -> Result<Self, EditError> {
        let toml = text.parse::<DocumentMut>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            EditError::Syntax(format!("{} (line {line})", error.message()))
        })?;
        Ok(Self { toml, has_crlf: text.contains("\r\n") })
    }

    /// Inserts comments above the first header below this position, or at the end of the text.
    fn insert_comments_below(&mut self, position: isize, comments: &str) {
        let mut all = Headers::default();
        all.visit_document(&self.toml);
        let below = all.0.iter().map(|(found, _)| *found).filter(|found| *found > position).min();
        match below {
            Some(header) => InsertComments { header, comments }.visit_document_mut(&mut self.toml),
            None => {
                let trailing = self.toml.trailing().as_str().unwrap_or_default();
                let trailing = format!("{comments}{trailing}");
                self.toml.set_trailing(trailing);
            }
        }
    }
}

impl ConfigDocument for TomlDocument {
    fn to_text(&self) -> String {
        let text = self.toml.to_string().replace("\r\n", "\n");
        if self.has_crlf { text.replace('\n', "\r\n") } else { text }
    }

    fn get(&self, path: &[&str]) -> Option<Value> {
        path.iter().try_fold(self.toml.as_item(), |at, key| at.get(*key)).and_then(to_json)
    }

    /// A new table goes to the end of the text, so that every comment stays above the line that it describes.
    fn merge(&mut self, path: &[&str], patch: &Map<String, Value>) -> Result<(), EditError> {
        let trailing = self.toml.trailing().as_str().unwrap_or_default().to_owned();
        let mut is_appended = false;
        let mut at = self.toml.as_item_mut();
        for (depth, key) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            let parent = at.as_table_like_mut().ok_or_else(|| not_a_table(path))?;
            let is_new = !parent.contains_key(key);
            if is_new {
                let mut table = Table::new();
                table.set_implicit(!last);
                parent.insert(key, Item::Table(table));
            }
            at = parent.get_mut(key).ok_or_else(|| not_a_table(path))?;
            // A new table inside an inline table has become inline too, and keeps its place.
            if let Item::Table(table) = &mut *at
                && is_new
                && last
            {
                table.set_position(Some(isize::MAX));
                if !trailing.is_empty() {
                    table.decor_mut().set_prefix(with_blank_line(&trailing));
                }
                is_appended = true;
            }
        }
        merge_table(at.as_table_like_mut().ok_or_else(|| not_a_table(path))?, patch)?;
        if is_appended {
            self.toml.set_trailing("");
        }
        Ok(())
    }

    /// The comments above the removed lines stay.
    fn remove(&mut self, path: &[&str]) -> Result<(), EditError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let mut position = 0;
        let mut at = self.toml.as_item_mut();
        for key in parents {
            at = match at.get_mut(key) {
                Some(item) if item.is_table_like() => item,
                Some(_) => return Err(not_a_table(path)),
                None => return Ok(()),
            };
            position = at.as_table().and_then(Table::position).unwrap_or(position);
        }
        let mut above = Headers::default();
        if let Item::Table(table) = &mut *at {
            let comments = move_comments_of_key(table, last);
            above.0.push((position, comments));
        }
        let removed = at.as_table_like_mut().and_then(|table| table.remove(last));
        above.visit_item(&removed.unwrap_or_default());
        // From the bottom up, so that comments that end up together keep their order.
        above.0.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
        for (position, comments) in above.0 {
            self.insert_comments_below(position, &comments);
        }
        Ok(())
    }

    fn into_masked_text(mut self: Box<Self>, is_shown: &dyn Fn(&str) -> bool) -> String {
        Mask { is_shown }.visit_document_mut(&mut self.toml);
        self.toml.to_string().lines().fold(String::new(), |mut text, line| {
            text.push_str(without_comment(line).as_str());
            text.push('\n');
            text
        })
    }
}

/// The headers of tables by their position, with the comments above each.
#[derive(Default)]
struct Headers(Vec<(isize, String)>);

impl<'doc> Visit<'doc> for Headers {
    fn visit_table(&mut self, node: &'doc Table) {
        if let Some(position) = node.position() {
            self.0.push((position, leading_comments(node.decor())));
        }
        visit_table(self, node);
    }
}

/// Inserts comments above one header.
struct InsertComments<'a> {
    header: isize,
    comments: &'a str,
}

impl VisitMut for InsertComments<'_> {
    fn visit_table_mut(&mut self, node: &mut Table) {
        if node.position() == Some(self.header) {
            prepend_comments(node.decor_mut(), self.comments);
        }
        visit_table_mut(self, node);
    }
}

/// The comments at the beginning of a decor. Blank lines below them belong to the next line.
fn leading_comments(decor: &Decor) -> String {
    let prefix = decor.prefix().and_then(RawString::as_str).unwrap_or_default();
    match prefix.trim_end() {
        "" => String::new(),
        comments => format!("{comments}\n"),
    }
}

fn prepend_comments(decor: &mut Decor, comments: &str) {
    let prefix = decor.prefix().and_then(RawString::as_str).unwrap_or_default();
    let prefix = format!("{comments}{prefix}");
    decor.set_prefix(prefix);
}

/// The text, ending with a blank line.
fn with_blank_line(trailing: &str) -> String {
    let last = trailing.lines().last().unwrap_or_default();
    match (trailing.ends_with('\n'), last.trim().is_empty()) {
        (true, true) => trailing.to_owned(),
        (true, false) => format!("{trailing}\n"),
        (false, _) => format!("{trailing}\n\n"),
    }
}

/// Moves the comments above the lines of a key in this table to the next line. Returns them if there is no next line.
fn move_comments_of_key(table: &mut Table, key: &str) -> String {
    let mut kept = String::new();
    let mut next: Option<Vec<String>> = None;
    for (path, _) in table.get_values() {
        let is_of_key = path.first().is_some_and(|first| first.get() == key);
        match path.last() {
            Some(last) if is_of_key => {
                kept.push_str(&leading_comments(last.leaf_decor()));
                next = None;
            }
            _ if kept.is_empty() || next.is_some() => {}
            _ => next = Some(path.iter().map(|key| key.get().to_owned()).collect()),
        }
    }
    let Some((last, parents)) = next.as_ref().and_then(|next| next.split_last()) else {
        return kept;
    };
    let mut at = Some(table);
    for key in parents {
        at = at.and_then(|table| table.get_mut(key)).and_then(Item::as_table_mut);
    }
    match at.and_then(|table| table.key_mut(last)) {
        Some(mut line) => {
            prepend_comments(line.leaf_decor_mut(), &kept);
            String::new()
        }
        None => kept,
    }
}

struct Mask<'a> {
    is_shown: &'a dyn Fn(&str) -> bool,
}

impl VisitMut for Mask<'_> {
    fn visit_value_mut(&mut self, node: &mut toml_edit::Value) {
        if node.as_str().is_some_and(|text| !(self.is_shown)(text) || text.contains('\n')) {
            let decor = node.decor().clone();
            *node = "…".into();
            *node.decor_mut() = decor;
        }
        visit_value_mut(self, node);
    }
}

/// Hides a comment. `Mask` has made every string a single line.
fn without_comment(line: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    let mut kept = String::with_capacity(line.len());
    for character in line.chars() {
        match quote {
            None if character == '#' => {
                kept.push_str("# …");
                return kept;
            }
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some('"') if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(open) if open == character => quote = None,
            None | Some(_) => {}
        }
        kept.push(character);
    }
    kept
}

fn merge_table(table: &mut dyn TableLike, patch: &Map<String, Value>) -> Result<(), EditError> {
    for (key, change) in patch {
        match change {
            Value::Null => {
                table.remove(key);
            }
            Value::Object(inner) => match table.get_mut(key) {
                Some(found) => {
                    let found = found.as_table_like_mut().ok_or_else(|| not_a_table(&[key]))?;
                    merge_table(found, inner)?;
                }
                None => {
                    let inner = without_nulls(inner);
                    if !inner.is_empty() {
                        table.insert(key, value(from_json(&inner.into())?));
                    }
                }
            },
            plain => match table.get_mut(key) {
                Some(found) if to_json(found).as_ref() == Some(plain) => {}
                Some(Item::Value(found)) => {
                    let decor = found.decor().clone();
                    *found = from_json(plain)?;
                    *found.decor_mut() = decor;
                }
                _ => {
                    table.insert(key, value(from_json(plain)?));
                }
            },
        }
    }
    Ok(())
}

fn from_json(json: &Value) -> Result<toml_edit::Value, EditError> {
    json.serialize(ValueSerializer::new()).map_err(|error| EditError::Structure(error.to_string()))
}

/// The item as JSON; `None` if JSON cannot express it.
fn to_json(item: &Item) -> Option<Value> {
    Value::deserialize(item.clone().into_value().ok()?.into_deserializer()).ok()
}

fn not_a_table(path: &[&str]) -> EditError {
    EditError::Structure(format!(
        "its `{}` is not a table, so no server can be added",
        path.join(".")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str, change: &str) -> String {
        let mut document = TomlDocument::parse(text).unwrap();
        let patch: Map<String, Value> = serde_json::from_str(change).unwrap();
        document.merge(&["mcp_servers", "tel"], &patch).unwrap();
        document.to_text()
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        let change = r#"{"command": "C:\\x y", "args": ["a", "b"], "url": null, "env": {"K": "v", "N": null}}"#;
        let entry =
            "[mcp_servers.tel]\ncommand = 'C:\\x y'\nargs = [\"a\", \"b\"]\nenv = { K = \"v\" }\n";
        let other = "# mine\nmodel   =  \"o\"   # why\n\n[mcp_servers.x] # x\ncommand = 'y'\n";
        let profile = "\n[profiles.deep]\nmodel = \"p\"\n";
        let table = [
            (String::new(), entry.to_owned()),
            (other.to_owned(), format!("{other}\n{entry}")),
            (format!("{other}{profile}"), format!("{other}{profile}\n{entry}")),
            (other.replace('\n', "\r\n"), format!("{other}\n{entry}").replace('\n', "\r\n")),
        ];
        for (before, after) in table {
            assert_eq!(merged(&before, change), after, "{before}");
            assert_eq!(merged(&after, change), after, "again");
        }
    }

    #[test]
    fn an_entry_keeps_what_the_user_added() {
        let before = "[mcp_servers.tel]\n# old\ncommand = \"old\" # was\nstartup_timeout_sec = 20 # mine\nurl = \"http://x\"\n\n[mcp_servers.tel.env]\nMINE = \"1\"\nGONE = \"2\"\n";
        let after = "[mcp_servers.tel]\n# old\ncommand = \"new\" # was\nstartup_timeout_sec = 20 # mine\n\n[mcp_servers.tel.env]\nMINE = \"1\"\n";
        let change = r#"{"command": "new", "url": null, "env": {"GONE": null}}"#;
        assert_eq!(merged(before, change), after);
        let inline = "mcp_servers = { x = { command = \"y\" } }\n";
        let after = "mcp_servers = { x = { command = \"y\" } , tel = { command = \"new\" } }\n";
        assert_eq!(merged(inline, change), after);
    }

    #[test]
    fn comments_above_an_entry_stay_when_the_entry_is_removed() {
        let removed = |text: &str| {
            let mut document = TomlDocument::parse(text).unwrap();
            document.remove(&["mcp_servers", "tel"]).unwrap();
            document.to_text()
        };
        for (before, after) in [
            (
                "[a]\nx = 1\n# of a\n\n# mine\n[mcp_servers.tel] # gone\n# gone\nk = 1 # gone\n# of b\n[b]\n",
                "[a]\nx = 1\n# of a\n\n# mine\n# of b\n[b]\n",
            ),
            ("[a]\n\n# mine\n\n[mcp_servers.tel]\nk = 1\n\n[b]\n", "[a]\n\n# mine\n\n[b]\n"),
            ("[a]\n# mine\n[mcp_servers.tel]\nk = 1\n# end\n", "[a]\n# mine\n# end\n"),
            (
                "# 1\n[mcp_servers.tel]\nk = 1\n# 2\n[b]\n# 3\n[mcp_servers.tel.env]\nk = 1\n# 4\n[c]\n",
                "# 1\n# 2\n[b]\n# 3\n# 4\n[c]\n",
            ),
            (
                "[mcp_servers]\n# 1\ntel.k = 1\n# 2\ntel.l = 1\n# 3\nx.k = 1\n",
                "[mcp_servers]\n# 1\n# 2\n# 3\nx.k = 1\n",
            ),
            (
                "[mcp_servers]\nx = {}\n# 1\ntel = {}\n\n# 2\n[b]\n",
                "[mcp_servers]\nx = {}\n# 1\n\n# 2\n[b]\n",
            ),
        ] {
            assert_eq!(removed(before), after, "{before}");
        }
    }

    #[test]
    fn a_value_that_is_not_a_table_is_refused() {
        for text in ["mcp_servers = 1", "[[mcp_servers]]\n", "mcp_servers.tel = []"] {
            let mut document = TomlDocument::parse(text).unwrap();
            let done = document.merge(&["mcp_servers", "tel"], &Map::new());
            assert!(matches!(done, Err(EditError::Structure(_))), "{text}");
        }
        let error = TomlDocument::parse("a = 1\nkey = \"s3cret").map(|_| ()).unwrap_err();
        let EditError::Syntax(message) = error else { panic!("{error:?}") };
        assert!(message.ends_with("(line 2)") && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn masking_keeps_names_and_allowed_strings() {
        let document = TomlDocument::parse(
            "# s3cret\na = \"s3cret\" # s3cret\nb = ['''s3\ncret''', \"ours # x\", 7]\n[env]\nT.k = 's3cret'\n",
        )
        .unwrap();
        assert_eq!(
            Box::new(document).into_masked_text(&|text| text == "ours # x"),
            "# …\na = \"…\" # …\nb = [\"…\", \"ours # x\", 7]\n[env]\nT.k = \"…\"\n"
        );
    }
}
