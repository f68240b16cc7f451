//! Small values in the declaration of a scheduler. Each is validated by its `const` constructor, so an invalid one does not
//! compile.

/// A kernel setting (sysctl): a dotted key and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sysctl {
    key: &'static str,
    value: &'static str,
}

impl Sysctl {
    /// The setting `key = value`.
    ///
    /// # Panics
    /// If `key` is not at least two words of letters, digits, `_` and `-`, joined by dots, or if `value` is empty or has white
    /// space, double quotes or NUL. In a `const` this is a compile error.
    pub const fn new(key: &'static str, value: &'static str) -> Self {
        let bytes = key.as_bytes();
        let mut dots = 0;
        let mut word = 0;
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'.' => {
                    assert!(word > 0, "Sysctl: the key has an empty part between dots");
                    dots += 1;
                    word = 0;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => word += 1,
                _ => panic!("Sysctl: the key may have only letters, digits, '_', '-' and dots"),
            }
            i += 1;
        }
        assert!(
            dots > 0 && word > 0,
            "Sysctl: the key must be dotted, such as kernel.sched_schedstats"
        );
        assert!(!value.is_empty(), "Sysctl: the value is empty");
        assert!(
            is_one_word(value),
            "Sysctl: the value must not contain white space or quotes"
        );
        Self { key, value }
    }

    /// Returns the dotted key, such as `kernel.sched_schedstats`; each dot is a `/` in the path below `/proc/sys`.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// Returns the value that is written to the file.
    pub const fn value(&self) -> &'static str {
        self.value
    }
}

/// A cgroup by its path below the cgroup v2 root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CgroupPath(&'static str);

impl CgroupPath {
    /// The cgroup at `path`.
    ///
    /// # Panics
    /// If `path` does not start with `/`, is the root, or has `..` or an empty part. In a `const` this is a compile
    /// error.
    pub const fn new(path: &'static str) -> Self {
        let bytes = path.as_bytes();
        assert!(
            !bytes.is_empty() && bytes[0] == b'/',
            "CgroupPath: the path must start with /"
        );
        assert!(
            bytes.len() > 1,
            "CgroupPath: the root cgroup is not allowed"
        );
        let mut i = 1;
        let mut part = 1;
        while i <= bytes.len() {
            if i == bytes.len() || bytes[i] == b'/' {
                assert!(i > part, "CgroupPath: the path has an empty part");
                let dots = i - part == 2 && bytes[part] == b'.' && bytes[part + 1] == b'.';
                assert!(!dots, "CgroupPath: the path must not contain ..");
                part = i + 1;
            }
            i += 1;
        }
        Self(path)
    }

    /// Returns the path below the cgroup root, with its leading `/`.
    pub const fn as_str(&self) -> &'static str {
        self.0
    }

    /// Returns the path in the file system, below `/sys/fs/cgroup`.
    pub fn sysfs_path(&self) -> String {
        format!("/sys/fs/cgroup{}", self.0)
    }
}

/// Returns whether the text can be written without quotes: it has no white space, double quotes or NUL.
const fn is_one_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i].is_ascii_whitespace() || bytes[i] == b'"' || bytes[i] == 0 {
            return false;
        }
        i += 1;
    }
    true
}

/// The number of instructions per second of the virtual clock, of all CPUs together. The choices are powers of two times 125
/// million, since the clock advances by 8, 4, 2 or 1 ns with each instruction (QEMU's `-icount shift`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speed {
    /// 125 million instructions per second, each of which takes 8 ns.
    Mips125,
    /// 250 million instructions per second, each of which takes 4 ns.
    Mips250,
    /// 500 million instructions per second, each of which takes 2 ns.
    Mips500,
    /// 1000 million instructions per second, each of which takes 1 ns.
    Mips1000,
}

impl Speed {
    /// Returns QEMU's `-icount shift`: the binary logarithm of the nanoseconds per instruction.
    pub const fn shift(self) -> u8 {
        match self {
            Self::Mips125 => 3,
            Self::Mips250 => 2,
            Self::Mips500 => 1,
            Self::Mips1000 => 0,
        }
    }
}

/// Returns whether `text` contains `{file}`.
pub(super) const fn has_file(text: &str) -> bool {
    let (text, wanted) = (text.as_bytes(), b"{file}");
    let mut start = 0;
    while start + wanted.len() <= text.len() {
        let mut same = 0;
        while same < wanted.len() && text[start + same] == wanted[same] {
            same += 1;
        }
        if same == wanted.len() {
            return true;
        }
        start += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_values() {
        const S: Sysctl = Sysctl::new("kernel.sched_schedstats", "1");
        assert_eq!((S.key(), S.value()), ("kernel.sched_schedstats", "1"));
        const P: CgroupPath = CgroupPath::new("/a/b.slice");
        assert_eq!(P.sysfs_path(), "/sys/fs/cgroup/a/b.slice");
    }

    #[test]
    fn bad_values_are_refused() {
        type Make = fn();
        let bad: [(&str, Make); 8] = [
            ("must be dotted", || _ = Sysctl::new("kernel", "1")),
            ("empty part", || _ = Sysctl::new("a..b", "1")),
            ("white space", || _ = Sysctl::new("a.b", "1 init=/x")),
            ("may have only", || _ = Sysctl::new("a.b c", "1")),
            ("start with /", || _ = CgroupPath::new("a")),
            ("root", || _ = CgroupPath::new("/")),
            ("..", || _ = CgroupPath::new("/a/..")),
            ("empty part", || _ = CgroupPath::new("/a//b")),
        ];
        for (expected, make) in bad {
            let panic = std::panic::catch_unwind(make).expect_err(expected);
            let message = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }
}
