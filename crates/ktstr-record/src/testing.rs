//! Helpers for the tests of several modules.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Renames the folder of a committed run as if the run had begun `ms` milliseconds into the year 2021, and returns the new path
/// of its record. Runs are sorted by the names of their folders.
pub fn begun(record: &Path, ms: u32) -> PathBuf {
    let folder = record.parent().unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let (_, rest) = name.split_once('-').unwrap();
    let renamed = folder.with_file_name(format!("20210101T000000.{ms:03}Z-{rest}"));
    fs::rename(folder, &renamed).unwrap();
    renamed.join(record.file_name().unwrap())
}
