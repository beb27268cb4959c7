//! Every line of every shell block is a command that can be copied, and the commands of this program are run on a
//! simulator in the order in which a reader copies them.

use std::process::Stdio;

use callingbox_mcp::cli::{Cli, Command};
use callingbox_sandbox::Options;
use clap::Parser;
use clap::error::ErrorKind;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Page;
use crate::harness::{Home, simulator, within_limit};

/// What other programs run: cargo and scripts (by CI), and what changes the machine of a reader.
const OTHER_PROGRAMS: [&str; 20] = [
    "CALLINGBOX_BASE_URL=",
    "UPDATE_DOCS=",
    "INSTA_UPDATE=",
    "SOAK_CALLS=",
    "cargo ",
    "curl ",
    "docker ",
    "export ",
    "fuzz/",
    "gh ",
    "just",
    "npm ",
    "npx ",
    "packaging/",
    "pipx ",
    "python3 ",
    "scripts/",
    "tests/",
    "uv ",
    "uvx ",
];

/// What a reader of a page does, from top to bottom.
enum Step {
    /// Saves a block whose first line names its file.
    Save { name: String, text: String },
    /// Copies a line into a shell.
    Run(String),
}

/// The steps of the blocks, then the commands in the prose, each once.
fn steps(page: &Page) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for (language, text) in page.blocks() {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# "));
        match (language, name) {
            ("toml", Some(name)) if name.ends_with(".toml") => {
                steps.push(Step::Save { name: name.to_owned(), text: text.to_owned() });
            }
            ("sh", _) => lines.extend(text.lines().map(str::to_owned)),
            _ => {}
        }
        steps.extend(lines.drain(..).map(Step::Run));
    }
    let inline = page.inline_code().into_iter().filter(|code| code.starts_with("callingbox-mcp "));
    steps.extend(inline.map(Step::Run));
    let mut seen = std::collections::HashSet::new();
    steps.retain(|step| matches!(step, Step::Save { .. }) || seen.insert(step.line().to_owned()));
    steps
}

impl Step {
    fn line(&self) -> &str {
        match self {
            Self::Save { .. } => "",
            Self::Run(line) => line,
        }
    }
}

/// The words of a line of shell, without the quotation marks around them.
fn split_words(line: &str) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), line.trim_start());
    while !rest.is_empty() {
        let quoted =
            ['"', '\''].into_iter().find_map(|mark| rest.strip_prefix(mark)?.split_once(mark));
        let (word, after) =
            quoted.or_else(|| rest.split_once(char::is_whitespace)).unwrap_or((rest, ""));
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// The arguments of this program in a line of shell; none for other programs.
pub(super) fn arguments(line: &str) -> Option<Vec<&str>> {
    let line = line.strip_prefix("cargo run -- ").unwrap_or(line);
    let words = split_words(line);
    let is_ours = |word: &str| matches!(word, "callingbox-mcp" | "/usr/local/bin/callingbox-mcp");
    let name = words.iter().position(|word| is_ours(word))?;
    let before = &words[..name];
    // To docker and systemctl the name means an image or a unit.
    let runs = before.iter().all(|word| word.contains('=')) || before.contains(&"systemd-run");
    runs.then(|| words[name + 1..].to_vec())
}

#[test]
fn every_command_can_be_typed() {
    let mut typed = 0;
    for page in Page::all() {
        for step in steps(&page) {
            let line = step.line();
            let Some(arguments) = arguments(line) else {
                let known = OTHER_PROGRAMS.iter().chain(&[".ci/", "sudo ", "git "]);
                let is_known = known.into_iter().any(|program| line.starts_with(program));
                assert!(is_known || line.is_empty(), "{}: unknown program: {line}", page.path);
                continue;
            };
            typed += 1;
            match Cli::try_parse_from(["callingbox-mcp"].iter().chain(&arguments)) {
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                    ) => {}
                Err(error) => panic!("{}: {line}: {error}", page.path),
            }
        }
    }
    assert!(typed > 70, "{typed} commands were found");
}

