//! Lists and arguments that are wrong: everything is named in one error, and nobody is called.

use super::{BatchFixture, PEOPLE};

#[tokio::test]
async fn all_that_is_wrong_with_a_file_is_named_by_line() {
    let fixture = BatchFixture::new("", "").await;
    fixture.home.write(
        "people.csv",
        "to;name;time\n1,41555E+10;Ada;9\n+13105550100;\"Ben\nOrtiz\";\n+1310555010;Cy;9\n+1 (310) 555-0100;Di;9\n\
         555-0102;Eve;9\n+44 (0)20 7183 8750;Fay;9\n",
    );
    let (text, error, code) =
        fixture.fail(&["run", "people.csv", "--task", "Confirm {time} with {nme}.", "--yes"]).await;
    assert_eq!((text.as_str(), code), ("", Some(1)));
    insta::assert_snapshot!("wrong_lines", error);
    assert_eq!(fixture.dialed().await.len(), 0);
}

#[tokio::test]
async fn national_numbers_are_shown_in_full_before_the_yes() {
    let fixture = BatchFixture::new("", "").await;
    fixture
        .home
        .write("people.csv", "\u{FEFF}name,to\r\nAda,(310) 555-0100\r\nBen,+12125550102\r\n");
    let (text, _, _) =
        fixture.fail(&["run", "people.csv", "--region", "US", "--task", "Hi."]).await;
    assert!(
        text.contains("1    Ada   +13105550100  07:00\n2    Ben   +12125550102  10:00\n"),
        "{text}"
    );
    assert!(text.contains("\n1 number was completed as one of US.\n"), "{text}");
}

#[tokio::test]
async fn wrong_arguments_are_answered_with_the_correct_form() {
    let fixture = BatchFixture::new("", "").await;
    fixture.print(&["list"]).await;
    // Makes the agent.
    fixture.fail(&["run", "people.csv", "--task", "Hi."]).await;
    fixture.home.write("empty.csv", "to,name\n");
    fixture.home.write("latin.csv", "");
    std::fs::write(fixture.path("latin.csv"), b"to,name\n+13105550100,M\xFCller\n").unwrap();
    fixture.home.write("phones.csv", "phone,name\n+13105550100,Ada\n");
    for (arguments, says) in [
        (&["run", "none.csv"][..], "none.csv cannot be read"),
        (&["run", "empty.csv"], "- the file is empty"),
        (&["run", "latin.csv"], "latin.csv: line 2 is not UTF-8; save it as CSV UTF-8"),
        (&["run", "phones.csv"], "the one with the numbers `to`; it has: phone, name"),
        (
            &["run", "people.csv", "--agent", "Appointment reminder"],
            "there is no outbound agent `Appointment reminder` (did you mean `Appointment reminders`?)",
        ),
        (&["run", "people.csv", "--region", "USA"], "--region: \"USA\" is not a country"),
        (&["run", "people.csv", "--until", "14:59"], "--until: 14:59 is over today"),
        (&["run", "people.csv", "--until", "soon"], "`soon` is neither a time"),
        (
            &["run", "people.csv", "--start", "2h", "--until", "1h"],
            "- --until (2026-11-02T16:00:00Z) is not after",
        ),
        (&["run", "people.csv", "--until", "8d"], "--until is more than seven days ahead"),
        (&["run", "people.csv", "--from", "5550100"], "--from: the number does not begin with +"),
        (&["run", "people.csv", "--from", "+12125550199"], "--from is not a number of the agent"),
        (&["run", "people.csv", "--retry-on", "busy"], "--attempts <N>"),
        (&["run", "people.csv", "--attempts", "4"], "4 is not in 1..=3"),
        (
            &["run", "people.csv", "--attempts", "2", "--retry-after", "1m"],
            "5m to 24h after a call",
        ),
        (&["run", "people.csv", "--stop-when", "confirmed"], "such as free=true"),
        (
            &["run", "people.csv", "--stop-when", "confirmed=yes"],
            "`confirmed` is true or false, not `yes`",
        ),
        (&["run", "people.csv", "--stop-when", "free=yes"], "it has confirmed, new_time"),
        (&["run", "people.csv", "--csv", "none/out.csv"], "there is no such folder"),
        (&["run", "people.csv", "--idempotency-key", "a b"], "--idempotency-key: "),
        (&["run", "people.csv", "--task", "Hi {"], "a `{` in"),
        (
            &["show", "batch_1"],
            "`batch_1` is not the id of a batch; `callingbox-mcp batch list` lists them",
        ),
        (&["show", "batch_000000000000"], "there is no batch batch_000000000000"),
        (&["resume", "batch_000000000000"], "there is no batch"),
        (&["cancel", "batch_000000000000"], "there is no batch"),
        (&["forget", "batch_000000000000"], "there is no batch"),
    ] {
        let (_, error, _) = fixture
            .fail(&[arguments, if arguments[0] == "run" { &["--yes"] } else { &[] }].concat())
            .await;
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    assert_eq!(fixture.dialed().await.len(), 0);
    assert!(PEOPLE.starts_with("to,name,time\n"));

    let output = fixture.home.run(&["batch", "list"], &[]).await;
    let (_, error) = super::texts(&output);
    assert!(
        error.contains("no CallingBox API key is set: callingbox-mcp setup stores one"),
        "{error}"
    );
    let output = fixture.home.run(&["batch", "list", "--sandbox"], &[]).await;
    let (_, error) = super::texts(&output);
    assert!(error.contains("so it has no batches: name one that keeps running"), "{error}");
}
