//! What is written for this server into a client's configuration: a merge patch (RFC 7396), so that
//! what a user added to the entry stays. Never holds a key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::InstallError;
use super::client_app::{ClientApp, KeyStyle, TokenStyle};
use crate::config::KeySource;

/// A question that VS Code asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prompt {
    /// For the API key, for a server that it starts.
    Key,
    /// For the bearer token, for a server over HTTP.
    Token,
}

impl Prompt {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Key, Self::Token];

    /// Its id among the client's questions.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Key => "callingbox-api-key",
            Self::Token => "callingbox-mcp-token",
        }
    }

    /// What stands where the answer goes.
    pub(super) fn answer(self) -> String {
        format!("${{input:{}}}", self.id())
    }

    fn question(self) -> Value {
        let description = match self {
            Self::Key => "CallingBox API key",
            Self::Token => "Token of the callingbox-mcp server",
        };
        json!({
            "type": "promptString",
            "id": self.id(),
            "description": description,
            "password": true,
        })
    }
}

/// How the server gets the API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyDelivery {
    /// It needs none, or finds it by itself.
    NotNeeded,
    /// No key is known: what the entry says about it stays.
    Unchanged,
    /// From this file.
    File(PathBuf),
    /// The client puts a variable of its own environment in.
    Reference(&'static str),
    /// The client asks the user and keeps the answer.
    Prompt,
}

impl KeyDelivery {
    /// The best way there is for this client and a key that was found there.
    ///
    /// `key_file` is where a key from the environment is to be kept for clients that have no better
    /// way; see [`super::store_key`].
    #[must_use]
    pub fn choose(
        client: ClientApp,
        sandbox: bool,
        source: Option<&KeySource>,
        key_file: &Path,
    ) -> Self {
        match (client.key_style(), source) {
            _ if sandbox => Self::NotNeeded,
            (KeyStyle::Prompt, _) => Self::Prompt,
            (_, Some(KeySource::OfficialConfig(_))) => Self::NotNeeded,
            (_, Some(KeySource::KeyFile(path))) => Self::File(path.clone()),
            (KeyStyle::Reference(text), _) => Self::Reference(text),
            (KeyStyle::File, Some(KeySource::EnvVar)) => Self::File(key_file.to_owned()),
            (KeyStyle::File, None) => Self::Unchanged,
        }
    }
}

/// What a client is to do to reach this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEntry {
    /// Start it, and speak over standard input and output.
    Stdio {
        /// The program, as an absolute path.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Where the key comes from.
        secret: KeyDelivery,
        /// `CALLINGBOX_BASE_URL`, if it is to be set.
        base_url: Option<String>,
    },
    /// Connect to it.
    Http {
        /// The address of `/mcp`.
        url: url::Url,
        /// The variable of the client's environment that holds the bearer token; without one, what
        /// the entry says about it stays.
        token_env: Option<String>,
    },
}

/// All words that an entry may use for how the server is reached, in the order they are written.
const WORDS: [&str; 10] = [
    "type",
    "transport",
    "command",
    "args",
    "url",
    "serverUrl",
    "httpUrl",
    "headers",
    "http_headers",
    "bearer_token_env_var",
];
/// Of these, what an entry over HTTP keeps as the user wrote it.
const HTTP_ONLY: [&str; 3] = ["headers", "http_headers", "bearer_token_env_var"];

/// A change of a client's file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Patch {
    /// The merge patch of the server's entry; null removes.
    pub entry: Map<String, Value>,
    /// An element of the array `inputs`, known by its `id`.
    pub input: Option<Value>,
}

