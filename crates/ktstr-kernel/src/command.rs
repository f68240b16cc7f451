//! Calling other programs: their output kept for the error, their life bound to ours.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::KernelError;

/// How much of a program's words an error quotes.
const LAST_LINES: usize = 12;

/// Why a program did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is not installed.
    Missing,
    /// It could not be started or heard.
    Io(io::Error),
    /// It ended badly.
    Ended {
        /// The exit code or the signal.
        status: String,
        /// The end of what it printed on stderr, or on stdout if there is nothing on stderr; see [`last_lines`].
        output: String,
    },
    /// It said that the disk is full.
    Full,
}

/// What programs write when a write fails for want of space (ENOSPC).
const NO_SPACE: &str = "No space left on device";

/// Runs a program to its end; `hear` gets each line of its stdout, which is also returned.
pub(crate) fn run(command: &mut Command, hear: impl FnMut(&str)) -> Result<String, Failure> {
    command.stdin(Stdio::null());
    follow(command, hear)
}

/// As [`run`], in a process group of its own, and with a stdin that stays open until the program has ended or we have:
/// a program that waits for its end can take its whole group along.
pub(crate) fn run_bound(command: &mut Command, hear: impl FnMut(&str)) -> Result<String, Failure> {
    command.stdin(Stdio::piped()).process_group(0);
    follow(command, hear)
}

fn follow(command: &mut Command, mut hear: impl FnMut(&str)) -> Result<String, Failure> {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
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
    // `wait` would close it before the program has ended.
    let _stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let complaints = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            // What cannot be read is missing from the message, no more.
            let _ = stderr.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let mut said = String::new();
    let mut lines = stdout.map(BufReader::new);
    let mut line = Vec::new();
    while let Some(reader) = &mut lines {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(Failure::Io)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        hear(text.trim_end());
        said.push_str(&text);
    }
    let status = child.wait().map_err(Failure::Io)?;
    let complaints = complaints.join().unwrap_or_default();
    if status.success() {
        return Ok(said);
    }
    if complaints.contains(NO_SPACE) {
        return Err(Failure::Full);
    }
    let output = if complaints.trim().is_empty() {
        &said
    } else {
        &complaints
    };
    Err(Failure::Ended {
        status: status.to_string(),
        output: last_lines(output),
    })
}

impl Failure {
    /// As an error about `what`, with `hint` on what to do. `Missing` is the caller's to explain.
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
    /// As [`Failure::into_error`], for a program that compiles what the user gave.
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

/// The end of what a program said, but no later than its first error: what follows that, from the same file or from what
/// was compiled beside it, can be longer than what is quoted. Of `make`, whose every level repeats that something failed,
/// nothing is quoted unless it is all there is.
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
