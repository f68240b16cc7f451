//! Packs files of the host into the guest's `/include-files`. A bare name is looked up in the current folder and then in the
//! host's `PATH`; a path is used as written; a folder is packed with all of its contents. A program is packed with the
//! shared libraries that it needs. Libraries keep their paths, and so does the interpreter of a payload that is a script.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ktstr_machine::Program;
use ktstr_scenario::payload::Payload;

use super::RunError;
use super::plan::{Content, Files, GuestFile, host_file};

/// The guest's folder for these files.
pub(super) const FOLDER: &str = ktstr_guest::payload::INCLUDE_FILES;
/// The largest number of nested folders, including the declared one. Symbolic links are followed, so without this limit a link to
/// a folder above would be followed over and over.
const DEPTH: usize = 32;
/// The number of bytes that the kernel reads of a script's first line (`BINPRM_BUF_SIZE` in
/// include/uapi/linux/binfmts.h).
const SCRIPT_LINE: u64 = 256;
/// The first bytes of a program and of a shared library.
const ELF: &[u8; 4] = b"\x7fELF";

/// Returns the path that the host's file or folder `spec` has in the guest.
pub(super) fn place(spec: &str) -> String {
    let name = Path::new(spec).file_name().unwrap_or_default();
    format!("{FOLDER}/{}", name.to_string_lossy())
}

/// Packs the files that one test declares, in addition to those that its machine has anyway.
pub(super) struct Packer<'a> {
    /// The files that the guest gets anyway. Libraries and interpreters among them are not packed again. It is an error if
    /// two files of the host would get the same path.
    pub(super) there: &'a [&'a Files],
    /// The folder that caches which libraries a program needs.
    pub(super) cache: Option<&'a Path>,
    /// The host's `PATH`, in which bare names are looked up; `None` if the variable is not set.
    pub(super) search: Option<std::ffi::OsString>,
}

impl Packer<'_> {
    /// Packs the file or folder that `spec` names.
    pub(super) fn add(&self, files: &mut Files, spec: &str) -> Result<(), RunError> {
        let host = self.find(spec)?;
        let name = Path::new(spec).file_name();
        if name.is_none() {
            return Err(RunError::Include {
                what: "file for the guest",
                path: spec.to_owned(),
                cause: std::io::Error::new(
                    std::io::ErrorKind::InvalidInput,
                    "the path ends in no name, so the file would have none in the guest: write its name",
                ),
            });
        }
        self.add_path(files, &host, place(spec), 0)
    }

    /// Packs the program of a payload, the interpreter if it is a script, and the payload's other files.
    pub(super) fn add_payload(
        &self,
        files: &mut Files,
        payload: &'static Payload,
    ) -> Result<(), RunError> {
        let of_payload = |source: RunError| RunError::Payload {
            payload: payload.name.to_owned(),
            cause: Box::new(source),
        };
        let declared = payload.program().map_err(|error| RunError::Include {
            what: "payload",
            path: payload.name.to_owned(),
            cause: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
        })?;
        let host = self.find(declared).map_err(of_payload)?;
        let interpreter = program_of(&host).map_err(of_payload)?;
        if let Some(interpreter) = interpreter {
            let place = interpreter.to_string_lossy().into_owned();
            if !self.there.iter().any(|known| known.contains_key(&place)) {
                self.add_path(files, &interpreter, place, 0)
                    .map_err(of_payload)?;
            }
        }
        for spec in std::iter::once(&declared).chain(payload.include_files) {
            self.add(files, spec).map_err(of_payload)?;
        }
        Ok(())
    }

    /// Returns the host's path of the file or folder that `spec` names. A path with a `/` is not checked here.
    fn find(&self, spec: &str) -> Result<PathBuf, RunError> {
        let path = PathBuf::from(spec);
        if spec.contains('/') || path.exists() {
            return Ok(path);
        }
        let here = std::env::current_dir().unwrap_or_default();
        let mut looked = vec![here.join(spec)];
        for folder in std::env::split_paths(self.search.as_deref().unwrap_or_default()) {
            let path = folder.join(spec);
            let found = std::fs::metadata(&path);
            if found.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0) {
                return Ok(path);
            }
            looked.push(path);
        }
        let lines = looked
            .iter()
            .map(|path| format!("  {}", path.display()))
            .collect::<Vec<_>>();
        Err(RunError::IncludeNotFound {
            name: spec.to_owned(),
            looked: lines.join("\n"),
        })
    }

    /// Packs the file or folder `host` as `place`. `depth` is the number of folders above it that were entered.
    fn add_path(
        &self,
        files: &mut Files,
        host: &Path,
        place: String,
        depth: usize,
    ) -> Result<(), RunError> {
        let meta = std::fs::metadata(host).map_err(|e| failed(host, e))?;
        if meta.is_file() {
            return self.add_file(files, host, place, &meta);
        }
        if !meta.is_dir() {
            let found = "it is neither a file nor a folder: name one that is";
            return Err(failed(host, std::io::Error::other(found)));
        }
        if depth == DEPTH {
            let found = format!(
                "its folders are more than {DEPTH} deep: is there a symbolic link to a folder above?"
            );
            return Err(failed(host, std::io::Error::other(found)));
        }
        let mut inside = std::fs::read_dir(host)
            .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
            .map_err(|e| failed(host, e))?;
        // The order of a folder's entries depends on the file system, so they are sorted.
        inside.sort_by_key(std::fs::DirEntry::file_name);
        if inside.is_empty() {
            let found = "the folder is empty, and an empty folder is not packed into the guest: \
                         put a file into it or remove it";
            return Err(failed(host, std::io::Error::other(found)));
        }
        for entry in inside {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                let found = "its name is not UTF-8: rename it";
                return Err(failed(&entry.path(), std::io::Error::other(found)));
            };
            self.add_path(files, &entry.path(), format!("{place}/{name}"), depth + 1)?;
        }
        Ok(())
    }

    fn add_file(
        &self,
        files: &mut Files,
        host: &Path,
        place: String,
        meta: &Metadata,
    ) -> Result<(), RunError> {
        let first = self
            .there
            .iter()
            .copied()
            .chain([&*files])
            .find_map(|known| in_the_way(known, &place));
        if let Some((place, first)) = first
            && !same(first, host)
        {
            return Err(RunError::IncludeClash {
                first: first.to_owned(),
                second: host.to_owned(),
                place: place.to_owned(),
            });
        }
        if is_elf(host)? {
            for library in Program::read(host, self.cache)?.libraries {
                let path = library.to_string_lossy().into_owned();
                if !self.there.iter().any(|known| known.contains_key(&path)) {
                    files.insert(path, host_file(&library, 0o755)?);
                }
            }
        }
        let runs = meta.permissions().mode() & 0o111 != 0;
        let mode = if runs { 0o755 } else { 0o644 };
        files.insert(place, host_file(host, mode)?);
        Ok(())
    }
}

