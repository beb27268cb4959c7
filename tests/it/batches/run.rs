//! Lists that are called: what is shown before and after, what stops a list, and what a flag may not do.

use serde_json::json;

use super::{BatchFixture, ONE_BY_ONE, PEOPLE};

#[tokio::test]
async fn a_list_is_shown_called_and_written_as_a_table_and_as_csv() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    fixture.home.write("people.csv", &format!("{PEOPLE}+1911,Ina Voss,12:00\n"));
    let (text, error, code) =
        fixture.run(&["--yes", "--csv", "out.csv", "--until", "2026-11-08T18:00:00Z"]).await;
    insta::assert_snapshot!("a_list", fixture.plain(&text));
    // The list has a number that is never dialed.
    assert_eq!((error.as_str(), code), ("callingbox-mcp: not everybody was called\n", Some(3)));
    let called = PEOPLE.lines().skip(1).map(|line| line.split(',').next().unwrap());
    assert_eq!(fixture.dialed().await, called.collect::<Vec<_>>());
    let csv = std::fs::read_to_string(fixture.path("out.csv")).unwrap();
    let times =
        |word: &str| if word.starts_with("2026-") { "TIME".to_owned() } else { word.to_owned() };
    let timeless: Vec<String> = csv.split(',').map(times).collect();
    insta::assert_snapshot!("results_csv", timeless.join(","));

    // What is written can be read again.
    fixture.home.write("people.csv", &csv);
    let (text, error, _) = fixture.fail(&["run", "people.csv"]).await;
    assert!(text.contains("2    Ben Ortiz   +13105550101"), "{text}{error}");
}

#[tokio::test]
async fn people_who_were_not_reached_are_called_again() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    fixture.home.write("people.csv", "to\n+13105550101\n+13105550102\n");
    let arguments = [
        "--task",
        "Say hello.",
        "--yes",
        "--attempts",
        "2",
        "--retry-on",
        "busy",
        "--retry-after",
        "5m",
        "--until",
        "6d",
    ];
    let child = fixture.command_to_run(&arguments).spawn().unwrap();
    let (text, error) = super::texts(&fixture.finish(child).await);
    assert_eq!(error, "", "{text}");
    assert_eq!(fixture.dialed().await, ["+13105550101", "+13105550102", "+13105550102"]);
    assert!(text.contains("  up to 2 for each person, 5 minutes apart, after busy\n"), "{text}");
    assert!(text.contains("\nnumber        state      attempts\n+13105550101  no_answer  1\n+13105550102  busy       2\n"), "{text}");
}

#[tokio::test]
async fn enough_results_stop_a_list_that_is_then_done() {
    let fixture = BatchFixture::new("", "").await;
    let (text, error, code) = fixture.run(&["--yes", "--stop-when", "confirmed=true"]).await;
    assert_eq!((error.as_str(), code), ("", Some(0)), "{text}");
    let dialed = fixture.dialed().await.len();
    assert!((1..6).contains(&dialed), "{dialed} were called: {text}");
    assert!(text.contains("enough results were found"), "{text}");
}

#[tokio::test]
async fn the_same_list_is_called_once() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    // A list that nobody confirmed is no repetition.
    for _ in 0..2 {
        let (_, error, _) = fixture.fail(&["run", "people.csv", "--task", super::TASK]).await;
        assert!(error.contains("the yes is typed at a terminal"), "{error}");
    }
    let mut first = fixture.start(&["--yes"]);
    let start = fixture.read_start(&mut first).await;
    let (text, error, code) = fixture.run(&["--yes"]).await;
    assert_eq!((text.as_str(), code), ("", Some(1)));
    insta::assert_snapshot!("the_same_list", fixture.plain(&error));
    fixture.finish_started(first, start).await;
    assert_eq!(fixture.dialed().await.len(), 6);
}

