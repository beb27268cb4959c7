//! For each client: a file as users have it, exactly what it is after the installation on each operating system, and
//! what is left after the removal.

use std::path::{Path, PathBuf};

use callingbox_mcp::config::KeySource;
use callingbox_mcp::install::{
    ClientApp, ClientFile, InstallScope, InstalledEntry, KeyDelivery, Machine, ServerEntry,
};
use callingbox_mcp::system::{Os, SystemFolders};
use serde_json::{Value, json};

pub(crate) fn machine(os: Os, root: &Path) -> Machine {
    let system = SystemFolders::new(os, &root.join("home"), root.join("tmp"), &|_| None);
    Machine {
        system,
        project: root.join("project"),
        claude_config_dir: None,
        codex_home: None,
        openclaw_home: None,
        openclaw_state_dir: None,
        openclaw_config_path: None,
    }
}

/// The only file of a client.
pub(crate) fn file_of(client: ClientApp, scope: InstallScope, machine: &Machine) -> ClientFile {
    let [file] = client.files(scope, machine).unwrap().try_into().unwrap();
    file
}

/// A server over standard input and output, with a key in the environment.
pub(crate) fn stdio(client: ClientApp, os: Os) -> ServerEntry {
    let (command, key) = match os {
        Os::Windows => (r"C:\Program Files\callingbox-mcp.exe", r"C:\Users\x\api-key"),
        Os::Linux | Os::MacOs => ("/opt/callingbox-mcp", "/cfg/api-key"),
    };
    let source = Some(&KeySource::EnvVar);
    ServerEntry::Stdio {
        command: command.to_owned(),
        args: vec!["stdio".to_owned(), "--read-only".to_owned()],
        key: KeyDelivery::choose(client, false, source, Path::new(key)),
        base_url: None,
    }
}

fn now() -> jiff::Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// Writes the file, installs, and returns the path.
fn install(
    client: ClientApp,
    scope: InstallScope,
    machine: &Machine,
    before: Option<&str>,
    server: &ServerEntry,
) -> PathBuf {
    let path = file_of(client, scope, machine).path;
    if let Some(before) = before {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, before).unwrap();
    }
    let plan = file_of(client, scope, machine).plan_install("callingbox", server).unwrap();
    let backup = plan.apply(now()).unwrap();
    assert_eq!(backup.is_some(), before.is_some(), "{client}");
    if let Some(backup) = backup {
        assert_eq!(std::fs::read_to_string(backup).unwrap(), before.unwrap(), "{client}");
    }
    path
}

struct Case {
    client: ClientApp,
    scope: InstallScope,
    before: &'static str,
    after: &'static str,
}

