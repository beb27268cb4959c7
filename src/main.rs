//! The command line: parse it, run one subcommand.

fn main() {}
