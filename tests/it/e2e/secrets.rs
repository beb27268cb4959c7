//! Files that hold secrets, and the ledger: other users must not be able to change them, and no other file is touched.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::harness::{Home, within_limit};

fn set_mode(home: &Home, name: &str, mode: u32) {
    std::fs::set_permissions(home.path().join(name), Permissions::from_mode(mode)).unwrap();
}

fn mode(home: &Home, name: &str) -> u32 {
    std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_secret_that_others_can_change_is_warned_of_over_stdio_and_refused_over_http() {
    let home = Home::new();
    home.print(&["token", "create", "a", "--tokens", "tokens.toml"]).await;
    home.write("key", "sk_live_5ecret\n");
    home.write("webhook", "whsec_5ecret\n");
    home.write("open/key", "sk_live_5ecret\n");
    let key = ("CALLINGBOX_API_KEY_FILE", "key");
    let open_key = ("CALLINGBOX_API_KEY_FILE", "open/key");
    let webhook = ("CALLINGBOX_WEBHOOK_SECRET_FILE", "webhook");
    let tokens =
        ["http", "--sandbox", "--listen=127.0.0.1:0", "--auth=token", "--tokens=tokens.toml"];
    let plain = ["http", "--listen=127.0.0.1:0"];
    let sandbox = ["http", "--sandbox", "--listen=127.0.0.1:0"];
    for (changeable, arguments, variable) in [
        ("key", &plain[..], Some(key)),
        ("tokens.toml", &tokens, None),
        ("webhook", &sandbox, Some(webhook)),
        ("open", &plain, Some(open_key)),
    ] {
        let before = std::fs::metadata(home.path().join(changeable)).unwrap().permissions().mode();
        set_mode(&home, changeable, before | 0o002);
        let environment: Vec<_> = variable.into_iter().collect();
        let output = home.run(arguments, &environment).await;
        let error = String::from_utf8(output.stderr).unwrap();
        let expected = format!("chmod go-w {changeable}");
        assert_eq!(output.status.code(), Some(1), "{changeable}: {error}");
        assert!(error.contains(&expected) && !error.contains("5ecret"), "{error}");
        assert!(error.contains("a server over HTTP does not start: other users of"), "{error}");
        set_mode(&home, changeable, before);
    }

    set_mode(&home, "key", 0o606);
    let output = home.run(&[], &[key]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("WARN") && error.contains("chmod go-w key"), "{error}");
    let output = home.run(&["doctor"], &[key, ("CALLINGBOX_BASE_URL", "http://127.0.0.1:1")]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("key: other users of this machine can change key"), "{text}");
    // What others can only read is not refused: a container mounts secrets in this way.
    set_mode(&home, "key", 0o644);
    let output = home.run(&[], &[key]).await;
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
async fn a_ledger_path_that_names_another_file_changes_nothing() {
    let home = Home::new();
    home.write("c.toml", "[dialing]\nledger = \"notes.sqlite3\"\n");
    home.write("notes.sqlite3", "my notes");
    set_mode(&home, "notes.sqlite3", 0o644);
    let environment = [("CALLINGBOX_BASE_URL", "http://127.0.0.1:1")];
    let output = home.run(&["doctor", "--config=c.toml"], &environment).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("FAIL ledger") && text.contains("notes.sqlite3 is not a ledger"),
        "{text}"
    );
    let notes = std::fs::read_to_string(home.path().join("notes.sqlite3")).unwrap();
    assert_eq!((notes.as_str(), mode(&home, "notes.sqlite3")), ("my notes", 0o644));
    // A ledger itself is closed to others.
    std::fs::remove_file(home.path().join("notes.sqlite3")).unwrap();
    for _ in 0..2 {
        home.run(&["doctor", "--config=c.toml"], &environment).await;
        assert_eq!(mode(&home, "notes.sqlite3"), 0o600);
        set_mode(&home, "notes.sqlite3", 0o644);
    }
}

#[tokio::test]
async fn several_tokens_are_created_at_once_or_none() {
    let home = Home::new();
    let single = home.print(&["token", "create", "a"]).await;
    assert!(single.starts_with("cbmcp_") && single.lines().count() == 1, "{single}");
    let pairs = home.print(&["token", "create", "b", "c", "--only=calls"]).await;
    let names: Vec<&str> =
        pairs.lines().map(|line| line.split_once("\tcbmcp_").unwrap().0).collect();
    assert_eq!(names, ["b", "c"]);

    let mut process = home
        .command(&["token", "create", "--read-only"], &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"d\n\n e \r\n").await.unwrap();
    drop(input);
    let output = within_limit("the tokens", process.wait_with_output()).await.unwrap();
    let pairs = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> =
        pairs.lines().map(|line| line.split_once("\tcbmcp_").unwrap().0).collect();
    assert_eq!(names, ["d", "e"]);

    for (names, says) in [
        (&["f", "a"][..], "there is a token `a` already"),
        (&["f", "f"], "there is a token `f` already"),
        (&["f", "g h"], "\"g h\" is not a name for a token"),
        (&[], "name the tokens: callingbox-mcp token create NAME…"),
    ] {
        let error = home.run_failing(&[&["token", "create"], names].concat()).await;
        assert!(error.contains(says), "{error}");
    }
    let missing = home.run_failing(&["token", "revoke", "a", "--tokens", "none.toml"]).await;
    assert!(missing.contains("there are no tokens: none.toml does not exist"), "{missing}");
    let list = home.print(&["token", "list"]).await;
    let names: Vec<&str> = list.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert!(list.contains("b: ") && list.matches("read-only").count() == 2, "{list}");
}