const CASES: &[Case] = &[
    Case {
        client: ClientApp::ClaudeDesktop,
        scope: InstallScope::User,
        before: r#"{
  "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "files": { "command": "npx", "args": ["-y", "x"] }
  },
  "unknown": [1, 2.50, null]
}
"#,
        after: r#"{
  "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "files": { "command": "npx", "args": ["-y", "x"] },
    "callingbox": {
      "command": "COMMAND",
      "args": ["stdio", "--read-only"],
      "env": {
        "CALLINGBOX_API_KEY_FILE": "KEYFILE"
      }
    }
  },
  "unknown": [1, 2.50, null]
}
"#,
    },
    Case {
        client: ClientApp::Cursor,
        scope: InstallScope::Project,
        before: r#"{
    // the team's
    "mcpServers": {
        "db": { "url": "http://x/mcp", "headers": { "T": "${env:T}" } }, // keep
    }
}"#,
        after: r#"{
    // the team's
    "mcpServers": {
        "db": { "url": "http://x/mcp", "headers": { "T": "${env:T}" } }, // keep
        "callingbox": {
            "command": "COMMAND",
            "args": ["stdio", "--read-only"],
            "env": {
                "CALLINGBOX_API_KEY": "${env:CALLINGBOX_API_KEY}",
            },
        },
    }
}"#,
    },
    Case {
        client: ClientApp::ClaudeCode,
        scope: InstallScope::User,
        before: r#"{
  "numStartups": 7,
  "projects": { "/a": { "mcpServers": {} } }
}"#,
        after: r#"{
  "numStartups": 7,
  "projects": { "/a": { "mcpServers": {} } },
  "mcpServers": {
    "callingbox": {
      "type": "stdio",
      "command": "COMMAND",
      "args": ["stdio", "--read-only"],
      "env": {
        "CALLINGBOX_API_KEY_FILE": "KEYFILE"
      }
    }
  }
}"#,
    },
    Case {
        client: ClientApp::Vscode,
        scope: InstallScope::User,
        before: "{\r\n\t\"servers\": {},\r\n\t\"inputs\": [\r\n\t\t{ \"id\": \"other\", \"type\": \"promptString\" }\r\n\t]\r\n}\r\n",
        after: "{\r\n\t\"servers\": {\r\n\t\t\"callingbox\": {\r\n\t\t\t\"type\": \"stdio\",\r\n\t\t\t\"command\": \"COMMAND\",\r\n\t\t\t\"args\": [\"stdio\", \"--read-only\"],\r\n\t\t\t\"env\": {\r\n\t\t\t\t\"CALLINGBOX_API_KEY\": \"${input:callingbox-api-key}\"\r\n\t\t\t}\r\n\t\t}\r\n\t},\r\n\t\"inputs\": [\r\n\t\t{ \"id\": \"other\", \"type\": \"promptString\" },\r\n\t\t{\r\n\t\t\t\"type\": \"promptString\",\r\n\t\t\t\"id\": \"callingbox-api-key\",\r\n\t\t\t\"description\": \"CallingBox API key\",\r\n\t\t\t\"password\": true\r\n\t\t}\r\n\t]\r\n}\r\n",
    },
    Case {
        client: ClientApp::Openclaw,
        scope: InstallScope::User,
        before: r#"// my claw
{
  agent: { model: 'x' },
  mcp: {
    servers: {
      other: { command: 'y' }, // keep
    },
  },
}
"#,
        after: r#"// my claw
{
  agent: { model: 'x' },
  mcp: {
    servers: {
      other: { command: 'y' }, // keep
      "callingbox": {
        "command": "COMMAND",
        "args": ["stdio", "--read-only"],
        "env": {
          "CALLINGBOX_API_KEY_FILE": "KEYFILE",
        },
      },
    },
  },
}
"#,
    },
    Case {
        client: ClientApp::Codex,
        scope: InstallScope::User,
        before: r#"# mine
model = "o"   # why
[mcp_servers.other]
command = 'y' # keep

[profiles.deep]
model = "p"
"#,
        after: r#"# mine
model = "o"   # why
[mcp_servers.other]
command = 'y' # keep

[profiles.deep]
model = "p"

[mcp_servers.callingbox]
command = "COMMAND"
args = ["stdio", "--read-only"]
env = { CALLINGBOX_API_KEY_FILE = "KEYFILE" }
"#,
    },
    Case {
        client: ClientApp::Gemini,
        scope: InstallScope::User,
        before: r#"{
  // dark
  "ui": { "theme": "Default" }
}
"#,
        after: r#"{
  // dark
  "ui": { "theme": "Default" },
  "mcpServers": {
    "callingbox": {
      "command": "COMMAND",
      "args": ["stdio", "--read-only"],
      "env": {
        "CALLINGBOX_API_KEY_FILE": "KEYFILE"
      }
    }
  }
}
"#,
    },
    Case {
        client: ClientApp::Windsurf,
        scope: InstallScope::User,
        before: "\u{feff}{\n  \"mcpServers\": {}\n}\n",
        after: "{\n  \"mcpServers\": {\n    \"callingbox\": {\n      \"command\": \"COMMAND\",\n      \"args\": [\"stdio\", \"--read-only\"],\n      \"env\": {\n        \"CALLINGBOX_API_KEY_FILE\": \"KEYFILE\"\n      }\n    }\n  }\n}\n",
    },
];

