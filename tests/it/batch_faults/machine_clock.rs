//! The clocks of the machine on which the servers of a test run, which the test shifts. `tests/replicas` includes this file too.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use tempfile::TempDir;

/// What is added to the clocks of every process that was started with [`MachineClock::environment`].
pub(crate) struct MachineClock {
    dir: TempDir,
    /// Seconds added to the wall clock, and to the monotonic clock.
    shift: Mutex<(i64, i64)>,
}

impl MachineClock {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/batch_faults/clock_shift.c");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-o"])
            .arg(dir.path().join("clock_shift.so"))
            .arg(source);
        assert!(compiler.status().unwrap().success());
        std::fs::write(dir.path().join("shift"), [0; 16]).unwrap();
        Self { dir, shift: Mutex::default() }
    }

    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        [("LD_PRELOAD", path("clock_shift.so")), ("CLOCK_SHIFT_FILE", path("shift"))]
    }

    /// Time passes for the machine: on both clocks.
    pub(crate) fn pass(&self, seconds: i64) {
        self.shift(seconds, seconds);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump(&self, seconds: i64) {
        self.shift(seconds, 0);
    }

    fn shift(&self, wall: i64, monotonic: i64) {
        let mut shift = self.shift.lock().unwrap();
        *shift = (shift.0 + wall, shift.1 + monotonic);
        let path: PathBuf = self.dir.path().join("shift");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let bytes = [shift.0.to_ne_bytes(), shift.1.to_ne_bytes()].concat();
        file.write_all_at(&bytes, 0).unwrap();
    }
}
