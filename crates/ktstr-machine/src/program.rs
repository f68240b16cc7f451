//! A program of the host that is packed into the guest: without debug information and build ID, and with the paths of the
//! shared libraries that it needs. A cache keeps the stripped contents from run to run.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::{MachineError, anonymous_file};

/// A program that is ready to be packed.
#[derive(Debug, Clone)]
pub struct Program {
    /// The [`stamp`] of the host's file from which the program was read; for [`Program::embedded`], `embedded:` and the given
    /// hash.
    pub stamp: String,
    /// The BLAKE3 hash of the host's file, in hexadecimal: what a record states of the program that ran.
    pub blake3: String,
    /// The BLAKE3 hash of the contents that are packed, in hexadecimal. Two builds have the same hash if they differ only in
    /// what is left out, for example after a comment was edited.
    pub packed_blake3: String,
    /// The size of the contents that are packed, in bytes.
    pub size: u64,
    content: Content,
    /// The paths of the libraries that the program needs, including its loader, as `ldd` finds them on the host.
    pub libraries: Vec<PathBuf>,
}

/// Where the contents of a program are stored.
#[derive(Debug, Clone)]
enum Content {
    Memory(Arc<Vec<u8>>),
    /// In this process's own program.
    Own(&'static [u8]),
    /// In a file of the cache, from this offset on. The file stays open, so that removing it from the cache does not
    /// affect this run.
    Cached(Arc<File>, u64),
}

/// The size of a packed program is a multiple of this many bytes: zeros follow its end, which no loader reads. The guest needs
/// an instruction more for each further byte that it copies, and a few bytes of another symbol would change the schedule.
const PACKED_TO: usize = 64 << 10;
/// The largest size of the header of a cached program, in bytes.
const HEAD: u64 = 64 << 10;
/// The largest total size of the cached programs, in bytes: room for some hundred test binaries. Each new build of a test
/// adds a program, and nothing reads the program of the previous build again.
const MAX_CACHE: u64 = 2 << 30;

/// Returns a text that identifies the state of a file without reading it: its path, inode, size, and the times at which its
/// content and its inode were last changed, separated by colons. If two stamps are equal, the file counts as unchanged.
pub fn stamp(path: &Path) -> Result<String, MachineError> {
    let meta = std::fs::metadata(path)
        .map_err(|e| MachineError::system(format!("looking at {}", path.display()), e))?;
    Ok(format!(
        "{}:{}:{}:{}.{:09}:{}.{:09}",
        path.display(),
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ))
}

impl Program {
    /// Reads the program `host`. With a folder `cache`, a program that has not changed since it was cached is read from the
    /// cache, and any other program is added to it: stripping a test binary takes longer than starting a
    /// machine from a template.
    ///
    /// # Errors
    ///
    /// The file cannot be read, `ldd` cannot be run, or the host lacks a shared library that the program needs.
    pub fn read(host: &Path, cache: Option<&Path>) -> Result<Self, MachineError> {
        // The path is resolved here, because it may be /proc/self/exe, which means another file in each of the tools that are
        // run below.
        let host = std::fs::canonicalize(host)
            .map_err(|e| MachineError::system(format!("looking for {}", host.display()), e))?;
        Self::load_or_make(stamp(&host)?, cache, |stamp| {
            let bytes = packed(&host)?;
            Ok(Self {
                blake3: blake3_of(&read(&host)?),
                packed_blake3: blake3_of(&bytes),
                size: bytes.len() as u64,
                content: Content::Memory(Arc::new(bytes)),
                libraries: shared_libraries(&host, &host.display().to_string())?,
                stamp,
            })
        })
    }