impl ServerEntry {
    /// The change that makes the entry say this, and nothing else about how it is reached.
    pub(super) fn patch(&self, client: ClientApp) -> Result<Patch, InstallError> {
        let mut entry: Map<String, Value> =
            WORDS.iter().map(|word| ((*word).to_owned(), Value::Null)).collect();
        let mut set = |word: &str, value: Value| entry.insert(word.to_owned(), value);
        let mut input = None;
        match self {
            Self::Stdio { command, args, secret, base_url } => {
                if let Some(kind) = client.stdio_type() {
                    set("type", kind.into());
                }
                set("command", command.as_str().into());
                set("args", args.clone().into());
                let mut env = Map::new();
                let (key, file) = match secret {
                    KeyDelivery::Unchanged => (None, None),
                    KeyDelivery::NotNeeded => (Some(Value::Null), Some(Value::Null)),
                    KeyDelivery::File(path) => (Some(Value::Null), Some(unicode(path)?.into())),
                    KeyDelivery::Reference(text) => (Some((*text).into()), Some(Value::Null)),
                    KeyDelivery::Prompt => {
                        input = Some(Prompt::Key.question());
                        (Some(Prompt::Key.answer().into()), Some(Value::Null))
                    }
                };
                for (name, value) in [
                    ("CALLINGBOX_API_KEY", key),
                    ("CALLINGBOX_API_KEY_FILE", file),
                    ("CALLINGBOX_BASE_URL", base_url.as_deref().map(Value::from)),
                ] {
                    if let Some(value) = value {
                        env.insert(name.to_owned(), value);
                    }
                }
                set("env", env.into());
            }
            Self::Http { url, token_env } => {
                for (word, value) in client.http_words(url.as_str())? {
                    set(word, value.into());
                }
                set("env", Value::Null);
                entry.retain(|word, _| !HTTP_ONLY.contains(&word.as_str()));
                if let Some(variable) = token_env {
                    let header = |value: String| ("headers", json!({ "Authorization": value }));
                    let (word, value) = match client.token_style(variable) {
                        TokenStyle::Header(value) => header(value),
                        TokenStyle::Variable => ("bearer_token_env_var", variable.as_str().into()),
                        TokenStyle::Prompt => {
                            input = Some(Prompt::Token.question());
                            header(format!("Bearer {}", Prompt::Token.answer()))
                        }
                    };
                    entry.insert(word.to_owned(), value);
                }
            }
        }
        Ok(Patch { entry, input })
    }

    /// The entry alone, as it would be written into an empty file.
    ///
    /// # Errors
    /// The client cannot be told that, or a path is not Unicode.
    pub fn entry(&self, client: ClientApp) -> Result<(Value, Option<Value>), InstallError> {
        let patch = self.patch(client)?;
        Ok((without_nulls(&patch.entry).into(), patch.input))
    }
}

/// What a merge patch makes of nothing. An object that says nothing is left out.
pub(super) fn without_nulls(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter_map(|(word, value)| match value {
            Value::Null => None,
            Value::Object(inner) => {
                let inner = without_nulls(inner);
                (!inner.is_empty()).then(|| (word.clone(), inner.into()))
            }
            other => Some((word.clone(), other.clone())),
        })
        .collect()
}

