//! The README is true: its table of tools is the catalogue's, and what it shows can be read by whom
//! it is meant for.

use std::path::Path;
use std::process::Stdio;

use callingbox_mcp::cli::Cli;
use callingbox_mcp::config;
use callingbox_sandbox::Options;
use clap::Parser;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{Home, simulator, soon};

const BEGIN: &str = "<!-- tools: written by UPDATE_DOCS=1 cargo test --test it documents -->\n";
const END: &str = "<!-- /tools -->\n";

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).unwrap()
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    text.split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_table_of_tools_is_that_of_the_catalogue() {
    let text = readme();
    let (before, rest) = text.split_once(BEGIN).expect("the marker before the table");
    let (table, after) = rest.split_once(END).expect("the marker after the table");
    let expected = Home::new().print(&["catalogue", "--all"]).await;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert!(
            table == expected,
            "README.md is stale: UPDATE_DOCS=1 cargo test --test it documents writes it"
        );
    }
}

#[test]
fn client_configurations_start_a_server() {
    let blocks = blocks(&readme(), "json");
    assert_eq!(blocks.len(), 6, "two for each of three clients");
    for block in blocks {
        let config: Value = serde_json::from_str(&block).unwrap();
        let servers = config.get("mcpServers").unwrap_or(&config["mcp"]["servers"]);
        let server = &servers["callingbox"];
        assert_eq!(server["command"], "callingbox-mcp", "{block}");
        let arguments = server["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
        let cli = Cli::try_parse_from(["callingbox-mcp"].into_iter().chain(arguments)).unwrap();
        assert!(cli.command.is_none(), "{block}");
        let key = server["env"].as_object().is_some_and(|env| {
            env.keys().all(|name| {
                ["CALLINGBOX_API_KEY", "CALLINGBOX_API_KEY_FILE"].contains(&name.as_str())
            })
        });
        assert_eq!(cli.global.sandbox.is_none(), key, "either the simulator or a key: {block}");
    }
}

/// The commands of the shell blocks and of the text, in order, each once.
fn commands(text: &str) -> Vec<String> {
    let blocks = blocks(text, "sh");
    let lines = blocks.iter().flat_map(|block| block.lines());
    let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
    let inline = inline.filter(|code| code.starts_with("callingbox-mcp "));
    let mut commands: Vec<String> = Vec::new();
    for line in lines.chain(inline) {
        if !commands.iter().any(|known| known == line) {
            commands.push(line.to_owned());
        }
    }
    // What others need goes first.
    commands.sort_by_key(|line| !line.contains("token create"));
    commands
}

/// Those that are run elsewhere: by `.ci/run`, the last one in short, and by whoever installs it.
const RUN_ELSEWHERE: [&str; 3] =
    ["cargo test", "cargo install --path .", "python3 benches/compare.py"];

#[tokio::test]
async fn every_command_does_what_it_can() {
    let text = readme();
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    let environment =
        [("CALLINGBOX_API_KEY", "sk_test_readme"), ("CALLINGBOX_BASE_URL", url.as_str())];
    let home = Home::new();
    home.write("mine.toml", &blocks(&text, "toml")[0]);
    let commands = commands(&text);
    for line in &commands {
        // What is exported names servers that do not exist here; `tests/replicas` has real ones.
        if RUN_ELSEWHERE.contains(&line.as_str()) || line.starts_with("export ") {
            continue;
        }
        let line = line.replace("cargo run --release -- ", "callingbox-mcp ");
        let words = line.strip_prefix("callingbox-mcp ").unwrap_or_else(|| panic!("{line}"));
        let words = words.replace("http://127.0.0.1:4010", &url);
        let mut words: Vec<&str> = words.split_whitespace().collect();
        let serves = words.contains(&"http") || words.contains(&"sandbox");
        if serves {
            // Tests listen on loopback only, and on a port that is free.
            match words.iter().position(|word| *word == "--listen") {
                Some(at) => words[at + 1] = "127.0.0.1:0",
                None => words.extend(["--listen", "127.0.0.1:0"]),
            }
            let mut command = home.command(&words, &environment);
            let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut output = BufReader::new(server.stdout.take().unwrap()).lines();
            let said = soon(&line, output.next_line()).await.unwrap();
            assert!(said.is_some_and(|said| said.starts_with("listening on ")), "{line}");
            continue;
        }
        if words.contains(&"demo") {
            words.extend(["--sandbox-speed", "500"]);
        }
        let output = home.run(&words, &environment).await;
        let said = [output.stdout, output.stderr].concat();
        // A new account lacks a number and an agent; that is a warning and no failure. Nobody answers
        // what is asked.
        let code = if words[0] == "setup" { 1 } else { 0 };
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(code == 0 || said.contains("To go on: "), "{line}: {said}");
    }
    assert!(commands.len() >= 50, "{} commands were found", commands.len());
    sandbox.shutdown().await.unwrap();
}

/// What differs between two runs of the demo, made the same: ids, markers, and what the person on the
/// telephone happens to answer.
fn masked(line: &str) -> String {
    let rules = [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r"please note: .*", "NOTE"),
        (r#""confirmed":(true|false)"#, "CONFIRMED"),
        (r#""new_time":"[^"]*""#, "TIME"),
        (r#""party_size":[0-9]+"#, "SIZE"),
    ];
    rules.iter().fold(line.to_owned(), |line, (pattern, name)| {
        regex_lite::Regex::new(pattern).unwrap().replace_all(&line, *name).into_owned()
    })
}

#[tokio::test]
async fn the_recording_is_what_the_demo_prints() {
    let text = readme();
    let (_, rest) = text.split_once("<!-- demo: ").expect("the marker before the recording");
    let shown = blocks(rest.split_once("<!-- /demo -->").unwrap().0, "text").remove(0);
    let printed = Home::new().print(&["demo", "--sandbox-speed", "500"]).await;
    // Which of the states are seen, and when, is a matter of time, which runs fast here.
    let is_state = |line: &&str| line.starts_with("  The call is ");
    let states: Vec<&str> = shown.lines().filter(is_state).collect();
    let known = ["queued", "initiated", "ringing", "in_progress"];
    assert_eq!(states, known.map(|state| format!("  The call is {state}.")));
    assert!(printed.lines().any(|line| states.contains(&line)), "{printed}");
    let mut printed = printed.lines().filter(|line| !is_state(line)).map(masked);
    let mut may_skip = false;
    let mut compared = 0;
    for line in shown.lines().filter(|line| !is_state(line)) {
        if line.trim() == "…" {
            may_skip = true;
            continue;
        }
        let (wanted, whole) = match line.strip_suffix('…') {
            Some(beginning) => (masked(beginning), false),
            None => (masked(line), true),
        };
        let fits = |line: &String| if whole { *line == wanted } else { line.starts_with(&wanted) };
        let found = if may_skip { printed.find(fits) } else { printed.next().filter(fits) };
        assert!(found.is_some(), "the demo does not print this there: {line}");
        may_skip = false;
        compared += 1;
    }
    assert_eq!(printed.next(), None, "the demo prints more at its end");
    assert!(compared >= 20, "{compared} lines were compared");
}

#[test]
fn the_registry_finds_its_name() {
    let name = format!("\nmcp-name: {}\n", registered_name());
    assert!(readme().contains(&name), "{name}");
}

fn registered_name() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/server.json");
    let server: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    server["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_configuration_and_the_scenario_file_are_read() {
    let blocks = blocks(&readme(), "toml");
    let [scenarios, .., file] = blocks.as_slice() else {
        panic!("a scenario file, the calling rules, a configuration")
    };
    let file = config::parse_config(file).unwrap();
    assert_eq!(
        file.wait,
        callingbox_mcp::watch::WaitLimits::default(),
        "the README shows the defaults"
    );
    let home = Home::new();
    home.write("mine.toml", scenarios);
    let options =
        Options { scenario_files: vec![home.path().join("mine.toml")], ..Options::default() };
    simulator(options).await.shutdown().await.unwrap();
}

#[test]
fn documents_name_only_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        for code in text.split('`').skip(1).step_by(2) {
            let folders =
                ["src/", "tests/", "tools/", "packaging/", "skills/", "docs/", "benches/", ".ci/"];
            let ours = !code.contains(' ') && folders.iter().any(|folder| code.starts_with(folder));
            assert!(!ours || root.join(code).exists(), "{name}: {code}");
        }
    }
}
