//! `callingbox-mcp optout`: the do-not-call list in the terminal. Only here whole numbers are shown, and only here a number
//! is taken off the list, by a person who types its last digits.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use jiff::{SignedDuration, Timestamp};

use super::output::print;
use super::prompt::{Prompter, unless_interrupted};
use crate::cli::{OptOutArgs, OptOutCommand};
use crate::dialing::caller::CallerName;
use crate::dialing::destination::{NumberType, canonical_form, parse_callee};
use crate::dialing::dialer::Dialer;
use crate::dialing::ledger::{MAX_PAGE, OptOut, OptOutSource, RecordOptOutResult};
use crate::dialing::opt_outs::OptOutRequest;
use crate::dialing::organization::UnknownAccount;
use crate::dialing::policy::{RuleName, refuse_undialable};
use crate::runtime::{self, HttpExtras, Runtime};
use crate::settings::ProgramSettings;
use callingbox::E164;

/// The largest file that is imported.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// How many lines with mistakes are named.
const MAX_NAMED_MISTAKES: usize = 20;
const HEADER: &str = "number,recorded_at,source,reason,expires_at";
const DEFAULT_REASON: &str = "recorded by a person";

pub(super) async fn run(args: &OptOutArgs, settings: &ProgramSettings) -> anyhow::Result<()> {
    if let OptOutCommand::Remove { .. } = args.command {
        ensure!(
            std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
            "a number is taken off the list only in a terminal, by a person"
        );
    }
    let shared = runtime::open_shared_state(&args.state, settings)?;
    let extras = HttpExtras { shared, ..HttpExtras::default() };
    let runtime = Runtime::open_with(settings, extras, None).await?;
    let account = runtime.account();
    let dialer = account.dialer()?;
    let result = match &args.command {
        OptOutCommand::Add { number, reason, days } => {
            add(dialer, number, reason.as_deref(), *days).await
        }
        OptOutCommand::List { full, all } => list(dialer, *full, *all).await,
        OptOutCommand::Remove { number } => unless_interrupted(remove(dialer, number)).await,
        OptOutCommand::Import { file } => import(dialer, file).await,
        OptOutCommand::Export => export(dialer).await,
    };
    let closed = runtime.close().await;
    result.and(closed)
}

async fn record(
    dialer: &Dialer,
    number: E164,
    source: OptOutSource,
    reason: &str,
    expires_at: Option<Timestamp>,
) -> anyhow::Result<bool> {
    let request = OptOutRequest {
        number,
        source,
        call: None,
        caller: CallerName::local(),
        reason: reason.to_owned(),
        expires_at,
    };
    let result = dialer.record_opt_out(request).await?;
    Ok(matches!(result, RecordOptOutResult::Recorded(_)))
}

/// Reads a number for the list. An emergency number needs no entry.
fn parse_number(text: &str) -> Result<E164, String> {
    let number = parse_callee(text).map_err(|error| error.to_string())?;
    match refuse_undialable(&number) {
        Some(refusal) if refusal.rule == RuleName::Never(NumberType::Emergency) => {
            Err(refusal.describe_for_person())
        }
        _ => Ok(canonical_form(&number)),
    }
}

async fn add(
    dialer: &Dialer,
    number: &str,
    reason: Option<&str>,
    days: Option<u32>,
) -> anyhow::Result<()> {
    let number = parse_number(number).map_err(anyhow::Error::msg)?;
    let now = dialer.now().await?.dialing;
    let expires_at = days
        .map(|days| now.checked_add(SignedDuration::from_hours(i64::from(days) * 24)))
        .transpose()?;
    let masked = number.masked();
    let reason = reason.unwrap_or(DEFAULT_REASON);
    let is_new = record(dialer, number, OptOutSource::Terminal, reason, expires_at).await?;
    print(match (is_new, expires_at) {
        (false, _) => format!("{masked} was on the do-not-call list already.\n"),
        (true, None) => format!("{masked} is not called again.\n"),
        (true, Some(until)) => format!("{masked} is not called before {}.\n", format_time(until)),
    })
}

/// Every entry of the account, in the order of the numbers. `all` includes what was removed or has expired.
async fn load(dialer: &Dialer, all: bool) -> anyhow::Result<Vec<OptOut>> {
    let account = match dialer.account().await {
        // An organization without an agent has called nobody.
        Err(UnknownAccount::NoAgent) => return Ok(Vec::new()),
        account => account?,
    };
    let ledger = dialer.ledger().await?;
    let now = dialer.now().await?.dialing;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.list_opt_outs(account.id(), after.as_ref(), MAX_PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.number.clone());
        found.extend(page.into_iter().filter(|entry| all || entry.is_in_force(now)));
    }
}