#[tokio::test]
async fn without_a_typed_yes_or_a_flag_that_is_allowed_nobody_is_called() {
    for (config, arguments, says) in [
        (
            "",
            &[][..],
            "the yes is typed at a terminal, and standard input is none; nobody was called",
        ),
        (
            "[dialing]\nrequire_human = true\n",
            &["--yes"],
            "require_human is set under [dialing], so the yes must be typed; nobody was called",
        ),
        ("read_only = true\n", &["--yes"], "read-only is set"),
    ] {
        let fixture = BatchFixture::new("", config).await;
        let arguments = [&["run", "people.csv", "--task", "Say hello."], arguments].concat();
        let (_, error, code) = fixture.fail(&arguments).await;
        assert!(error.contains(says) && code == Some(1), "{error}");
        assert_eq!(fixture.dialed().await.len(), 0);
    }
    let fixture = BatchFixture::new("", "").await;
    fixture.run(&["--yes"]).await;
    let receipts = fixture.receipts(&[]).await;
    assert!(receipts.len() == 6 && receipts.iter().all(|it| it["confirmed_by"] == "flag"));
}

#[tokio::test]
async fn people_who_cannot_be_reached_in_time_are_announced_and_counted() {
    let fixture = BatchFixture::new("[limits]\nper_hour = 2\n", "").await;
    let (text, error, code) = fixture.run(&["--yes", "--until", "1h"]).await;
    assert_eq!((error.as_str(), code), ("callingbox-mcp: not everybody was called\n", Some(3)));
    assert!(
        text.contains(
            "for 2 of 6; 4 will not be reached in time: the limit `per_hour` of the calling rules"
        ),
        "{text}"
    );
    assert!(text.contains(", 4 not_called. Cost:"), "{text}");
    assert_eq!(fixture.dialed().await.len(), 2);
}

#[tokio::test]
async fn a_person_in_quiet_hours_waits() {
    let fixture = BatchFixture::new("", "[dialing]\nsandbox_quiet_hours = true\n").await;
    // It is 15:00 UTC: 05:00 in Honolulu, 10:00 in New York.
    fixture.home.write("people.csv", "to,name\n+18085550100,Kai\n+12125550100,Nora\n");
    let child = fixture
        .command_to_run(&["--yes", "--until", "12h", "--task", "Greet {name}."])
        .spawn()
        .unwrap();
    let (text, error) = super::texts(&fixture.finish(child).await);
    assert_eq!(error, "", "{text}");
    let calls = fixture.control.dialed().await;
    let called: Vec<_> = calls.iter().map(|call| json!([call["to"], call["dialed_at"]])).collect();
    assert_eq!(calls[0]["to"], "+12125550100", "{called:?}");
    let at: jiff::Timestamp = calls[1]["dialed_at"].as_str().unwrap().parse().unwrap();
    assert!(at >= "2026-11-02T18:00:00Z".parse().unwrap(), "{called:?}");
}

#[tokio::test]
async fn the_records_of_a_persons_own_file_are_taken_as_given() {
    let policy = format!(
        "{ONE_BY_ONE}[[rules]]\nname = \"us\"\naction = \"allow\"\ncountry = [\"US\"]\nrequire_metadata = [\"consent\"]\n"
    );
    let fixture = BatchFixture::new(&policy, "").await;
    let people = "to,name,time,metadata.consent\n\
        +13105550100,Ada Park,9:00,\"paper form, 3 May 2026\"\n\
        +13105550101,Ben Ortiz,9:30,yes\n";
    fixture.home.write("people.csv", people);
    let (text, _, code) = fixture.run(&["--yes"]).await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("This rule needs a record of consent"), "{text}");
    assert_eq!(fixture.dialed().await, ["+13105550100"]);
    let receipts = fixture.home.print(&["receipts", "--json", &fixture.flag]).await;
    assert!(receipts.contains("\"rule\":\"us (consent: file)\""), "{receipts}");
}
