//! Captures what a program writes to its two output streams. A separate thread reads them, so that the program never
//! blocks on a full pipe.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use ktstr_assert::payload::Captured;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

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
    reader: JoinHandle<[Taken; 2]>,
    finish: OwnedFd,
}

impl Capture {
    /// Starts the reader thread.
    pub fn start(stdout: OwnedFd, stderr: OwnedFd) -> std::io::Result<Self> {
        let finish = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stop = finish.try_clone()?;
        for pipe in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let reader = std::thread::Builder::new()
            .name("ktstr-output".to_owned())
            .spawn(move || read(File::from(stdout), File::from(stderr), stop))?;
        Ok(Self { reader, finish })
    }

    /// Stops the reader and returns what was written so far: standard output, then standard error. Other processes may still
    /// hold the write end of a stream; the call does not wait for them.
    pub fn finish(self) -> [Captured; 2] {
        // If the write fails, the reader still returns once both streams have ended.
        let _ = rustix::io::write(&self.finish, &1u64.to_ne_bytes());
        self.reader.join().unwrap_or_default().map(Taken::captured)
    }
}

/// Reads both streams until they end, or until `stop` is readable.
fn read(stdout: File, stderr: File, stop: OwnedFd) -> [Taken; 2] {
    // Raise the priority, so that the scheduler under test cannot block the program on a full pipe by starving the reader.
    let in_guest = crate::init::is_test_process();
    let _raised = in_guest.then(|| RealTime::raise(realtime::ENGINE));
    let mut streams = [Some(stdout), Some(stderr)];
    let mut taken = [Taken::default(), Taken::default()];
    loop {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&stop, PollFlags::IN)];
        for pipe in streams.iter().flatten() {
            fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        if fds.len() == 1 {
            return taken;
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return taken,
        }
        let over = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        for (stream, taken) in streams.iter_mut().zip(&mut taken) {
            if stream.as_mut().is_some_and(|pipe| drain(pipe, taken)) {
                *stream = None;
            }
        }
        if over {
            return taken;
        }
    }
}

/// Reads everything that is available. Returns `true` at the end of the stream or after an error.
fn drain(pipe: &mut File, taken: &mut Taken) -> bool {
    let mut chunk = [0u8; 16 << 10];
    loop {
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