    /// Returns a program whose contents this process has in memory. The program is packed as it is. Its stamp is made from
    /// `hash`, which has to identify the contents, so the stamp is the same in every binary that carries these contents. The
    /// folder `cache` keeps the list of libraries that the program needs.
    ///
    /// # Errors
    ///
    /// `ldd` cannot be run on a copy of the program in memory, or the host lacks a shared library that the program needs.
    pub fn embedded(
        bytes: &'static [u8],
        hash: &str,
        cache: Option<&Path>,
    ) -> Result<Self, MachineError> {
        let program = Self::load_or_make(format!("embedded:{hash}"), cache, |stamp| {
            let copy = anonymous_file("ktstr-embedded", bytes.len() as u64)?;
            copy.write_all_at(bytes, 0)
                .map_err(|e| MachineError::system("copying an embedded program for `ldd`", e))?;
            let path = format!("/proc/{}/fd/{}", std::process::id(), copy.as_raw_fd());
            Ok(Self {
                blake3: blake3_of(bytes),
                packed_blake3: blake3_of(bytes),
                size: bytes.len() as u64,
                content: Content::Own(bytes),
                libraries: shared_libraries(Path::new(&path), "the program of PID 1")?,
                stamp,
            })
        })?;
        // The cache keeps a copy, whose length alone is checked. The bytes of this process are the right ones.
        Ok(Self {
            content: Content::Own(bytes),
            size: bytes.len() as u64,
            ..program
        })
    }

    /// Loads the program with this stamp from the cache, or makes it and adds it to the cache.
    fn load_or_make(
        stamp: String,
        cache: Option<&Path>,
        make: impl FnOnce(String) -> Result<Self, MachineError>,
    ) -> Result<Self, MachineError> {
        let cached = cache.map(|folder| folder.join(format!("{:016x}", crate::hash(&stamp))));
        if let Some(cached) = &cached
            && let Some(program) = Self::load(cached, &stamp)
        {
            return Ok(program);
        }
        let program = make(stamp)?;
        if let Some(cached) = &cached {
            // A cache that cannot be written only costs time.
            if program.store(cached).is_ok() {
                trim(cached, MAX_CACHE);
            }
        }
        Ok(program)
    }

    /// Returns the contents of the program's file in the guest: without debug information and build ID if the host has `strip`,
    /// or unchanged for an embedded program.
    pub fn bytes(&self) -> Result<Vec<u8>, MachineError> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.as_ref().clone()),
            Content::Own(bytes) => Ok(bytes.to_vec()),
            Content::Cached(file, offset) => {
                let mut bytes = vec![0u8; self.size as usize];
                file.read_exact_at(&mut bytes, *offset)
                    .map_err(|e| MachineError::system("reading a cached program", e))?;
                Ok(bytes)
            }
        }
    }

    /// Loads a program from a file of the cache, which has the stamp, the two hashes, the length and the stamps of the
    /// libraries, one per line, then an empty line and the contents. Returns `None` if there is no such file, if its header is
    /// malformed or its length is wrong, or if the program or one of its libraries has changed since.
    fn load(cached: &Path, stamp: &str) -> Option<Self> {
        let file = File::open(cached).ok()?;
        let mut head = Vec::new();
        (&file).take(HEAD).read_to_end(&mut head).ok()?;
        let end = head.windows(2).position(|pair| pair == b"\n\n")?;
        let mut lines = std::str::from_utf8(&head[..end]).ok()?.lines();
        if lines.next()? != stamp {
            return None;
        }
        let blake3 = lines.next()?.to_owned();
        let packed_blake3 = lines.next()?.to_owned();
        let size: u64 = lines.next()?.parse().ok()?;
        // A library that was replaced may need other libraries than before.
        let libraries = lines
            .map(|line| {
                // The path comes before the last four fields of a stamp, and may have colons itself.
                let path = PathBuf::from(line.rsplitn(5, ':').nth(4)?);
                (self::stamp(&path).ok()? == line).then_some(path)
            })
            .collect::<Option<Vec<_>>>()?;
        let offset = end as u64 + 2;
        let there = file.metadata().ok()?.len();
        // The modification time serves as the time of the last use, by which `trim` selects the files to remove. If it
        // cannot be set, the only effect is that the file is removed earlier.
        let _ = File::options()
            .append(true)
            .open(cached)
            .and_then(|file| file.set_modified(std::time::SystemTime::now()));
        (there == offset + size).then(|| Self {
            stamp: stamp.to_owned(),
            blake3,
            packed_blake3,
            size,
            content: Content::Cached(Arc::new(file), offset),
            libraries,
        })
    }

    /// Writes the program to a file of the cache, in the format that [`Program::load`] reads.
    fn store(&self, cached: &Path) -> std::io::Result<()> {
        let mut whole = format!(
            "{}\n{}\n{}\n{}",
            self.stamp, self.blake3, self.packed_blake3, self.size
        );
        for library in &self.libraries {
            let stamp = stamp(library).map_err(std::io::Error::other)?;
            whole.push_str(&format!("\n{stamp}"));
        }
        whole.push_str("\n\n");
        let mut whole = whole.into_bytes();
        whole.extend_from_slice(&self.bytes().map_err(std::io::Error::other)?);
        let folder = cached.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut aside, &whole)?;
        aside.persist(cached)?;
        Ok(())
    }
}

