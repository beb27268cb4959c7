//! The entry for this server in a client's configuration, as a merge patch (RFC 7396), so that the user's additions stay.
//! Never contains an API key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::InstallError;
use super::client_app::ClientApp;
use crate::config::KeySource;

/// A value that VS Code asks its user for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VscodePrompt {
    /// The API key, for a server that VS Code starts.
    ApiKey,
    /// The bearer token, for a server over HTTP.
    BearerToken,
}

impl VscodePrompt {
    pub(super) const ALL: [Self; 2] = [Self::ApiKey, Self::BearerToken];

    /// Its ID in the array `inputs`.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::ApiKey => "callingbox-api-key",
            Self::BearerToken => "callingbox-mcp-token",
        }
    }

    /// The reference to the answer.
    pub(super) fn answer_reference(self) -> String {
        format!("${{input:{}}}", self.id())
    }

    fn to_input(self) -> Value {
        let description = match self {
            Self::ApiKey => "CallingBox API key",
            Self::BearerToken => "Token of the callingbox-mcp server",
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
    /// The server needs no key, or finds it by itself.
    NotNeeded,
    /// No key is known, so the entry's setting stays.
    Unchanged,
    KeyFile(PathBuf),
    /// The client inserts a variable of its own environment.
    EnvReference,
    /// The client asks the user and stores the answer.
    Prompt,
}

impl KeyDelivery {
    /// The safest way for this client and the source of the key. Only a client that inserts a key of its environment itself
    /// keeps it off the disk, and clients with a window do not see a shell's environment. `key_file` is the file for a key from the environment,
    /// for clients with no better way; see [`super::store_key`].
    #[must_use]
    pub fn choose(
        client: ClientApp,
        sandbox: bool,
        source: Option<&KeySource>,
        key_file: &Path,
    ) -> Self {
        match (client, source) {
            _ if sandbox => Self::NotNeeded,
            (ClientApp::Vscode, _) => Self::Prompt,
            (_, Some(KeySource::OfficialConfig(_))) => Self::NotNeeded,
            (_, Some(KeySource::KeyFile(path))) => Self::KeyFile(path.clone()),
            (ClientApp::Cursor, _) => Self::EnvReference,
            (_, Some(KeySource::EnvVar)) => Self::KeyFile(key_file.to_owned()),
            (_, None) => Self::Unchanged,
        }
    }
}

/// How a client reaches this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEntry {
    /// The client starts the server, and speaks over standard input and output.
    Stdio {
        /// An absolute path.
        command: String,
        args: Vec<String>,
        key: KeyDelivery,
        /// The value of `CALLINGBOX_BASE_URL`.
        base_url: Option<String>,
    },
    /// The client connects to a running server.
    Http {
        /// The URL of `/mcp`.
        url: url::Url,
        /// The client's environment variable that holds the bearer token. Without one, the entry's setting stays.
        token_env: Option<String>,
    },
}

/// The keys for how the server is reached. A patch sets or removes each of them.
const ADDRESS_KEYS: [&str; 9] = [
    "type",
    "transport",
    "command",
    "args",
    "url",
    "serverUrl",
    "httpUrl",
    "tcp",
    // No client reads it any more, and Codex refuses a file that has it.
    "bearer_token",
];

/// What else an entry for stdio may have. Codex refuses a file in which these are beside a URL.
const STDIO_KEYS: [&str; 5] = ["env", "env_vars", "envFile", "cwd", "workingDirectory"];

/// What else an entry for HTTP may have. Codex refuses a file in which these are beside a command.
const HTTP_KEYS: [&str; 12] = [
    "headers",
    "headersHelper",
    "http_headers",
    "env_http_headers",
    "http_headers_helper",
    "bearer_token_env_var",
    "auth",
    "authProviderType",
    "oauth",
    "oauth_resource",
    "targetAudience",
    "targetServiceAccount",
];

