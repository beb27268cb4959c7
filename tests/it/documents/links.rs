//! Links between documents lead to files and headings that exist, and so do the paths that documents name.

use std::collections::HashSet;

use super::{Page, folder, root};

/// The targets of the links, with the text of code removed.
fn targets(page: &Page) -> Vec<String> {
    let prose = page.prose();
    let outside_code: String = prose.split('`').step_by(2).collect();
    let mut targets = Vec::new();
    for rest in outside_code.split("](").skip(1) {
        targets.push(rest.split(')').next().unwrap().to_owned());
    }
    targets
}

/// The anchors of the headings, as GitHub makes them.
fn anchors(text: &str) -> HashSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut checked = 0;
    for page in Page::all() {
        for target in targets(&page) {
            if target.starts_with("https://") {
                assert!(!target.contains(char::is_whitespace), "{}: {target}", page.path);
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file =
                if path.is_empty() { root().join(&page.path) } else { folder(&page).join(path) };
            assert!(file.exists(), "{}: {target} leads nowhere", page.path);
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(anchors(&text).contains(anchor), "{}: no heading for {target}", page.path);
            }
            checked += 1;
        }
    }
    assert!(checked > 80, "{checked} links were checked");
}

#[test]
fn every_page_of_the_handbook_is_linked_from_the_readme() {
    let readme = Page::read("README.md");
    let targets = targets(&readme);
    for page in Page::all() {
        let linked = targets.contains(&page.path);
        assert!(linked || page.path == "README.md", "{}", page.path);
    }
}

#[test]
fn documents_name_only_files_that_exist() {
    let folders = [
        "src/",
        "crates/",
        "tests/",
        "tools/",
        "packaging/",
        "skills/",
        "docs/",
        "benches/",
        "fuzz/",
        "scripts/",
        ".ci/",
        ".github/",
    ];
    for page in Page::all() {
        for code in page.inline_code() {
            let ours = !code.contains(' ') && folders.iter().any(|folder| code.starts_with(folder));
            assert!(!ours || root().join(&code).exists(), "{}: {code}", page.path);
        }
    }
}
