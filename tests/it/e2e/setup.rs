//! `setup`, answered through a pipe: a complete run, a no to each question that costs money, and an early end. What was
//! bought and dialed is read from the simulator, not from the program.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Output, Stdio};

use callingbox_sandbox::{ClockMode, Options, Sandbox};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Control, Home, within_limit};

/// Answers for the purchase, the agent, and the call.
pub(crate) const BUY: &str = "415\n\nyes\n";
pub(crate) const AGENT: &str = "Ask whether the line is clear.\nTester\n";
pub(crate) const CALL: &str = "+1 (310) 555-0100\nyes\n";

/// A simulator with a fast clock.
pub(crate) async fn fast_simulator() -> (Sandbox, Control) {
    let options = Options { clock: ClockMode::Speed(2_000.0), ..Options::default() };
    let sandbox =
        Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await.unwrap();
    let control = Control::new(&sandbox);
    (sandbox, control)
}

async fn run_with_answers(
    home: &Home,
    arguments: &[&str],
    environment: &[(&str, &str)],
    answers: &str,
) -> Output {
    let mut process = home
        .command(arguments, environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    // A run that ends early does not read all answers.
    let _ = input.write_all(answers.as_bytes()).await;
    drop(input);
    within_limit("the end of setup", process.wait_with_output()).await.unwrap()
}

/// Runs `setup` on a simulator until it succeeds, and returns its output.
async fn complete_setup(home: &Home, sandbox: &Sandbox, answers: &str) -> String {
    let flag = format!("--sandbox={}", sandbox.url());
    let output = run_with_answers(home, &["setup", &flag], &[], answers).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.is_empty(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `setup` on a simulator until it stops early, and returns its output and its error.
async fn stop_setup(home: &Home, sandbox: &Sandbox, answers: &str) -> (String, String) {
    let flag = format!("--sandbox={}", sandbox.url());
    let output = run_with_answers(home, &["setup", &flag], &[], answers).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    (String::from_utf8(output.stdout).unwrap(), error)
}

fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[tokio::test]
async fn a_complete_run_buys_one_number_makes_one_agent_and_places_one_call() {
    let (sandbox, control) = fast_simulator().await;
    control.request("POST", "/sandbox/clock", Some(json!({"speed": 200}))).await;
    let home = Home::new();
    let text = complete_setup(&home, &sandbox, &[BUY, AGENT, CALL].concat()).await;
    assert_contains(
        &text,
        &[
            "simulated: no telephone rings, nothing is charged",
            "OK   Key: not needed on the simulator\n",
            "Buy +1415",
            "for $1.00 now and $1.00 per month after that? ",
            "OK   Number: +1415",
            "OK   Agent: Tester (",
            "Simulate a call to +13105550100 now? ",
            "$3.00 of credit are held until it ends.",
            "  agent: ",
            "\ncompleted, ",
            "\"heard_well\":",
            &format!("callingbox-mcp install --sandbox={} lists", sandbox.url()),
        ],
    );
    let dialed = control.dialed().await;
    assert_eq!(dialed.len(), 1);
    assert_eq!(dialed[0]["to"], "+13105550100");
    assert_eq!(control.count("POST", "/v1/numbers/purchase").await, 1);

    // A second run asks nothing about number and agent, and does not place the call again. It is soon after the first by
    // the simulator's clock.
    control.request("POST", "/sandbox/clock", Some(json!({"manual": true}))).await;
    let text = complete_setup(&home, &sandbox, "+13105550100\n").await;
    assert_contains(&text, &["OK   Agent: Tester (", "nothing rings now", "\ncompleted, "]);
    assert!(!text.contains("Type yes"), "{text}");
    assert_eq!(control.dialed().await.len(), 1);
    assert_eq!(control.count("POST", "/v1/agents").await, 1);
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_last_line_says_what_to_do_after_each_outcome() {
    for (to, outcome, next) in [
        (
            "+13105550101",
            "no_answer",
            "did not reach a person. To call again, run callingbox-mcp setup",
        ),
        ("+13105550102", "busy", "after 10 minutes: a call that is repeated sooner is not placed"),
        ("+13105550103", "voicemail", "lists the AI clients found here"),
        ("+13105550104", "failed", "but the call failed. callingbox-mcp doctor"),
    ] {
        let (sandbox, _) = fast_simulator().await;
        let home = Home::new();
        let answers = format!("{BUY}{AGENT}{to}\nyes\n");
        let text = complete_setup(&home, &sandbox, &answers).await;
        assert_contains(&text, &[&format!("\n{outcome}"), next]);
        sandbox.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_but_yes_buys_or_dials() {
    for no in ["no", "y", "", "yes please"] {
        let (sandbox, control) = fast_simulator().await;
        let home = Home::new();
        let (text, error) = stop_setup(&home, &sandbox, &format!("415\n1\n{no}\n")).await;
        assert_contains(&text, &["Buy +1415"]);
        assert_contains(&error, &["You did not type yes.", "To continue: callingbox-mcp setup"]);
        assert_eq!(control.count("POST", "/v1/numbers/purchase").await, 0, "{no:?}");

        let answers = format!("{BUY}{AGENT}+13105550100\n{no}\n");
        let (text, error) = stop_setup(&home, &sandbox, &answers).await;
        assert_contains(&text, &["Simulate a call"]);
        assert_contains(&error, &["You did not type yes."]);
        assert_eq!(control.dialed().await, Vec::<serde_json::Value>::new(), "{no:?}");
        assert_eq!(control.count("POST", "/v1/calls").await, 0, "{no:?}");
        sandbox.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn it_continues_where_the_answers_ended() {
    let (sandbox, control) = fast_simulator().await;
    let home = Home::new();
    let url = sandbox.url();
    for (answers, asks) in [
        ("", "Area code"),
        (BUY, "What should the agent do on the call?"),
        (AGENT, "The number to call"),
        ("+13105550100\n", "Simulate a call"),
    ] {
        let (text, error) = stop_setup(&home, &sandbox, answers).await;
        assert_contains(&text, &[asks]);
        let expected = format!(
            "callingbox-mcp: The input ended. Finished steps are kept. To continue: callingbox-mcp setup \
             --sandbox={url}\n"
        );
        assert_eq!(error, expected);
    }
    let text = complete_setup(&home, &sandbox, CALL).await;
    assert_contains(&text, &["OK   Number: +1415", "OK   Agent: Tester (", "\ncompleted, "]);
    let counts = (
        control.count("POST", "/v1/numbers/purchase").await,
        control.count("POST", "/v1/agents").await,
        control.dialed().await.len(),
    );
    assert_eq!(counts, (1, 1, 1));
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_invalid_answer_is_asked_for_again_three_times() {
    let (sandbox, control) = fast_simulator().await;
    let home = Home::new();
    let answers = format!("41\nabc\n{BUY}{AGENT}me\n5550100\nnine\n");
    let (text, error) = stop_setup(&home, &sandbox, &answers).await;
    assert_contains(
        &text,
        &["An area code has three digits.", "The number is not valid: not an E.164 number"],
    );
    assert!(!text.contains("Emergency numbers"), "{text}");
    assert_contains(&error, &["No valid answer was given."]);
    assert_eq!(control.dialed().await.len(), 0);
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_emergency_number_gets_the_answer_for_emergencies() {
    let (sandbox, control) = fast_simulator().await;
    let home = Home::new();
    let answers = format!("{BUY}{AGENT}911\n+1911\n1 1 2\n");
    let (text, error) = stop_setup(&home, &sandbox, &answers).await;
    let answer = "In an emergency, dial the number on a telephone yourself.";
    assert_eq!(text.matches(answer).count(), 3, "{text}");
    assert!(!text.contains("The number is not valid"), "{text}");
    assert_contains(&error, &["No valid answer was given."]);
    assert_eq!(control.count("POST", "/v1/calls").await, 0);
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_calling_rules_and_the_recovery_of_lost_answers_apply_to_setup() {
    let (sandbox, control) = fast_simulator().await;
    let home = Home::new();
    home.write(".config/callingbox-mcp/policy.toml", "default = \"refuse\"\n");
    let flag = format!("--sandbox={}", sandbox.url());
    let answers = [BUY, AGENT, CALL].concat();
    let output = run_with_answers(&home, &["setup", &flag], &[], &answers).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("default"), "{error}");
    assert_eq!(control.count("POST", "/v1/calls").await, 0);

    // The call is placed but the response is lost: the call is found, and rings once.
    home.write(".config/callingbox-mcp/policy.toml", "");
    control
        .fault(json!({"path": "/v1/calls", "method": "POST", "kind": "reset", "when": "after", "times": 1}))
        .await;
    let output = run_with_answers(&home, &["setup", &flag], &[], CALL).await;
    assert_contains(&String::from_utf8(output.stdout).unwrap(), &["\ncompleted, "]);
    assert_eq!((control.dialed().await.len(), control.count("POST", "/v1/calls").await), (1, 1));
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn with_a_key_it_uses_the_live_api_and_never_shows_the_key() {
    let (sandbox, _) = fast_simulator().await;
    let home = Home::new();
    let url = sandbox.url();
    let environment = [
        ("CALLINGBOX_BASE_URL", url.as_str()),
        ("CALLINGBOX_API_KEY", "sk_live_5ecret"),
        ("CALLINGBOX_MCP_LOG", "trace"),
    ];
    let answers = [BUY, AGENT, CALL].concat();
    let output = run_with_answers(&home, &["setup"], &environment, &answers).await;
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && !text.contains("5ecret"), "{text}");
    assert_contains(
        &text,
        &[
            "Nothing is bought and no call is placed before you type yes.",
            "Key: from CALLINGBOX_API_KEY, accepted",
            "The agent is told: At the beginning of the call, say that you are an AI assistant. ",
            "Call +13105550100 now? Local time there: ",
            "\ncompleted, ",
        ],
    );
    let written =
        std::fs::read_to_string(home.path().join(".config/callingbox-mcp/config.toml")).unwrap();
    let file = callingbox_mcp::config::parse_config(&written).unwrap();
    assert_eq!(file.dialing.disclosure, callingbox_mcp::dialing::disclosure::DisclosureMode::Add);
    // A file that exists is not changed.
    home.write(".config/callingbox-mcp/config.toml", "[dialing]\ndisclosure = \"off\"\n");
    run_with_answers(&home, &["setup"], &environment, CALL).await;
    let kept =
        std::fs::read_to_string(home.path().join(".config/callingbox-mcp/config.toml")).unwrap();
    assert_eq!(kept, "[dialing]\ndisclosure = \"off\"\n");
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_a_valid_key_it_explains_how_to_set_one() {
    let (sandbox, _) = fast_simulator().await;
    let home = Home::new();
    let url = sandbox.url();
    let here = ("CALLINGBOX_BASE_URL", url.as_str());
    for (environment, says) in [
        (&[here][..], "typed at a terminal only. Set CALLINGBOX_API_KEY"),
        (&[here, ("CALLINGBOX_API_KEY", "wr0ng")], "callingbox-mcp doctor shows more"),
        (&[here, ("CALLINGBOX_API_KEY", "sk_a"), ("CALLINGBOX_MCP_READ_ONLY", "1")], "read-only"),
    ] {
        let output = run_with_answers(&home, &["setup"], environment, "sk_piped_5ecret\n").await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(says), "{error}");
        assert!(!error.contains("wr0ng") && !error.contains("5ecret"), "{error}");
    }
    assert!(!home.path().join(".config/callingbox-mcp/api-key").exists());
    sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn it_works_on_an_embedded_simulator() {
    let home = Home::new();
    let answers = [BUY, AGENT, CALL].concat();
    let arguments = ["setup", "--sandbox", "--sandbox-speed", "1000"];
    let output = run_with_answers(&home, &arguments, &[], &answers).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_contains(&text, &["\ncompleted, "]);
    let output = run_with_answers(&home, &arguments, &[], BUY).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_contains(&error, &["callingbox-mcp setup --sandbox\n", "has now lost its data"]);
}

/// A command at a terminal, which `script` (util-linux) provides.
#[cfg(target_os = "linux")]
struct Terminal {
    process: tokio::process::Child,
    input: tokio::process::ChildStdin,
    output: tokio::process::ChildStdout,
    shown: String,
}

#[cfg(target_os = "linux")]
impl Terminal {
    fn start(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut process = home.on_terminal(arguments, environment).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = process.stdout.take().unwrap();
        Self { process, input, output, shown: String::new() }
    }

    /// Waits for this text, and returns what came before it.
    async fn until(&mut self, what: &str) -> String {
        loop {
            if let Some(position) = self.shown.find(what) {
                let before: String = self.shown.drain(..position).collect();
                self.shown.drain(..what.len());
                return before;
            }
            let mut bytes = [0; 4096];
            let read = within_limit(what, self.output.read(&mut bytes)).await.unwrap();
            assert!(read > 0, "{what}: {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    async fn type_text(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).await.unwrap();
    }

    /// Types Ctrl-C, and returns the exit code.
    async fn interrupt(mut self) -> Option<i32> {
        self.type_text("\u{3}").await;
        self.until("Interrupted. Finished steps are kept.").await;
        within_limit("its end", self.process.wait()).await.unwrap().code()
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_key_typed_at_a_terminal_is_checked_and_stored_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let (sandbox, _) = fast_simulator().await;
    let home = Home::new();
    let url = sandbox.url();
    let here = ("CALLINGBOX_BASE_URL", url.as_str());
    let mut terminal = Terminal::start(&home, &["setup"], &[here]);
    terminal.until("(it is not shown): ").await;
    terminal.type_text("wr0ng\n").await;
    terminal.until("CallingBox does not accept this key").await;
    terminal.until("(it is not shown): ").await;
    terminal.type_text("sk_live_typed\n").await;
    terminal.until("and stored in").await;
    terminal.until("Area code").await;
    assert_eq!(terminal.interrupt().await, Some(130));

    let path = home.path().join(".config/callingbox-mcp/api-key");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "sk_live_typed\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let found = home.run(&["config"], &[here]).await;
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("callingbox-mcp/api-key\""), "{found}");
    sandbox.shutdown().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_key_that_is_refused_is_asked_for_again() {
    let (sandbox, _) = fast_simulator().await;
    let url = sandbox.url();
    let stored = ".config/callingbox-mcp/api-key";
    for (variable, files, note) in [
        (Some(("CALLINGBOX_API_KEY", "wr0ng")), vec![], Some("CALLINGBOX_API_KEY still leads")),
        (
            Some(("CALLINGBOX_API_KEY_FILE", "mounted")),
            vec![("mounted", "wr0ng")],
            Some("CALLINGBOX_API_KEY_FILE still leads"),
        ),
        (None, vec![(stored, "wr0ng")], None),
        (None, vec![(".config/callingbox/config.toml", "[default]\napi_key = \"wr0ng\"")], None),
    ] {
        let home = Home::new();
        for (name, text) in files {
            home.write(name, text);
        }
        let mut environment = vec![("CALLINGBOX_BASE_URL", url.as_str())];
        environment.extend(variable);
        let mut terminal = Terminal::start(&home, &["setup"], &environment);
        terminal.until("CallingBox does not accept the key").await;
        terminal.until("(it is not shown): ").await;
        terminal.type_text("sk_live_typed\n").await;
        terminal.until("and stored in").await;
        // The new key is used at once, whatever is set.
        let between = terminal.until("Area code").await;
        match note {
            Some(note) => assert!(between.contains(note), "{between}"),
            None => assert!(!between.contains("still leads"), "{between}"),
        }
        assert_eq!(terminal.interrupt().await, Some(130));
        let text = std::fs::read_to_string(home.path().join(stored)).unwrap();
        assert_eq!(text, "sk_live_typed\n");
    }
    sandbox.shutdown().await.unwrap();
}
