//! Which QEMU: finding the program and asking its version.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::MachineError;

/// The versions, major and minor, that the project is tried with, from the first to the last. The
/// virtual clock's gate depends on how QEMU's threads wait for each other, which newer versions may
/// have changed.
pub const TRIED_QEMU: [(u32, u32); 2] = [(10, 0), (10, 0)];
/// The oldest major version whose plugin and migration interfaces are known to do.
pub const OLDEST_QEMU: u32 = TRIED_QEMU[0].0;

/// A QEMU that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// Where the program lies.
    pub path: PathBuf,
    /// Its version, as in `10.0.2`.
    pub version: String,
}

impl Qemu {
    /// The QEMU named by `KTSTR_QEMU`, else the first one in `PATH`.
    pub fn find() -> Result<Self, MachineError> {
        let named = std::env::var_os("KTSTR_QEMU").filter(|value| !value.is_empty());
        let search = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(named.map(PathBuf::from), &search)
    }

    /// As [`Qemu::find`], with both sources given.
    pub fn find_in(named: Option<PathBuf>, search: &std::ffi::OsStr) -> Result<Self, MachineError> {
        if let Some(path) = named {
            return Self::ask_named(path);
        }
        let found = std::env::split_paths(search)
            .map(|folder| folder.join("qemu-system-x86_64"))
            .find(|path| path.is_file());
        match found {
            Some(path) => Self::ask(&path),
            None => Err(MachineError::NoQemu {
                looked: format!("PATH={}", search.to_string_lossy()),
                needed: OLDEST_QEMU,
            }),
        }
    }

    /// Whether it is one of the versions of [`TRIED_QEMU`].
    pub fn is_tried(&self) -> bool {
        let mut numbers = self.version.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return false;
        };
        let [first, last] = TRIED_QEMU;
        (first..=last).contains(&(major, minor))
    }

    /// Whether it knows [`SANDBOX`](crate::SANDBOX): else what it said.
    pub fn knows_sandbox(&self) -> Result<(), String> {
        let asked = Command::new(&self.path)
            .args(crate::SANDBOX)
            .args(["-machine", "help"])
            .output()
            .map_err(|e| e.to_string())?;
        match asked.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&asked.stderr).trim().to_owned()),
        }
    }

    /// As [`Qemu::ask`], for one that the user names: whatever is wrong with it is the user's.
    fn ask_named(path: PathBuf) -> Result<Self, MachineError> {
        let found = if path.is_dir() {
            "it is a folder".to_owned()
        } else if !path.exists() {
            "there is no such file".to_owned()
        } else if !path.is_file() {
            "it is not a regular file".to_owned()
        } else {
            match Self::ask(&path) {
                Err(MachineError::Spawn { source, .. }) => format!("it does not run: {source}"),
                Err(MachineError::QemuTooOld { found, .. }) if version(&found).is_none() => {
                    format!("it answers to `--version` with {found:?}, which is not QEMU's answer")
                }
                answer => return answer,
            }
        };
        Err(MachineError::NotQemu {
            path,
            found,
            needed: OLDEST_QEMU,
        })
    }

    fn ask(path: &Path) -> Result<Self, MachineError> {
        let output = Command::new(path)
            .arg("--version")
            .output()
            .map_err(|source| MachineError::Spawn {
                path: path.to_owned(),
                source,
            })?;
        if !output.status.success() {
            return Err(MachineError::Spawn {
                path: path.to_owned(),
                source: std::io::Error::other(format!("`--version` ended with {}", output.status)),
            });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default().trim();
        match version(first) {
            Some((major, version)) if major >= OLDEST_QEMU => Ok(Self {
                path: path.to_owned(),
                version,
            }),
            _ => Err(MachineError::QemuTooOld {
                path: path.to_owned(),
                found: first.chars().take(120).collect(),
                needed: OLDEST_QEMU,
            }),
        }
    }
}

/// Major version and version of a line like `QEMU emulator version 10.0.2 (Debian …)`.
fn version(line: &str) -> Option<(u32, String)> {
    let rest = line.strip_prefix("QEMU emulator version ")?;
    let version = rest.split_whitespace().next()?;
    let major = version.split('.').next()?.parse().ok()?;
    Some((major, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake(folder: &Path, says: &str) -> PathBuf {
        let path = folder.join("qemu-system-x86_64");
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).expect("writable folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("own file");
        path
    }

    #[test]
    fn an_empty_path_says_where_it_looked() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let error = Qemu::find_in(None, folder.path().as_os_str()).expect_err("no QEMU there");
        let text = error.to_string();
        assert!(
            text.contains(&folder.path().display().to_string()),
            "{text}"
        );
        assert!(
            text.contains("make deps") && text.contains("KTSTR_QEMU"),
            "{text}"
        );
    }

    #[test]
    fn a_named_one_that_is_missing_is_not_replaced_by_another() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let script = fake(folder.path(), "hello");
        let quiet = folder.path().join("quiet");
        std::fs::write(&quiet, "#!/bin/sh\n").expect("writable folder");
        for (named, found) in [
            (PathBuf::from("/nowhere/qemu"), "there is no such file"),
            (folder.path().to_owned(), "it is a folder"),
            (PathBuf::from("/dev/null"), "it is not a regular file"),
            (quiet, "it does not run: Permission denied"),
            (
                PathBuf::from("/bin/false"),
                "it does not run: `--version` ended with",
            ),
            (script, "with \"hello\", which is not QEMU's answer"),
        ] {
            let error = Qemu::find_in(Some(named.clone()), "/usr/bin".as_ref()).expect_err(found);
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("KTSTR_QEMU={}: ", named.display())),
                "{text}"
            );
            assert!(text.contains(found), "{found} is not in {text}");
        }
    }

    #[test]
    fn an_old_one_is_refused_by_what_it_says() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fake(
            folder.path(),
            "QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7)",
        );
        let error = Qemu::find_in(None, folder.path().as_os_str()).expect_err("too old");
        let text = error.to_string();
        assert!(
            text.contains("7.2.19") && text.contains("bookworm-backports"),
            "{text}"
        );
    }

    #[test]
    fn a_version_is_tried_or_it_is_not() {
        let tried = |version: &str| {
            let qemu = Qemu {
                path: "/q".into(),
                version: version.into(),
            };
            qemu.is_tried()
        };
        assert!(tried("10.0.2") && tried("10.0"));
        assert!(!tried("10.1.0") && !tried("11.0.0") && !tried("9.2.1"));
        assert!(!tried("10") && !tried("ten.0"));
    }

    #[test]
    fn a_new_one_is_taken() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = fake(folder.path(), "QEMU emulator version 11.1.0");
        let qemu = Qemu::find_in(None, folder.path().as_os_str()).expect("new enough");
        assert_eq!(
            qemu,
            Qemu {
                path,
                version: "11.1.0".into()
            }
        );
    }
}
