//! Checks that the files of a cache entry are still those that were imported.
//!
//! Hashing a kernel takes a good part of a second, and every test would pay for it. The check therefore compares what
//! the file system reports: a file whose inode, length and times equal those recorded when it was last hashed has the
//! same contents. The change time cannot be set by a program, so a write is noticed even if the other times were
//! restored. If the recorded values differ, as in a copied cache, the file is hashed again, and if its hash is correct,
//! the new values are recorded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::kernel::file;

/// The properties of a file, as the file system reports them, that stay the same while nobody changes the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    length: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Ok(Self {
            inode: found.ino(),
            length: found.len(),
            modified_ns: ns(found.mtime(), found.mtime_nsec()),
            changed_ns: ns(found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Checks every file of `hashes` in `dir`. The error names the first file that is missing, cannot be read or differs.
pub(crate) fn check(dir: &Path, hashes: &BTreeMap<String, String>) -> Result<(), String> {
    let noted: BTreeMap<String, Stamp> = fs::read(dir.join(file::STAMPS))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let mut all_noted = true;
    for (name, expected) in hashes {
        let path = dir.join(name);
        let missing = |e| format!("its {name} is missing ({e})");
        if noted.get(name) == Some(&Stamp::of(&path).map_err(missing)?) {
            continue;
        }
        all_noted = false;
        let found = sha256_of(&path).map_err(|e| format!("its {name} cannot be read ({e})"))?;
        if found != *expected {
            return Err(format!(
                "its {name} was changed after the import: SHA-256 {}, not {}",
                short(&found),
                short(expected)
            ));
        }
    }
    if !all_noted {
        // If the stamps cannot be written, the next reader hashes again.
        let _ = write(dir, hashes);
    }
    Ok(())
}

/// Records the stamps of the files of `hashes`. The caller must have checked that their contents are correct.
pub(crate) fn write(dir: &Path, hashes: &BTreeMap<String, String>) -> io::Result<()> {
    let stamps: BTreeMap<&String, Stamp> = hashes
        .keys()
        .map(|name| Ok((name, Stamp::of(&dir.join(name))?)))
        .collect::<io::Result<_>>()?;
    let mut aside = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut aside, &stamps)?;
    aside.persist(dir.join(file::STAMPS))?;
    Ok(())
}

pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
