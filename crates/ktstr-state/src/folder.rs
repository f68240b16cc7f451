//! A folder that this user owns and nobody else can write.
//!
//! The last component of the path is opened without following a symbolic link, and the checks apply to the open folder
//! itself. The folders above it are the user's choice and are not checked: cargo's target folder is often a link, or
//! lies in a checkout that several people can read.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::{StateError, env};

/// What a folder is for, and which variable selects another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The name that messages use, with its article: "the cache folder".
    pub name: &'static str,
    /// The environment variable that names another folder.
    pub variable: &'static str,
}

impl Place {
    /// The cache of kernels, templates and programs.
    pub const CACHE: Self = Self {
        name: "the cache folder",
        variable: env::CACHE_DIR.name(),
    };
    /// The folder that holds the records of runs.
    pub const RUNS: Self = Self {
        name: "the folder of runs",
        variable: env::RUNS_ROOT.name(),
    };
    /// The results that `cargo ktstr power` and `check` keep next to the records of runs.
    pub const POWER: Self = Self {
        name: "the folder of kept results",
        variable: env::RUNS_ROOT.name(),
    };
    /// The list of the machines that run on this host.
    pub const MACHINES: Self = Self {
        name: "the folder of running machines",
        variable: env::XDG_RUNTIME_DIR.name(),
    };

    pub(crate) fn remedy(&self) -> String {
        format!("set {} to a folder of your own", self.variable)
    }
}

/// An open folder that passed the checks.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    place: Place,
    handle: File,
}

impl Folder {
    /// Opens the folder, and creates it with mode 0700 if it is missing. An existing folder that others can write is
    /// refused. An existing folder that others can only read or enter gets mode 0700.
    pub fn private(path: &Path, place: Place) -> Result<Self, StateError> {
        let folder = Self::owned(path, place)?;
        folder.close_to_others()?;
        Ok(folder)
    }

    /// Opens the folder like [`Folder::private`], but leaves the mode of an existing folder alone: others may read it,
    /// but not write to it.
    pub fn owned(path: &Path, place: Place) -> Result<Self, StateError> {
        if let Some(folder) = Self::existing(path, place)? {
            return Ok(folder);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| StateError::io("create", place, path, e))?;
        Self::existing(path, place)?
            .ok_or_else(|| StateError::io("open", place, path, Errno::NOENT))
    }

    /// Opens the folder without changing anything. Returns `Ok(None)` if it does not exist.
    pub fn existing(path: &Path, place: Place) -> Result<Option<Self>, StateError> {
        // A trailing slash would make the kernel follow a link.
        let path: PathBuf = path.components().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(why_not(path, place, errno)),
        };
        let meta = handle
            .metadata()
            .map_err(|e| StateError::io("look at", place, &path, e))?;
        check(&path, place, meta.uid(), meta.mode())?;
        Ok(Some(Self {
            path,
            place,
            handle,
        }))
    }

    /// Opens the subfolder `name`, and creates it if it is missing. It is private even if this folder is not.
    pub fn subfolder(&self, name: &str) -> Result<Self, StateError> {
        Self::private(&self.path.join(name), self.place)
    }

    /// Returns the path that the folder was opened with, without a trailing slash.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what the folder is for.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Opens the folder once more. The new file description can be locked on its own.
    pub(crate) fn reopen(&self) -> std::io::Result<File> {
        rustix::fs::openat(
            &self.handle,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(File::from)
        .map_err(Into::into)
    }

    fn close_to_others(&self) -> Result<(), StateError> {
        let wrap = |e| StateError::io("close to others", self.place, &self.path, e);
        let mode = self.handle.metadata().map_err(wrap)?.mode();
        if mode & 0o077 != 0 {
            rustix::fs::fchmod(&self.handle, Mode::RWXU).map_err(|e| wrap(e.into()))?;
        }
        Ok(())
    }
}

/// Checks that a folder with this owner and mode can be trusted by this process.
fn check(path: &Path, place: Place, owner: u32, mode: u32) -> Result<(), StateError> {
    let user = rustix::process::geteuid().as_raw();
    if owner != user {
        return Err(StateError::Foreign {
            place,
            path: path.to_owned(),
            owner,
            user,
        });
    }
    if mode & 0o022 != 0 {
        return Err(StateError::OthersCanWrite {
            place,
            path: path.to_owned(),
            mode: mode & 0o777,
        });
    }
    Ok(())
}

