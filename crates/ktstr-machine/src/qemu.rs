//! Finds QEMU and determines its version.

use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_state::{arch, env};

use crate::MachineError;

/// The first and the last version, major and minor, with which the project has been tested. The virtual clock depends on how
/// QEMU's threads wait for each other, because the plugin intercepts these waits to make runs repeatable. Newer versions of QEMU
/// may wait in other ways.
pub const TRIED_QEMU: [(u32, u32); 2] = [(10, 0), (10, 0)];
/// The oldest major version whose plugin and migration interfaces are known to work.
pub const OLDEST_QEMU: u32 = TRIED_QEMU[0].0;

/// A QEMU that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// The path of the program.
    pub path: PathBuf,
    /// Its version, such as `10.0.2`.
    pub version: String,
}

impl Qemu {
    /// Finds the QEMU that `KTSTR_QEMU` names, otherwise the first one in `PATH`.
    pub fn find() -> Result<Self, MachineError> {
        Self::find_in(env::QEMU.get(), &env::PATH.get().unwrap_or_default())
    }

    /// The same as [`Qemu::find`], with both sources as arguments.
    pub fn find_in(named: Option<PathBuf>, search: &std::ffi::OsStr) -> Result<Self, MachineError> {
        if let Some(path) = named {
            // A name without a slash means a file in the current folder. The path is made absolute, because `Command` would look
            // for a name without a slash in PATH.
            return Self::ask_named(std::path::absolute(&path).unwrap_or(path));
        }
        let found = std::env::split_paths(search)
            .map(|folder| folder.join(arch::QEMU))
            .find(|path| path.is_file());
        match found {
            Some(path) => Self::ask(&path),
            None => Err(MachineError::NoQemu {
                looked: format!("PATH={}", search.to_string_lossy()),
                needed: OLDEST_QEMU,
            }),
        }
    }

    /// Returns whether this version is in the range [`TRIED_QEMU`].
    pub fn is_tried(&self) -> bool {
        let mut numbers = self.version.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return false;
        };
        let [first, last] = TRIED_QEMU;
        (first..=last).contains(&(major, minor))
    }

    /// Checks whether this QEMU supports [`SANDBOX`](crate::SANDBOX). The error is what QEMU printed on standard error, or
    /// why it could not be started.
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

    /// The same as [`Qemu::ask`], for a program that the user named: if it does not run or is no QEMU, the error
    /// is [`MachineError::NotQemu`], which the user has to correct.
    fn ask_named(path: PathBuf) -> Result<Self, MachineError> {
        let found = if path.is_dir() {
            "it is a folder".to_owned()
        } else if !path.exists() {
            "there is no such file".to_owned()
        } else if !path.is_file() {
            "it is not a regular file".to_owned()
        } else {
            match Self::ask(&path) {
                Err(MachineError::Spawn { cause, .. }) => format!("it does not run: {cause}"),
                Err(MachineError::QemuTooOld { found, .. }) if version(&found).is_none() => {
                    format!("for `--version` it prints {found:?}, which is not QEMU's answer")
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

    /// Runs the program with `--version`, and returns it if it is a QEMU of a supported version.
    fn ask(path: &Path) -> Result<Self, MachineError> {
        let output = Command::new(path)
            .arg("--version")
            .output()
            .map_err(|cause| MachineError::Spawn {
                path: path.to_owned(),
                cause,
            })?;
        if !output.status.success() {
            return Err(MachineError::Spawn {
                path: path.to_owned(),
                cause: std::io::Error::other(format!("`--version` ended with {}", output.status)),
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

/// Parses the major version and the whole version from a line like `QEMU emulator version 10.0.2 (Debian …)`; `None` for
/// any other line.
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
        let path = folder.join(arch::QEMU);
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).expect("writable folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("own file");
        path
    }

    #[test]
    fn an_error_lists_the_searched_path() {
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
    fn a_missing_qemu_that_was_named_is_not_replaced() {
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
            (script, "prints \"hello\", which is not QEMU's answer"),
            // A name without a slash is a file of the current folder, which is that of the crate here.
            (
                PathBuf::from("Cargo.toml"),
                "it does not run: Permission denied",
            ),
        ] {
            let error = Qemu::find_in(Some(named.clone()), "/usr/bin".as_ref()).expect_err(found);
            let text = error.to_string();
            let shown = std::path::absolute(named).expect("a path");
            assert!(
                text.starts_with(&format!("KTSTR_QEMU={}: ", shown.display())),
                "{text}"
            );
            assert!(text.contains(found), "{found} is not in {text}");
        }
    }

    #[test]
    fn an_old_qemu_is_refused_with_its_version_line() {
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
    fn a_version_is_in_the_tried_range_or_not() {
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
    fn a_newer_qemu_is_accepted() {
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
