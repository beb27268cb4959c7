//! `callingbox-mcp completions` and `callingbox-mcp man`: the command line, told to a shell and to
//! `man`.

use anyhow::Context;
use clap::CommandFactory;

use super::say;
use crate::cli::{self, Cli};

pub(super) fn completions(options: &cli::Completions) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "callingbox-mcp", &mut text);
    say(String::from_utf8(text)?)
}

pub(super) fn manual(options: &cli::Man) -> anyhow::Result<()> {
    let Some(folder) = &options.to else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        return say(String::from_utf8(text)?);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("the pages cannot be written into {}", folder.display()))?;
    say(format!("Written to {}\n", folder.display()))
}
