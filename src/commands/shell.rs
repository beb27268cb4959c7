//! `callingbox-mcp completions` and `callingbox-mcp man`: the command line, told to a shell and to
//! `man`.

use clap::CommandFactory;

use super::say;
use crate::cli::{self, Cli};

pub(super) fn completions(options: &cli::Completions) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "callingbox-mcp", &mut text);
    say(String::from_utf8(text)?)
}

pub(super) fn manual() -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    say(String::from_utf8(text)?)
}
