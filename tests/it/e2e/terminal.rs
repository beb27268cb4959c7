//! Colors and the status line on a terminal, as far as the terminal and the user want them.

use tokio::io::AsyncWriteExt;

use crate::e2e::setup::{AGENT, BUY, CALL, fast_simulator};
use crate::harness::{Home, within_limit};

/// Moves to the beginning of the line and erases it.
const ERASE: &str = "\r\u{1b}[2K";

/// Runs a command at a terminal, types `typed`, and returns the terminal's output.
async fn run_on_terminal(
    home: &Home,
    arguments: &[&str],
    environment: &[(&str, &str)],
    typed: &str,
) -> String {
    run_on_narrow_terminal(None, home, arguments, environment, typed).await
}

/// The same at a terminal of so many columns.
async fn run_on_narrow_terminal(
    columns: Option<u16>,
    home: &Home,
    arguments: &[&str],
    environment: &[(&str, &str)],
    typed: &str,
) -> String {
    let mut process = home.on_narrow_terminal(columns, arguments, environment).spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).await.unwrap();
    // Keep the input open: its end would be typed too, and would end the program.
    let output = within_limit("the end of the command", process.wait_with_output()).await.unwrap();
    drop(input);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// The text on the terminal at the end, without colors.
fn visible_text(text: &str) -> String {
    let last = |line: &str| line.rsplit(ERASE).next().unwrap().trim_end_matches('\r').to_owned();
    let lines: Vec<String> = text.split('\n').map(last).collect();
    let mut plain = String::new();
    for part in lines.join("\n").split_inclusive("\u{1b}[") {
        let part = match plain.ends_with("\u{1b}[") {
            true => {
                plain.truncate(plain.len() - 2);
                part.split_once('m').expect("a color").1
            }
            false => part,
        };
        plain.push_str(part);
    }
    plain
}

#[tokio::test]
async fn colors_and_the_status_line_appear_only_on_capable_terminals() {
    let answers = [BUY, AGENT, CALL].concat();
    for (command, typed, says) in [
        ("demo", "", "callee: Hello?"),
        ("doctor", "", "the API responded within"),
        ("setup", answers.as_str(), "The setup is complete."),
    ] {
        for (environment, colored, live) in [
            (&[("TERM", "xterm")][..], true, true),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], false, true),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true, true),
            (&[("TERM", "dumb")], false, false),
        ] {
            let home = Home::new();
            let (sandbox, _) = fast_simulator().await;
            let flag = format!("--sandbox={}", sandbox.url());
            let text = run_on_terminal(&home, &[command, &flag], environment, typed).await;
            sandbox.shutdown().await.unwrap();
            let escapes = text.matches('\u{1b}').count();
            let erasures = text.matches(ERASE).count();
            assert_eq!(erasures > 0, live, "{command} {environment:?}: {text:?}");
            assert_eq!(escapes > erasures, colored, "{command} {environment:?}: {text:?}");
            let visible = visible_text(&text);
            assert!(visible.contains(says) && !visible.contains('\u{1b}'), "{command}: {visible}");
            for frame in ['⠹', '⢸', '⣰', '⣤', '⣆', '⡇', '⠏', '⠛'] {
                assert!(!visible.contains(frame), "the status line remains: {visible}");
            }
        }
    }
}

#[tokio::test]
async fn lines_wrap_at_the_width_of_the_terminal_with_a_hanging_indentation() {
    let answers = [BUY, AGENT, CALL].concat();
    let home = Home::new();
    home.write(".gemini/settings.json", "{}");
    for (arguments, typed, wrapped) in [
        (&["demo"][..], "", "\n    "),
        (&["doctor"], "", "\n                 "),
        (&["setup"], answers.as_str(), "\n  "),
        (&["install", "gemini", "--print"], "", "\n  "),
    ] {
        let (sandbox, _) = fast_simulator().await;
        let flag = format!("--sandbox={}", sandbox.url());
        let live = arguments[0] == "install";
        let arguments: Vec<&str> = match live {
            true => arguments.to_vec(),
            false => arguments.iter().copied().chain([flag.as_str()]).collect(),
        };
        let environment = [("TERM", "xterm"), ("CALLINGBOX_BASE_URL", "https://staging.example")];
        let text = run_on_narrow_terminal(Some(60), &home, &arguments, &environment, typed).await;
        sandbox.shutdown().await.unwrap();
        let visible = visible_text(&text);
        // Data and paths cannot be broken. The answers were typed at the beginning, so that a question is followed by the
        // next line without a line break.
        let is_wrapped = |line: &&str| {
            let is_question = arguments[0] == "setup" && !line.starts_with("  agent: ");
            !is_question && !line.contains(['{', '/', '"'])
        };
        let long = visible.lines().filter(is_wrapped).filter(|line| line.chars().count() > 60);
        assert_eq!(long.collect::<Vec<_>>(), [""; 0]);
        assert!(visible.contains(wrapped), "{arguments:?}: {visible}");
    }
}

#[tokio::test]
async fn agent_and_callee_have_different_colors() {
    let answers = [BUY, AGENT, CALL].concat();
    for (command, typed) in [("demo", ""), ("setup", answers.as_str())] {
        let (sandbox, _) = fast_simulator().await;
        let flag = format!("--sandbox={}", sandbox.url());
        let arguments = [command, &flag];
        let text = run_on_terminal(&Home::new(), &arguments, &[("TERM", "xterm")], typed).await;
        assert!(text.contains("\u{1b}[36magent: "), "{text:?}");
        assert!(text.contains("\u{1b}[33mcallee: "), "{text:?}");
        sandbox.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_user_who_types_the_stdio_command_gets_a_hint() {
    const HINT: &str = "callingbox-mcp --help";
    // Ctrl-D: the end of the input.
    for arguments in [&["--sandbox"][..], &["stdio", "--sandbox"]] {
        let text = run_on_terminal(&Home::new(), arguments, &[("TERM", "xterm")], "\u{4}").await;
        assert!(text.contains(HINT), "{text}");
    }
    // Clients store standard error, so it has no hint for them.
    let output = Home::new().run(&["--sandbox"], &[]).await;
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
