//! Lists of people: the commands of the documents run on a simulator, and print what the documents show.

use super::Page;
use super::commands::arguments;
use crate::batches::{BatchFixture, ONE_BY_ONE, texts};

/// Runs the list of people of a page, and returns its output.
async fn run_people(page: &Page, fixture: &BatchFixture) -> String {
    fixture.home.write("people.csv", page.blocks_in("csv")[0]);
    let lines = page.blocks_in("sh").join("");
    let line = lines.lines().find(|line| line.contains("batch run people.csv")).unwrap();
    let arguments = arguments(line).unwrap();
    let given = arguments.iter().copied().skip(1).filter(|word| !word.starts_with("--sandbox"));
    let arguments: Vec<&str> = given.chain(["--yes", "--until", "6d"]).collect();
    let child = fixture.spawn(&arguments);
    let (text, error) = texts(&fixture.finish(child).await);
    assert_eq!(error, "", "{text}");
    fixture.plain(&text)
}

/// Checks that a page shows parts of an output. A line `…` stands for lines that are left out.
fn check_blocks(page: &Page, output: &str) {
    let blocks = page.blocks_in("text");
    assert!(!blocks.is_empty());
    for part in blocks.iter().flat_map(|block| block.split("…\n")) {
        assert!(
            !part.is_empty() && output.contains(part),
            "{}: {part}\nis not in\n{output}",
            page.path
        );
    }
}

#[tokio::test]
async fn the_list_of_the_readme_becomes_its_table() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    let page = Page::read("README.md");
    let output = run_people(&page, &fixture).await;
    check_blocks(&page, &output);
}

#[tokio::test]
async fn the_commands_of_the_page_run_in_their_order() {
    let fixture = BatchFixture::new(ONE_BY_ONE, "").await;
    let page = Page::read("docs/many-calls.md");
    let output = run_people(&page, &fixture).await;
    check_blocks(&page, &output);
    assert!(fixture.path("results.csv").exists());

    let id = fixture.newest().await;
    let mut run = 0;
    for line in page.blocks_in("sh").join("").lines().filter(|line| line.contains("BATCH_ID")) {
        let line = line.replace("BATCH_ID", &id);
        let arguments = arguments(&line).unwrap();
        let output =
            fixture.home.run(&[&arguments[..], &[fixture.flag.as_str()]].concat(), &[]).await;
        let (text, error) = texts(&output);
        // The list is done.
        let is_over = ["resume", "cancel"].contains(&arguments[1]);
        assert_eq!(error.ends_with(" is ended\n"), is_over, "{line}: {text}{error}");
        assert_eq!(output.status.success(), !is_over, "{line}: {text}{error}");
        run += 1;
    }
    assert_eq!(run, 5);
}
