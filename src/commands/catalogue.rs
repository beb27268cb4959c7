//! `callingbox-mcp catalogue`: prints the tools as a table, as JSON, or with their cost in tokens.

use std::fmt::Write;

use anyhow::Context;

use super::output::print;
use crate::cli::{self, CatalogueFormat};
use crate::mcp::catalogue::Catalogue;
use crate::mcp::registry::effect::ToolEffect;
use crate::mcp::registry::selection::Selection;
use crate::mcp::tool::ToolEntry;
use crate::toolset::Toolset;

/// The tokens of each tool in the response to tools/list, by o200k_base, in columns: what a model reads, what a view reads
/// of a tool that no model is shown, and `_meta`, which only hosts read. A test counts them and fails if this file differs, so
/// that the program need not contain the encoding.
const TOKEN_COUNTS: &str = include_str!("../../tools/tokens.tsv");

pub(super) fn run(
    args: &cli::CatalogueArgs,
    catalogue: &Catalogue,
    selection: &Selection,
) -> anyhow::Result<()> {
    let shown: Vec<&ToolEntry> =
        if args.all { catalogue.iter().collect() } else { catalogue.offered(selection).collect() };
    if args.tokens {
        return print(token_table(&shown)?);
    }
    match args.format {
        CatalogueFormat::Markdown => print(markdown_table(&shown)),
        CatalogueFormat::Json => {
            let mut tools: Vec<_> = shown.iter().map(|entry| entry.definition().clone()).collect();
            if selection.no_ui {
                tools.iter_mut().for_each(|tool| tool.meta = None);
            }
            print(format!("{}\n", serde_json::to_string_pretty(&tools)?))
        }
    }
}

/// The table of the tools for models, as in the README.
fn markdown_table(entries: &[&ToolEntry]) -> String {
    let mut table = String::from("| Toolset | Tool | What it does | Kind |\n|---|---|---|---|\n");
    for entry in entries.iter().filter(|entry| !entry.meta.card.is_app_only()) {
        let kind = match entry.meta.effect {
            ToolEffect::Reads => "read",
            ToolEffect::Writes { destructive: false, .. } => "write",
            ToolEffect::Writes { destructive: true, .. } => "write, destructive",
            ToolEffect::CostsMoney => "costs money",
            ToolEffect::RingsPhone => "rings a phone, costs money",
        };
        let description = entry.definition().description.as_deref().unwrap_or_default();
        let first_sentence =
            description.split_inclusive(". ").next().unwrap_or_default().trim_end();
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {} | `{}` | {first_sentence} | {kind} |",
            entry.meta.toolset, entry.meta.name
        );
    }
    table
}

/// What a tool costs in tokens.
struct TokenCount {
    model: u64,
    /// Of a tool that no model is shown.
    app: u64,
}

impl TokenCount {
    fn read(name: &str) -> anyhow::Result<Self> {
        let mut rows = TOKEN_COUNTS.lines().map(|line| line.split('\t'));
        let row = rows.find_map(|mut row| (row.next() == Some(name)).then_some(row));
        let mut row = row.with_context(|| format!("tools/tokens.tsv has no line for {name}"))?;
        let mut next = || -> anyhow::Result<u64> {
            let column = row.next().with_context(|| format!("tools/tokens.tsv: {name}"))?;
            Ok(column.parse()?)
        };
        Ok(Self { model: next()?, app: next()? })
    }
}

fn token_table(entries: &[&ToolEntry]) -> anyhow::Result<String> {
    let mut text = String::new();
    let (mut total, mut app_total) = (0, 0);
    for toolset in Toolset::ALL {
        let mut subtotal = 0;
        for entry in entries.iter().filter(|entry| entry.meta.toolset == toolset) {
            let TokenCount { model, app } = TokenCount::read(entry.meta.name)?;
            subtotal += model;
            app_total += app;
            // Writing to a String cannot fail.
            let _ = match app {
                0 => writeln!(text, "{model:>6}  {}", entry.meta.name),
                _ => writeln!(text, "{app:>6}  {}, for views only", entry.meta.name),
            };
        }
        if subtotal > 0 {
            let _ = writeln!(text, "{subtotal:>6}  = {toolset}");
        }
        total += subtotal;
    }
    let _ = writeln!(text, "{total:>6}  total (o200k_base)");
    if app_total > 0 {
        let _ = writeln!(text, "{app_total:>6}  for views only, which no model reads");
    }
    Ok(text)
}