/// Returns the error that explains why `path` could not be opened, from what exists at that path.
fn why_not(path: PathBuf, place: Place, errno: Errno) -> StateError {
    let Ok(meta) = std::fs::symlink_metadata(&path) else {
        return StateError::io("open", place, &path, errno);
    };
    if meta.is_symlink() {
        let target = std::fs::read_link(&path).unwrap_or_default();
        return StateError::Link {
            place,
            path,
            target,
        };
    }
    if !meta.is_dir() {
        return StateError::NotAFolder { place, path };
    }
    match check(&path, place, meta.uid(), meta.mode()) {
        Err(error) => error,
        Ok(()) => StateError::io("open", place, &path, errno),
    }
}

/// Creates a new file that only this user can read and write. The call fails if the path exists, even as a link.
pub fn create_file(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const PLACE: Place = Place::CACHE;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_missing_folder_is_created_with_mode_0700() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("above/private");
        assert!(Folder::existing(&path, PLACE).unwrap().is_none());
        let folder = Folder::private(&path, PLACE).unwrap();
        assert_eq!((folder.path(), mode(&path)), (path.as_path(), 0o700));
        assert_eq!(mode(&dir.path().join("above")), 0o700);
        let inner = folder.subfolder("inner").unwrap();
        assert_eq!(mode(inner.path()), 0o700);
    }

    #[test]
    fn a_readable_folder_is_closed_only_if_it_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o755);
        Folder::owned(dir.path(), PLACE).unwrap();
        Folder::existing(dir.path(), PLACE).unwrap().unwrap();
        assert_eq!(mode(dir.path()), 0o755);
        Folder::private(dir.path(), PLACE).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn a_folder_that_others_can_write_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        for open in [0o770, 0o707, 0o777, 0o1777] {
            set_mode(dir.path(), open);
            let error = Folder::private(dir.path(), PLACE).unwrap_err();
            assert!(
                matches!(error, StateError::OthersCanWrite { mode, .. } if mode == open & 0o777),
                "{error}"
            );
            let text = error.to_string();
            for part in ["chmod go-w", "KTSTR_CACHE_DIR", "the cache folder"] {
                assert!(text.contains(part), "no {part} in {text}");
            }
        }
        set_mode(dir.path(), 0o700);
    }

    #[test]
    fn a_link_is_rejected_with_and_without_a_trailing_slash() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        for path in [link.clone(), dir.path().join("link/")] {
            let error = Folder::private(&path, PLACE).unwrap_err();
            assert!(
                matches!(&error, StateError::Link { target, .. } if *target == real),
                "{error}"
            );
        }
        // A dangling link must not cause a folder to be created at its target.
        let (gone, dangling) = (dir.path().join("gone"), dir.path().join("dangling"));
        symlink(&gone, &dangling).unwrap();
        let error = Folder::private(&dangling, PLACE).unwrap_err();
        assert!(matches!(error, StateError::Link { .. }), "{error}");
        assert!(!gone.exists());
        // A link above the folder is the user's choice.
        Folder::private(&link.join("below"), PLACE).unwrap();
    }

    #[test]
    fn a_file_is_rejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Folder::private(file.path(), PLACE).unwrap_err();
        assert!(matches!(error, StateError::NotAFolder { .. }), "{error}");
    }

    #[test]
    fn a_folder_of_another_user_is_rejected() {
        // Root needs a folder of another user; any other user can use one of root's.
        let user = rustix::process::geteuid().as_raw();
        let error = if user == 0 {
            let dir = tempfile::tempdir().unwrap();
            std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
            Folder::private(dir.path(), PLACE).unwrap_err()
        } else {
            Folder::private(Path::new("/usr"), PLACE).unwrap_err()
        };
        let other = if user == 0 { 12345 } else { 0 };
        assert!(
            matches!(error, StateError::Foreign { owner, user: us, .. } if owner == other && us == user),
            "{error}"
        );
    }

    #[test]
    fn a_new_file_is_private_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        create_file(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(create_file(&path).is_err(), "an existing file was opened");
    }
}
