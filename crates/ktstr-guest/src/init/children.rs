//! Manages the child processes of PID 1: forwards their output to the host, records how they exited, and reaps orphans.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::InitError;
use crate::link;
use crate::protocol::{ProcessEnd, Stream, ToHost};

/// A process that PID 1 started.
#[derive(Debug)]
pub(super) struct Child(Pid);

impl Child {
    pub(super) fn pid(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// Returns how the process ended, or `None` if it has not been reaped yet.
    pub(super) fn end(&self, children: &Children) -> Option<ProcessEnd> {
        children.ended.get(&self.pid()).copied()
    }

    /// Sends a signal to the process. Does nothing once it has been reaped, because its pid may have been reused.
    pub(super) fn signal(&self, children: &Children, signal: Signal) {
        if self.end(children).is_none() {
            let _ = kill_process(self.0, signal);
        }
    }
}

/// The number of bytes that are read from a pipe at once.
const CHUNK: usize = 8192;
/// Maximum number of reads of one pipe in a row. Together these reads can take twice the capacity of a pipe (64 KiB, pipe(7)).
const MOST_CHUNKS: usize = 16;

/// What a child prints to one of its streams.
#[derive(Debug)]
struct Output {
    stream: Stream,
    pipe: File,
    /// The first bytes of a character that the last read has cut in two. They are sent with the next read.
    cut: Vec<u8>,
}

impl Output {
    /// Sends what was read, except for a character whose end has not been read yet.
    fn send(&mut self, read: &[u8]) {
        self.cut.extend_from_slice(read);
        let rest = self.cut.split_off(whole_characters(&self.cut));
        self.flush();
        self.cut = rest;
    }

    /// Sends what is left. Bytes that are not UTF-8 are replaced.
    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.cut);
        if !bytes.is_empty() {
            link::send(&ToHost::Output {
                stream: self.stream,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
    }
}

/// Returns the length of `bytes` without the start of a character at the end whose other bytes are missing.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    let invalid = last.map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => bytes.len() - invalid.len(),
        _ => bytes.len(),
    }
}

/// The child processes that PID 1 has started, and their output.
#[derive(Debug)]
pub(super) struct Children {
    deaths: File,
    outputs: Vec<Output>,
    ended: HashMap<i32, ProcessEnd>,
    live: Vec<Pid>,
}

impl Children {
    pub(super) fn new() -> Result<Self, InitError> {
        // SAFETY: plain system calls on a local signal set.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGCHLD);
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(InitError::system(
                "creating a signalfd for SIGCHLD",
                std::io::Error::last_os_error(),
            ));
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        let deaths = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self {
            deaths,
            outputs: Vec::new(),
            ended: HashMap::new(),
            live: Vec::new(),
        })
    }

    /// Starts `command`, and forwards its output to the host under these stream names.
    pub(super) fn spawn(
        &mut self,
        mut command: Command,
        stdin: Stdio,
        stdout: Stream,
        stderr: Stream,
    ) -> Result<Child, InitError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| InitError::system(format!("starting {program}"), e))?;
        let pid = Pid::from_child(&started);
        let pipes = [
            (stdout, started.stdout.map(OwnedFd::from)),
            (stderr, started.stderr.map(OwnedFd::from)),
        ];
        for (stream, pipe) in pipes {
            if let Some(pipe) = pipe {
                // This cannot fail on a pipe.
                let _ = rustix::io::ioctl_fionbio(&pipe, true);
                self.outputs.push(Output {
                    stream,
                    pipe: File::from(pipe),
                    cut: Vec::new(),
                });
            }
        }
        self.live.push(pid);
        Ok(Child(pid))
    }

    /// Waits until a child prints something or exits, for at most `timeout`, or without a limit if `timeout` is `None`.
    /// Returns the process ids of the children that exited, and how they ended. Orphans of the test are not among them.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Vec<(i32, ProcessEnd)>, InitError> {
        self.wait_or(timeout, None)
    }

    /// Waits like [`Self::wait`], or until `also` is readable.
    pub(super) fn wait_or(
        &mut self,
        timeout: Option<Duration>,
        also: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<(i32, ProcessEnd)>, InitError> {
        let mut fds = vec![PollFd::new(&self.deaths, PollFlags::IN)];
        if let Some(also) = also {
            fds.push(PollFd::from_borrowed_fd(also, PollFlags::IN));
        }
        for output in &self.outputs {
            fds.push(PollFd::from_borrowed_fd(output.pipe.as_fd(), PollFlags::IN));
        }
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: t.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(InitError::system("waiting for processes", e)),
        }
        self.drain();
        // The signal only wakes this process up; `reap` finds out which children exited.
        let mut signals = [0u8; 1024];
        let _ = (&self.deaths).read(&mut signals);
        Ok(self.reap())
    }

    /// Forwards what was printed so far. The function reads at most `MOST_CHUNKS` chunks from each pipe, which is more than a
    /// pipe can hold, so it also returns if a process prints without end.
    pub(super) fn drain(&mut self) {
        self.outputs.retain_mut(|output| {
            let mut chunk = [0u8; CHUNK];
            for _ in 0..MOST_CHUNKS {
                match output.pipe.read(&mut chunk) {
                    Ok(0) => {
                        output.flush();
                        return false;
                    }
                    Ok(n) => output.send(&chunk[..n]),
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
                    Err(_) => {
                        output.flush();
                        return false;
                    }
                }
            }
            true
        });
    }

    /// Forwards what was printed so far, like [`Self::drain`], and also the start of a character whose end nobody will print.
    pub(super) fn drain_all(&mut self) {
        self.drain();
        self.outputs.iter_mut().for_each(Output::flush);
    }

    fn reap(&mut self) -> Vec<(i32, ProcessEnd)> {
        let mut now = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let end = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ProcessEnd::Exited(code),
                (_, Some(signal)) => ProcessEnd::Signaled(signal),
                _ => continue,
            };
            let at = self.live.iter().position(|live| *live == pid);
            // Orphans of the test are reaped and otherwise ignored.
            if let Some(at) = at {
                self.live.swap_remove(at);
                let raw = pid.as_raw_nonzero().get();
                self.ended.insert(raw, end);
                now.push((raw, end));
            }
        }
        now
    }

    /// Kills all children that are still alive.
    pub(super) fn kill_all(&mut self) {
        for pid in self.live.drain(..) {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.drain_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A read of a pipe ends after a number of bytes, which can be in the middle of a character.
    #[test]
    fn a_character_that_a_read_cuts_waits_for_its_end() {
        for text in ["dé", "d\u{20ac}", "d\u{1f980}"] {
            for end in 1..text.len() {
                assert_eq!(whole_characters(&text.as_bytes()[..end]), 1, "{text} {end}");
            }
            assert_eq!(whole_characters(text.as_bytes()), text.len());
        }
        // Bytes that cannot start a character do not wait, and neither does nothing.
        for other in [&b"d\xff"[..], b"d\xe2\x28", b""] {
            assert_eq!(whole_characters(other), other.len(), "{other:?}");
        }
    }
}
