//! The output of a machine: the guest's serial console, and QEMU's standard error. Each is kept within a size limit.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::{MachineError, anonymous_file};

/// The number of bytes that are kept from the start, and from the end, of the console's output.
const KEEP: usize = 256 << 10;
/// The granularity in which memory is returned to the host, in bytes.
const STEP: u64 = 64 << 10;
/// The longest wait for the rest of the output after the writer has exited. What is in the pipe is read within milliseconds. If
/// the pipe is open for longer than this, another process inherited it and still runs.
const REST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    total: u64,
}

/// Collects what is written into a pipe, in its own thread, until the pipe is closed.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    /// Disconnected when the thread has read everything; `None` after [`Console::finish`] has waited for that.
    ended: Option<Receiver<()>>,
}

/// The pipe and what was read from it. The pipe is only read under the lock, so that bytes are kept in their order.
#[derive(Debug)]
struct Shared {
    pipe: File,
    kept: Mutex<Kept>,
}

impl Console {
    /// Starts to read `pipe`.
    pub fn collect(pipe: impl Into<OwnedFd>) -> Self {
        let shared = Arc::new(Shared {
            pipe: File::from(pipe.into()),
            kept: Mutex::default(),
        });
        let reader = Arc::clone(&shared);
        let (end, ended) = channel::<()>();
        std::thread::spawn(move || {
            while reader.wait_and_read() {}
            drop(end);
        });
        Self {
            shared,
            ended: Some(ended),
        }
    }

    /// Returns what was printed so far: all of it, or its start and its end with a note about the gap. Every byte that was
    /// written before the call is taken into account, even if the thread of the console has not run since: the host may be
    /// busy, and the caller decides by this text whether the guest panicked.
    pub fn text(&self) -> String {
        let mut kept = self.shared.lock();
        // After an error the text has what was read before it.
        let _ = self.shared.read_available(&mut kept);
        let tail: Vec<u8> = kept.tail.iter().copied().collect();
        text_of(&kept.head, &tail, kept.total)
    }

    /// Waits for the end of the stream, but at most for `REST`. Call this after the writer has exited.
    pub fn finish(&mut self) {
        self.finish_within(REST);
    }

