//! The source of a kernel: where it is, how it is identified, and how it becomes a source tree.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use ktstr_state::arch;
use sha2::{Digest, Sha256};

use crate::cache::{Cache, hex};
use crate::progress::{self, Listener};
use crate::{KernelError, apt, command};

/// Files that every kernel source tree has.
const MARKS: [&str; 3] = ["Makefile", "Kconfig", arch::SOURCE_KCONFIG];
/// Files and folders that configuring or building in the tree leaves behind. If one of them exists, an out-of-tree build
/// refuses to start.
const BUILT_IN_PLACE: [&str; 3] = [".config", "include/config", arch::SOURCE_GENERATED];

/// The source of a build.
#[derive(Debug)]
pub(super) enum Origin {
    Tree(PathBuf),
    Tarball(PathBuf),
    /// The tarball of a Debian package, unpacked in a folder of the cache.
    Debian {
        package: String,
        version: String,
        tarball: PathBuf,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(path) | Self::Tarball(path) => write!(f, "{}", path.display()),
            Self::Debian {
                package, version, ..
            } => write!(f, "{package} {version}"),
        }
    }
}

impl Origin {
    /// Interprets the SOURCE argument of the command line: an existing path, else the name of a Debian package, which is
    /// fetched unless `offline` is set.
    pub(super) fn of(
        text: &str,
        cache: &Cache,
        offline: bool,
        listener: &mut Listener<'_>,
    ) -> Result<Self, KernelError> {
        let path = Path::new(text);
        if path.exists() {
            let path = path
                .canonicalize()
                .map_err(|e| KernelError::io("find", path, e))?;
            return Self::at(path);
        }
        let package = text.strip_prefix("debian:").unwrap_or(text);
        let is_package = package.starts_with("linux-source-")
            && package
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.+".contains(c));
        if !is_package {
            return Err(bad(
                text,
                "there is no such file or folder, and it is not the name of a package such as linux-source-6.12",
            ));
        }
        let (version, tarball) = if offline {
            apt::fetched_source(cache, package)?.ok_or_else(|| KernelError::Offline {
                request: Some(text.to_owned()),
                looked_at: vec![
                    "packages fetched before: not among them".to_owned(),
                    "Debian's archive: not queried".to_owned(),
                ],
            })?
        } else {
            apt::fetch_source(cache, package, listener)?
        };
        Ok(Self::Debian {
            package: package.to_owned(),
            version,
            tarball,
        })
    }

    fn at(path: PathBuf) -> Result<Self, KernelError> {
        let name = path.display().to_string();
        if path.is_dir() {
            if let Some(mark) = MARKS.iter().find(|mark| !path.join(mark).exists()) {
                return Err(bad(
                    &name,
                    &format!("a folder that is not a kernel tree: it has no {mark}"),
                ));
            }
            if let Some(left) = BUILT_IN_PLACE.iter().find(|left| path.join(left).exists()) {
                return Err(bad(
                    &name,
                    &format!(
                        "a tree that was configured or built in place (it has {left}), and an out-of-tree build needs a \
                         clean one. Run `make mrproper` in it, or set KTSTR_KERNEL to the tree to use the kernel that was \
                         built there"
                    ),
                ));
            }
            return Ok(Self::Tree(path));
        }
        if unpacker_of(&path).is_none() {
            return Err(bad(
                &name,
                "a file that is not a .tar, .tar.xz, .tar.gz or .tar.zst",
            ));
        }
        Ok(Self::Tarball(path))
    }

    pub(super) fn is_tree(&self) -> bool {
        matches!(self, Self::Tree(_))
    }

    fn tarball(&self) -> Option<&Path> {
        match self {
            Self::Tree(_) => None,
            Self::Tarball(path) | Self::Debian { tarball: path, .. } => Some(path),
        }
    }

