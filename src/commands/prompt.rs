//! Asks the user questions on standard output and reads the answers from standard input, a terminal or a pipe. An API
//! key is only read from a terminal, and is not shown.

use std::io::{ErrorKind, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin, stdin};

use super::output::{print, print_wrapped};

const MAX_ANSWER_BYTES: u64 = 4_096;

/// How often a question is repeated after an invalid answer.
const MAX_TRIES: usize = 3;

/// Why the questions ended early. This is not a failure, but the command did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    /// Ctrl-C was typed.
    #[error("Interrupted.")]
    Interrupted,
    /// The input ended, or the answers were no or invalid.
    #[error("{0}")]
    Unanswered(&'static str),
}

/// Does this work until it is done or Ctrl-C is typed.
///
/// # Errors
/// [`Stopped`], and the errors of the work.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(Stopped::Interrupted.into()),
    }
}

pub(super) struct Prompter {
    input: BufReader<Stdin>,
}

impl Prompter {
    pub(super) fn new() -> Self {
        Self { input: BufReader::new(stdin()) }
    }

    /// Asks for one line, and trims it.
    ///
    /// # Errors
    /// [`Stopped`] at the end of the input.
    pub(super) async fn ask_line(&mut self, question: &str) -> anyhow::Result<String> {
        print_wrapped(question)?;
        let mut bytes = Vec::new();
        let length = (&mut self.input).take(MAX_ANSWER_BYTES).read_until(b'\n', &mut bytes).await?;
        if !std::io::stdin().is_terminal() {
            // A terminal shows the Enter that ends the line; a pipe does not.
            print("\n")?;
        }
        if length == 0 {
            return Err(Stopped::Unanswered("The input ended.").into());
        }
        let line = String::from_utf8(bytes).context("the answer is not valid UTF-8")?;
        Ok(line.trim().to_owned())
    }

    /// Asks until `parse` accepts the answer.
    ///
    /// # Errors
    /// [`Stopped`] at the end of the input, and after three invalid answers.
    pub(super) async fn ask_until_valid<T>(
        &mut self,
        question: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        for _ in 0..MAX_TRIES {
            match parse(&self.ask_line(question).await?) {
                Ok(answer) => return Ok(answer),
                Err(why) => print_wrapped(format!("  {why}\n"))?,
            }
        }
        Err(Stopped::Unanswered("No valid answer was given.").into())
    }

    /// Asks for the word `yes`. Any other answer stops the command.
    ///
    /// # Errors
    /// [`Stopped`] at any other answer and at the end of the input.
    pub(super) async fn require_yes(&mut self, question: &str) -> anyhow::Result<()> {
        let answer = self.ask_line(&format!("{question} Type yes to continue: ")).await?;
        if answer.eq_ignore_ascii_case("yes") {
            Ok(())
        } else {
            Err(Stopped::Unanswered("You did not type yes.").into())
        }
    }

    /// Asks for an API key, which is not shown while it is typed.
    ///
    /// # Errors
    /// Standard input is not a terminal; [`Stopped`] if nothing was typed.
    pub(super) async fn ask_api_key(&mut self, question: &'static str) -> anyhow::Result<String> {
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "no API key is set, and it can be typed at a terminal only. Set CALLINGBOX_API_KEY or \
             CALLINGBOX_API_KEY_FILE and run this again, or add --sandbox, which needs no key"
        );
        let mut typing = tokio::task::spawn_blocking(move || rpassword::prompt_password(question));
        let typed = tokio::select! {
            typed = &mut typing => typed?,
            _ = tokio::signal::ctrl_c() => {
                // Let the terminal show what is typed again before the program ends.
                let _ = tokio::time::timeout(Duration::from_secs(1), typing).await;
                return Err(Stopped::Interrupted.into());
            }
        };
        match typed {
            Ok(key) if !key.trim().is_empty() => Ok(key),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                Err(Stopped::Interrupted.into())
            }
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
                Err(error).context("the key could not be read from the terminal")
            }
            Ok(_) | Err(_) => Err(Stopped::Unanswered("No key was typed.").into()),
        }
    }
}
