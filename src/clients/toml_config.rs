//! Edits a TOML text and keeps its comments, order, layout and unknown keys. Knows no client.

use serde_json::{Map, Value};
use toml_edit::visit_mut::{VisitMut, visit_value_mut};
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, value};

use super::change::EditError;
use super::entry::without_nulls;

/// A parsed text.
pub(super) struct Document {
    toml: DocumentMut,
    /// The library writes `\n`; a file from Windows gets its own back.
    crlf: bool,
}

impl Document {
    /// Parses it.
    pub(super) fn parse(text: &str) -> Result<Self, EditError> {
        let toml = text.parse::<DocumentMut>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            EditError::Syntax(format!("{} (line {line})", error.message()))
        })?;
        Ok(Self { toml, crlf: text.contains("\r\n") })
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let text = self.toml.to_string().replace("\r\n", "\n");
        if self.crlf { text.replace('\n', "\r\n") } else { text }
    }

    /// The value at these keys.
    pub(super) fn get(&self, path: &[&str]) -> Option<Value> {
        path.iter().try_fold(self.toml.as_item(), |at, key| at.get(*key)).and_then(to_json)
    }

    /// Applies a merge patch (RFC 7396) to the table at these keys, making it if it is not there.
    pub(super) fn merge(
        &mut self,
        path: &[&str],
        patch: &Map<String, Value>,
    ) -> Result<(), EditError> {
        let mut at: &mut dyn TableLike = self.toml.as_table_mut();
        for (depth, key) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            if !at.contains_key(key) {
                let mut table = Table::new();
                table.set_implicit(!last);
                at.insert(key, Item::Table(table));
            }
            at = at
                .get_mut(key)
                .and_then(Item::as_table_like_mut)
                .ok_or_else(|| not_a_table(path))?;
        }
        merge_table(at, patch)
    }

    /// Removes what is at these keys, if anything is.
    pub(super) fn remove(&mut self, path: &[&str]) -> Result<(), EditError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let mut at: &mut dyn TableLike = self.toml.as_table_mut();
        for key in parents {
            let Some(item) = at.get_mut(key) else { return Ok(()) };
            at = item.as_table_like_mut().ok_or_else(|| not_a_table(path))?;
        }
        at.remove(last);
        Ok(())
    }

    /// The text with every comment and every string hidden that `shown` does not allow.
    pub(super) fn masked(&self, shown: &dyn Fn(&str) -> bool) -> String {
        let mut toml = self.toml.clone();
        Mask { shown }.visit_document_mut(&mut toml);
        toml.to_string().lines().fold(String::new(), |mut text, line| {
            text.push_str(without_comment(line).as_str());
            text.push('\n');
            text
        })
    }
}

struct Mask<'a> {
    shown: &'a dyn Fn(&str) -> bool,
}

impl VisitMut for Mask<'_> {
    fn visit_value_mut(&mut self, node: &mut toml_edit::Value) {
        if node.as_str().is_some_and(|text| !(self.shown)(text) || text.contains('\n')) {
            let decor = node.decor().clone();
            *node = "…".into();
            *node.decor_mut() = decor;
        }
        visit_value_mut(self, node);
    }
}

/// Hides a comment. Strings are one line each by now.
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

fn from_json(from: &Value) -> Result<toml_edit::Value, EditError> {
    Ok(match from {
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => return Err(EditError::Shape(format!("{number} is no TOML number"))),
        },
        Value::Array(items) => {
            let items: Result<toml_edit::Array, _> = items.iter().map(from_json).collect();
            items?.into()
        }
        Value::Object(map) => {
            let mut table = InlineTable::new();
            for (key, value) in map {
                table.insert(key, from_json(value)?);
            }
            table.into()
        }
        Value::Null => return Err(EditError::Shape("TOML has no null".to_owned())),
    })
}

/// None for what JSON cannot say: dates, and numbers without end.
fn to_json(item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(value) => value_to_json(value),
        Item::Table(table) => table_to_json(table),
        Item::ArrayOfTables(tables) => tables
            .iter()
            .map(|table| table_to_json(table))
            .collect::<Option<Vec<_>>>()
            .map(Value::from),
    }
}

fn value_to_json(value: &toml_edit::Value) -> Option<Value> {
    Some(match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => serde_json::Number::from_f64(*number.value())?.into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Datetime(_) => return None,
        toml_edit::Value::Array(items) => {
            items.iter().map(value_to_json).collect::<Option<Vec<_>>>()?.into()
        }
        toml_edit::Value::InlineTable(table) => table_to_json(table)?,
    })
}

fn table_to_json(table: &dyn TableLike) -> Option<Value> {
    let map: Option<Map<String, Value>> =
        table.iter().map(|(key, item)| Some((key.to_owned(), to_json(item)?))).collect();
    map.map(Value::from)
}

fn not_a_table(path: &[&str]) -> EditError {
    EditError::Shape(format!("its `{}` is not a table, where a server belongs", path.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str, change: &str) -> String {
        let mut document = Document::parse(text).unwrap();
        let patch: Map<String, Value> = serde_json::from_str(change).unwrap();
        document.merge(&["mcp_servers", "tel"], &patch).unwrap();
        document.text()
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
            (format!("{other}{profile}"), format!("{other}\n{entry}{profile}")),
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
    fn what_is_no_table_is_refused() {
        for text in ["mcp_servers = 1", "[[mcp_servers]]\n", "mcp_servers.tel = []"] {
            let mut document = Document::parse(text).unwrap();
            let done = document.merge(&["mcp_servers", "tel"], &Map::new());
            assert!(matches!(done, Err(EditError::Shape(_))), "{text}");
        }
        let error = Document::parse("a = 1\nkey = \"s3cret").map(|_| ()).unwrap_err();
        let EditError::Syntax(message) = error else { panic!("{error:?}") };
        assert!(message.ends_with("(line 2)") && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn a_mask_leaves_names_and_what_is_allowed() {
        let document = Document::parse(
            "# s3cret\na = \"s3cret\" # s3cret\nb = ['''s3\ncret''', \"ours # x\", 7]\n[env]\nT.k = 's3cret'\n",
        )
        .unwrap();
        assert_eq!(
            document.masked(&|text| text == "ours # x"),
            "# …\na = \"…\" # …\nb = [\"…\", \"ours # x\", 7]\n[env]\nT.k = \"…\"\n"
        );
    }
}
