//! What a program writes to its two streams, read by a thread of its own so that the program never waits for a reader.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use ktstr_assert::payload::Captured;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::realtime::{self, RealTime};

/// Bytes kept of each stream: the beginning. What comes later is counted and thrown away.
pub(super) const CAP: usize = 16 << 20;

/// A stream as it was read.
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
                // A character that the cap has cut in two is no fault of the program's.
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

/// Reads both streams of a program until it is told to finish.
#[derive(Debug)]
pub(super) struct Capture {
    reader: JoinHandle<[Taken; 2]>,
    finish: OwnedFd,
}

impl Capture {
    /// Starts to read.
    pub fn start(stdout: OwnedFd, stderr: OwnedFd) -> std::io::Result<Self> {
        let finish = eventfd(0, EventfdFlags::CLOEXEC)?;
        let told = finish.try_clone()?;
        for pipe in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let reader = std::thread::Builder::new()
            .name("ktstr-output".to_owned())
            .spawn(move || read(File::from(stdout), File::from(stderr), told))?;
        Ok(Self { reader, finish })
    }

    /// What was written: standard output, then standard error. Whoever still has the other end of a stream is not waited
    /// for.
    pub fn finish(self) -> [Captured; 2] {
        // A reader that cannot be asked to stop has seen both streams end, or does.
        let _ = rustix::io::write(&self.finish, &1u64.to_ne_bytes());
        self.reader.join().unwrap_or_default().map(Taken::captured)
    }
}

fn read(stdout: File, stderr: File, told: OwnedFd) -> [Taken; 2] {
    // A scheduler under test that starves the reader must not stop the program at a full pipe.
    let in_guest = std::env::var_os(crate::init::TEST_PROCESS_ENV).is_some();
    let _raised = in_guest.then(|| RealTime::raise(realtime::ENGINE));
    let mut streams = [Some(stdout), Some(stderr)];
    let mut taken = [Taken::default(), Taken::default()];
    loop {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&told, PollFlags::IN)];
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

/// Takes what is there; `true` at the stream's end.
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
    fn what_is_no_text_is_replaced_and_told() {
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
