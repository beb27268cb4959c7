//! Questions to the person at the keyboard: the question on standard output, the answer from standard
//! input, be it a terminal or a pipe. A key is asked for at a terminal only, and is not shown.

use std::io::IsTerminal;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin, stdin};

use super::output::print;

/// The most characters of an answer that are read.
const MOST: u64 = 4_096;

/// How often the same is asked before it is given up.
const TRIES: usize = 3;

/// Why nothing more is asked. Nothing failed, but what was to be done is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    /// Ctrl-C was typed.
    #[error("Interrupted.")]
    Interrupted,
    /// No answer will come, or the answer was no: which of them.
    #[error("{0}")]
    Unanswered(&'static str),
}

/// Does this unless Ctrl-C is typed before it is done.
///
/// # Errors
/// [`Stopped`], and those of the work.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Stopped::Interrupted.into()),
    }
}

/// Who asks.
pub(super) struct Asker {
    input: BufReader<Stdin>,
}

impl Asker {
    pub(super) fn new() -> Self {
        Self { input: BufReader::new(stdin()) }
    }

    /// One line, without the white space around it.
    ///
    /// # Errors
    /// [`Stopped`] at the end of the input.
    pub(super) async fn line(&mut self, question: &str) -> anyhow::Result<String> {
        print(question)?;
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(MOST).read_until(b'\n', &mut bytes).await?;
        if !std::io::stdin().is_terminal() {
            // Nobody pressed Enter where it could be seen.
            print("\n")?;
        }
        if read == 0 {
            return Err(Stopped::Unanswered("The input ended.").into());
        }
        String::from_utf8(bytes)
            .map(|line| line.trim().to_owned())
            .context("the answer is not text")
    }

    /// The same, until `read` can do something with it.
    ///
    /// # Errors
    /// [`Stopped`] at the end of the input, and after three answers that cannot be used.
    pub(super) async fn until<T>(
        &mut self,
        question: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        for _ in 0..TRIES {
            match read(&self.line(question).await?) {
                Ok(answer) => return Ok(answer),
                Err(why) => print(format!("  {why}\n"))?,
            }
        }
        Err(Stopped::Unanswered("No answer could be used.").into())
    }

    /// Nothing but the word `yes` goes on.
    ///
    /// # Errors
    /// [`Stopped`] at any other answer and at the end of the input.
    pub(super) async fn yes(&mut self, question: &str) -> anyhow::Result<()> {
        let answer = self.line(&format!("{question} Type yes to go on: ")).await?;
        if answer.eq_ignore_ascii_case("yes") {
            Ok(())
        } else {
            Err(Stopped::Unanswered("You did not say yes.").into())
        }
    }

    /// A secret, which is not shown while it is typed.
    ///
    /// # Errors
    /// Standard input is no terminal, or [`Stopped`] when nothing was typed.
    pub(super) async fn secret(&mut self, question: &'static str) -> anyhow::Result<String> {
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "no API key is set, and it is asked for at a terminal only. Set CALLINGBOX_API_KEY or \
             CALLINGBOX_API_KEY_FILE and run this again, or add --sandbox, which needs none"
        );
        let mut typing = tokio::task::spawn_blocking(move || rpassword::prompt_password(question));
        let typed = tokio::select! {
            typed = &mut typing => Some(typed?),
            // The terminal gets its echo back before this program ends.
            _ = tokio::signal::ctrl_c() => {
                let _ = tokio::time::timeout(std::time::Duration::from_secs(1), typing).await;
                None
            }
        };
        let typed = match typed {
            Some(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => None,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Stopped::Unanswered("No key was typed.").into());
            }
            Some(typed) => Some(typed.context("the key could not be read from the terminal")?),
            None => None,
        };
        let typed = typed.ok_or(Stopped::Interrupted)?;
        if typed.trim().is_empty() {
            return Err(Stopped::Unanswered("No key was typed.").into());
        }
        Ok(typed)
    }
}
