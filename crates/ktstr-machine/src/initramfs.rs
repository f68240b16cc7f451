//! The guest's root file system: a cpio archive ("newc") in memory, made from programs of the host, the shared libraries
//! that they need, and other files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use cpio::newc;

use crate::{MachineError, Program, anonymous_file};

// The modes of the entries (`inode(7)`): the type of the file and its permission bits, which `REGULAR` leaves to the caller.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const REGULAR: u32 = 0o100_000;
const CONSOLE: u32 = 0o020_600;

/// An initramfs that is being assembled. Paths are absolute paths in the guest.
#[derive(Debug, Default)]
pub struct Initramfs {
    files: BTreeMap<String, (u32, Vec<u8>)>,
    folders: BTreeSet<String>,
}

impl Initramfs {
    /// Creates an initramfs with the folders that every guest needs.
    pub fn new() -> Self {
        let mut new = Self::default();
        for folder in ["/dev", "/proc", "/sys", "/tmp", "/run"] {
            new.add_folder(folder);
        }
        new
    }

    /// Adds an empty folder, and the folders above it.
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

    /// Adds a file with these contents and permission bits.
    pub fn add_file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.add(path, REGULAR | mode, bytes);
    }

    /// Adds a program at `path`, and each of its shared libraries at the path at which the loader finds it on the host.
    pub fn add_program(&mut self, path: &str, program: &Program) -> Result<(), MachineError> {
        self.add(path, PROGRAM, program.bytes()?);
        for library in &program.libraries {
            let name = library.to_string_lossy().into_owned();
            if !self.files.contains_key(&name) {
                let bytes = crate::program::read(library)?;
                self.add(&name, PROGRAM, bytes);
            }
        }
        Ok(())
    }

    /// Returns the total size of all files, in bytes.
    pub fn content_len(&self) -> u64 {
        self.files
            .values()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum()
    }

    /// Writes the archive to a file in memory.
    pub fn build(&self) -> Result<File, MachineError> {
        let write = || -> std::io::Result<Vec<u8>> {
            let mut archive = Vec::with_capacity(self.content_len() as usize + (64 << 10));
            for folder in &self.folders {
                entry(folder, FOLDER).write(&mut archive, 0).finish()?;
            }
            // The kernel opens PID 1's standard streams on this device before anything is mounted.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_a_program_with_its_libraries() {
        let mut initramfs = Initramfs::new();
        initramfs
            .add_program(
                "/init",
                &Program::read(Path::new("/proc/self/exe"), None).expect("own binary"),
            )
            .expect("own binary");
        initramfs.add_file("/etc/motd", 0o644, b"hello".to_vec());
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
}