#[cfg(unix)]
#[test]
fn every_line_is_a_whole_command() {
    for page in Page::all() {
        for line in page.blocks_in("sh").into_iter().flat_map(str::lines) {
            let context = format!("{}: {line}", page.path);
            // An interactive zsh takes a comment for words, and a prompt is no part of a command.
            assert!(!line.contains('#') && !line.starts_with(['$', '>']), "{context}");
            assert!(!line.ends_with('\\') && !line.contains("<<"), "{context}");
            let checked = std::process::Command::new("bash").args(["-n", "-c", line]).output();
            assert!(checked.unwrap().stderr.is_empty(), "{context}");
        }
    }
}

#[tokio::test]
async fn every_command_runs_on_a_simulator_in_the_order_of_its_page() {
    let sandbox = simulator(Options::default()).await;
    let url = sandbox.url();
    let (mut run, mut served) = (0, 0);
    for page in Page::all() {
        let home = Home::new();
        for step in steps(&page) {
            let line = match step {
                Step::Save { name, text } => {
                    home.write(&name, &text);
                    continue;
                }
                Step::Run(line) => line,
            };
            let context = format!("{}: {line}", page.path);
            let Some(arguments) = arguments(&line) else { continue };
            if runs_elsewhere(&line, &arguments) {
                continue;
            }
            let arguments: Vec<String> =
                arguments.iter().map(|word| word.replace("http://127.0.0.1:4010", &url)).collect();
            let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let cli = Cli::try_parse_from(["callingbox-mcp"].iter().chain(&arguments));
            match cli.map(|cli| cli.command) {
                Ok(Some(Command::Http(_) | Command::Sandbox(_))) => {
                    serves(&home, &context, arguments, &url).await;
                    served += 1;
                    continue;
                }
                Ok(Some(Command::Demo)) => arguments.extend(["--sandbox-speed", "500"]),
                _ => {}
            }
            ends(&home, &context, &arguments, &url).await;
            run += 1;
        }
    }
    assert!(run > 60 && served > 8, "{run} commands were run, {served} served");
    sandbox.shutdown().await.unwrap();
}

/// Commands that need what this test does not have: people to call (`many_calls`), a Redis (`tests/replicas`), an issuer (`tests/it/http`), a public
/// address, the service's own user (`packaging/check.sh`), a running server, an answering person.
fn runs_elsewhere(line: &str, arguments: &[&str]) -> bool {
    ["sudo ", "OTEL_"].iter().any(|start| line.starts_with(start))
        || arguments.iter().any(|word| {
            ["batch", "--batch", "--oauth-issuer", "--webhook-public-url", "--state", "healthcheck"]
                .contains(word)
        })
}

async fn serves(home: &Home, line: &str, mut arguments: Vec<&str>, url: &str) {
    // Tests listen on loopback only, and on a free port.
    for flag in ["--listen", "--admin-listen"] {
        if let Some(position) = arguments.iter().position(|word| *word == flag) {
            arguments[position + 1] = "127.0.0.1:0";
        }
    }
    if !arguments.contains(&"--listen") {
        arguments.extend(["--listen", "127.0.0.1:0"]);
    }
    let mut command = home.command(&arguments, &environment(url));
    let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = within_limit(line, output.next_line()).await.unwrap();
    let listens = first.is_some_and(|first| first.contains(" on http://127.0.0.1:"));
    assert!(listens, "{line}");
}

async fn ends(home: &Home, line: &str, arguments: &[&str], url: &str) {
    let output = home.run(arguments, &environment(url)).await;
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // A new account lacks a number and an agent, and `setup` gets no answers.
    let code = if arguments[0] == "setup" { 1 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{line}: {text}");
    assert!(code == 0 || text.contains("To continue: "), "{line}: {text}");
}

fn environment(url: &str) -> [(&str, &str); 2] {
    [("CALLINGBOX_API_KEY", "sk_test_documents"), ("CALLINGBOX_BASE_URL", url)]
}
