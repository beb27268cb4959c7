//! The real binary, in a home of its own and with an environment that says nothing.

use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use super::soon;

/// An empty home.
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

    /// A file in it, with its folders.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The binary, ready to be started here. It ends with its handle.
    pub(crate) fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callingbox-mcp"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("XDG_CONFIG_HOME", self.path().join(".config"))
            .env("XDG_DATA_HOME", self.path().join(".local/share"))
            .envs(environment.iter().copied())
            .current_dir(self.path())
            .kill_on_drop(true);
        command
    }

    /// The same on a pseudo-terminal, that of `script` (util-linux).
    #[cfg(target_os = "linux")]
    pub(crate) fn on_terminal(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let inner = self.command(arguments, environment);
        let inner = inner.as_std();
        let line = [&["exec", env!("CARGO_BIN_EXE_callingbox-mcp")], arguments].concat().join(" ");
        let mut command = Command::new("script");
        command
            .args(["-qefc", &line, "/dev/null"])
            .env_clear()
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end, with nothing to read.
    pub(crate) async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.command(arguments, environment);
        soon("the end of the command", command.stdin(Stdio::null()).output()).await.unwrap()
    }

    /// Runs it to a good end, and gives what it printed.
    pub(crate) async fn print(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, &[]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it to a bad end, and gives what it complained of.
    pub(crate) async fn complaint(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, &[]).await;
        assert!(!output.status.success(), "{arguments:?}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}