/// Removes the least recently used files of the cache until the rest has at most `cap` bytes. `newest`, which was just
/// written, always stays. A run that still reads a removed file is not affected, because it has the file open.
fn trim(newest: &Path, cap: u64) {
    let Some(folder) = newest.parent() else {
        return;
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(|meta| meta.is_file())?;
            let path = entry.path();
            Some((path != newest, meta.modified().ok()?, meta.len(), path))
        })
        .collect();
    // The newest file comes first, then the most recently used one.
    files.sort_by_key(|(is_old, used, ..)| (*is_old, std::cmp::Reverse(*used)));
    let mut total = 0u64;
    for (is_old, _, size, path) in files {
        total = total.saturating_add(size);
        if is_old && total > cap {
            // A file that cannot be removed is left for the next time.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn blake3_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Returns the contents that are packed. If the host has `strip` and it succeeds, these are the program without its debug
/// information, which is often nine tenths of a test binary, and without its build ID, which differs between two builds whose
/// code is the same, because the linker makes it from the debug information too. See [`PACKED_TO`] for the size.
fn packed(host: &Path) -> Result<Vec<u8>, MachineError> {
    let aside = anonymous_file("ktstr-strip", 0)?;
    let target = format!("/proc/{}/fd/{}", std::process::id(), aside.as_raw_fd());
    let stripped = Command::new("strip")
        .args(["--strip-debug", "--remove-section=.note.gnu.build-id"])
        .args(["-o", &target])
        .arg(host)
        .output()
        .is_ok_and(|output| output.status.success());
    let bytes = if stripped {
        read(Path::new(&target))?
    } else {
        Vec::new()
    };
    let mut bytes = if bytes.is_empty() { read(host)? } else { bytes };
    bytes.resize(bytes.len().next_multiple_of(PACKED_TO), 0);
    Ok(bytes)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, MachineError> {
    std::fs::read(path).map_err(|e| MachineError::system(format!("reading {}", path.display()), e))
}

/// Returns the libraries that `program`, which messages call `name`, needs. The loader finds them as in the guest, where none of
/// the variables is set that change its search.
fn shared_libraries(program: &Path, name: &str) -> Result<Vec<PathBuf>, MachineError> {
    let failed = |why: std::io::Error| {
        MachineError::system(
            format!("running `ldd` to find the shared libraries of {name}"),
            why,
        )
    };
    let output = Command::new("ldd")
        .arg(program)
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("LD_PRELOAD")
        .env("LC_ALL", "C")
        .output()
        .map_err(failed)?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // `ldd` fails for a program that is linked statically, which needs no libraries. After any other failure the libraries are
    // unknown.
    let is_static = [&listing, &errors]
        .iter()
        .any(|text| text.contains("not a dynamic executable"));
    if !output.status.success() && !is_static {
        let why = format!("{}: {}{}", output.status, listing.trim(), errors.trim());
        return Err(failed(std::io::Error::other(why)));
    }
    parse_ldd(&listing).map_err(|missing| {
        MachineError::system(
            format!("{name} needs the shared library {missing}, which this host does not have"),
            std::io::Error::from(std::io::ErrorKind::NotFound),
        )
    })
}

/// Parses the paths in the output of `ldd`. The error is the name of a library that is missing; a static program
/// has no libraries.
fn parse_ldd(listing: &str) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for line in listing.lines().map(str::trim) {
        let (name, path) = match line.split_once(" => ") {
            // The loader has a path on both sides on some systems. Programs name the one on the left.
            Some((name, path)) if !name.starts_with('/') || path.starts_with("not found") => {
                (name, path)
            }
            Some((name, _)) => (name, name),
            None => (line, line),
        };
        if path.starts_with("not found") {
            return Err(name.to_owned());
        }
        if let Some(path) = path.split_whitespace().next()
            && path.starts_with('/')
        {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_both_sides_is_the_one_that_programs_name() {
        let loader =
            "\t/lib64/ld-linux-x86-64.so.2 => /usr/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            parse_ldd(loader),
            Ok(vec!["/lib64/ld-linux-x86-64.so.2".into()])
        );
        let missing = "\t/opt/x/libfoo.so => not found\n";
        assert_eq!(parse_ldd(missing), Err("/opt/x/libfoo.so".to_owned()));
    }

    #[test]
    fn ldd_lists_are_read() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            parse_ldd(listing),
            Ok(vec![
                "/lib/x86_64-linux-gnu/libelf.so.1".into(),
                "/lib64/ld-linux-x86-64.so.2".into()
            ])
        );
        assert_eq!(parse_ldd("\tstatically linked\n"), Ok(vec![]));
        assert_eq!(
            parse_ldd("\tlibgone.so.3 => not found\n"),
            Err("libgone.so.3".into())
        );
    }

    #[test]
    fn the_cache_keeps_the_new_file_and_the_most_recently_used_ones() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = |name: &str, age: u64| {
            let path = folder.path().join(name);
            std::fs::write(&path, [0; 100]).expect("a file");
            let used = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            let file = File::options().append(true).open(&path).expect("the file");
            file.set_modified(used).expect("a time");
            path
        };
        // The file that was just written has the oldest time here, as if the host's clock had been set back since the others
        // were used.
        let newest = file("newest", 900);
        let all = [
            newest.clone(),
            file("old", 500),
            file("used", 10),
            file("older", 700),
        ];
        trim(&newest, 250);
        assert_eq!(all.map(|path| path.exists()), [true, false, true, false]);
        trim(&newest, 10);
        assert!(
            newest.exists(),
            "it is larger than the cap, but it is about to be used"
        );
    }

    #[test]
    fn a_cached_program_is_used_until_a_library_changes_or_the_copy_is_damaged() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let cache = folder.path().join("cache");
        let host = folder.path().join("program");
        std::fs::copy("/proc/self/exe", &host).expect("own binary");
        let first = Program::read(&host, Some(&cache)).expect("a program");
        let again = Program::read(&host, Some(&cache)).expect("a program");
        assert_eq!(first.bytes().expect("bytes"), again.bytes().expect("bytes"));
        assert_eq!(first.libraries, again.libraries);
        assert!(
            first
                .libraries
                .iter()
                .any(|l| l.to_string_lossy().contains("libc.so"))
        );
        assert_eq!(std::fs::read_dir(&cache).expect("cache").count(), 1);
        // The cached copy is not used if a library has changed, here by another digit in the stamp of the C library.
        let other = |whole: &[u8]| {
            let at = whole
                .windows(9)
                .position(|w| w == b"/libc.so.")
                .expect("a libc");
            let digit = at
                + whole[at..]
                    .iter()
                    .position(|b| *b == b':')
                    .expect("a stamp")
                + 1;
            let mut whole = whole.to_vec();
            whole[digit] = if whole[digit] == b'9' { b'1' } else { b'9' };
            whole
        };
        let kept = std::fs::read_dir(&cache)
            .expect("cache")
            .next()
            .expect("one")
            .expect("one");
        std::fs::write(
            kept.path(),
            other(&std::fs::read(kept.path()).expect("kept")),
        )
        .expect("kept");
        assert!(Program::load(&kept.path(), &first.stamp).is_none());
        Program::read(&host, Some(&cache)).expect("a program");
        assert!(Program::load(&kept.path(), &first.stamp).is_some());
        // A damaged copy is not used.
        let kept = std::fs::read_dir(&cache)
            .expect("cache")
            .next()
            .expect("one")
            .expect("one");
        let whole = std::fs::read(kept.path()).expect("kept");
        std::fs::write(kept.path(), &whole[..whole.len() - 1]).expect("kept");
        let remade = Program::read(&host, Some(&cache)).expect("a program");
        assert_eq!(
            first.bytes().expect("bytes"),
            remade.bytes().expect("bytes")
        );
    }

    #[test]
    fn another_build_id_leaves_the_packed_contents_as_they_are() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let host = folder.path().join("program");
        std::fs::copy("/proc/self/exe", &host).expect("own binary");
        let first = Program::read(&host, None).expect("a program");
        // The note's header in elf(5): the name has 4 bytes and is "GNU", the type is NT_GNU_BUILD_ID (3).
        let mut bytes = read(&host).expect("the copy");
        let is_head = |at: &[u8]| {
            at[..4] == 4u32.to_le_bytes()
                && at[8..12] == 3u32.to_le_bytes()
                && &at[12..] == b"GNU\0"
        };
        let head = bytes.windows(16).position(is_head);
        let head = head.expect("the linker adds a build ID on Debian 12 and 13");
        bytes[head + 16] ^= 1;
        std::fs::write(&host, bytes).expect("the copy");
        let second = Program::read(&host, None).expect("a program");
        assert_ne!(first.blake3, second.blake3);
        assert_eq!(first.packed_blake3, second.packed_blake3);
        assert_eq!(
            first.bytes().expect("bytes"),
            second.bytes().expect("bytes")
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Program::read(Path::new("/nowhere/program"), None).expect_err("nothing");
        assert!(error.to_string().contains("/nowhere/program"), "{error}");
    }

    #[test]
    fn the_libraries_of_what_is_no_program_are_unknown() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let gone = folder.path().join("gone");
        let error = shared_libraries(&gone, "the program").expect_err("there is no file");
        let text = error.to_string();
        assert!(text.contains("shared libraries of the program"), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
        let script = folder.path().join("script");
        std::fs::write(&script, "#!/bin/sh\n").expect("a file");
        assert_eq!(
            shared_libraries(&script, "a script").ok(),
            Some(Vec::new()),
            "`ldd` calls it no dynamic executable"
        );
    }

    #[test]
    fn an_embedded_program_has_its_own_bytes_and_libraries() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let own: &'static [u8] = std::fs::read("/proc/self/exe").expect("own binary").leak();
        let first = Program::embedded(own, "1", Some(folder.path())).expect("a program");
        let cached = Program::embedded(own, "1", Some(folder.path())).expect("a program");
        for program in [&first, &cached] {
            assert!(program.bytes().expect("bytes") == own);
            assert_eq!(program.stamp, "embedded:1");
            let libraries = program.libraries.iter();
            assert!(
                libraries
                    .map(|l| l.to_string_lossy())
                    .any(|l| l.contains("libc.so"))
            );
        }
        assert_eq!(first.blake3, cached.blake3);
        assert_eq!(first.packed_blake3, cached.packed_blake3);
    }
}
