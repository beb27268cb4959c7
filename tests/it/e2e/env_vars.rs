//! Environment variables: an empty one counts as unset, and one that is not UTF-8 is refused with its name.

use std::collections::BTreeSet;
use std::process::Stdio;

use callingbox_mcp::cli::Cli;
use clap::CommandFactory;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{Era, Home, Session, within_limit};

/// The variables that are read outside the command line's parser.
const OTHER_VARIABLES: [&str; 6] = [
    "CALLINGBOX_API_KEY",
    "CALLINGBOX_API_KEY_FILE",
    "CALLINGBOX_BASE_URL",
    "CALLINGBOX_MCP_SANDBOX",
    "CALLINGBOX_WEBHOOK_SECRET",
    "CALLINGBOX_WEBHOOK_SECRET_FILE",
];

/// Every variable of the program.
fn variables() -> BTreeSet<String> {
    fn walk(command: &clap::Command, found: &mut BTreeSet<String>) {
        let named = command.get_arguments().filter_map(clap::Arg::get_env);
        found.extend(named.map(|name| name.to_str().unwrap().to_owned()));
        command.get_subcommands().for_each(|inner| walk(inner, found));
    }
    let mut found = BTreeSet::from(OTHER_VARIABLES.map(str::to_owned));
    walk(&Cli::command(), &mut found);
    found
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let variables = variables();
    assert!(variables.len() > 15, "{variables:?}");
    for empty in ["", " "] {
        let environment: Vec<(&str, &str)> =
            variables.iter().map(|name| (name.as_str(), empty)).collect();
        let home = Home::new();
        let with_nothing = home.print(&["config"]).await;
        for arguments in [&["config"][..], &["token", "list"], &["doctor", "--sandbox"]] {
            let output = home.run(arguments, &environment).await;
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success() && error.is_empty(), "{arguments:?}: {error}");
            if arguments == ["config"] {
                assert_eq!(String::from_utf8(output.stdout).unwrap(), with_nothing);
            }
        }
        let arguments = ["http", "--sandbox", "--listen", "127.0.0.1:0"];
        let mut server =
            home.command(&arguments, &environment).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = within_limit("its address", lines.next_line()).await.unwrap();
        assert!(line.is_some_and(|line| line.starts_with("listening on ")), "it serves");
    }
    // An empty value on the command line is an error.
    let text = Home::new().run_failing(&["--tools", ""]).await;
    assert!(text.contains("there is no tool ``"), "{text}");
}

#[tokio::test]
async fn requests_to_the_simulator_use_no_proxy() {
    // Nothing listens there.
    let nowhere = "http://127.0.0.1:9";
    let environment = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"]
        .map(|name| (name, nowhere));
    let mut session = Session::with(Era::Modern, &["--sandbox"], &environment).await;
    let numbers = session.data("list_numbers", json!({})).await;
    assert_eq!(numbers["numbers"], json!([]));
    session.finish_well().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_variable_that_is_not_utf8_is_refused_with_its_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let home = Home::new();
    for (arguments, name) in [
        // If this variable were ignored, calls would be live.
        (&["config"][..], "CALLINGBOX_MCP_SANDBOX"),
        (&["doctor", "--json"], "CALLINGBOX_MCP_SANDBOX"),
        (&["config"], "CALLINGBOX_API_KEY"),
        (&["config"], "CALLINGBOX_API_KEY_FILE"),
        (&["config"], "CALLINGBOX_BASE_URL"),
        (&["stdio"], "CALLINGBOX_API_KEY"),
        (&["doctor", "--json"], "CALLINGBOX_API_KEY"),
        (&["install", "gemini"], "CALLINGBOX_BASE_URL"),
        (&["http", "--sandbox", "--listen=127.0.0.1:0"], "CALLINGBOX_WEBHOOK_SECRET"),
        (&["http", "--sandbox", "--listen=127.0.0.1:0"], "CALLINGBOX_MCP_STATE"),
        (&["http", "--sandbox", "--listen=127.0.0.1:0"], "CALLINGBOX_MCP_ALLOWED_HOSTS"),
        (&["config"], "CALLINGBOX_MCP_READ_ONLY"),
        (&["config"], "CALLINGBOX_MCP_TOOLS"),
    ] {
        let mut command = home.command(arguments, &[]);
        command.env(name, OsStr::from_bytes(b"http://127.0.0.1:1/\xff")).stdin(Stdio::null());
        let output = within_limit("the end of the command", command.output()).await.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success(), "{arguments:?} {name}: {said}");
        assert!(said.contains(&format!("{name}: its value is not UTF-8")), "{name}: {said}");
    }
}
