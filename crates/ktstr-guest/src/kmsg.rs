//! The kernel's log, as a test function in the guest reads it and writes to it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// The device of the kernel's log (Documentation/ABI/testing/dev-kmsg).
const DEVICE: &str = "/dev/kmsg";
/// The size in bytes of the longest message in current kernels (`PRINTK_MESSAGE_MAX`).
const MESSAGE: usize = 2048;
/// Maximum number of messages to read. A kernel log of the default size holds fewer.
const MESSAGES: usize = 1 << 16;

/// Returns the messages in the kernel's log, one per line, oldest first, without their levels and times. Messages that the
/// kernel has dropped are missing. If the log cannot be opened, the text is empty, and a line on standard error says why.
pub fn read_kmsg() -> String {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE);
    match opened {
        Ok(device) => messages(device),
        Err(error) => {
            eprintln!("ktstr: {DEVICE} could not be read: {error}");
            String::new()
        }
    }
}

/// Writes a message to the kernel's log; a prefix such as `<3>` is its level. A message of the guest with a level below 4 is
/// also printed on the console, where the host reads it (`VmResult::guest_kmsg`). If the write fails, a line on standard
/// error says why.
pub fn send_kmsg(message: &[u8]) {
    // Each write is one message. Without a newline, the kernel waits for the rest of the line and does not show the part that it
    // has.
    let mut line = message.to_vec();
    if !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    let sent = File::options()
        .write(true)
        .open(DEVICE)
        .and_then(|mut device| device.write_all(&line));
    if let Err(error) = sent {
        eprintln!("ktstr: {DEVICE} could not be written to: {error}");
    }
}

/// Reads messages until there are no more.
fn messages(mut device: impl Read) -> String {
    let mut text = String::new();
    // Some kernels have a larger limit than `MESSAGE`, and a read into a buffer that is too small fails. The buffer therefore
    // has four times that size.
    let mut one = [0; 4 * MESSAGE];
    for _ in 0..MESSAGES {
        match device.read(&mut one) {
            Ok(0) => break,
            Ok(length) => text.extend(one.get(..length).map(line)),
            // Messages were dropped before they were read; the next read goes on with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    text
}

/// Returns the message in a record `level,number,time,flags;message\n KEY=value\n…`, and ends it with a newline.
fn line(record: &[u8]) -> String {
    let record = String::from_utf8_lossy(record);
    let message = record.split_once(';').map_or(&*record, |(_, rest)| rest);
    let message = message.lines().next().unwrap_or_default();
    format!("{message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device whose reads have these results.
    struct Device(Vec<Result<&'static str, i32>>);

    impl Read for Device {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.remove(0) {
                Ok(text) => {
                    into[..text.len()].copy_from_slice(text.as_bytes());
                    Ok(text.len())
                }
                Err(errno) => Err(std::io::Error::from_raw_os_error(errno)),
            }
        }
    }

    #[test]
    fn messages_are_lines_and_a_gap_does_not_end_them() {
        let device = Device(vec![
            Ok("6,339,5140900,-;first; with a semicolon\n SUBSYSTEM=acpi\n DEVICE=+acpi\n"),
            Err(libc::EPIPE),
            Ok("12,400,5140999,-;second\n"),
            Err(libc::EAGAIN),
        ]);
        assert_eq!(messages(device), "first; with a semicolon\nsecond\n");
    }
}
