//! What the tests of several modules need.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Gives the folder of a committed run the name that it would have if the run had begun so many milliseconds into the year
/// 2021, and returns the new path of its record. Runs sort by that name.
pub fn begun(record: &Path, ms: u32) -> PathBuf {
    let folder = record.parent().unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let (_, rest) = name.split_once('-').unwrap();
    let renamed = folder.with_file_name(format!("20210101T000000.{ms:03}Z-{rest}"));
    fs::rename(folder, &renamed).unwrap();
    renamed.join(record.file_name().unwrap())
}