async fn list(dialer: &Dialer, full: bool, all: bool) -> anyhow::Result<()> {
    let entries = load(dialer, all).await?;
    if entries.is_empty() {
        return print("The do-not-call list is empty.\n");
    }
    let mut text = format!(
        "{:<17} {:<20} {:<9} {:<20} {:<24} {}\n",
        "NUMBER", "SINCE", "SOURCE", "UNTIL", "CALL", "REASON"
    );
    for entry in &entries {
        let number = if full { entry.number.as_str().to_owned() } else { entry.number.masked() };
        let until = match (&entry.removal, entry.expires_at) {
            (Some(removal), _) => format_time(removal.removed_at),
            (None, Some(until)) => format_time(until),
            (None, None) => "for good".to_owned(),
        };
        let removed =
            entry.removal.as_ref().map(|removal| format!(" (removed: {})", removal.reason));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{number:<17} {:<20} {:<9} {until:<20} {:<24} {}{}",
            format_time(entry.recorded_at),
            entry.source,
            entry.remote_id.as_deref().unwrap_or("-"),
            entry.reason,
            removed.unwrap_or_default()
        );
    }
    print(text)
}

async fn remove(dialer: &Dialer, number: &str) -> anyhow::Result<()> {
    let number = parse_number(number).map_err(anyhow::Error::msg)?;
    let account = dialer.account().await?;
    let ledger = dialer.ledger().await?;
    let callee = account.hash(&number);
    let now = dialer.now().await?.dialing;
    let Some(entry) = ledger.find_opt_out(account.id(), &callee, now).await? else {
        return print(format!("{} is not on the do-not-call list.\n", number.masked()));
    };
    let mut prompter = Prompter::new();
    print(format!(
        "{} asked not to be called again, since {}: {}.\n",
        number.masked(),
        format_time(entry.recorded_at),
        entry.reason
    ))?;
    let digits = prompter.ask_line("The last four digits of the number: ").await?;
    let is_right = digits.len() == 4 && number.as_str().ends_with(&digits);
    ensure!(is_right, "these are not its last four digits; the list was not changed");
    let reason = prompter.ask_line("Why may the number be called again? ").await?;
    ensure!(!reason.is_empty(), "a reason is needed; the list was not changed");
    ledger.remove_opt_out(account.id(), &callee, now, &reason).await?;
    print(format!("{} may be called again. The reason is kept.\n", number.masked()))
}

/// One line of a file.
#[derive(Debug, PartialEq)]
struct ImportedLine {
    number: E164,
    reason: Option<String>,
    expires_at: Option<Timestamp>,
}

async fn import(dialer: &Dialer, path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("{shown} cannot be read"))?.len();
    ensure!(size <= MAX_FILE_BYTES, "{shown} is larger than 32 MiB");
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{shown} cannot be read as UTF-8 text"))?;
    let lines = parse_file(&text)?;
    let (mut recorded, count) = (0, lines.len());
    for line in lines {
        let reason = line.reason.as_deref().unwrap_or("imported");
        let is_new =
            record(dialer, line.number, OptOutSource::Import, reason, line.expires_at).await?;
        recorded += usize::from(is_new);
    }
    print(format!("{recorded} recorded, {} known already.\n", count - recorded))
}

/// Reads every line, or says which are wrong; nothing is imported in part. The first line may name the columns; without
/// it the first column is the number.
fn parse_file(text: &str) -> anyhow::Result<Vec<ImportedLine>> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate().peekable();
    let columns: Vec<String> = match lines.peek() {
        Some((_, first)) if !first.trim_start().starts_with(['+', '"']) => {
            let names = split_line(first).unwrap_or_default();
            lines.next();
            names.into_iter().map(|name| name.trim().to_ascii_lowercase()).collect()
        }
        _ => vec!["number".to_owned()],
    };
    let column = |name: &str| columns.iter().position(|column| column == name);
    let number = column("number").context("the first line names no column `number`")?;
    let (reason, expires_at) = (column("reason"), column("expires_at"));
    let (mut found, mut mistakes) = (Vec::new(), Vec::new());
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        match parse_line(line, number, reason, expires_at) {
            Ok(line) => found.push(line),
            Err(mistake) => mistakes.push(format!("line {}: {mistake}", index + 1)),
        }
    }
    if !mistakes.is_empty() {
        let count = mistakes.len();
        mistakes.truncate(MAX_NAMED_MISTAKES);
        bail!("{count} lines are wrong; nothing was imported\n{}", mistakes.join("\n"));
    }
    Ok(found)
}