/// Returns the file of the host among `known` that conflicts with the guest's path `place`: its path in the guest, and its path
/// on the host. Two files conflict if their paths in the guest are the same, or if one would be below the other. `None` if none
/// conflicts.
fn in_the_way<'a>(known: &'a Files, place: &str) -> Option<(&'a str, &'a Path)> {
    let host = |(place, file): (&'a String, &'a GuestFile)| match &file.content {
        Content::Host(host) => Some((place.as_str(), host.as_path())),
        Content::Program(_) | Content::Written(_) => None,
    };
    let below = format!("{place}/");
    Path::new(place)
        .ancestors()
        .filter_map(|above| known.get_key_value(above.to_str()?))
        .find_map(host)
        .or_else(|| {
            let (first, file) = known.range(below.clone()..).next()?;
            first
                .starts_with(&below)
                .then_some((first, file))
                .and_then(host)
        })
}

/// Returns whether two paths of the host name the same file.
fn same(first: &Path, second: &Path) -> bool {
    first == second
        || matches!(
            (std::fs::canonicalize(first), std::fs::canonicalize(second)),
            (Ok(first), Ok(second)) if first == second
        )
}

/// Checks that a file of the host can be executed. Returns the interpreter of a script; `None` for an ELF program.
fn program_of(host: &Path) -> Result<Option<PathBuf>, RunError> {
    let meta = std::fs::metadata(host).map_err(|e| failed(host, e))?;
    let refused = |found: String| failed(host, std::io::Error::other(found));
    if !meta.is_file() {
        return Err(refused("it is not a file, so it cannot be run".to_owned()));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        let found =
            "it is not executable: make it so (chmod +x), or name the program that reads it";
        return Err(refused(found.to_owned()));
    }
    let mut head = Vec::new();
    std::fs::File::open(host)
        .and_then(|file| file.take(SCRIPT_LINE).read_to_end(&mut head))
        .map_err(|e| failed(host, e))?;
    if head.starts_with(ELF) {
        return Ok(None);
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(line) = line.strip_prefix(b"#!") else {
        let found = "it is neither an ELF program nor a script: a script begins with #! and its interpreter";
        return Err(refused(found.to_owned()));
    };
    let line = String::from_utf8_lossy(line);
    let interpreter = line.split_whitespace().next().unwrap_or_default();
    if !interpreter.starts_with('/')
        || Path::new(interpreter)
            .file_name()
            .is_some_and(|n| n == "env")
    {
        return Err(refused(format!(
            "it is a script whose interpreter is {interpreter:?}: write the absolute path of the interpreter itself \
             behind #!, because that is what is packed into the guest"
        )));
    }
    Ok(Some(interpreter.into()))
}

fn is_elf(host: &Path) -> Result<bool, RunError> {
    let mut head = Vec::new();
    std::fs::File::open(host)
        .and_then(|file| file.take(ELF.len() as u64).read_to_end(&mut head))
        .map_err(|e| failed(host, e))?;
    Ok(head == ELF)
}

fn failed(host: &Path, cause: std::io::Error) -> RunError {
    RunError::Include {
        what: "file for the guest",
        path: host.display().to_string(),
        cause,
    }
}

#[cfg(test)]
#[path = "include_tests.rs"]
mod tests;
