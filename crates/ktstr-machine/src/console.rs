//! The guest's serial console: read as it comes, kept within bounds.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Bytes kept from the start and from the end of what the guest printed.
const KEEP: usize = 4 << 20;

#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    total: u64,
}

/// Collects one stream in a thread of its own until the stream ends.
#[derive(Debug)]
pub struct Console {
    kept: Arc<Mutex<Kept>>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Starts to read `stream`.
    pub fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let shared = Arc::clone(&kept);
        let thread = std::thread::spawn(move || {
            let mut chunk = [0u8; 16 << 10];
            loop {
                match stream.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(n) => keep(&shared, &chunk[..n]),
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        Self {
            kept,
            thread: Some(thread),
        }
    }

    /// What was printed so far: all of it, or its start and its end with the gap named.
    pub fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from_utf8_lossy(&kept.head).into_owned();
        let present = (kept.head.len() + kept.tail.len()) as u64;
        if kept.total > present {
            text.push_str(&format!(
                "\n[... {} bytes left out ...]\n",
                kept.total - present
            ));
        }
        let tail: Vec<u8> = kept.tail.iter().copied().collect();
        text.push_str(&String::from_utf8_lossy(&tail));
        text
    }

    /// Waits for the end of the stream: call it once the writer is gone.
    pub fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; if it did, what it kept is still there.
            let _ = thread.join();
        }
    }
}

fn keep(kept: &Mutex<Kept>, bytes: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.total += bytes.len() as u64;
    let room = KEEP - kept.head.len().min(KEEP);
    let (head, tail) = bytes.split_at(bytes.len().min(room));
    kept.head.extend_from_slice(head);
    kept.tail.extend(tail);
    let over = kept.tail.len().saturating_sub(KEEP);
    kept.tail.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_its_start_and_its_end() {
        let mut flood = b"first line\n".to_vec();
        flood.resize(3 * KEEP, b'x');
        flood.extend_from_slice(b"last line\n");
        let mut console = Console::collect(std::io::Cursor::new(flood));
        console.finish();
        let text = console.text();
        assert!(text.starts_with("first line\n"));
        assert!(text.ends_with("last line\n"));
        assert!(text.contains("bytes left out"));
        assert!(text.len() < 2 * KEEP + 100);
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let mut console = Console::collect(&b"\xff\xfeok"[..]);
        console.finish();
        assert!(console.text().ends_with("ok"));
    }
}
