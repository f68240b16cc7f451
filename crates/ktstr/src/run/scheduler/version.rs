//! The version that a scheduler's binary prints for `--version`. The binary is started while the run is prepared.
//!
//! The binary is the user's own and made to be run, but nothing guarantees that it honors the argument. It is therefore
//! started without root privileges and without a terminal, for a second at most: a scheduler that ignores the argument
//! and starts anyway cannot affect the host's kernel without privileges.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the binary may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The largest number of bytes of the answer that are read.
const ANSWER: u64 = 4096;
/// The largest number of characters of the answer's first line that are kept.
const KEPT: usize = 80;
/// The user ID and group ID (`nobody` and `nogroup`) under which root starts the binary.
const NOBODY: u32 = 65_534;

/// The query for a binary's version, which runs in the background. The default value stands for no query, so it has no answer.
#[derive(Debug, Default)]
pub(in crate::run) struct Version {
    asked: Mutex<Option<JoinHandle<Option<String>>>>,
    answer: OnceLock<Option<String>>,
}

impl Version {
    /// Starts to query the binary at `path`.
    pub(in crate::run) fn ask(path: &Path) -> Self {
        Self::ask_within(path, PATIENCE)
    }

    /// Starts to query the binary at `path`, which has the time `patience` to answer.
    fn ask_within(path: &Path, patience: Duration) -> Self {
        let path = path.to_owned();
        Self {
            asked: Mutex::new(Some(std::thread::spawn(move || ask(&path, patience)))),
            answer: OnceLock::new(),
        }
    }

    /// Waits for the answer and returns its first line; `None` if the binary printed none, failed, or did not exit in time.
    pub(in crate::run) fn get(&self) -> Option<&str> {
        let answer = self.answer.get_or_init(|| {
            let asked = self.asked.lock().ok()?.take()?;
            asked.join().ok()?
        });
        answer.as_deref()
    }
}

fn ask(path: &Path, patience: Duration) -> Option<String> {
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
            // An answer that cannot be read counts as none.
            let _ = stdout.take(ANSWER).read_to_end(&mut bytes);
            bytes
        })
    });
    let began = Instant::now();
    let ended_well = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if began.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => break false,
        }
    };
    // The whole process group is killed, so that no child of the binary keeps the pipe open. An error means that the group
    // is gone.
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
    let bytes = answer?.join().ok()?;
    if ended_well { first_line(&bytes) } else { None }
}

/// Returns the first line that is not blank, without control characters, so that it is safe for a terminal.
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

    /// A busy host may take this long until the script has run.
    const LONG: Duration = Duration::from_secs(60);

    /// Returns the version of a shell script with these contents, which `nobody` can execute and which has the time `patience` to
    /// answer, and how long the query took.
    fn asked(content: &str, patience: Duration) -> (Option<String>, Duration) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("program");
        // A child writes the script. If this process had it open for writing, a child that another test starts at that time would
        // inherit the descriptor, and the script could not be executed until that child has closed it.
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\"", "sh"])
            .arg(&path)
            .arg(content)
            .status()
            .expect("a shell");
        assert!(written.success(), "{written}");
        for path in [folder.path(), &path] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("own");
        }
        let began = Instant::now();
        let version = Version::ask_within(&path, patience);
        let answer = version.get().map(str::to_owned);
        (answer, began.elapsed())
    }

    #[test]
    fn the_version_is_the_first_line_without_control_characters() {
        let script = "printf '\\n  scx_x \\033[31m1.2 \\nmore\\n'; test $1 = --version";
        let (answer, _) = asked(script, LONG);
        assert_eq!(answer.as_deref(), Some("scx_x [31m1.2"));
        let (answer, _) = asked("printf %0500d 7", LONG);
        assert_eq!(answer.map(|a| a.len()), Some(KEPT));
    }

    #[test]
    fn a_binary_that_fails_prints_nothing_or_does_not_exit_has_no_version() {
        assert_eq!(asked("echo 1.0; exit 3", LONG).0, None);
        assert_eq!(asked("true", LONG).0, None);
        let (answer, took) = asked("echo 1.0; sleep 3600 & wait", PATIENCE);
        assert_eq!(answer, None);
        assert!(took < Duration::from_secs(600), "{took:?}");
    }

    #[test]
    fn root_starts_the_binary_as_nobody() {
        let own = rustix::process::geteuid().as_raw();
        let expected = if own == 0 { NOBODY } else { own };
        assert_eq!(asked("id -u", LONG).0, Some(expected.to_string()));
    }
}
