//! The command `install` of the real program, in a temporary home folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use callingbox_mcp::cli::Cli;
use callingbox_mcp::install::ClientApp;
use clap::CommandFactory;

const KEY: &str = "sk_live_never_to_be_seen";

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, of: &str) -> PathBuf {
        self.0.path().join(of)
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_callingbox-mcp"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            // So that the program under test is nowhere in a temporary folder.
            .env("TMPDIR", self.0.path().join("tmp"))
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// Runs it with a key in the environment, and returns its output.
    fn install(&self, arguments: &[&str]) -> String {
        let arguments: Vec<_> = ["install"].iter().chain(arguments).copied().collect();
        let output = self.run(&arguments, &[("CALLINGBOX_API_KEY", KEY)]);
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        said
    }

    /// Every file here and its text.
    fn files(&self) -> Vec<(PathBuf, String)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.push((path.clone(), std::fs::read_to_string(path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        walk(self.0.path(), &mut found);
        found
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn a_key_is_in_its_own_file_and_nowhere_else() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    let key_file = home.path(".config/callingbox-mcp/api-key");
    for client in ClientApp::ALL {
        for arguments in [
            &[client.id()][..],
            &[client.id(), "--read-only"],
            &[client.id(), "--print"],
            &[client.id(), "--uninstall"],
            &[client.id()],
        ] {
            let said = home.install(arguments);
            assert!(!said.contains(KEY), "{said}");
        }
    }
    let holding: Vec<_> = home
        .files()
        .into_iter()
        .filter(|(_, text)| text.contains(KEY))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(holding, std::slice::from_ref(&key_file));
    let mode = std::fs::metadata(key_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn secrets_of_other_servers_are_kept_and_not_shown() {
    let home = Home::new();
    let files = [
        (
            "cursor",
            ".cursor/mcp.json",
            "{ // s3cret\n \"mcpServers\": {\"x\": {\"env\": {\"T\": \"s3cret\"}, \"args\": [\"s3cret\"]}, \"callingbox\": {\"env\": {\"CALLINGBOX_API_KEY\": \"s3cret\"}}}}",
        ),
        (
            "codex",
            ".codex/config.toml",
            "# s3cret\n[mcp_servers.x]\nargs = ['s3cret']\nenv = { T = \"s3cret\" } # s3cret\n",
        ),
    ];
    for (client, path, before) in files {
        let path = home.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, before).unwrap();
        let said = home.install(&[client]);
        assert!(said.contains("+++") && !said.contains("s3cret"), "{said}");
        let after = std::fs::read_to_string(&path).unwrap();
        assert!(after.contains("callingbox"), "{after}");
        // Only a key in clear text in this server's own entry is removed.
        let lost = if client == "cursor" { 1 } else { 0 };
        assert_eq!(after.matches("s3cret").count() + lost, before.matches("s3cret").count());
    }
}

#[test]
fn the_diff_shows_the_flags_that_an_entry_loses() {
    for (client, path, before) in [
        (
            "cursor",
            ".cursor/mcp.json",
            "{\"mcpServers\": {\"callingbox\": {\"command\": \"/gone/callingbox-mcp\",\n\"args\": [\"stdio\", \"--sandbox\", \"--read-only\", \"--tools=get_agent\", \"s3cret\"]}}}",
        ),
        (
            "codex",
            ".codex/config.toml",
            "[mcp_servers.callingbox]\ncommand = \"/gone/callingbox-mcp\"\nargs = [\"stdio\", \"--sandbox\", \"--read-only\", \"--tools=get_agent\", \"s3cret\"]\n",
        ),
    ] {
        let home = Home::new();
        let path = home.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, before).unwrap();
        let said = home.install(&[client]);
        let gone = "[\"stdio\", \"--sandbox\", \"--read-only\", \"--tools=get_agent\", \"…\"]";
        let old = said.lines().find(|line| line.starts_with('-') && line.contains("args"));
        assert!(old.is_some_and(|line| line.contains(gone)), "{said}");
    }
}

#[test]
fn the_list_of_clients_shows_commands_with_the_same_flags() {
    let home = Home::new();
    std::fs::create_dir(home.path(".gemini")).unwrap();
    assert_eq!(
        home.install(&["--sandbox", "--read-only"]),
        "Gemini CLI      callingbox-mcp install gemini --sandbox --read-only\n"
    );
}

#[test]
fn it_reports_each_change_and_changes_nothing_twice() {
    let home = Home::new();
    assert!(home.install(&[]).starts_with("No supported MCP client found."));
    std::fs::create_dir(home.path(".gemini")).unwrap();
    assert_eq!(home.install(&[]), "Gemini CLI      callingbox-mcp install gemini\n");
    let arguments = [
        "gemini",
        "--sandbox",
        "--toolsets=calls,agents",
        "--sandbox-speed=3",
        "--sandbox-credit=5",
    ];
    let first = home.install(&arguments);
    let path = std::fs::canonicalize(home.path(".gemini")).unwrap().join("settings.json");
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_callingbox-mcp")).unwrap();
    let written = format!(
        r#"{{
  "mcpServers": {{
    "callingbox": {{
      "command": "{}",
      "args": ["stdio", "--sandbox", "--sandbox-speed=3", "--sandbox-credit=5.00", "--toolsets=calls,agents"]
    }}
  }}
}}
"#,
        program.display()
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    let plus: String = written.lines().map(|line| format!("+{line}\n")).collect();
    let file = home.path(".gemini/settings.json");
    let file = file.display();
    assert_eq!(
        first,
        format!(
            "--- {file}\n+++ {file}\n@@ -0,0 +1,8 @@\n{plus}Written to {file}\nRestart Gemini CLI.\n"
        )
    );
    let second = home.install(&arguments);
    let file = path.display();
    assert_eq!(
        second,
        format!(
            "Gemini CLI already has this entry in {file}; nothing changed.
"
        )
    );
    assert_eq!(home.install(&[]), "Gemini CLI      installed\n");
    assert_eq!(home.files().len(), 1);
    home.install(&["gemini", "--uninstall"]);
    assert!(home.install(&["gemini", "--uninstall"]).contains("nothing changed"));
}

#[test]
fn removal_names_the_entries_that_are_left() {
    let home = Home::new();
    home.install(&["gemini", "--sandbox"]);
    home.install(&["codex", "--sandbox"]);
    let path = home.path(".cursor/mcp.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pasted = r#"{"mcpServers": {
        "phone": {"command": "npx", "args": ["-y", "callingbox-mcp@0.1.0", "stdio"]},
        "my phone": {"command": "/opt/bin/callingbox-mcp"},
        "in a container": {"command": "docker", "args": ["run", "ghcr.io/callingbox/callingbox-mcp:0.1.0"]},
        "other": {"command": "npx", "args": ["-y", "@x/files", "/home/me/callingbox-mcp"]}
    }}"#;
    std::fs::write(&path, pasted).unwrap();
    let left = format!(
        "Still there:\n  Cursor: callingbox-mcp install cursor --uninstall --name phone\n  Cursor: remove the entry `my \
         phone` from {0}\n  Cursor: remove the entry `in a container` from {0}\n",
        path.display()
    );
    let codex = "  Codex: callingbox-mcp install codex --uninstall\n";
    assert!(home.install(&["gemini", "--uninstall"]).contains(&format!("{left}{codex}")));
    // Also where nothing of this name was installed.
    let said = home.install(&["cursor", "--uninstall"]);
    assert!(said.contains(&format!("nothing changed.\n{left}{codex}")), "{said}");
    home.install(&["cursor", "--uninstall", "--name", "phone"]);
    home.install(&["codex", "--uninstall"]);
    std::fs::remove_file(&path).unwrap();
    home.install(&["gemini", "--sandbox"]);
    assert!(!home.install(&["gemini", "--uninstall"]).contains("Still there"));
}

#[test]
fn printing_writes_nothing() {
    let home = Home::new();
    for client in ClientApp::ALL {
        let said = home.install(&[client.id(), "--print"]);
        let (place, entry) = said.split_once("\n\n").unwrap();
        assert!(place.starts_with("In ") && place.ends_with(':'), "{place}");
        assert!(entry.contains("callingbox"), "{entry}");
    }
    assert_eq!(home.files(), []);
}

#[test]
fn impossible_requests_are_refused_with_a_reason() {
    let home = Home::new();
    let http = "--http=http://127.0.0.1:1/mcp";
    for (arguments, reason) in [
        (&["claude-desktop", http][..], "remove --http to let it start this program"),
        (&["windsurf", "--scope=project"], "no configuration per project"),
        (&["cursor", http, "--sandbox"], "selects the sandbox and its tools when it starts"),
        (&["cursor", http, "--read-only"], "selects the sandbox and its tools when it starts"),
        (&["cursor", "--http=http://user:secret@x/mcp"], "stored in clear text"),
        (&["emacs"], "there is no client `emacs`; the valid names are: claude-desktop, "),
        (&["emacs"], "`callingbox-mcp install emacs --print` prints the entry"),
        (&["claud-desktop"], "did you mean `claude-desktop`?"),
        (&["emacs", "--uninstall"], "there is no client `emacs`"),
    ] {
        let arguments: Vec<_> = ["install"].iter().chain(arguments).copied().collect();
        let output = home.run(&arguments, &[]);
        assert!(!output.status.success() && text(&output).contains(reason), "{}", text(&output));
    }
    assert_eq!(home.files(), []);
}

#[test]
fn without_a_key_it_says_how_to_give_one() {
    let home = Home::new();
    let said = text(&home.run(&["install", "claude-code", "--scope=project"], &[]));
    assert!(said.contains("No API key was found: `callingbox-mcp setup` asks for it"), "{said}");
    let files = home.files();
    assert_eq!(files.len(), 1);
    assert!(files[0].0.ends_with(".mcp.json") && !files[0].1.contains("env"), "{files:?}");
}

#[test]
fn any_other_client_gets_an_entry_to_paste() {
    let home = Home::new();
    for client in ["zed", "cline", "LM Studio"] {
        let said = home.install(&[client, "--print", "--read-only"]);
        let (before, rest) = said.split_once("\n\n").unwrap();
        assert!(before.contains(client), "{said}");
        let (block, note) = rest.split_once("\n\n").unwrap();
        let block: serde_json::Value = serde_json::from_str(block).unwrap();
        let entry = &block["mcpServers"]["callingbox"];
        assert_eq!(entry["args"], serde_json::json!(["stdio", "--read-only"]), "{said}");
        let key_file = home.path(".config/callingbox-mcp/api-key");
        assert_eq!(entry["env"]["CALLINGBOX_API_KEY_FILE"], key_file.to_str().unwrap(), "{said}");
        assert!(note.contains("does not exist yet: write your CallingBox key into it"), "{said}");
    }
    let said = text(&home.run(&["install", "zed", "--print"], &[]));
    assert!(said.contains("No API key was found: `callingbox-mcp setup`"), "{said}");
    let url = "http://127.0.0.1:8080/mcp";
    let said = home.install(&["zed", "--print", &format!("--http={url}"), "--http-token-env"]);
    assert!(said.contains(url) && said.contains("Bearer ${CALLINGBOX_MCP_TOKEN}"), "{said}");
    assert_eq!(home.files(), []);
}

#[test]
fn the_base_url_of_the_terminal_is_not_copied_in_silence() {
    let url = "https://staging.example";
    let environment = [("CALLINGBOX_API_KEY", KEY), ("CALLINGBOX_BASE_URL", url)];
    for arguments in [&["gemini"][..], &["gemini", "--print"], &["zed", "--print"]] {
        let home = Home::new();
        let arguments = [&["install"], arguments].concat();
        let said = text(&home.run(&arguments, &environment));
        assert!(said.contains(&format!("\"CALLINGBOX_BASE_URL\": \"{url}\"")), "{said}");
        let note = format!("The entry sets CALLINGBOX_BASE_URL to {url}, as in this terminal.");
        assert!(said.contains(&note), "{said}");
        let said = text(&home.run(&[&arguments[..], &["--sandbox"]].concat(), &environment));
        assert!(!said.contains("CALLINGBOX_BASE_URL to"), "{said}");
    }
}

#[test]
fn a_key_that_cannot_be_read_stops_only_what_needs_one() {
    let home = Home::new();
    let missing = [("CALLINGBOX_API_KEY_FILE", "/nonexistent/key")];
    for (arguments, works) in [
        (&["install", "gemini"][..], false),
        (&["install", "gemini", "--sandbox"], true),
        (&["install", "gemini", "--http=http://127.0.0.1:1/mcp"], true),
    ] {
        let output = home.run(arguments, &missing);
        assert_eq!(output.status.success(), works, "{}", text(&output));
    }
}

#[test]
fn the_switches_of_a_bundle_are_variables() {
    let home = Home::new();
    for (read_only, sandbox, expected) in [
        ("true", "true", ("sandbox", true)),
        ("false", "true", ("sandbox", false)),
        ("true", "false", ("live", true)),
        ("", "", ("live", false)),
    ] {
        let variables = [
            ("CALLINGBOX_MCP_READ_ONLY", read_only),
            ("CALLINGBOX_MCP_SANDBOX", sandbox),
            ("CALLINGBOX_API_KEY", "${user_config.api_key}"),
        ];
        let said = text(&home.run(&["config"], &variables));
        let (environment, read_only) = expected;
        assert!(said.contains(&format!("environment = \"{environment}\"\n")), "{said}");
        assert!(said.contains(&format!("read_only = {read_only}\n")), "{said}");
        assert!(environment == "sandbox" || said.contains("api_key = \"not set\"\n"), "{said}");
    }
    let output = home.run(&["config"], &[("CALLINGBOX_MCP_SANDBOX", "perhaps")]);
    assert!(!output.status.success());
}

#[test]
fn completions_and_manual_pages_contain_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = text(&home.run(&["completions", shell], &[]));
        for word in ["install", "completions", "catalogue", "read-only", "scope"] {
            assert!(said.contains(word), "{shell} {word}");
        }
    }
    let manual = text(&home.run(&["man"], &[]));
    for word in [".TH callingbox-mcp 1", "install", "\\-\\-sandbox", "CALLINGBOX_API_KEY_FILE"] {
        assert!(manual.contains(word), "{word}");
    }
    home.run(&["man", "--to", "man1"], &[]);
    let mut pages = vec![("callingbox-mcp.1".to_owned(), Cli::command())];
    let mut at = 0;
    while let Some((page, command)) = pages.get(at).cloned() {
        let name = page.trim_end_matches(".1");
        let inner = command.get_subcommands().cloned();
        pages.extend(inner.map(|inner| (format!("{name}-{}.1", inner.get_name()), inner)));
        let text = std::fs::read_to_string(home.path(&format!("man1/{page}"))).unwrap();
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            let flag = flag.replace('-', "\\-");
            assert!(text.contains(&flag), "{page}: {flag}");
        }
        at += 1;
    }
    assert!(pages.len() > 15, "{pages:?}");
}
