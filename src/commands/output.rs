//! Standard output. Only commands write to it on purpose.

use std::io::{ErrorKind, Write};

use anyhow::Context;

/// Writes to standard output and flushes it. A reader that went away is not an error.
pub(super) fn print(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_ref().as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output cannot be written"),
    }
}
