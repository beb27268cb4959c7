//! `callingbox-mcp completions` and `callingbox-mcp man`: prints the command line for a shell and for `man`.

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::output::print;
use crate::cli::{self, Cli};

pub(super) fn print_completions(args: &cli::CompletionsArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "callingbox-mcp", &mut text);
    let text = String::from_utf8(text)?;
    print(match args.shell {
        // The script names the state after the program in two ways if the program's name has a hyphen, so that nothing
        // but the first word would be completed.
        Shell::Bash => text.replace("callingbox__subcmd__mcp", "callingbox__mcp"),
        _ => text,
    })
}

pub(super) fn write_manual(args: &cli::ManArgs) -> anyhow::Result<()> {
    let Some(folder) = &args.to else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command_with_own_help()).render(&mut text)?;
        return print(String::from_utf8(text)?);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command_with_own_help(), folder))
        .with_context(|| format!("the manual pages cannot be written into {}", folder.display()))?;
    print(format!("Manual pages written to {}\n", folder.display()))
}
