//! `callingbox-mcp token`: creates, lists and revokes the tokens of `http --auth token`.

use std::fmt::Write;
use std::io::{IsTerminal, Read};

use anyhow::Context;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use super::http::token_file_path;
use super::output::print;
use crate::cli::TokenCommand;
use crate::http::auth::tokens::TokenFile;
use crate::own_command::own_command;
use crate::settings::ProgramSettings;

const MAX_NAMES_BYTES: u64 = 1024 * 1024;

pub(super) fn run(command: TokenCommand, settings: &ProgramSettings) -> anyhow::Result<()> {
    let ProgramSettings { global, folders, .. } = settings;
    match command {
        TokenCommand::Create { names, expires, only, tokens: path } => {
            let path = token_file_path(path, folders)?;
            let now = Timestamp::now();
            let expires = expires.as_deref().map(|span| expiry_time(now, span)).transpose()?;
            let is_single = names.len() == 1;
            let names = if names.is_empty() { read_names()? } else { names };
            // All of them, or none.
            let created = TokenFile::update(&path, |tokens| {
                let create = |name: &String| {
                    tokens.create_token(name, now, expires, only.clone(), global.read_only)
                };
                names.iter().map(create).collect::<Result<Vec<String>, _>>()
            })?;
            let lines = names.iter().zip(created);
            print(lines.fold(String::new(), |text, (name, token)| match is_single {
                true => format!("{token}\n"),
                false => format!("{text}{name}\t{token}\n"),
            }))
        }
        TokenCommand::List { tokens: path } => {
            let path = token_file_path(path, folders)?;
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
            let path = token_file_path(path, folders)?;
            // `update` would create the file of a mistyped path.
            anyhow::ensure!(
                path.exists(),
                "there are no tokens: {} does not exist; `{} token create NAME` makes one",
                path.display(),
                own_command()
            );
            TokenFile::update(&path, |tokens| tokens.revoke_token(&name))?;
            print(format!("Token {name} is revoked.\n"))
        }
    }
}

/// The names on standard input, one per line. Blank lines are skipped.
fn read_names() -> anyhow::Result<Vec<String>> {
    let mut input = std::io::stdin().lock();
    let usage = || {
        let program = own_command();
        format!(
            "name the tokens: {program} token create NAME…, or write one name per line to standard input"
        )
    };
    anyhow::ensure!(!input.is_terminal(), usage());
    let mut text = String::new();
    let length = (&mut input).take(MAX_NAMES_BYTES).read_to_string(&mut text)?;
    anyhow::ensure!(
        u64::try_from(length).is_ok_and(|length| length < MAX_NAMES_BYTES),
        "more than 1 MiB of names; create them in several steps"
    );
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    let names: Vec<String> = names.collect();
    anyhow::ensure!(!names.is_empty(), usage());
    Ok(names)
}

/// The time that is `span`, such as `90d` or `12h`, after `now`. A day has 24 hours.
fn expiry_time(now: Timestamp, span: &str) -> anyhow::Result<Timestamp> {
    let invalid = || format!("--expires {span}: expected a span such as 12h or 90d");
    let parsed =
        span.parse::<Span>().ok().filter(|span| span.is_positive()).with_context(invalid)?;
    let time = Zoned::new(now, TimeZone::UTC).checked_add(parsed).ok();
    Ok(time
        .with_context(|| format!("--expires {span}: that is too far in the future"))?
        .timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_spans_are_valid() {
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
            let time = expiry_time(now, span).ok().map(|time| time.to_string());
            assert_eq!(time.as_deref(), expected, "{span}");
        }
    }
}
