//! The record of a kernel's modules in the cache: the hashes of their files, and the files from which they were copied.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Module;
use crate::stamps;

/// The name of the record in the folder of a kernel's modules.
const RECORD: &str = "modules.json";

/// The recorded modules, by the names of their files.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept(BTreeMap<String, Copied>);

#[derive(Debug, Serialize, Deserialize)]
struct Copied {
    /// SHA-256 of the module in the cache, in hexadecimal.
    sha256: String,
    /// The file that was copied; `None` if it existed only for the time of the copy.
    origin: Option<Origin>,
}

/// The state of a file that was copied.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    path: PathBuf,
    length: u64,
    modified_ns: i128,
}

impl Origin {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            length: found.len(),
            modified_ns: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        })
    }
}

impl Kept {
    /// Reads the record in `dir`. It is empty if there is none, or if it is damaged: the modules are then copied again.
    pub(super) fn read(dir: &Path) -> Self {
        let text = fs::read(dir.join(RECORD)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Returns what is wrong with the recorded files of the `needed` modules in `dir`; `None` if nothing is.
    pub(super) fn damage(&self, dir: &Path, needed: &[Module]) -> Option<String> {
        let hash = |module: &Module| {
            let copied = self.0.get(module.file())?;
            Some((module.file().to_owned(), copied.sha256.clone()))
        };
        stamps::check(dir, &needed.iter().filter_map(hash).collect()).err()
    }

    /// Returns whether `module` is not in the record.
    pub(super) fn lacks(&self, module: &Module) -> bool {
        !self.0.contains_key(module.file())
    }

    /// Returns whether the file from which `module` was copied has changed since. A file that is gone counts as unchanged.
    pub(super) fn has_changed(&self, module: &Module) -> bool {
        let copied = self.0.get(module.file());
        let origin = copied.and_then(|copied| copied.origin.as_ref());
        origin.is_some_and(|then| Origin::of(&then.path).is_ok_and(|now| now != *then))
    }

    /// Records the file of `module` in `dir`, which was copied from `origin`; `None` if the original file is not kept.
    pub(super) fn note(
        &mut self,
        dir: &Path,
        module: &Module,
        origin: Option<&Path>,
    ) -> io::Result<()> {
        let copied = Copied {
            sha256: stamps::sha256_of(&dir.join(module.file()))?,
            origin: origin.map(Origin::of).transpose()?,
        };
        self.0.insert(module.file().to_owned(), copied);
        Ok(())
    }

    /// Writes the record. The caller holds the lock of the folder.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let mut aside = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&mut aside, self)?;
        aside.persist(dir.join(RECORD))?;
        Ok(())
    }
}
