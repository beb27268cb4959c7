//! The completions for bash, in a bash that completes.

use std::process::Command;

use crate::harness::Home;

/// What bash offers for a line whose last word is being typed.
fn complete(script: &str, words: &[&str]) -> Vec<String> {
    let previous = words[words.len() - 2];
    let program = format!(
        "source <(printf '%s' \"$SCRIPT\")\nCOMP_WORDS=({})\nCOMP_CWORD={}\n\
         function=$(complete -p callingbox-mcp | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
         \"$function\" callingbox-mcp {:?} {:?}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
        words.last().unwrap(),
        previous,
    );
    let output =
        Command::new("bash").args(["-c", &program]).env("SCRIPT", script).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && error.is_empty(), "{words:?}: {error}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_every_word_of_a_line() {
    let script = Home::new().print(&["completions", "bash"]).await;
    for (words, expected) in [
        (&["callingbox-mcp", "inst"][..], &["install"][..]),
        (&["callingbox-mcp", "install", "claude-"], &["claude-desktop", "claude-code"]),
        (&["callingbox-mcp", "install", "--sc"], &["--scope"]),
        (&["callingbox-mcp", "install", "--scope", ""], &["user", "project"]),
        (&["callingbox-mcp", "token", "re"], &["revoke"]),
        (&["callingbox-mcp", "token", "create", "--exp"], &["--expires"]),
        (&["callingbox-mcp", "policy", "check", "--ag"], &["--agent"]),
        (&["callingbox-mcp", "http", "--auth", "t"], &["token"]),
        (&["callingbox-mcp", "completions", "b"], &["bash"]),
    ] {
        assert_eq!(complete(&script, words), expected, "{words:?}");
    }
}
