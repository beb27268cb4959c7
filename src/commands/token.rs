//! `callingbox-mcp token`: makes, lists and takes back the tokens of `http --auth token`.

use std::fmt::Write;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

use super::http::tokens_path;
use super::output::print;
use crate::cli::{Global, TokenCommand};
use crate::config::UserFolders;
use crate::http::auth::tokens::TokenFile;

pub(super) fn run(
    command: TokenCommand,
    global: &Global,
    folders: &UserFolders,
) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create { name, expires, only, tokens: path } => {
            let path = tokens_path(path, folders)?;
            let now = Timestamp::now();
            let expires = expires.as_deref().map(|span| after(now, span)).transpose()?;
            let token = TokenFile::update(&path, |tokens| {
                tokens.create_token(&name, now, expires, only, global.read_only)
            })?;
            print(format!("{token}\n"))
        }
        TokenCommand::List { tokens: path } => {
            let path = tokens_path(path, folders)?;
            let tokens = TokenFile::load_or_default(&path)?;
            let now = Timestamp::now();
            let mut text = String::new();
            for token in &tokens.all {
                let expires = match token.expires {
                    None => "does not expire".to_owned(),
                    Some(at) if at <= now => format!("expired {at:.0}"),
                    Some(at) => format!("expires {at:.0}"),
                };
                let tools = match &token.toolsets {
                    None => "all toolsets".to_owned(),
                    Some(sets) => {
                        sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
                    }
                };
                let rights = if token.read_only { ", read-only" } else { "" };
                writeln!(
                    text,
                    "{}: created {:.0}, {expires}, {tools}{rights}",
                    token.name, token.created
                )?;
            }
            print(if text.is_empty() { "There are no tokens.\n".to_owned() } else { text })
        }
        TokenCommand::Revoke { name, tokens: path } => {
            let path = tokens_path(path, folders)?;
            // A path that is mistyped is told as such, and nothing is made there.
            TokenFile::load(&path)?;
            TokenFile::update(&path, |tokens| tokens.revoke_token(&name))?;
            print(format!("{name} is revoked.\n"))
        }
    }
}

/// The time that is a span such as `90d` or `12h` after `now`.
fn after(now: Timestamp, span: &str) -> anyhow::Result<Timestamp> {
    let problem = || format!("--expires {span}: give a span such as 12h or 90d");
    // A day of a token is 24 hours.
    let span: SignedDuration = match span.strip_suffix('d').map(str::parse::<i64>) {
        Some(days) => {
            let hours = days.with_context(problem)?.checked_mul(24).with_context(problem)?;
            anyhow::ensure!(hours <= 24 * 36_500, problem());
            SignedDuration::from_hours(hours)
        }
        None => span.parse().with_context(problem)?,
    };
    anyhow::ensure!(span.is_positive(), problem());
    now.checked_add(span).with_context(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_and_nonsense_refused() {
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        for (span, expected) in [
            ("12h", Some("2026-11-22T20:00:00Z")),
            ("2d", Some("2026-11-24T08:00:00Z")),
            ("1h30m", Some("2026-11-22T09:30:00Z")),
            ("", None),
            ("0d", None),
            ("-1d", None),
            ("d", None),
            ("soon", None),
            ("999999999999999999d", None),
        ] {
            let found = after(now, span).ok().map(|at| at.to_string());
            assert_eq!(found.as_deref(), expected, "{span}");
        }
    }
}
