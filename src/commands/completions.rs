//! `callingbox-mcp completions` and `callingbox-mcp man`: the command line, told to a shell and to
//! `man`.

use anyhow::Context;
use clap::CommandFactory;

use super::output::print;
use crate::cli::{self, Cli};

pub(super) fn completions(options: &cli::CompletionsArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "callingbox-mcp", &mut text);
    print(String::from_utf8(text)?)
}

pub(super) fn manual(options: &cli::ManArgs) -> anyhow::Result<()> {
    let Some(folder) = &options.to else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command_with_own_help()).render(&mut text)?;
        return print(String::from_utf8(text)?);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command_with_own_help(), folder))
        .with_context(|| format!("the pages cannot be written into {}", folder.display()))?;
    print(format!("Written to {}\n", folder.display()))
}
