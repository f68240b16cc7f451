//! Captures what a program writes to its two output streams, and the time at which it exits. A separate thread does this, so
//! that the program never blocks on a full pipe, and so that the recorded time of the exit does not depend on when the parent
//! asks for the program's end.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use ktstr_assert::payload::Captured;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::clock::monotonic_ns;
use crate::realtime::{self, RealTime};

/// Maximum number of bytes kept of each stream, from its start. Later bytes are counted and discarded.
pub(super) const CAP: usize = 16 << 20;

/// The bytes read from one stream.
#[derive(Debug, Default)]
struct Taken {
    kept: Vec<u8>,
    bytes: u64,
}

impl Taken {
    fn captured(self) -> Captured {
        let dropped = self.bytes.saturating_sub(self.kept.len() as u64);
        match String::from_utf8(self.kept) {
            Ok(text) => Captured {
                text,
                bytes: self.bytes,
                dropped,
                replaced: false,
            },
            Err(error) => {
                // A character that the limit has cut in two is not the program's fault.
                let cut_only = dropped > 0 && error.utf8_error().error_len().is_none();
                Captured {
                    text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
                    bytes: self.bytes,
                    dropped,
                    replaced: !cut_only,
                }
            }
        }
    }
}

/// A reader of both streams of a program.
#[derive(Debug)]
pub(super) struct Capture {
    reader: JoinHandle<Seen>,
    finish: OwnedFd,
}

/// What the reader thread has seen.
#[derive(Debug, Default)]
struct Seen {
    streams: [Taken; 2],
    exited_ns: Option<u64>,
}

impl Capture {
    /// Starts the reader thread. `program` becomes readable when the program exits.
    pub fn start(stdout: OwnedFd, stderr: OwnedFd, program: OwnedFd) -> std::io::Result<Self> {
        let finish = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stop = finish.try_clone()?;
        for pipe in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let reader = std::thread::Builder::new()
            .name("ktstr-output".to_owned())
            .spawn(move || read(File::from(stdout), File::from(stderr), program, stop))?;
        Ok(Self { reader, finish })
    }

    /// Stops the reader and returns what was written so far: standard output, then standard error. Other processes may still
    /// hold the write end of a stream; the call does not wait for them. Also returns the time of the program's exit, in
    /// nanoseconds of `CLOCK_MONOTONIC`; `None` if it has not exited.
    pub fn finish(self) -> ([Captured; 2], Option<u64>) {
        // If the write fails, the reader still returns once both streams have ended and the program has exited.
        let _ = rustix::io::write(&self.finish, &1u64.to_ne_bytes());
        let seen = self.reader.join().unwrap_or_default();
        (seen.streams.map(Taken::captured), seen.exited_ns)
    }
}

/// Reads both streams until they have ended and the program has exited, or until `stop` is readable.
fn read(stdout: File, stderr: File, program: OwnedFd, stop: OwnedFd) -> Seen {
    // Raise the priority, so that the scheduler under test cannot block the program on a full pipe by starving the reader.
    let in_guest = crate::init::is_test_process();
    let _raised = in_guest.then(|| RealTime::raise(realtime::ENGINE));
    let mut streams = [Some(stdout), Some(stderr)];
    let mut seen = Seen::default();
    loop {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&stop, PollFlags::IN)];
        if seen.exited_ns.is_none() {
            fds.push(PollFd::new(&program, PollFlags::IN));
        }
        for pipe in streams.iter().flatten() {
            fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        if fds.len() == 1 {
            return seen;
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return seen,
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let over = is_ready(0);
        if seen.exited_ns.is_none() && is_ready(1) {
            seen.exited_ns = Some(monotonic_ns());
        }
        for (stream, taken) in streams.iter_mut().zip(&mut seen.streams) {
            if stream.as_mut().is_some_and(|pipe| drain(pipe, taken)) {
                *stream = None;
            }
        }
        if over {
            return seen;
        }
    }
}

/// Reads what is available, but at most twice what a pipe holds (64 KiB, pipe(7)), because a process may write without end.
/// Returns `true` at the end of the stream or after an error.
fn drain(pipe: &mut File, taken: &mut Taken) -> bool {
    let mut chunk = [0u8; 16 << 10];
    for _ in 0..8 {
        match pipe.read(&mut chunk) {
            Ok(0) => return true,
            Ok(n) => {
                taken.bytes += n as u64;
                let room = CAP - taken.kept.len();
                taken.kept.extend_from_slice(&chunk[..n.min(room)]);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(kept: &[u8], bytes: u64) -> Captured {
        Taken {
            kept: kept.to_vec(),
            bytes,
        }
        .captured()
    }

    #[test]
    fn the_time_of_the_exit_is_not_that_of_the_collection() {
        use std::process::{Command, Stdio};
        let mut child = Command::new("true")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a program true");
        let id = rustix::process::Pid::from_child(&child);
        let program = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty());
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = pipes.expect("pipes");
        let began_ns = monotonic_ns();
        let capture = Capture::start(stdout.into(), stderr.into(), program.expect("a pidfd"));
        let capture = capture.expect("a thread");
        while !capture.reader.is_finished() {
            std::thread::yield_now();
        }
        let seen_ns = monotonic_ns();
        let (_, exited_ns) = capture.finish();
        let exited_ns = exited_ns.expect("it has exited");
        assert!((began_ns..=seen_ns).contains(&exited_ns));
        child.wait().expect("it is a child");
    }

    #[test]
    fn invalid_utf_8_is_replaced_and_reported() {
        let bad = captured(b"a\xffb", 3);
        assert_eq!(
            (bad.text.as_str(), bad.replaced, bad.dropped),
            ("a\u{fffd}b", true, 0)
        );
        let cut = captured("aé".as_bytes().split_last().expect("bytes").1, 10);
        assert_eq!((cut.replaced, cut.dropped), (false, 8));
        assert!(captured("aé".as_bytes().split_last().expect("bytes").1, 2).replaced);
    }
}