/// The words of a case as they are on an operating system.
fn expected(case: &Case, os: Os) -> String {
    let (command, key) = match (os, case.client) {
        // TOML writes a text with backslashes as a literal.
        (Os::Windows, ClientApp::Codex) => {
            let after = case.after.replace("\"COMMAND\"", r"'C:\Program Files\callingbox-mcp.exe'");
            return after.replace("\"KEYFILE\"", r"'C:\Users\x\api-key'");
        }
        (Os::Windows, _) => (r"C:\\Program Files\\callingbox-mcp.exe", r"C:\\Users\\x\\api-key"),
        (Os::Linux | Os::MacOs, _) => ("/opt/callingbox-mcp", "/cfg/api-key"),
    };
    case.after.replace("COMMAND", command).replace("KEYFILE", key)
}

#[test]
fn every_client_is_in_the_table() {
    let cases: Vec<_> = CASES.iter().map(|case| case.client).collect();
    assert_eq!(cases, ClientApp::ALL);
}

#[test]
fn a_file_gets_the_entry_and_keeps_all_else() {
    for os in [Os::Linux, Os::MacOs, Os::Windows] {
        for case in CASES {
            let root = tempfile::tempdir().unwrap();
            let machine = machine(os, root.path());
            let server = stdio(case.client, os);
            let path = install(case.client, case.scope, &machine, Some(case.before), &server);
            let after = std::fs::read_to_string(&path).unwrap();
            assert_eq!(after, expected(case, os), "{} on {os:?}", case.client);

            let again = file_of(case.client, case.scope, &machine)
                .plan_install("callingbox", &server)
                .unwrap();
            assert!(again.is_done(), "{}", case.client);
            assert_eq!(again.diff(), "");
            assert_eq!(again.apply(now()).unwrap(), None);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}

#[test]
fn removal_restores_the_original_text() {
    for case in CASES {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let server = stdio(case.client, Os::Linux);
        let path = install(case.client, case.scope, &machine, Some(case.before), &server);
        let plan = file_of(case.client, case.scope, &machine).plan_uninstall("callingbox").unwrap();
        let later = "2026-01-02T03:04:06Z".parse().unwrap();
        plan.apply(later).unwrap();
        // A byte order mark is never written.
        let before = case.before.trim_start_matches('\u{feff}');
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before, "{}", case.client);
        let again =
            file_of(case.client, case.scope, &machine).plan_uninstall("callingbox").unwrap();
        assert!(again.is_done());
    }
}

#[test]
fn removal_keeps_later_changes_of_the_user() {
    for case in CASES.iter().filter(|case| case.client != ClientApp::Codex) {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let server = stdio(case.client, Os::Linux);
        let path = install(case.client, case.scope, &machine, Some(case.before), &server);
        let touched = format!("{}\n// since\n", std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, &touched).unwrap();
        let later = "2026-01-02T03:04:06Z".parse().unwrap();
        file_of(case.client, case.scope, &machine)
            .plan_uninstall("callingbox")
            .unwrap()
            .apply(later)
            .unwrap();
        let left = std::fs::read_to_string(&path).unwrap();
        assert!(left.ends_with("// since\n"), "{left}");
        assert!(!left.contains("allingbox"), "{left}");
        let before = case.before.trim_start_matches('\u{feff}');
        for word in before.split_whitespace().filter(|word| word.len() > 3) {
            assert!(left.contains(word.trim_end_matches(',')), "{}: {word}\n{left}", case.client);
        }
    }
}

/// Comments where TOML allows them: after the last line of a table, above a header, at the end.
const COMMENTED: [&str; 5] = [
    "[mcp_servers.other]\ncommand = \"y\"\n# args = [\"--debug\"]   # keep: my note on other\n[profiles.deep]\nmodel = \"p\"\n",
    "[mcp_servers.other]\ncommand = \"y\"\n# note\n\n# deep\n[profiles.deep]\n",
    "model = \"o\"\n\n[mcp_servers.other]\ncommand = \"y\"\n\n# the end\n",
    "# nothing else\n",
    "[a]\n# a\n[b]\n# b\n[a.c]\r\n# c\r\n",
];

#[test]
fn comments_stay_in_their_places() {
    for before in COMMENTED {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let (client, scope) = (ClientApp::Codex, InstallScope::User);
        // As an editor would have it: one kind of line ending.
        let before = match before.contains('\r') {
            true => before.replace("\r\n", "\n").replace('\n', "\r\n"),
            false => before.to_owned(),
        };
        let server = stdio(client, Os::Linux);
        let path = install(client, scope, &machine, Some(&before), &server);
        let after = std::fs::read_to_string(&path).unwrap();
        let entry = after.strip_prefix(&before).unwrap_or_else(|| panic!("{after}"));
        assert!(entry.trim_start().starts_with("[mcp_servers.callingbox]"), "{after}");

        // Without the backup it is the entry that goes, and only that.
        for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let file = file.unwrap().path();
            if file != path {
                std::fs::remove_file(file).unwrap();
            }
        }
        let plan = file_of(client, scope, &machine).plan_uninstall("callingbox").unwrap();
        plan.apply("2026-01-02T03:04:06Z".parse().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }
}

#[test]
fn removal_deletes_a_file_that_the_installation_made() {
    for client in ClientApp::ALL {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let server = stdio(client, Os::Linux);
        let path = install(client, InstallScope::User, &machine, None, &server);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            server.example_file(client, "callingbox").unwrap()
        );
        file_of(client, InstallScope::User, &machine)
            .plan_uninstall("callingbox")
            .unwrap()
            .apply(now())
            .unwrap();
        assert!(!path.exists(), "{client}");
    }
}