    /// Returns the program that tar runs to unpack the source, or `tar` for an uncompressed tarball; `None` for a tree.
    pub(super) fn unpacker(&self) -> Option<&'static str> {
        self.tarball().and_then(unpacker_of)
    }

    /// Returns a text that differs when the source differs. For a tarball, whether from a package or from the user, it
    /// is a hash of the contents. For a tree, it is a hash of the name, length and modification time of each file,
    /// because reading all files would take minutes.
    pub(super) fn identity(&self, listener: &mut Listener<'_>) -> Result<String, KernelError> {
        let stage = format!("reading {self}");
        progress::begin(listener, &stage);
        let identity = match self {
            Self::Tarball(path) | Self::Debian { tarball: path, .. } => {
                let mut hash = Sha256::new();
                File::open(path)
                    .and_then(|mut file| io::copy(&mut file, &mut HashWriter(&mut hash)))
                    .map_err(|e| KernelError::io("read", path, e))?;
                hex(&hash.finalize())
            }
            Self::Tree(root) => {
                let mut hash = Sha256::new();
                walk(root, root, &mut |stamp, _| hash.update(stamp))?;
                hex(&hash.finalize())
            }
        };
        progress::end(listener, &stage);
        Ok(identity)
    }

    /// Returns whether objects that were compiled from this tree may have to be compiled again without `make` noticing: a
    /// file has changed since the last build, but its time is not after that build. This happens when a tree is replaced by
    /// another one, or when a file is put back with its old time. The file `seen` has the state of the tree at the last build.
    /// The function also returns the present state, which [`super::Build`] writes to `seen` once stale objects are removed.
    /// `None` for a tarball, whose objects are not kept.
    pub(super) fn objects_are_stale(
        &self,
        seen: &Path,
    ) -> Result<Option<(bool, Vec<u8>)>, KernelError> {
        let Self::Tree(root) = self else {
            return Ok(None);
        };
        let built = fs::metadata(seen).and_then(|meta| meta.modified()).ok();
        let before = fs::read(seen).unwrap_or_default();
        let before: HashSet<&[u8]> = before.split(|b| *b == b'\n').collect();
        let (mut now, mut stale) = (Vec::new(), built.is_none());
        walk(root, root, &mut |stamp, written| {
            let known = before.contains(stamp.strip_suffix(b"\n").unwrap_or(stamp));
            stale |= !known && !matches!((written, built), (Some(at), Some(built)) if at > built);
            now.extend_from_slice(stamp);
        })?;
        Ok(Some((stale, now)))
    }

    /// Returns the tree to build. A tarball is unpacked into `into`.
    pub(super) fn tree(
        &self,
        into: &Path,
        listener: &mut Listener<'_>,
    ) -> Result<PathBuf, KernelError> {
        let tarball = match self {
            Self::Tree(path) => return Ok(path.clone()),
            Self::Tarball(path) | Self::Debian { tarball: path, .. } => path,
        };
        let stage = format!("unpacking {}", tarball.display());
        progress::begin(listener, &stage);
        // Existing contents were left by a build that was killed.
        if into.exists() {
            fs::remove_dir_all(into).map_err(|e| KernelError::io("remove", into, e))?;
        }
        fs::create_dir_all(into).map_err(|e| KernelError::io("create", into, e))?;
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(tarball).arg("-C").arg(into);
        command::run(&mut tar, |_| {}).map_err(|failure| match failure {
            command::Failure::Ended { output, .. } => {
                // The copy of a package's tarball may be damaged. Without it, the next build fetches the package again.
                let remedy = match self {
                    Self::Debian { .. }
                        if is_damaged(tarball) && fs::remove_file(tarball).is_ok() =>
                    {
                        ". It was removed from the cache: run the command again to fetch it again"
                    }
                    _ => "",
                };
                bad(
                    &self.to_string(),
                    &format!("a file that tar cannot unpack:\n{output}{remedy}"),
                )
            }
            other => other.into_error(&format!("tar -xf {}", tarball.display()), into, ""),
        })?;
        progress::end(listener, &stage);
        let tops: Vec<PathBuf> = fs::read_dir(into)
            .map_err(|e| KernelError::io("list", into, e))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| MARKS.iter().all(|mark| path.join(mark).exists()))
            .collect();
        match tops.as_slice() {
            [tree] => Ok(tree.clone()),
            _ => Err(bad(
                &self.to_string(),
                "a tarball that does not contain exactly one kernel tree",
            )),
        }
    }
}

/// Returns whether tar cannot even list the tarball. If tar can list it, the folder into which it was unpacked is the problem.
fn is_damaged(tarball: &Path) -> bool {
    let mut tar = Command::new("tar");
    tar.arg("-tf").arg(tarball);
    let listed = command::run(&mut tar, |_| {});
    matches!(listed, Err(command::Failure::Ended { .. }))
}

fn bad(source: &str, found: &str) -> KernelError {
    KernelError::BadSource {
        source_text: source.to_owned(),
        found: found.to_owned(),
    }
}

fn unpacker_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    [
        (".tar.xz", "xz"),
        (".tar.gz", "gzip"),
        (".tgz", "gzip"),
        (".tar.zst", "zstd"),
        (".tar", "tar"),
    ]
    .into_iter()
    .find_map(|(end, program)| name.ends_with(end).then_some(program))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls `take` for every file below `dir`, except for those in folders named `.git`, with a line that has the file's name,
/// length and modification time, and with the modification time itself. Links are not followed.
fn walk(
    root: &Path,
    dir: &Path,
    take: &mut dyn FnMut(&[u8], Option<SystemTime>),
) -> Result<(), KernelError> {
    let cannot = |e| KernelError::io("list", dir, e);
    let mut entries: Vec<fs::DirEntry> = fs::read_dir(dir)
        .map_err(cannot)?
        .collect::<Result<_, _>>()
        .map_err(cannot)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let meta = entry
            .metadata()
            .map_err(|e| KernelError::io("examine", &path, e))?;
        if meta.is_dir() {
            if entry.file_name() != ".git" {
                walk(root, &path, take)?;
            }
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path);
        let mut stamp = name.as_os_str().as_encoded_bytes().to_vec();
        let state = format!("\0{} {}.{}\n", meta.len(), meta.mtime(), meta.mtime_nsec());
        stamp.extend_from_slice(state.as_bytes());
        take(&stamp, meta.modified().ok());
    }
    Ok(())
}
