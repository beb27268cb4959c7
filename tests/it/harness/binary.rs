//! The real binary, in an empty home folder and with an empty environment.

use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use super::within_limit;

/// A temporary home folder.
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into it, and creates the folders for it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A command that starts the binary here, and kills it when its handle is dropped.
    pub(crate) fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callingbox-mcp"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            // So that the program under test is nowhere in a temporary folder.
            .env("TMPDIR", self.path().join("tmp"))
            .env("XDG_CONFIG_HOME", self.path().join(".config"))
            .env("XDG_DATA_HOME", self.path().join(".local/share"))
            .envs(environment.iter().copied())
            .current_dir(self.path())
            .kill_on_drop(true);
        command
    }

    /// The same on a pseudo-terminal, which `script` (util-linux) provides.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_terminal(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        self.on_narrow_terminal(None, arguments, environment)
    }

    /// The same, with so many columns.
    #[cfg(target_os = "linux")]
    pub(crate) fn on_narrow_terminal(
        &self,
        columns: Option<u16>,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Command {
        let inner = self.command(arguments, environment);
        let inner = inner.as_std();
        let size =
            columns.map_or_else(String::new, |columns| format!("stty rows 24 cols {columns}; "));
        let line = [&["exec", env!("CARGO_BIN_EXE_callingbox-mcp")], arguments].concat().join(" ");
        let mut command = Command::new("script");
        command
            .args(["-qefc", &format!("{size}{line}"), "/dev/null"])
            .env_clear()
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it until it exits, with an empty standard input.
    pub(crate) async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.command(arguments, environment);
        within_limit("the end of the command", command.stdin(Stdio::null()).output()).await.unwrap()
    }

    /// Runs it, asserts that it succeeds, and returns its standard output.
    pub(crate) async fn print(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, &[]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, asserts that it fails, and returns its standard error.
    pub(crate) async fn run_failing(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, &[]).await;
        assert!(!output.status.success(), "{arguments:?}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}