/// Every text in a value.
pub(super) fn texts(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            into.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(map) => map.values().for_each(|item| texts(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a text is a flag of this program with nothing in it that could be a secret: who changes an
/// entry is to see that it was simulated, or read-only.
pub(super) fn is_own_flag(text: &str) -> bool {
    const WORDS: [&str; 9] = [
        "stdio",
        "--sandbox",
        "--sandbox-speed",
        "--config",
        "--toolsets",
        "--tools",
        "--exclude-tools",
        "--read-only",
        "--log-arguments",
    ];
    let is_name = |letter: char| letter.is_ascii_lowercase() || matches!(letter, '_' | ',');
    match text.split_once('=') {
        None => WORDS.contains(&text),
        Some((
            "--toolsets" | "--tools" | "--exclude-tools" | "--log-format" | "--log-arguments",
            names,
        )) => names.chars().all(is_name),
        Some(("--sandbox-speed", speed)) => speed.parse::<f64>().is_ok(),
        Some(("--sandbox", url)) => url
            .strip_prefix("http://127.0.0.1:")
            .or_else(|| url.strip_prefix("http://localhost:"))
            .is_some_and(|port| port.parse::<u16>().is_ok()),
        Some(_) => false,
    }
}

fn unicode(path: &Path) -> Result<&str, InstallError> {
    path.to_str().ok_or_else(|| InstallError::NotUnicode { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_flags_only_what_can_hold_no_secret_is_shown() {
        for shown in [
            "stdio",
            "--sandbox",
            "--sandbox=http://127.0.0.1:4010",
            "--sandbox-speed=2.5",
            "--read-only",
            "--toolsets=calls,agents",
            "--tools=place_call",
            "--log-format=json",
            "--log-arguments=true",
        ] {
            assert!(is_own_flag(shown), "{shown}");
        }
        for hidden in [
            "",
            "calls",
            "--key",
            "--key=s3cret",
            "--tools=S3cret",
            "--sandbox=http://me:s3cret@127.0.0.1:4010",
            "--config=/home/me/c.toml",
            "--state=redis://:s3cret@x/",
        ] {
            assert!(!is_own_flag(hidden), "{hidden}");
        }
    }

    fn stdio(client: ClientApp, source: Option<&KeySource>) -> (Value, Option<Value>) {
        ServerEntry::Stdio {
            command: "/bin/callingbox-mcp".to_owned(),
            args: vec!["stdio".to_owned()],
            secret: KeyDelivery::choose(client, false, source, Path::new("/c/api-key")),
            base_url: None,
        }
        .entry(client)
        .unwrap()
    }

    #[test]
    fn a_key_is_given_in_the_best_way_of_each_client() {
        let by_file = json!({"CALLINGBOX_API_KEY_FILE": "/c/api-key"});
        for client in ClientApp::ALL {
            let (entry, input) = stdio(client, Some(&KeySource::EnvVar));
            let (env, prompt) = match client {
                ClientApp::Vscode => {
                    (json!({"CALLINGBOX_API_KEY": "${input:callingbox-api-key}"}), true)
                }
                ClientApp::Cursor => {
                    (json!({"CALLINGBOX_API_KEY": "${env:CALLINGBOX_API_KEY}"}), false)
                }
                _ => (by_file.clone(), false),
            };
            assert_eq!(entry["env"], env, "{client}");
            assert_eq!(
                input,
                prompt.then(|| json!({"type": "promptString", "id": "callingbox-api-key",
                    "description": "CallingBox API key", "password": true}))
            );
        }
    }

    #[test]
    fn a_key_that_the_server_finds_itself_is_not_mentioned() {
        let official = KeySource::OfficialConfig("/h/config.toml".into());
        let mounted = KeySource::KeyFile("/run/key".into());
        let (entry, _) = stdio(ClientApp::Cursor, Some(&official));
        assert_eq!(entry, json!({"command": "/bin/callingbox-mcp", "args": ["stdio"]}));
        let (entry, _) = stdio(ClientApp::Gemini, Some(&mounted));
        assert_eq!(entry["env"], json!({"CALLINGBOX_API_KEY_FILE": "/run/key"}));
        let (entry, _) = stdio(ClientApp::Gemini, None);
        assert_eq!(entry.get("env"), None);
    }

    #[test]
    fn over_http_each_client_is_told_in_its_own_words() {
        let url = "http://127.0.0.1:8080/mcp";
        let server = ServerEntry::Http { url: url.parse().unwrap(), token_env: None };
        let table = [
            (ClientApp::Cursor, json!({"url": url})),
            (ClientApp::ClaudeCode, json!({"type": "http", "url": url})),
            (ClientApp::Vscode, json!({"type": "http", "url": url})),
            (ClientApp::Openclaw, json!({"transport": "streamable-http", "url": url})),
            (ClientApp::Codex, json!({"url": url})),
            (ClientApp::Gemini, json!({"type": "http", "url": url})),
            (ClientApp::Windsurf, json!({"serverUrl": url})),
        ];
        for (client, expected) in table {
            assert_eq!(server.entry(client).unwrap(), (expected, None), "{client}");
        }
        let error = server.entry(ClientApp::ClaudeDesktop).unwrap_err();
        assert!(matches!(error, InstallError::NoHttp { .. }), "{error}");
    }

    #[test]
    fn a_token_is_named_and_never_written() {
        let url = "http://127.0.0.1:8080/mcp";
        let server = ServerEntry::Http {
            url: url.parse().unwrap(),
            token_env: Some("TELEPHONE".to_owned()),
        };
        let asks = json!({"type": "promptString", "id": "callingbox-mcp-token",
            "description": "Token of the callingbox-mcp server", "password": true});
        for (client, expected) in [
            (ClientApp::Cursor, "Bearer ${env:TELEPHONE}"),
            (ClientApp::Windsurf, "Bearer ${env:TELEPHONE}"),
            (ClientApp::ClaudeCode, "Bearer ${TELEPHONE}"),
            (ClientApp::Openclaw, "Bearer ${TELEPHONE}"),
            (ClientApp::Gemini, "Bearer ${TELEPHONE}"),
            (ClientApp::Vscode, "Bearer ${input:callingbox-mcp-token}"),
        ] {
            let (entry, input) = server.entry(client).unwrap();
            assert_eq!(entry["headers"], json!({ "Authorization": expected }), "{client}");
            assert_eq!(input, (client == ClientApp::Vscode).then(|| asks.clone()), "{client}");
        }
        let expected = json!({"url": url, "bearer_token_env_var": "TELEPHONE"});
        assert_eq!(server.entry(ClientApp::Codex).unwrap(), (expected, None));
    }
}