fn find_entry(file: &ClientFile) -> InstalledEntry {
    let mut entries = file.read_entries().unwrap().into_iter();
    entries.find(|(name, _)| name == "callingbox").unwrap().1
}

/// An entry with all that a user may have added for either transport.
fn entry_with_extras() -> Value {
    json!({
        "command": "/old", "args": ["old"], "env": {"MINE": "1"}, "env_vars": ["PATH"],
        "envFile": ".env", "cwd": "/old", "workingDirectory": "/old",
        "url": "https://old.example/mcp", "serverUrl": "https://old.example/mcp",
        "httpUrl": "https://old.example/mcp", "tcp": "old.example:1", "transport": "sse",
        "headers": {"X": "1"}, "headersHelper": "/old", "http_headers": {"X": "1"},
        "env_http_headers": {"X": "Y"}, "http_headers_helper": "/old", "bearer_token": "old",
        "bearer_token_env_var": "OLD", "auth": "oauth", "authProviderType": "dynamic_discovery",
        "oauth": {"client_id": "old"}, "oauth_resource": "https://old.example",
        "targetAudience": "old", "targetServiceAccount": "old",
        "startup_timeout_sec": 20, "disabled": false,
    })
}

/// Codex refuses a file whose entry has the keys of the other transport; elsewhere they mislead its reader.
#[test]
fn an_entry_loses_the_keys_of_the_other_transport_and_keeps_the_rest() {
    let stdio_only = ["command", "args", "env", "env_vars", "envFile", "cwd", "workingDirectory"];
    let url_keys = ["url", "serverUrl", "httpUrl"];
    let kept_for_http = ["headers", "http_headers", "env_http_headers", "oauth", "auth"];
    for client in ClientApp::ALL {
        for over_http in [false, true] {
            if over_http && client == ClientApp::ClaudeDesktop {
                continue;
            }
            let root = tempfile::tempdir().unwrap();
            let machine = machine(Os::Linux, root.path());
            let servers = json!({"callingbox": entry_with_extras()});
            let document = match client.servers_key() {
                [key] => json!({ *key: servers }),
                [outer, inner] => json!({ *outer: { *inner: servers } }),
                other => panic!("{other:?}"),
            };
            let before = match client {
                ClientApp::Codex => toml::to_string(&document).unwrap(),
                _ => document.to_string(),
            };
            let server = match over_http {
                false => stdio(client, Os::Linux),
                true => {
                    let url = "https://new.example/mcp".parse().unwrap();
                    ServerEntry::Http { url, token_env: None }
                }
            };
            let path = install(client, InstallScope::User, &machine, Some(&before), &server);
            let text = std::fs::read_to_string(path).unwrap();
            let after: Value = match client {
                ClientApp::Codex => toml::from_str(&text).unwrap(),
                _ => serde_json::from_str(&text).unwrap(),
            };
            let after = client.servers_key().iter().fold(&after, |value, key| &value[*key]);
            let entry = after["callingbox"].as_object().unwrap();
            let has = |key: &str| entry.contains_key(key);
            let context = format!("{client} over HTTP: {over_http}: {text}");
            assert_eq!(stdio_only.iter().all(|key| has(key)), !over_http, "{context}");
            assert_eq!(stdio_only.iter().any(|key| has(key)), !over_http, "{context}");
            let urls = url_keys.iter().filter(|key| has(key)).count();
            assert_eq!(urls, usize::from(over_http), "{context}");
            assert_eq!(kept_for_http.iter().all(|key| has(key)), over_http, "{context}");
            assert_eq!(kept_for_http.iter().any(|key| has(key)), over_http, "{context}");
            assert!(has("startup_timeout_sec") && has("disabled"), "{context}");
            assert!(!has("bearer_token") && !has("tcp"), "{context}");
            assert!(!text.contains("/old/") && (over_http || !text.contains("old.example")));
        }
    }
}

