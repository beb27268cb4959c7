//! The documents are true: their commands run, their configuration is read, their tables list what the program has,
//! and their links lead somewhere. Parts marked as written by UPDATE_DOCS are generated here.

mod calling;
mod clients;
mod commands;
mod configuration;
mod links;
mod many_calls;
mod operations;
mod readme;
mod recording;
mod simulator;

use std::path::{Path, PathBuf};

/// A document of the repository.
struct Page {
    /// Its path from the root of the repository.
    path: String,
    text: String,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        Self { path: path.to_owned(), text }
    }

    /// Every document: those of the root folder, and the pages of the handbook.
    fn all() -> Vec<Self> {
        let mut paths: Vec<String> =
            ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
                .map(str::to_owned)
                .into();
        for entry in std::fs::read_dir(root().join("docs")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                paths.push(format!("docs/{name}"));
            }
        }
        paths.sort_unstable();
        assert!(paths.len() > 15, "{paths:?}");
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// The fenced blocks: language and text, in order.
    fn blocks(&self) -> Vec<(&str, &str)> {
        let fenced = self.text.split("```").skip(1).step_by(2);
        fenced.map(|block| block.split_once('\n').unwrap()).collect()
    }

    fn blocks_in(&self, language: &str) -> Vec<&str> {
        let blocks = self.blocks().into_iter();
        blocks.filter(|(name, _)| *name == language).map(|(_, text)| text).collect()
    }

    /// The block whose first line is a comment with this name of a file, such as `# config.toml`.
    fn file(&self, language: &str, name: &str) -> &str {
        let blocks = self.blocks_in(language);
        let comment = format!("# {name}\n");
        blocks
            .into_iter()
            .find(|text| text.starts_with(&comment))
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// The text outside of fenced blocks.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// The code in the prose.
    fn inline_code(&self) -> Vec<String> {
        self.prose().split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// The first cells of the rows of all tables, without backquotes.
    fn first_cells(&self) -> Vec<String> {
        let rows = self.text.lines().filter_map(|line| line.strip_prefix("| "));
        rows.filter_map(|row| row.split(" |").next()).map(|cell| cell.replace('`', "")).collect()
    }

    /// Replaces the part between two markers, or with UPDATE_DOCS unset checks that it is up to date.
    fn update(&self, name: &str, expected: &str, matches: impl Fn(&str) -> bool) {
        let begin =
            format!("<!-- {name}: written by UPDATE_DOCS=1 cargo test --test it documents -->\n");
        let end = format!("<!-- /{name} -->");
        let (before, rest) = self.text.split_once(&begin).expect("the marker at the beginning");
        let (present, after) = rest.split_once(&end).expect("the marker at the end");
        if matches(present) {
            return;
        }
        assert!(
            updates(),
            "{} is out of date: UPDATE_DOCS=1 cargo test --test it documents writes it. Expected:\n{expected}",
            self.path
        );
        std::fs::write(root().join(&self.path), format!("{before}{begin}{expected}{end}{after}"))
            .unwrap();
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of a document.
fn folder(page: &Page) -> PathBuf {
    root().join(&page.path).parent().unwrap().to_owned()
}

/// Whether the generated parts are to be written.
fn updates() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}
