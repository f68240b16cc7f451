//! A file that pins kernels: it maps each word of the command line to the ids of the kernels that the word stood for when it was
//! first used. An id contains a hash of the image, so with this file a check in CI uses the same kernels until somebody changes
//! the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The version of the file's format.
const VERSION: u32 = 1;
/// The comment at the beginning of the file.
const HEAD: &str = "# The kernels that words on the command line of `cargo ktstr` stand for. Remove a line, or the file, to pin again.\n";
/// The key in the file for the default kernel, which has no word on the command line.
const NONE: &str = "(none asked for)";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    kernels: BTreeMap<String, Vec<String>>,
}

/// The pins and the path of their file.
#[derive(Debug, PartialEq, Eq)]
pub struct Lock {
    path: PathBuf,
    pins: BTreeMap<String, Vec<String>>,
    changed: bool,
}

impl Lock {
    /// Reads the pins in the file; there are none if the file does not exist yet.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a lock file.
    pub fn open(path: &Path) -> Result<Self> {
        let pins = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            text => {
                let text = text.with_context(|| format!("reading {}", path.display()))?;
                let file: File = toml::from_str(&text).with_context(|| {
                    format!("{} is not a file of pinned kernels", path.display())
                })?;
                ensure!(
                    file.version == VERSION,
                    "{} has version {}, and this command reads {VERSION}: remove the file to pin the kernels again",
                    path.display(),
                    file.version
                );
                file.kernels
            }
        };
        Ok(Self {
            path: path.to_owned(),
            pins,
            changed: false,
        })
    }

    /// Returns the ids that a word is pinned to; `None` if it is not pinned. The word `None` stands for the default kernel.
    pub fn pinned(&self, word: Option<&str>) -> Option<&[String]> {
        self.pins.get(word.unwrap_or(NONE)).map(Vec::as_slice)
    }

    /// Pins a word of the command line to these kernels; the word `None` stands for the default kernel.
    pub fn pin(&mut self, word: Option<&str>, ids: Vec<String>) {
        self.pins.insert(word.unwrap_or(NONE).to_owned(), ids);
        self.changed = true;
    }

    /// Writes the file if a pin was added.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        let file = File {
            version: VERSION,
            kernels: self.pins.clone(),
        };
        let text = HEAD.to_owned() + &toml::to_string(&file).context("the pins as TOML")?;
        // The file is replaced as a whole: half a file would be refused by the next command.
        let write = || -> std::io::Result<()> {
            let folder = self.path.parent().filter(|f| !f.as_os_str().is_empty());
            let mut new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
            std::io::Write::write_all(&mut new, text.as_bytes())?;
            let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            new.as_file().set_permissions(everybody)?;
            new.persist(&self.path)?;
            Ok(())
        };
        write().with_context(|| format!("writing {}", self.path.display()))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ktstr.lock");
        let mut lock = Lock::open(&path).expect("a lock file without pins");
        assert_eq!(lock.pinned(Some("7.3")), None);
        lock.write().expect("nothing to write");
        assert!(!path.exists(), "nothing was pinned");
        lock.pin(
            Some("6.12..7.3"),
            vec!["6.12.9-ab".to_owned(), "7.3.4-cd".to_owned()],
        );
        lock.pin(None, vec!["7.3.4-cd".to_owned()]);
        lock.write().expect("written");
        let again = Lock::open(&path).expect("pins");
        assert_eq!(again.pinned(Some("6.12..7.3")).map(<[_]>::len), Some(2));
        assert_eq!(again.pinned(None), Some(&["7.3.4-cd".to_owned()][..]));
    }

    #[test]
    fn a_file_that_is_not_a_lock_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ktstr.lock");
        for (text, printed) in [
            ("prose", "is not a file of pinned kernels"),
            ("version = 1\n", "is not a file of pinned kernels"),
            ("version = 2\n[kernels]\n", "has version 2"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = Lock::open(&path).expect_err("no lock file").to_string();
            assert!(error.contains(printed), "{text}: {error}");
        }
    }
}
