//! Runs other programs. Their output is kept for error messages. A program is killed when the thread that started it ends
//! (`PR_SET_PDEATHSIG`), and therefore also when this process ends.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::KernelError;

/// Maximum number of lines of a program's output that an error quotes.
const LAST_LINES: usize = 12;

/// Why a program failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The program is not installed.
    Missing,
    /// The program could not be started, or its output could not be read.
    Io(io::Error),
    /// The program ended with an error.
    Ended {
        /// The exit code or the signal, in words.
        status: String,
        /// The end of its stderr, or of its stdout if stderr is empty; see [`last_lines`].
        output: String,
    },
    /// The program reported that the disk is full.
    Full,
}

/// The message of programs whose write failed for lack of space (ENOSPC).
const NO_SPACE: &str = "No space left on device";

/// Runs a program, without input, until it exits. Passes each line of its stdout to `hear`, and returns the whole stdout.
pub(crate) fn run(command: &mut Command, hear: impl FnMut(&str)) -> Result<String, Failure> {
    command.stdin(Stdio::null());
    follow(command, hear)
}

/// Runs a program like [`run`], in its own process group and with a stdin that stays open until the program or this process
/// ends. A program that waits for the end of its stdin can then kill its whole group once this process is gone.
pub(crate) fn run_bound(command: &mut Command, hear: impl FnMut(&str)) -> Result<String, Failure> {
    command.stdin(Stdio::piped()).process_group(0);
    follow(command, hear)
}

fn follow(command: &mut Command, mut hear: impl FnMut(&str)) -> Result<String, Failure> {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // The error messages are searched for English text.
        .env("LC_ALL", "C");
    // SAFETY: the closure only makes the prctl system call, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            use rustix::process::{Signal, set_parent_process_death_signal};
            set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
        });
    }
    let mut child = command.spawn().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::Missing,
        _ => Failure::Io(e),
    })?;
    // Take stdin here, because `wait` would close it before the program has ended.
    let _stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let complaints = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            // If stderr cannot be read, only the error message suffers.
            let _ = stderr.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let mut printed = String::new();
    let mut lines = stdout.map(BufReader::new);
    let mut line = Vec::new();
    while let Some(reader) = &mut lines {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(Failure::Io)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        hear(text.trim_end());
        printed.push_str(&text);
    }
    let status = child.wait().map_err(Failure::Io)?;
    let complaints = complaints.join().unwrap_or_default();
    if status.success() {
        return Ok(printed);
    }
    if complaints.contains(NO_SPACE) {
        return Err(Failure::Full);
    }
    let output = if complaints.trim().is_empty() {
        &printed
    } else {
        &complaints
    };
    Err(Failure::Ended {
        status: status.to_string(),
        output: last_lines(output),
    })
}

impl Failure {
    /// Converts the failure to an error about `what`, with a `hint` for the user. A caller that can explain `Missing`
    /// better must handle it first.
    pub(crate) fn into_error(
        self,
        what: &str,
        writing_to: &std::path::Path,
        hint: &'static str,
    ) -> KernelError {
        let (status, output) = match self {
            Self::Full => {
                return KernelError::DiskFull {
                    path: writing_to.to_owned(),
                };
            }
            Self::Ended { status, output } => (status, output),
            Self::Missing => ("the program is not installed".to_owned(), String::new()),
            Self::Io(e) => (e.to_string(), String::new()),
        };
        KernelError::Command {
            what: what.to_owned(),
            status,
            output,
            hint,
        }
    }
}

impl Failure {
    /// Converts the failure like [`Failure::into_error`], for a program that compiles the user's source.
    pub(crate) fn into_build_error(
        self,
        what: &str,
        writing_to: &std::path::Path,
        hint: &'static str,
    ) -> KernelError {
        match self {
            Self::Ended { status, output } => KernelError::DoesNotBuild {
                what: what.to_owned(),
                status,
                output,
                hint,
            },
            other => other.into_error(what, writing_to, hint),
        }
    }
}

/// Returns at most [`LAST_LINES`] lines of a program's output: the last ones, or those from its first error on if that error
/// comes before them. More lines than are quoted can follow an error, about the same file or about others that are compiled
/// in parallel. Lines of `make`, every level of which reports the same failure, are quoted only if there are no others.
fn last_lines(text: &str) -> String {
    let is_of_make = |line: &&str| line.starts_with("make") && line.contains(": *** ");
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let mut lines: Vec<&str> = all.iter().copied().filter(|l| !is_of_make(l)).collect();
    if lines.is_empty() {
        lines = all;
    }
    let last = lines.len().saturating_sub(LAST_LINES);
    let first_error = lines.iter().position(|line| line.contains("error: "));
    let start = first_error.map_or(last, |at| at.min(last));
    lines[start..]
        .iter()
        .take(LAST_LINES)
        .map(|l| format!("  {l}"))
        .collect::<Vec<_>>()
        .join("\n")
}
