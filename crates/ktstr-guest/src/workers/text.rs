//! Builds paths and reads and writes small files without allocation, in buffers on the stack.
//! Workers use this because they must not allocate.

use super::sys::{self, MASK_WORDS, Mask};

/// Size of the buffer in bytes, enough for a path or a small file.
const ROOM: usize = 640;

/// Text of limited length that ends with a NUL. Text that does not fit is cut off.
pub(super) struct Text {
    bytes: [u8; ROOM],
    len: usize,
}

impl Text {
    /// Creates a text with these contents.
    pub fn of(bytes: &[u8]) -> Self {
        let mut text = Self {
            bytes: [0; ROOM],
            len: 0,
        };
        text.push(bytes);
        text
    }

    /// Appends bytes. Bytes that do not fit are dropped.
    pub fn push(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            // The last byte always stays a NUL.
            if self.len + 1 < ROOM
                && let Some(to) = self.bytes.get_mut(self.len)
            {
                *to = *byte;
                self.len += 1;
            }
        }
        self
    }

    /// Appends a number in decimal digits.
    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut left = number;
        let mut at = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
            at -= 1;
            if left == 0 {
                break;
            }
        }
        let digits = digits;
        self.push(digits.get(at..).unwrap_or(&[]))
    }

    /// Returns the text as bytes, without the NUL.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Cuts the text off before the last occurrence of `byte`. A text without this byte becomes empty.
    pub fn cut_at_last(&mut self, byte: u8) {
        let at = self.bytes().iter().rposition(|b| *b == byte).unwrap_or(0);
        while self.len > at {
            self.len -= 1;
            if let Some(last) = self.bytes.get_mut(self.len) {
                *last = 0;
            }
        }
    }

    /// Returns a pointer to the NUL-terminated text, for a system call.
    pub fn as_ptr(&self) -> *const libc::c_char {
        self.bytes.as_ptr().cast()
    }

    /// Opens the file at this path. Returns its descriptor; `Err` is the errno.
    pub fn open(&self, flags: i32) -> Result<i32, i32> {
        // SAFETY: the path ends with a NUL and outlives the call.
        let fd = unsafe { libc::open(self.as_ptr(), flags | libc::O_CLOEXEC, 0o600) };
        if fd < 0 { Err(sys::errno()) } else { Ok(fd) }
    }

    /// Reads the start of the file at this path, as far as it fits into a text. `Err` is the errno.
    pub fn read(&self) -> Result<Self, i32> {
        let fd = self.open(libc::O_RDONLY)?;
        let mut text = Self::of(&[]);
        // SAFETY: the buffer is larger than the length that is passed; the descriptor is our own.
        let got = unsafe {
            let got = libc::read(fd, text.bytes.as_mut_ptr().cast(), ROOM - 1);
            libc::close(fd);
            got
        };
        if got < 0 {
            return Err(sys::errno());
        }
        text.len = (got as usize).min(ROOM - 1);
        Ok(text)
    }

    /// Writes to the file at this path in a single call. `Err` is the errno.
    pub fn write(&self, bytes: &[u8]) -> Result<(), i32> {
        let fd = self.open(libc::O_WRONLY)?;
        let written = write(fd, bytes);
        // SAFETY: the descriptor is our own.
        unsafe { libc::close(fd) };
        written
    }
}

/// Writes to an open file in a single call. `Err` is the errno.
pub(super) fn write(fd: i32, bytes: &[u8]) -> Result<(), i32> {
    // SAFETY: the bytes are readable, and their length is passed.
    let put = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    if put < 0 { Err(sys::errno()) } else { Ok(()) }
}

/// Returns the directory of the calling thread's cgroup, from /proc/thread-self/cgroup
/// (cgroups(7)). `Err` is the errno; it is `ENOENT` without cgroup v2.
pub(super) fn own_cgroup() -> Result<Text, i32> {
    let file = Text::of(b"/proc/thread-self/cgroup").read()?;
    for line in file.bytes().split(|byte| *byte == b'\n') {
        if let Some(path) = line.strip_prefix(b"0::") {
            let mut dir = Text::of(b"/sys/fs/cgroup");
            if path != b"/" {
                dir.push(path);
            }
            return Ok(dir);
        }
    }
    Err(libc::ENOENT)
}

/// Parses a list of CPUs such as `0-3,8`, the format of sysfs.
pub(super) fn cpulist(bytes: &[u8]) -> Mask {
    let mut mask: Mask = [0; MASK_WORDS];
    let number = |digits: &[u8]| {
        let digits = digits.iter().filter(|byte| byte.is_ascii_digit());
        digits.fold(0usize, |n, byte| {
            n.saturating_mul(10)
                .saturating_add(usize::from(byte - b'0'))
        })
    };
    for part in bytes.split(|byte| *byte == b',') {
        if !part.iter().any(u8::is_ascii_digit) {
            continue;
        }
        let mut ends = part.splitn(2, |byte| *byte == b'-').map(number);
        let first = ends.next().unwrap_or(0);
        let last = ends.next().unwrap_or(first).min(MASK_WORDS * 64 - 1);
        for cpu in first..=last {
            if let Some(word) = mask.get_mut(cpu / 64) {
                *word |= 1 << (cpu % 64);
            }
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_appended_and_cut() {
        let mut text = Text::of(b"/a/b");
        text.push(b"/c").number(0).number(4096);
        assert_eq!(text.bytes(), b"/a/b/c04096");
        text.cut_at_last(b'/');
        assert_eq!(text.bytes(), b"/a/b");
        let long = Text::of(&[b'x'; 2 * ROOM]);
        assert_eq!(long.bytes().len(), ROOM - 1);
        assert_eq!(
            Text::of(b"").number(u64::MAX).bytes(),
            b"18446744073709551615"
        );
    }

    #[test]
    fn files_are_read_and_a_missing_one_is_an_error() {
        let comm = Text::of(b"/proc/self/stat")
            .read()
            .expect("procfs is there");
        assert!(!comm.bytes().is_empty());
        let missing = Text::of(b"/proc/self/no-such-file").read();
        assert_eq!(missing.err(), Some(libc::ENOENT));
    }

    #[test]
    fn lists_of_cpus_are_masks() {
        let mask = cpulist(b"0-2,5,64\n");
        assert_eq!((mask[0], mask[1]), (0b10_0111, 1));
        assert_eq!(cpulist(b"\n"), [0; MASK_WORDS]);
        assert_eq!(cpulist(b"0-99999999999"), [u64::MAX; MASK_WORDS]);
    }
}
