//! Removes old runs to limit the disk space that runs take up.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::RecordError;
use crate::list::list;
use crate::record::RunRecord;

/// The prefix of the name of a folder that is being removed.
const REMOVED: &str = ".removed-";
/// The largest depth of nested folders whose files count towards the size of a run. A run's folder has no subfolders unless
/// somebody else creates them, so this only bounds the recursion.
const DEPTH: u32 = 8;

/// The result of a removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The number of runs that were removed.
    pub removed: usize,
    /// The bytes that the removed runs took up.
    pub freed: u64,
    /// The number of runs that were considered and kept.
    pub kept: usize,
    /// The bytes that the kept runs take up.
    pub kept_bytes: u64,
}

/// Returns whether the folder has the name of a run, which begins with a time such as `20260102T030405.678Z-`. Other folders
/// under the root are no runs, and are kept.
fn is_run(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let Some((time, _)) = name.split_once("Z-") else {
        return false;
    };
    let places = time.bytes().enumerate();
    time.len() == 19
        && places.into_iter().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'.',
            _ => byte.is_ascii_digit(),
        })
}

/// Considers the runs under `root` for which `wanted` returns `true`, and removes the oldest of them until the others take up
/// at most `keep_bytes`. For a run whose record cannot be read, `wanted` is called with `None`. A run disappears from every
/// listing before its first file is deleted.
///
/// # Errors
/// If `root` cannot be read, or a folder cannot be removed.
pub fn clean(
    root: &Path,
    keep_bytes: u64,
    wanted: impl Fn(Option<&RunRecord>) -> bool,
) -> Result<Cleaned, RecordError> {
    finish(root)?;
    let listing = list(root, None)?;
    let read = listing
        .records
        .iter()
        .map(|listed| (&listed.path, Some(&listed.record)));
    let damaged = listing.damaged.iter().map(|damaged| (&damaged.path, None));
    let mut folders: Vec<&Path> = read
        .chain(damaged)
        .filter(|(_, record)| wanted(*record))
        .filter_map(|(path, _)| path.parent())
        .filter(|folder| is_run(folder))
        .collect();
    // A run's name begins with the time of its start, so this puts the newest first.
    folders.sort_unstable_by(|a, b| b.file_name().cmp(&a.file_name()));
    let mut cleaned = Cleaned::default();
    for folder in folders {
        let bytes = size(folder, DEPTH);
        // Once a run is removed, all older runs are removed too.
        if cleaned.removed == 0 && cleaned.kept_bytes.saturating_add(bytes) <= keep_bytes {
            cleaned.kept += 1;
            cleaned.kept_bytes += bytes;
            continue;
        }
        let Some(name) = folder.file_name() else {
            continue;
        };
        let mut aside = std::ffi::OsString::from(REMOVED);
        aside.push(name);
        let aside = root.join(aside);
        match fs::rename(folder, &aside) {
            Ok(()) => {}
            // Another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(RecordError::io("remove", folder, error)),
        }
        remove(&aside)?;
        cleaned.removed += 1;
        cleaned.freed += bytes;
    }
    Ok(cleaned)
}

/// Finishes the removals of processes that were killed.
fn finish(root: &Path) -> Result<(), RecordError> {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(REMOVED.as_bytes())
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), RecordError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RecordError::io("remove", folder, error))
        }
        _ => Ok(()),
    }
}

/// Returns the size in bytes of the files in a folder. Symbolic links are not followed.
fn size(folder: &Path, depth: u32) -> u64 {
    let mut sum: u64 = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // This is the metadata of the entry itself, even if it is a symbolic link.
        let Ok(data) = entry.metadata() else {
            continue;
        };
        sum = sum.saturating_add(match data.is_dir() {
            true if depth > 0 => size(&entry.path(), depth - 1),
            true => 0,
            false => data.len(),
        });
    }
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::begun;
    use crate::{RunDir, RunVerdict};

    /// Makes a run that takes up slightly more than `bytes` bytes and is newer than all existing runs.
    fn run(root: &Path, test: &str, bytes: usize, verdict: RunVerdict) {
        let mut run = RunDir::create(root, test).unwrap();
        run.add_text("console.log", "x".repeat(bytes)).unwrap();
        let record = RunRecord {
            verdict,
            ..RunRecord::new(test)
        };
        let place = run.commit(record).unwrap();
        begun(&place, list(root, None).unwrap().records.len() as u32);
    }

    fn tests(root: &Path) -> Vec<String> {
        let records = list(root, None).unwrap().records;
        records
            .into_iter()
            .map(|listed| listed.record.test)
            .collect()
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (test, bytes) in [
            ("small", 10),
            ("large", 50_000),
            ("newer", 10_000),
            ("newest", 10_000),
        ] {
            run(root, test, bytes, RunVerdict::Pass);
        }
        let nothing = clean(root, 1 << 20, |_| true).unwrap();
        assert_eq!((nothing.removed, nothing.kept), (0, 4));
        // Runs older than the first one that does not fit are removed too, however small.
        let cleaned = clean(root, 40_000, |_| true).unwrap();
        assert_eq!((cleaned.removed, cleaned.kept), (2, 2));
        assert!(
            cleaned.freed > 50_000 && cleaned.kept_bytes < 40_000,
            "{cleaned:?}"
        );
        assert_eq!(tests(root), ["newest", "newer"]);
        let notes = root.join("notes");
        fs::create_dir(&notes).unwrap();
        assert_eq!(clean(root, 0, |_| true).unwrap().removed, 2);
        let left = fs::read_dir(root).unwrap().flatten();
        let left: Vec<_> = left
            .map(|entry| entry.file_name())
            .filter(|name| name != ".staging")
            .collect();
        assert_eq!(left, ["notes"], "the folder `notes` is no run, so it stays");
    }

    #[test]
    fn only_what_is_wanted_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        run(root, "red", 10, RunVerdict::Fail);
        run(root, "green", 10, RunVerdict::Pass);
        fs::create_dir(root.join("20200101T000000.000Z-damaged")).unwrap();
        fs::create_dir(root.join(".removed-20200101T000000.000Z-t-1.0")).unwrap();
        let passed = |record: Option<&RunRecord>| {
            record.is_some_and(|record| record.verdict == RunVerdict::Pass)
        };
        assert_eq!(clean(root, 0, passed).unwrap().removed, 1);
        assert_eq!(tests(root), ["red"]);
        assert!(root.join("20200101T000000.000Z-damaged").is_dir());
        assert!(!root.join(".removed-20200101T000000.000Z-t-1.0").exists());
        assert_eq!(
            clean(&root.join("nowhere"), 0, |_| true).unwrap(),
            Cleaned::default()
        );
    }
}