    fn finish_within(&mut self, limit: Duration) {
        if let Some(ended) = self.ended.take() {
            // The thread sends nothing: the wait ends when it drops its end of the channel, or at the limit.
            let _ = ended.recv_timeout(limit);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for bytes, and reads them. Returns whether there can be more.
    fn wait_and_read(&self) -> bool {
        let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return true,
            Err(_) => return false,
        }
        let is_closed = fds[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        match self.read_available(&mut self.lock()) {
            Ok(0) => !is_closed,
            Ok(_) => true,
            // An error ends the console, as the end of the pipe does.
            Err(_) => false,
        }
    }

    /// Reads the bytes that are in the pipe now, without waiting for others. Returns their number.
    fn read_available(&self, kept: &mut Kept) -> std::io::Result<usize> {
        let count = rustix::io::ioctl_fionread(&self.pipe)?;
        let mut bytes = Vec::new();
        let read = (&self.pipe).take(count).read_to_end(&mut bytes);
        kept.keep(&bytes);
        read
    }
}

impl Kept {
    fn keep(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = KEEP - self.head.len().min(KEEP);
        let (head, tail) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let over = self.tail.len().saturating_sub(KEEP);
        self.tail.drain(..over);
    }
}

fn text_of(head: &[u8], tail: &[u8], total: u64) -> String {
    let mut text = String::from_utf8_lossy(head).into_owned();
    let left_out = total.saturating_sub((head.len() + tail.len()) as u64);
    if left_out > 0 {
        text.push_str(&format!("\n[... {left_out} bytes left out ...]\n"));
    }
    text.push_str(&String::from_utf8_lossy(tail));
    text
}

/// The console of a machine under the virtual clock. It is a file in memory, which accepts every byte at once, whereas
/// a pipe would make the guest wait for the host.
///
/// The file grows while the guest prints, and the host frees the memory in its middle. What is kept, the first and the
/// last [`KEEP`] bytes, depends only on what was printed.
#[derive(Debug)]
pub(crate) struct ConsoleFile {
    file: File,
    /// The end of the part that was freed, which starts at [`KEEP`].
    freed_up_to: u64,
}

impl ConsoleFile {
    pub(crate) fn new() -> Result<Self, MachineError> {
        Ok(Self {
            file: anonymous_file("ktstr-console", 0)?,
            freed_up_to: KEEP as u64,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Frees the memory that is not kept. This must be called often while the guest runs, because the file grows by whatever
    /// the guest prints between two calls.
    pub(crate) fn bound(&mut self) -> Result<(), MachineError> {
        let wrap = |e| MachineError::system("giving back memory of the guest's console", e);
        let len = self.file.metadata().map_err(wrap)?.len();
        let kept_from = len.saturating_sub(KEEP as u64) / STEP * STEP;
        if kept_from > self.freed_up_to {
            rustix::fs::fallocate(
                &self.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                self.freed_up_to,
                kept_from - self.freed_up_to,
            )
            .map_err(|e| wrap(e.into()))?;
            self.freed_up_to = kept_from;
        }
        Ok(())
    }

    /// The same as [`Console::text`].
    pub(crate) fn text(&self) -> String {
        let len = self.file.metadata().map_or(0, |m| m.len());
        let piece = |from: u64, to: u64| {
            let mut bytes = vec![0u8; (to - from) as usize];
            // A part that cannot be read is shown as zero bytes.
            let _ = self.file.read_exact_at(&mut bytes, from);
            bytes
        };
        let head_end = len.min(KEEP as u64);
        let tail_start = len.saturating_sub(KEEP as u64).max(head_end);
        text_of(&piece(0, head_end), &piece(tail_start, len), len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Returns the console of a process that printed `text` and exited.
    fn printed(text: Vec<u8>) -> Console {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut console = Console::collect(reader);
        let writer = std::thread::spawn(move || writer.write_all(&text));
        writer.join().expect("no panic").expect("the pipe is read");
        console.finish();
        console
    }

    #[test]
    fn the_text_has_what_was_written_even_if_the_thread_of_the_console_does_not_run() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let console = Console {
            shared: Arc::new(Shared {
                pipe: File::from(OwnedFd::from(reader)),
                kept: Mutex::default(),
            }),
            ended: None,
        };
        for (line, all) in [("one\n", "one\n"), ("", "one\n"), ("two\n", "one\ntwo\n")] {
            writer.write_all(line.as_bytes()).expect("room in the pipe");
            assert_eq!(console.text(), all);
        }
    }

    #[test]
    fn a_pipe_that_stays_open_is_not_waited_for_without_end() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"printed").expect("room in the pipe");
        let mut console = Console::collect(reader);
        // The writer is still open, as if another process had inherited it.
        console.finish_within(Duration::from_millis(10));
        assert_eq!(console.text(), "printed");
        drop(writer);
    }

    #[test]
    fn a_flood_keeps_its_start_and_its_end() {
        let mut flood = b"first line\n".to_vec();
        flood.resize(3 * KEEP, b'x');
        flood.extend_from_slice(b"last line\n");
        let console = printed(flood);
        let text = console.text();
        assert!(text.starts_with("first line\n"));
        assert!(text.ends_with("last line\n"));
        assert!(text.contains("bytes left out"));
        assert!(text.len() < 2 * KEEP + 100);
    }

    #[test]
    fn a_file_that_grows_without_end_keeps_its_start_and_its_end_and_no_more_memory() {
        use std::os::unix::fs::MetadataExt;
        let mut console = ConsoleFile::new().expect("memory");
        let mut flood = b"first line\n".to_vec();
        let line = [b'x'; 64 << 10];
        console.file.write_all(&flood).expect("memory");
        for _ in 0..8 * KEEP / line.len() {
            console.file.write_all(&line).expect("memory");
            flood.extend_from_slice(&line);
            console.bound().expect("a file in memory has holes");
            let used = console.file.metadata().expect("a file").blocks() * 512;
            assert!(used <= 2 * KEEP as u64 + 2 * STEP, "{used} bytes");
        }
        console.file.write_all(b"last line\n").expect("memory");
        flood.extend_from_slice(b"last line\n");
        console.bound().expect("a file in memory has holes");
        // The text is the same as that from a pipe.
        let piped = printed(flood);
        let text = console.text();
        assert!(text.starts_with("first line\n") && text.ends_with("last line\n"));
        assert!(!text.contains('\0'), "a part that was given back is shown");
        assert!(text == piped.text());
    }

    #[test]
    fn a_short_file_is_shown_whole() {
        let mut console = ConsoleFile::new().expect("memory");
        console
            .file
            .write_all(&vec![b'x'; KEEP + 10])
            .expect("memory");
        console.bound().expect("nothing to do");
        assert_eq!(console.text(), "x".repeat(KEEP + 10));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let console = printed(b"\xff\xfeok".to_vec());
        assert!(console.text().ends_with("ok"));
    }
}