/// A change of a client's file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EntryPatch {
    /// The merge patch of the server's entry; null removes a key.
    pub entry: Map<String, Value>,
    /// An element of the array `inputs`, identified by its `id`.
    pub input: Option<Value>,
}

impl ServerEntry {
    /// The patch that sets how the server is reached, removes every other way, and keeps the rest.
    pub(super) fn patch(&self, client: ClientApp) -> Result<EntryPatch, InstallError> {
        let other_transport = match self {
            Self::Stdio { .. } => &HTTP_KEYS[..],
            Self::Http { .. } => &STDIO_KEYS,
        };
        let removed = ADDRESS_KEYS.iter().chain(other_transport);
        let mut entry: Map<String, Value> =
            removed.map(|key| ((*key).to_owned(), Value::Null)).collect();
        let mut set = |word: &str, value: Value| entry.insert(word.to_owned(), value);
        let mut input = None;
        match self {
            Self::Stdio { command, args, key, base_url } => {
                if let Some(kind) = client.stdio_type() {
                    set("type", kind.into());
                }
                set("command", command.as_str().into());
                set("args", args.clone().into());
                let mut env = Map::new();
                let (key, file) = match key {
                    KeyDelivery::Unchanged => (None, None),
                    KeyDelivery::NotNeeded => (Some(Value::Null), Some(Value::Null)),
                    KeyDelivery::KeyFile(path) => {
                        (Some(Value::Null), Some(path_text(path)?.into()))
                    }
                    KeyDelivery::EnvReference => {
                        let reference = client.env_reference("CALLINGBOX_API_KEY");
                        (Some(reference.into()), Some(Value::Null))
                    }
                    KeyDelivery::Prompt => {
                        input = Some(VscodePrompt::ApiKey.to_input());
                        (Some(VscodePrompt::ApiKey.answer_reference().into()), Some(Value::Null))
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
                if let Some(variable) = token_env {
                    let token = if client == ClientApp::Vscode {
                        input = Some(VscodePrompt::BearerToken.to_input());
                        VscodePrompt::BearerToken.answer_reference()
                    } else {
                        client.env_reference(variable)
                    };
                    let (word, value) = match client {
                        // Codex itself reads the variable.
                        ClientApp::Codex => ("bearer_token_env_var", variable.as_str().into()),
                        _ => ("headers", json!({ "Authorization": format!("Bearer {token}") })),
                    };
                    entry.insert(word.to_owned(), value);
                }
            }
        }
        Ok(EntryPatch { entry, input })
    }

    /// The entry and the input, as in an empty file.
    ///
    /// # Errors
    /// The client does not support such an entry, or a path is not Unicode.
    pub fn entry(&self, client: ClientApp) -> Result<(Value, Option<Value>), InstallError> {
        let patch = self.patch(client)?;
        Ok((without_nulls(&patch.entry).into(), patch.input))
    }
}

/// The result of applying a merge patch to nothing, without empty objects.
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

/// Collects every string in a value.
pub(super) fn collect_strings(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            into.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| collect_strings(item, into)),
        Value::Object(map) => map.values().for_each(|item| collect_strings(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a string is a flag of this program that cannot contain a secret. The diff shows it, so that the user sees
/// whether the entry was simulated or read-only.
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

fn path_text(path: &Path) -> Result<&str, InstallError> {
    path.to_str().ok_or_else(|| InstallError::NotUnicode { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_without_secrets_are_shown() {
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
            key: KeyDelivery::choose(client, false, source, Path::new("/c/api-key")),
            base_url: None,
        }
        .entry(client)
        .unwrap()
    }

    #[test]
    fn each_client_gets_the_key_in_the_safest_way() {
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
    fn a_key_that_the_server_finds_itself_is_not_in_the_entry() {
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
    fn each_client_has_its_own_keys_for_http() {
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
    fn a_token_is_referenced_and_never_written() {
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