fn parse_line(
    line: &str,
    number: usize,
    reason: Option<usize>,
    expires_at: Option<usize>,
) -> Result<ImportedLine, String> {
    let fields = split_line(line).ok_or("a quotation mark is missing")?;
    let field = |index: usize| {
        fields.get(index).map(|field| field.trim()).filter(|field| !field.is_empty())
    };
    let number = field(number).ok_or("it has no number")?;
    let not_a_time = |_| "expires_at is not a timestamp such as 2026-11-22T08:00:00Z".to_owned();
    Ok(ImportedLine {
        number: parse_number(number)?,
        reason: reason.and_then(field).map(str::to_owned),
        expires_at: expires_at
            .and_then(field)
            .map(str::parse::<Timestamp>)
            .transpose()
            .map_err(not_a_time)?,
    })
}

/// The fields of one line of CSV (RFC 4180); `None` if a quotation mark is missing.
fn split_line(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.trim_end_matches('\r').chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    (!is_quoted).then_some(fields)
}

async fn export(dialer: &Dialer) -> anyhow::Result<()> {
    print(format_csv(&load(dialer, false).await?))
}

fn format_csv(entries: &[OptOut]) -> String {
    let mut text = format!("{HEADER}\n");
    for entry in entries {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{},{},{},\"{}\",{}",
            entry.number.as_str(),
            format_time(entry.recorded_at),
            entry.source,
            entry.reason.replace('"', "\"\""),
            entry.expires_at.map(format_time).unwrap_or_default()
        );
    }
    text
}

fn format_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> E164 {
        E164::parse(text).unwrap()
    }

    #[test]
    fn a_file_is_read_with_and_without_a_header() {
        let line = |number_text: &str, reason: Option<&str>| ImportedLine {
            number: number(number_text),
            reason: reason.map(str::to_owned),
            expires_at: None,
        };
        for (text, expected) in [
            (
                "+13105550101\n+13105550102\r\n\n",
                vec![("+13105550101", None), ("+13105550102", None)],
            ),
            ("\"+13105550101\",x\n", vec![("+13105550101", None)]),
            (
                "\u{feff}Reason,Number\n\"never, \"\"ever\"\"\",+13105550101\n",
                vec![("+13105550101", Some("never, \"ever\""))],
            ),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(number, reason)| line(number, reason)).collect();
            assert_eq!(parse_file(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_with_a_mistake_is_not_imported_and_each_mistake_is_named() {
        let wrong =
            "number,expires_at\n+13105550101,\n3105550102,\n+13105550103,tomorrow\n,\n\"+1\n";
        let error = parse_file(wrong).unwrap_err().to_string();
        for part in [
            "4 lines are wrong; nothing",
            "line 3: ",
            "line 4: expires_at",
            "line 5: it has no",
            "line 6: a quotation",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("3105550102"), "{error}");
        assert!(parse_file("phone\n+13105550101\n").is_err());
    }

    #[test]
    fn an_export_can_be_imported() {
        use crate::dialing::ledger::{KeyRef, LedgerSecret};

        let key = callingbox::ApiKey::new("sk_test".to_owned()).unwrap();
        let account = KeyRef::new(key, &callingbox::BaseUrl::default())
            .organization_account(&LedgerSecret::new([1; 32]), "org_1");
        let at: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        let to = number("+13105550101");
        let reason = "said \"never, ever\"";
        let (source, caller) = (OptOutSource::Call, CallerName::local());
        let mut entry = OptOut::new(&account, to.clone(), source, caller, reason, at);
        entry.expires_at = Some(at);
        let exported = format_csv(&[entry]);
        assert_eq!(
            exported,
            "number,recorded_at,source,reason,expires_at\n\
             +13105550101,2026-11-22T08:00:00Z,call,\"said \"\"never, ever\"\"\",2026-11-22T08:00:00Z\n"
        );
        let expected =
            ImportedLine { number: to, reason: Some(reason.to_owned()), expires_at: Some(at) };
        assert_eq!(parse_file(&exported).unwrap(), [expected]);
    }
}
