//! On a terminal: colors and a line that moves, as far as the terminal takes them and the person wants
//! them.

use tokio::io::AsyncWriteExt;

use crate::e2e::setup::{AGENT, BUY, CALL, quick_simulator};
use crate::harness::{Home, soon};

/// To the beginning of the line, and erase it.
const ERASE: &str = "\r\u{1b}[2K";

/// Runs it at a terminal, types this, and gives what the terminal got.
async fn at_a_terminal(
    home: &Home,
    arguments: &[&str],
    environment: &[(&str, &str)],
    typed: &str,
) -> String {
    let mut process = home.on_terminal(arguments, environment).spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).await.unwrap();
    // The end of the input would be typed as well, and end the program: it stays open.
    let output = soon("the end of the command", process.wait_with_output()).await.unwrap();
    drop(input);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// What stands on the terminal at the end, without colors.
fn seen(text: &str) -> String {
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
async fn colors_and_a_moving_line_are_for_terminals_that_take_them() {
    let answers = [BUY, AGENT, CALL].concat();
    for (command, typed, says) in [
        ("demo", "", "user said: Hello?"),
        ("doctor", "", "the API answered within"),
        ("setup", answers.as_str(), "All is set up."),
    ] {
        for (environment, colored, live) in [
            (&[("TERM", "xterm")][..], true, true),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], false, true),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true, true),
            (&[("TERM", "dumb")], false, false),
        ] {
            let home = Home::new();
            let (sandbox, _) = quick_simulator().await;
            let flag = format!("--sandbox={}", sandbox.url());
            let text = at_a_terminal(&home, &[command, &flag], environment, typed).await;
            sandbox.shutdown().await.unwrap();
            let escapes = text.matches('\u{1b}').count();
            let erasures = text.matches(ERASE).count();
            assert_eq!(erasures > 0, live, "{command} {environment:?}: {text:?}");
            assert_eq!(escapes > erasures, colored, "{command} {environment:?}: {text:?}");
            let seen = seen(&text);
            assert!(seen.contains(says) && !seen.contains('\u{1b}'), "{command}: {seen}");
            for frame in ['⠹', '⢸', '⣰', '⣤', '⣆', '⡇', '⠏', '⠛'] {
                assert!(!seen.contains(frame), "nothing of the line stays: {seen}");
            }
        }
    }
}

#[tokio::test]
async fn who_types_the_command_that_clients_start_is_told_that_it_waits_for_one() {
    const HINT: &str = "callingbox-mcp --help";
    // Ctrl-D: the end of the input.
    for arguments in [&["--sandbox"][..], &["stdio", "--sandbox"]] {
        let text = at_a_terminal(&Home::new(), arguments, &[("TERM", "xterm")], "\u{4}").await;
        assert!(text.contains(HINT), "{text}");
    }
    // Clients keep what is said on standard error.
    let output = Home::new().run(&["--sandbox"], &[]).await;
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
