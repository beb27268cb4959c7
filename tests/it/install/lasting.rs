//! `install` of a program that a package runner started, with the real binary in a cache: the entry names a copy that
//! stays, `doctor` and `--upgrade` notice what does not, and `--uninstall` leaves nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_callingbox-mcp");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A home folder with the program in the cache of npx.
struct Home {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Home {
    fn new() -> Self {
        Self::with_program(".npm/_npx/5f1d2/node_modules/@callingbox-mcp/linux-x64/callingbox-mcp")
    }

    fn with_program(path: &str) -> Self {
        // Beside the program, so that it can be linked instead of copied.
        let parent = Path::new(BINARY).parent().unwrap();
        let dir = tempfile::tempdir_in(parent).unwrap();
        let program = dir.path().join(path);
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::hard_link(BINARY, &program).unwrap();
        Self { dir, program }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn copy(&self, version: &str) -> PathBuf {
        self.path(&format!(".local/share/callingbox-mcp/bin/{version}/callingbox-mcp"))
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.path("tmp"))
            .current_dir(self.dir.path());
        command
    }

    fn start(&self, program: &Path, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    /// Runs the program in the cache, and returns its output.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.start(&self.program, arguments);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    /// Writes an entry for Cursor that starts this program.
    fn write_entry(&self, command: &Path) {
        let entry = json!({"mcpServers": {
            "callingbox": {"command": command, "args": ["stdio", "--sandbox"], "note": "mine"},
            "other": {"command": "/opt/other", "args": ["s3cret"]},
        }});
        let file = self.path(".cursor/mcp.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, serde_json::to_string_pretty(&entry).unwrap()).unwrap();
    }

    fn entry(&self) -> Value {
        let text = std::fs::read_to_string(self.path(".cursor/mcp.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["mcpServers"]["callingbox"].clone()
    }

    /// Places something at the path of a copy.
    fn place_copy(&self, version: &str) -> PathBuf {
        let copy = self.copy(version);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::hard_link(BINARY, &copy).unwrap();
        copy
    }

    /// The finding of `doctor` for Cursor.
    fn diagnose(&self) -> Value {
        let output = self.start(&self.program, &["doctor", "--sandbox", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        findings.into_iter().find(|finding| finding["check"] == "cursor").unwrap().clone()
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn a_program_of_npx_is_copied_and_removed_with_the_last_entry() {
    let home = Home::new();
    let copy = home.copy(VERSION);
    let said = home.run(&["install", "cursor", "--sandbox"]);
    let note = format!(
        "This program is in the cache of npx, where it may vanish. Copied it to {}, which the entry names.\n",
        copy.display()
    );
    assert!(said.contains(&note), "{said}");
    let command = format!("\"command\": \"{}\"", copy.display());
    assert!(said.contains(&command), "{said}");
    assert_eq!(home.entry()["command"], copy.to_str().unwrap());
    assert!(home.start(&copy, &["--version"]).status.success());

    home.run(&["install", "gemini", "--sandbox"]);
    let said = home.run(&["install", "cursor", "--uninstall"]);
    assert!(copy.exists() && !said.contains("Removed the copies"), "{said}");
    // The copy removes itself.
    let said = text(&home.start(&copy, &["install", "gemini", "--uninstall"]));
    let folder = home.path(".local/share/callingbox-mcp/bin");
    let removed = format!("Removed the copies of this program in {}\n", folder.display());
    assert!(said.contains(&removed) && !folder.exists(), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_keeps_the_copies() {
    let home = Home::new();
    home.run(&["install", "cursor", "--sandbox"]);
    std::fs::create_dir(home.path(".gemini")).unwrap();
    std::fs::write(home.path(".gemini/settings.json"), "{").unwrap();
    home.run(&["install", "cursor", "--uninstall"]);
    assert!(home.copy(VERSION).exists());
}

#[test]
fn an_entry_of_a_cache_or_of_an_earlier_copy_is_noticed_and_upgraded() {
    let home = Home::new();
    assert!(home.run(&["install", "--upgrade"]).starts_with("Nothing to upgrade: "));
    let earlier = home.place_copy("0.0.9");
    for (command, why) in [
        (home.program.clone(), "its program is in the cache of npx and may vanish"),
        (earlier.clone(), "it starts version 0.0.9, and this is version "),
        (home.copy("0.0.8"), "it starts version 0.0.8, and this is version "),
        (home.path(".npm/_npx/gone/callingbox-mcp"), "its program does not exist"),
    ] {
        home.write_entry(&command);
        let found = home.diagnose();
        let level = if command.exists() { "warn" } else { "fail" };
        assert_eq!(found["level"], level, "{found}");
        let message = if command.exists() { why } else { "which does not exist" };
        assert!(found["message"].as_str().unwrap().contains(message), "{found}");
        let fix = "npx -y callingbox-mcp install --upgrade, then restart Cursor";
        assert_eq!(found["fix"], fix);
        let list = home.run(&["install"]);
        let state = format!("installed, but {why}");
        assert!(list.contains(&state), "{list}");

        let said = home.run(&["install", "--upgrade"]);
        assert!(said.contains(&format!("Cursor, entry callingbox: {why}")), "{said}");
        for (sign, command) in [("-", &command), ("+", &home.copy(VERSION))] {
            let line = format!("\"command\": \"{}\"", command.display());
            let change =
                said.lines().find(|line| line.starts_with(sign) && line.contains("command"));
            assert!(change.is_some_and(|change| change.contains(&line)), "{said}");
        }
        assert!(said.ends_with("Restart Cursor.\n") && !said.contains("s3cret"), "{said}");
        let expected =
            json!({"command": home.copy(VERSION), "args": ["stdio", "--sandbox"], "note": "mine"});
        assert_eq!(home.entry(), expected);
        assert_eq!(home.diagnose()["level"], "ok");
        assert!(home.run(&["install", "--upgrade"]).starts_with("Nothing to upgrade: "));
    }
    assert!(earlier.exists(), "one earlier copy is kept");
}

#[test]
fn a_missing_copy_is_made_again() {
    let home = Home::new();
    home.write_entry(&home.copy(VERSION));
    assert_eq!(home.diagnose()["level"], "fail");
    let said = home.run(&["install", "cursor", "--upgrade"]);
    assert!(said.contains("names the copy already") && home.copy(VERSION).exists(), "{said}");
    assert_eq!(home.diagnose()["level"], "ok");
}

#[test]
fn a_later_copy_and_a_program_of_the_users_stay() {
    let home = Home::new();
    std::fs::create_dir(home.path("bin")).unwrap();
    std::fs::hard_link(BINARY, home.path("bin/callingbox-mcp")).unwrap();
    for command in [home.place_copy("99.0.0"), home.path("bin/callingbox-mcp")] {
        home.write_entry(&command);
        assert_eq!(home.diagnose()["level"], "ok");
        assert!(home.run(&["install", "--upgrade"]).starts_with("Nothing to upgrade: "));
        assert_eq!(home.entry()["command"], command.to_str().unwrap());
    }
    for (arguments, reason) in [
        (&["install", "emacs", "--upgrade"][..], "there is no client `emacs`"),
        (&["install", "cursor", "--upgrade", "--print"], "cannot be used with"),
    ] {
        let output = home.start(&home.program, arguments);
        assert!(!output.status.success() && text(&output).contains(reason), "{}", text(&output));
    }
}

#[test]
fn one_broken_file_does_not_keep_the_others_from_an_upgrade() {
    let home = Home::new();
    home.write_entry(&home.program);
    std::fs::create_dir(home.path(".gemini")).unwrap();
    std::fs::write(home.path(".gemini/settings.json"), "{").unwrap();
    let output = home.start(&home.program, &["install", "--upgrade"]);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(
        said.contains("Restart Cursor.") && said.contains("settings.json cannot be parsed"),
        "{said}"
    );
    assert_eq!(home.entry()["command"], home.copy(VERSION).to_str().unwrap());
}

#[test]
fn a_printed_entry_starts_the_package_runner_and_nothing_is_copied() {
    for (program, runner) in [
        (".npm/_npx/5f1d2/callingbox-mcp", "npx -y callingbox-mcp stdio --sandbox"),
        (".cache/uv/archive-v0/Ab3/bin/callingbox-mcp", "uvx callingbox-mcp stdio --sandbox"),
        (".cache/pipx/8c1/bin/callingbox-mcp", "pipx run callingbox-mcp stdio --sandbox"),
    ] {
        let home = Home::with_program(program);
        for client in ["zed", "cursor"] {
            let said = home.run(&["install", client, "--print", "--sandbox"]);
            let (_, block) = said.split_once("\n\n").unwrap();
            let block: Value = serde_json::from_str(block).unwrap();
            let entry = &block["mcpServers"]["callingbox"];
            let words = [&entry["command"]].into_iter().chain(entry["args"].as_array().unwrap());
            let words: Vec<_> = words.map(|word| word.as_str().unwrap()).collect();
            assert_eq!(words.join(" "), runner);
        }
        assert!(!home.path(".local").exists());
    }
    let home = Home::with_program("tmp/callingbox-mcp");
    let output = Command::new(&home.program)
        .args(["install", "zed", "--print", "--sandbox"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("TMPDIR", home.path("tmp"))
        .current_dir(home.dir.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(said.contains(&format!("\"command\": \"{}\"", home.program.display())), "{said}");
    assert!(said.contains("The program is in a temporary folder, where it may vanish"), "{said}");
}

#[test]
fn commands_to_type_begin_with_the_package_runner() {
    let home = Home::new();
    std::fs::create_dir(home.path(".gemini")).unwrap();
    assert_eq!(
        home.run(&["install", "--sandbox"]),
        "Gemini CLI      npx -y callingbox-mcp install gemini --sandbox\n"
    );
    let said = home.run(&["install", "gemini"]);
    assert!(said.contains("`npx -y callingbox-mcp setup` asks for it"), "{said}");
}

#[test]
fn the_server_names_a_command_that_the_user_can_type() {
    let home = Home::new();
    let copy = home.place_copy(VERSION);
    let bundle = home.path("Claude Extensions/local.mcpb.callingbox/server/callingbox-mcp");
    std::fs::create_dir_all(bundle.parent().unwrap()).unwrap();
    std::fs::hard_link(BINARY, &bundle).unwrap();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "list_agents",
        "arguments": {},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    for (program, typed) in [
        (&home.program, "npx -y callingbox-mcp".to_owned()),
        (&copy, copy.display().to_string()),
        (&bundle, format!("\"{}\"", bundle.display())),
        (&PathBuf::from(BINARY), "callingbox-mcp".to_owned()),
    ] {
        let mut server = home.command(program, &["stdio"]);
        let mut server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(server.stdin.take().unwrap(), "{request}").unwrap();
        let output = server.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(said.contains(&format!("`{typed} setup`")), "{said}");
    }
}
