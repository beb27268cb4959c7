//! Files that hold secrets or rules, and the ledger: other users must not be able to change them, and no other file is touched.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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
async fn a_file_that_others_can_change_is_warned_of_over_stdio_and_refused_over_http() {
    let home = Home::new();
    home.print(&["token", "create", "a", "--tokens", "tokens.toml"]).await;
    home.write("key", "sk_live_5ecret\n");
    home.write("webhook", "whsec_5ecret\n");
    home.write("open/key", "sk_live_5ecret\n");
    home.write("rules.toml", "default = \"refuse\"\n");
    home.write("c.toml", "policy_file = \"rules.toml\"\n");
    let key = ("CALLINGBOX_API_KEY_FILE", "key");
    let open_key = ("CALLINGBOX_API_KEY_FILE", "open/key");
    let webhook = ("CALLINGBOX_WEBHOOK_SECRET_FILE", "webhook");
    let tokens =
        ["http", "--sandbox", "--listen=127.0.0.1:0", "--auth=token", "--tokens=tokens.toml"];
    let plain = ["http", "--listen=127.0.0.1:0"];
    let sandbox = ["http", "--sandbox", "--listen=127.0.0.1:0"];
    let configured = ["http", "--listen=127.0.0.1:0", "--config=c.toml"];
    for (changeable, arguments, variable) in [
        ("key", &plain[..], Some(key)),
        ("tokens.toml", &tokens, None),
        ("webhook", &sandbox, Some(webhook)),
        ("open", &plain, Some(open_key)),
        ("c.toml", &configured, None),
        ("rules.toml", &configured, None),
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
    set_mode(&home, "key", 0o600);
    for name in ["c.toml", "rules.toml"] {
        set_mode(&home, name, 0o646);
        let output = home.run(&["--config=c.toml"], &[key]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("WARN") && error.contains(&format!("chmod go-w {name}")), "{error}");
        let environment = [key, ("CALLINGBOX_BASE_URL", "http://127.0.0.1:1")];
        let output = home.run(&["doctor", "--config=c.toml"], &environment).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("other users of this machine can change {name}")), "{text}");
        set_mode(&home, name, 0o644);
    }
    // What others can only read is not refused: a container mounts secrets in this way.
    set_mode(&home, "key", 0o644);
    let output = home.run(&[], &[key]).await;
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// The text in UTF-16 with its mark, as `>` of Windows PowerShell writes it.
fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

#[tokio::test]
async fn files_that_windows_tools_write_are_read() {
    let home = Home::new();
    let write = |name: &str, text: &str| {
        std::fs::write(home.path().join(name), utf16(text)).unwrap();
        set_mode(&home, name, 0o600);
    };
    write("key", "sk_live_5ecret\r\n");
    write("c.toml", "policy_file = \"rules.toml\"\r\n");
    write("rules.toml", "default = \"refuse\"\r\n");
    let key = ("CALLINGBOX_API_KEY_FILE", "key");
    let environment = [key, ("CALLINGBOX_BASE_URL", "http://127.0.0.1:1")];
    let output = home.run(&["doctor", "--config=c.toml"], &environment).await;
    let text = String::from_utf8(output.stdout).unwrap();
    for line in ["OK   configuration  read from c.toml", "OK   key            read from key"] {
        assert!(text.contains(line), "{text}");
    }
    let explained = home.print(&["policy", "check", "+14155550123", "--config=c.toml"]).await;
    assert!(explained.contains("the default is refuse"), "{explained}");
    std::fs::write(home.path().join("rules.toml"), b"# caf\xe9\n").unwrap();
    let error = home.run_failing(&["policy", "check", "+14155550123", "--config=c.toml"]).await;
    assert!(error.contains("rules.toml cannot be read: it is not a text file in UTF-8"), "{error}");
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

/// Writes a ledger as unreleased versions did, with one call.
fn write_old_ledger(path: &Path, number: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let old = rusqlite::Connection::open(path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(&format!(
        "CREATE TABLE dispatches (dispatch_id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;
         INSERT INTO dispatches VALUES ('call {number}', 'placed');
         PRAGMA user_version = 1;
         PRAGMA application_id = {};",
        0x4342_784c
    ))
    .unwrap();
}

#[tokio::test]
async fn a_ledger_of_an_unreleased_version_is_moved_aside_and_a_new_one_begins() {
    let home = Home::new();
    let folder = home.path().join(".local/share/callingbox-mcp");
    let ledger = folder.join("ledger.sqlite3");
    for (number, aside) in [(1, "ledger.sqlite3.schema-1"), (2, "ledger.sqlite3.schema-1.2")] {
        write_old_ledger(&ledger, number);
        let output = home.run(&["receipts", "--json"], &[]).await;
        let log = String::from_utf8(output.stderr).unwrap();
        let aside = folder.join(aside);
        for said in [
            "the ledger has the layout of an unreleased version; it was moved aside and a new ledger begins",
            &format!("from={}", ledger.display()),
            &format!("to={}", aside.display()),
        ] {
            assert!(log.contains(said), "{log}");
        }
        assert_eq!(log.lines().count(), 1, "{log}");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
        // What it held is still there to be read.
        let kept = rusqlite::Connection::open(&aside).unwrap();
        let query = "SELECT dispatch_id FROM dispatches";
        let call: String = kept.query_row(query, (), |row| row.get(0)).unwrap();
        assert_eq!(call, format!("call {number}"));
        // The new one stays where it is.
        let again = home.run(&["receipts", "--json"], &[]).await;
        assert_eq!(String::from_utf8(again.stderr).unwrap(), "");
        std::fs::remove_file(&ledger).unwrap();
    }
}

#[tokio::test]
async fn a_damaged_ledger_and_the_file_of_another_program_are_not_moved() {
    let home = Home::new();
    let folder = home.path().join(".local/share/callingbox-mcp");
    let ledger = folder.join("ledger.sqlite3");
    let database = |statements: &str| {
        let path = folder.join("made");
        let made = rusqlite::Connection::open(&path).unwrap();
        made.execute_batch(statements).unwrap();
        drop(made);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        bytes
    };
    std::fs::create_dir_all(&folder).unwrap();
    // As old as a ledger of version 1 and with a table of the same name, but made by another program.
    let foreign = database("CREATE TABLE dispatches (x); PRAGMA user_version = 1;");
    write_old_ledger(&ledger, 1);
    let mut damaged = std::fs::read(&ledger).unwrap();
    let half = damaged.len() / 2;
    damaged[100..half].fill(0xff);
    let text = "my notes ".repeat(1_000).into_bytes();
    for (bytes, said) in [
        (foreign, "is not a ledger of callingbox-mcp"),
        (text, "is not a ledger of callingbox-mcp"),
        (damaged, "the ledger is damaged"),
    ] {
        std::fs::write(&ledger, &bytes).unwrap();
        let error = home.run_failing(&["receipts"]).await;
        assert!(error.contains(said) && !error.contains("moved"), "{error}");
        assert_eq!(std::fs::read(&ledger).unwrap(), bytes, "{said}");
        let files = std::fs::read_dir(&folder).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["ledger.sqlite3"], "{said}");
    }
}

#[tokio::test]
async fn several_tokens_are_created_together_or_none() {
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
        (&["-"], "\"-\" is not a name for a token"),
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
