//! What a scheduler's binary answers to `--version`, asked while the run is prepared.
//!
//! The binary is the user's own and made to be run, but nothing forces it to heed the argument. It is
//! therefore asked with neither root nor a terminal, for a second at most: without privileges a
//! scheduler that starts all the same cannot reach the host's kernel.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the binary may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of the answer that are looked at, and characters of it that are kept.
const ANSWER: u64 = 4096;
const KEPT: usize = 80;
/// `nobody` and `nogroup`: whom root asks as.
const NOBODY: u32 = 65_534;

/// A question that is answered in the background.
#[derive(Debug, Default)]
pub(in crate::run) struct Version {
    asked: Mutex<Option<JoinHandle<Option<String>>>>,
    answer: OnceLock<Option<String>>,
}

impl Version {
    /// Starts to ask the binary at `path`.
    pub(in crate::run) fn ask(path: &Path) -> Self {
        let path = path.to_owned();
        Self {
            asked: Mutex::new(Some(std::thread::spawn(move || ask(&path)))),
            answer: OnceLock::new(),
        }
    }

    /// The first line of the answer; `None` without one.
    pub(in crate::run) fn get(&self) -> Option<&str> {
        let answer = self.answer.get_or_init(|| {
            let asked = self.asked.lock().ok()?.take()?;
            asked.join().ok()?
        });
        answer.as_deref()
    }
}

fn ask(path: &Path) -> Option<String> {
    let mut command = Command::new(path);
    command
        .arg("--version")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = super::build::bound_to_us(&mut command).spawn().ok()?;
    let answer = child.stdout.take().map(|stdout| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What cannot be read is no answer.
            let _ = stdout.take(ANSWER).read_to_end(&mut bytes);
            bytes
        })
    });
    let began = Instant::now();
    let ended_well = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => break false,
        }
    };
    // With its whole group, so that nothing it started keeps the pipe open.
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
    let bytes = answer?.join().ok()?;
    if ended_well { first_line(&bytes) } else { None }
}

/// The first line that says something, fit for a terminal.
fn first_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let printable = line.chars().filter(|c| !c.is_control());
    Some(printable.take(KEPT).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program of this content that `nobody` can run.
    fn asked(content: &str) -> (Option<String>, Duration) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{content}\n")).expect("writable");
        for path in [folder.path(), &path] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("own");
        }
        let began = Instant::now();
        let version = Version::ask(&path);
        let answer = version.get().map(str::to_owned);
        (answer, began.elapsed())
    }

    #[test]
    fn the_first_line_of_an_answer_without_control_characters() {
        let (answer, _) = asked("printf '\\n  scx_x \\033[31m1.2 \\nmore\\n'; test $1 = --version");
        assert_eq!(answer.as_deref(), Some("scx_x [31m1.2"));
        let (answer, _) = asked("printf %0500d 7");
        assert_eq!(answer.map(|a| a.len()), Some(KEPT));
    }

    #[test]
    fn one_that_fails_says_nothing_or_does_not_end_has_no_version() {
        assert_eq!(asked("echo 1.0; exit 3").0, None);
        assert_eq!(asked("true").0, None);
        let (answer, took) = asked("echo 1.0; sleep 60 & wait");
        assert_eq!(answer, None);
        assert!(took < PATIENCE + Duration::from_secs(20), "{took:?}");
    }

    #[test]
    fn root_asks_as_nobody() {
        let own = rustix::process::geteuid().as_raw();
        let expected = if own == 0 { NOBODY } else { own };
        assert_eq!(asked("id -u").0, Some(expected.to_string()));
    }
}