#[test]
fn null_counts_as_empty_wherever_a_client_keeps_its_servers() {
    for client in ClientApp::ALL.into_iter().filter(|client| *client != ClientApp::Codex) {
        let mut forms = vec!["null".to_owned(), "{\"inputs\": null, \"other\": 1}".to_owned()];
        match client.servers_key() {
            [key] => forms.extend([
                format!("{{\"{key}\": null}}"),
                format!("{{\"{key}\": {{\"callingbox\": null}}}}"),
                format!("{{\"{key}\": {{\"callingbox\": {{\"env\": null}}}}}}"),
            ]),
            [outer, inner] => forms.extend([
                format!("{{\"{outer}\": null}}"),
                format!("{{\"{outer}\": {{\"{inner}\": null}}}}"),
            ]),
            other => panic!("{other:?}"),
        }
        for before in forms {
            let root = tempfile::tempdir().unwrap();
            let machine = machine(Os::Linux, root.path());
            let scope = InstallScope::User;
            let server = stdio(client, Os::Linux);
            let path = install(client, scope, &machine, Some(&before), &server);
            let entry = find_entry(&file_of(client, scope, &machine));
            assert_eq!(entry.command.as_deref(), Some("/opt/callingbox-mcp"), "{client} {before}");
            assert_eq!(entry.env.len(), 1, "{client} {before}");
            let plan = file_of(client, scope, &machine).plan_uninstall("callingbox").unwrap();
            plan.apply("2026-01-02T03:04:06Z".parse().unwrap()).unwrap();
            let after = std::fs::read_to_string(&path).unwrap();
            assert!(!after.contains("/opt/callingbox-mcp"), "{client} {before}: {after}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_read_and_never_written() {
    for client in ClientApp::ALL {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let server = stdio(client, Os::Linux);
        let text = server.example_file(client, "callingbox").unwrap();
        // The entry is there already, but a client may not read the file for its first character.
        let marked = format!("\u{feff}{text}");
        let path = install(client, InstallScope::User, &machine, Some(&marked), &server);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{client}");
    }
}

#[test]
fn a_change_of_the_transport_leaves_nothing_of_the_old_one() {
    let url = "http://127.0.0.1:8080/mcp";
    for client in ClientApp::ALL.into_iter().filter(|client| *client != ClientApp::ClaudeDesktop) {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(Os::Linux, root.path());
        let token_env = Some("TELEPHONE".to_owned());
        let http = ServerEntry::Http { url: url.parse().unwrap(), token_env };
        let first = stdio(client, Os::Linux);
        let path = install(client, InstallScope::User, &machine, None, &first);
        for server in [&http, &first] {
            let plan = file_of(client, InstallScope::User, &machine)
                .plan_install("callingbox", server)
                .unwrap();
            plan.apply(jiff::Timestamp::now()).unwrap();
            let now = find_entry(&file_of(client, InstallScope::User, &machine));
            let over_http = *server == http;
            assert_eq!(now.url.as_deref(), over_http.then_some(url), "{client}");
            let command = (!over_http).then_some("/opt/callingbox-mcp");
            assert_eq!(now.command.as_deref(), command, "{client}");
            assert_eq!((now.args.is_empty(), now.env.is_empty()), (over_http, over_http));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for of_http in ["8080", "transport", "Bearer", "TELEPHONE"] {
            assert!(!text.contains(of_http), "{text}");
        }
    }
}
