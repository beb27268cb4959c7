//! `batch` in the terminal: the real binary on a simulator whose clock the test moves.

mod commands;
mod list_errors;
mod run;
#[cfg(target_os = "linux")]
mod terminal;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use callingbox_sandbox::{Options, Sandbox};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::harness::{Control, Home, simulator, within_limit};

/// Six people: two answer, the others are out, busy, on voicemail and unreadable.
pub(crate) const PEOPLE: &str = "to,name,time\n\
    +13105550100,Ada Park,9:00\n\
    +13105550101,Ben Ortiz,9:30\n\
    +12125550100,\"Kim, Chloe\",10:00\n\
    +12125550102,Dan Fox,10:30\n\
    +14155550103,Eva Lind,11:00\n\
    +16175550105,Hal Singh,11:30\n";
const TASK: &str = "Confirm {name}'s appointment at {time}.";
/// One call after the other, so that each run is the same.
pub(crate) const ONE_BY_ONE: &str = "[limits]\nconcurrent = 1\n";
/// How far the simulator's clock moves at a time.
const STEP_SECONDS: u64 = 5;

/// A simulator, and a home with a list of people.
pub(crate) struct BatchFixture {
    _sandbox: Sandbox,
    pub(crate) control: Control,
    pub(crate) home: Home,
    pub(crate) flag: String,
}

impl BatchFixture {
    pub(crate) async fn new(policy: &str, config: &str) -> Self {
        let sandbox = simulator(Options::default()).await;
        let control = Control::new(&sandbox);
        let home = Home::new();
        for (name, text) in [("policy", policy), ("config", config)] {
            if !text.is_empty() {
                home.write(&format!(".config/callingbox-mcp/{name}.toml"), text);
            }
        }
        home.write("people.csv", PEOPLE);
        let flag = format!("--sandbox={}", sandbox.url());
        Self { _sandbox: sandbox, control, home, flag }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let arguments: Vec<&str> =
            ["batch"].iter().chain(arguments).copied().chain([self.flag.as_str()]).collect();
        let mut command = self.home.command(&arguments, &[("TZ", "UTC")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that calls nobody.
    pub(crate) async fn print(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output();
        let output = within_limit("the end of the command", output).await.unwrap();
        let (text, error) = texts(&output);
        assert!(output.status.success() && error.is_empty(), "{arguments:?}: {text}{error}");
        text
    }

    /// Runs a command that fails, and returns its output, its error and its exit code.
    pub(crate) async fn fail(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let output = self.command(arguments).output();
        let output = within_limit("the end of the command", output).await.unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let (text, error) = texts(&output);
        (text, error, output.status.code())
    }

    /// A command that runs the file of people.
    pub(crate) fn command_to_run(&self, arguments: &[&str]) -> Command {
        self.command(&[&["run", "people.csv"], arguments].concat())
    }

    pub(crate) fn command_to_resume(&self, id: &str) -> Command {
        self.command(&["resume", id, "--yes"])
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Starts the list of people.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        // The clock moves faster than a busy machine places calls.
        let until: &[&str] = if arguments.contains(&"--until") { &[] } else { &["--until", "6d"] };
        self.command_to_run(&[&["--task", TASK], until, arguments].concat()).spawn().unwrap()
    }

    /// Waits until the batch has started, moves the clock until the process ends, and returns its output.
    pub(crate) async fn finish(&self, mut child: Child) -> Output {
        let start = self.read_start(&mut child).await;
        self.finish_started(child, start).await
    }

    /// The same after its output was read until its start.
    pub(crate) async fn finish_started(&self, mut child: Child, mut text: Vec<u8>) -> Output {
        let moved = async {
            while child.try_wait().unwrap().is_none() {
                self.control.advance(STEP_SECONDS).await;
            }
        };
        within_limit("the end of the batch", moved).await;
        let mut output = child.wait_with_output().await.unwrap();
        text.extend(output.stdout);
        output.stdout = text;
        output
    }

    /// The output of a process until its batch has started, or all of it.
    pub(crate) async fn read_start(&self, child: &mut Child) -> Vec<u8> {
        self.read_until(child, &["Started as ", "Resumed "]).await
    }

    /// The output of a process until it has one of these texts, or all of it.
    pub(crate) async fn read_until(&self, child: &mut Child, texts: &[&str]) -> Vec<u8> {
        let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
        let output = child.stdout.as_mut().unwrap();
        let has_text = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            texts.iter().any(|part| text.contains(part))
        };
        while !has_text(&text) {
            let length = within_limit("the start", output.read(&mut buffer)).await.unwrap();
            if length == 0 {
                break;
            }
            text.extend(&buffer[..length]);
        }
        text
    }

    /// Runs the list of people to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let output = self.finish(self.start(arguments)).await;
        let (text, error) = texts(&output);
        (text, error, output.status.code())
    }

    /// The numbers that were really dialed, in order.
    pub(crate) async fn dialed(&self) -> Vec<String> {
        let calls = self.control.dialed().await;
        calls.iter().map(|call| call["to"].as_str().unwrap().to_owned()).collect()
    }

    /// The id of the newest batch.
    pub(crate) async fn newest(&self) -> String {
        let list = self.print(&["list"]).await;
        let line = list.lines().nth(1).unwrap_or_else(|| panic!("{list}"));
        line.split_whitespace().find(|word| word.starts_with("batch_")).unwrap().to_owned()
    }

    pub(crate) async fn receipts(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments = [&["receipts", "--json", &self.flag], arguments].concat();
        let text = self.home.print(&arguments).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A text without what differs from run to run: ids and the simulator's address.
    pub(crate) fn plain(&self, text: &str) -> String {
        let plain = text.replace(self.flag.as_str(), "--sandbox=URL");
        let words = plain.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let ids: Vec<String> = words
            .filter(|word| word.starts_with("batch_") && word.len() == 18)
            .map(str::to_owned)
            .collect();
        ids.iter().fold(plain.clone(), |text, id| text.replace(id, "BATCH_ID"))
    }
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}
