//! A reader of texts only: what an assistant sees of a session that has no structured content. It keeps one transcript of
//! requests and texts, in which random values have names, for snapshots.

use serde_json::{Value, json};

use super::Session;

/// A session and its transcript.
pub(crate) struct Reader {
    pub(crate) session: Session,
    transcript: String,
    /// Values that differ from run to run, and their names.
    names: Vec<(String, String)>,
}

impl Reader {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, transcript: String::new(), names: Vec::new() }
    }

    /// Gives a value a name in the transcript.
    pub(crate) fn name(&mut self, value: &Value, name: &str) {
        self.names.push((value.as_str().unwrap().to_owned(), name.to_owned()));
    }

    /// Calls a tool, and notes its text and what a reader who sees only that text does next. Returns the result.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value, then: &str) -> Value {
        let answer = self.session.call(tool, arguments.clone()).await;
        self.note(tool, &arguments, &answer, then)
    }

    /// Notes an answer.
    pub(crate) fn note(
        &mut self,
        tool: &str,
        arguments: &Value,
        answer: &Value,
        then: &str,
    ) -> Value {
        let result = answer["result"].clone();
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        self.name_random_values(&result, text);
        let mut entry = format!("> {tool} {arguments}\n{text}\n=> {then}\n\n");
        for (value, name) in &self.names {
            entry = entry.replace(value, name);
        }
        self.transcript.push_str(&entry);
        result
    }

    fn name_random_values(&mut self, result: &Value, text: &str) {
        let data = &result["structuredContent"];
        for (field, name) in [
            ("confirmation_token", "TOKEN"),
            ("expires_at", "EXPIRES"),
            ("dispatch_id", "DISPATCH"),
            ("batch_id", "BATCH"),
        ] {
            let is_known = self.names.iter().any(|(value, _)| data[field] == value.as_str());
            if data[field].is_string() && !is_known {
                self.name(&data[field], name);
            }
        }
        for rest in text.split("<<<").skip(1) {
            let marker: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
            self.name(&json!(marker), "MARKER");
        }
    }

    /// The transcript so far, as a snapshot.
    pub(crate) fn transcript(&self) -> &str {
        self.transcript.trim_end()
    }
}
