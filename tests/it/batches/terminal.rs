//! The yes that is typed, and the table that fills, on a pseudo-terminal.

use tokio::io::AsyncWriteExt;

use super::{BatchFixture, ONE_BY_ONE};

impl BatchFixture {
    /// Runs the list of people on a terminal, where this is typed, and returns what the terminal shows and the exit code.
    async fn run_on_terminal(&self, typed: &str) -> (String, Option<i32>) {
        let arguments =
            ["batch", "run", "people.csv", "--task", "Hello.", "--until", "6d", &self.flag];
        let environment = [("TZ", "UTC"), ("TERM", "xterm"), ("NO_COLOR", "1")];
        let mut child =
            self.home.on_narrow_terminal(Some(100), &arguments, &environment).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut text = self.read_until(&mut child, &[" to start: "]).await;
        input.write_all(typed.as_bytes()).await.unwrap();
        text.extend(self.read_start(&mut child).await);
        // Keep the input open: its end would be typed too.
        let output = self.finish_started(child, text).await;
        drop(input);
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }
}

#[tokio::test]
async fn only_the_number_of_people_is_a_yes() {
    let fixture = BatchFixture::new("", "[dialing]\nrequire_human = true\n").await;
    for typed in ["yes\n", "5\n", "\n", "\u{3}"] {
        let (text, code) = fixture.run_on_terminal(typed).await;
        assert!(text.contains("Call 6 people (simulated)? Type 6 to start: "), "{text}");
        let expected = if typed == "\u{3}" { 130 } else { 1 };
        assert_eq!(code, Some(expected), "{typed:?}: {text}");
        assert_eq!(fixture.dialed().await.len(), 0, "{typed:?}");
    }
    let (text, code) = fixture.run_on_terminal("6\n").await;
    assert_eq!(code, Some(0), "{text}");
    let receipts = fixture.receipts(&[]).await;
    assert!(receipts.len() == 6 && receipts.iter().all(|it| it["confirmed_by"] == "terminal"));
}

#[tokio::test]
async fn the_table_fills_while_calls_end_and_remains_at_the_end() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    let (text, code) = fixture.run_on_terminal("6\n").await;
    assert_eq!(code, Some(0), "{text}");
    for shown in [
        " 0 of 6 · ",
        " 3 of 6 · ",
        "1 calling · expected end 15:",
        "Ben Ortiz   +13105550101  calling",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    // The bar is erased before the last table.
    let last = text.rsplit("\u{1b}[").next().unwrap();
    assert!(
        !last.contains(" of 6 ·") && last.contains("\nBen Ortiz   +13105550101  no_answer"),
        "{last:?}"
    );
}
