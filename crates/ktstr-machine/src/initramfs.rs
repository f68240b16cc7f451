//! The guest's file system: a cpio archive ("newc") in memory, made from programs of the host
//! and the shared libraries they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use cpio::newc;

use crate::{MachineError, anonymous_file};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;

/// An initramfs in the making. Paths are absolute paths of the guest.
#[derive(Debug, Default)]
pub struct Initramfs {
    files: BTreeMap<String, (u32, Vec<u8>)>,
    folders: BTreeSet<String>,
}

impl Initramfs {
    /// With the folders every guest needs.
    pub fn new() -> Self {
        let mut new = Self::default();
        for folder in ["/dev", "/proc", "/sys", "/tmp", "/run"] {
            new.add_folder(folder);
        }
        new
    }

    /// Adds an empty folder and the ones above it.
    pub fn add_folder(&mut self, path: &str) {
        for above in Path::new(path).ancestors() {
            let above = above.to_string_lossy();
            if above != "/" && !above.is_empty() {
                self.folders.insert(above.into_owned());
            }
        }
    }

    fn add(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        if let Some(folder) = Path::new(path).parent() {
            self.add_folder(&folder.to_string_lossy());
        }
        self.files.insert(path.to_owned(), (mode, bytes));
    }

    /// Adds a file with these bytes.
    pub fn add_file(&mut self, path: &str, bytes: Vec<u8>) {
        self.add(path, PLAIN, bytes);
    }

    /// Adds a program of the host, without its debug information, and the shared libraries it
    /// needs where its loader will look for them.
    pub fn add_program(&mut self, path: &str, host: &Path) -> Result<(), MachineError> {
        // The tools asked below have a /proc/self/exe of their own.
        let host = &std::fs::canonicalize(host)
            .map_err(|e| MachineError::system(format!("looking for {}", host.display()), e))?;
        self.add(path, PROGRAM, without_debug_information(host)?);
        for library in shared_libraries(host)? {
            let name = library.to_string_lossy().into_owned();
            if !self.files.contains_key(&name) {
                let bytes = read(&library)?;
                self.add(&name, PROGRAM, bytes);
            }
        }
        Ok(())
    }

    /// Bytes of all files.
    pub fn content_len(&self) -> u64 {
        self.files
            .values()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum()
    }

    /// Writes the archive into memory.
    pub fn build(&self) -> Result<File, MachineError> {
        let write = || -> std::io::Result<Vec<u8>> {
            let mut archive = Vec::with_capacity(self.content_len() as usize + (64 << 10));
            for folder in &self.folders {
                entry(folder, FOLDER).write(&mut archive, 0).finish()?;
            }
            // PID 1's standard streams: the kernel opens them before anything is mounted.
            entry("/dev/console", CONSOLE)
                .rdev_major(5)
                .rdev_minor(1)
                .write(&mut archive, 0)
                .finish()?;
            for (path, (mode, bytes)) in &self.files {
                let len = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
                let mut writer = entry(path, *mode).write(&mut archive, len);
                writer.write_all(bytes)?;
                writer.finish()?;
            }
            newc::trailer(&mut archive)?;
            Ok(archive)
        };
        let archive = write().map_err(|e| MachineError::system("writing the initramfs", e))?;
        let mut file = anonymous_file("ktstr-initramfs", 0)?;
        file.write_all(&archive)
            .map_err(|e| MachineError::system("storing the initramfs in memory", e))?;
        Ok(file)
    }
}

fn entry(path: &str, mode: u32) -> newc::Builder {
    newc::Builder::new(path.trim_start_matches('/')).mode(mode)
}

fn read(path: &Path) -> Result<Vec<u8>, MachineError> {
    std::fs::read(path).map_err(|e| MachineError::system(format!("reading {}", path.display()), e))
}

/// The program's bytes; `strip`, where the host has it, takes out what only a debugger reads:
/// often nine tenths of a test binary, which the guest would have to unpack.
fn without_debug_information(host: &Path) -> Result<Vec<u8>, MachineError> {
    let aside = anonymous_file("ktstr-strip", 0)?;
    let target = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        std::os::fd::AsRawFd::as_raw_fd(&aside)
    );
    let stripped = Command::new("strip")
        .args(["--strip-debug", "-o", &target])
        .arg(host)
        .output()
        .is_ok_and(|output| output.status.success());
    let bytes = if stripped {
        read(Path::new(&target))?
    } else {
        Vec::new()
    };
    if bytes.is_empty() {
        read(host)
    } else {
        Ok(bytes)
    }
}

/// Shared libraries `program` needs, its loader included, as the host's own loader finds them.
pub fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>, MachineError> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .map_err(|e| MachineError::system("running `ldd` to find shared libraries", e))?;
    let listing = String::from_utf8_lossy(&output.stdout);
    parse_ldd(&listing).map_err(|missing| {
        MachineError::system(
            format!(
                "{} needs the shared library {missing}, which this host does not have",
                program.display()
            ),
            std::io::Error::from(std::io::ErrorKind::NotFound),
        )
    })
}

/// Paths in the output of `ldd`; a library that is missing is the error. A static program has
/// none.
fn parse_ldd(listing: &str) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for line in listing.lines().map(str::trim) {
        let (name, path) = match line.split_once(" => ") {
            Some((name, path)) => (name, path),
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
    fn an_archive_holds_a_program_with_its_libraries() {
        let mut initramfs = Initramfs::new();
        initramfs
            .add_program("/init", Path::new("/proc/self/exe"))
            .expect("own binary");
        initramfs.add_file("/etc/motd", b"hello".to_vec());
        let mut file = initramfs.build().expect("memory");
        std::io::Seek::rewind(&mut file).expect("memory file");
        let mut names = Vec::new();
        let mut rest = file;
        loop {
            let reader = newc::Reader::new(rest).expect("own archive");
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().expect("own archive");
        }
        for wanted in ["dev/console", "init", "etc", "etc/motd", "proc"] {
            assert!(names.iter().any(|n| n == wanted), "{wanted} in {names:?}");
        }
        assert!(names.iter().any(|n| n.contains("libc.so")), "{names:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Initramfs::new()
            .add_program("/init", Path::new("/nowhere/program"))
            .expect_err("nothing there");
        assert!(error.to_string().contains("/nowhere/program"), "{error}");
    }
}
