//! Removing old runs, so that those that stay take up no more than so much.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::RecordError;
use crate::list::list;
use crate::record::RunRecord;

/// What the name of a folder begins with that is being removed.
const REMOVED: &str = ".removed-";
/// Folders in folders that are counted, at most: a run's own folder is flat.
const DEPTH: u32 = 8;

/// What became of the runs that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Runs that were removed.
    pub removed: usize,
    /// Bytes that they took up.
    pub freed: u64,
    /// Runs that were kept.
    pub kept: usize,
    /// Bytes that these take up.
    pub kept_bytes: u64,
}

/// Removes the oldest of the runs under `root` that are `wanted`, until the others of these take up `keep_bytes` at most. A
/// run whose record cannot be read is asked for with `None`. A run is gone from every listing before its first file is.
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
        .collect();
    // A run's name begins with the time of its start: the newest first.
    folders.sort_unstable_by(|a, b| b.file_name().cmp(&a.file_name()));
    let mut cleaned = Cleaned::default();
    for folder in folders {
        let bytes = size(folder, DEPTH);
        // Nothing is kept that is older than what is removed.
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
            // Somebody else has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(RecordError::io("remove", folder, error)),
        }
        remove(&aside)?;
        cleaned.removed += 1;
        cleaned.freed += bytes;
    }
    Ok(cleaned)
}

/// Removes what one that was killed has left behind.
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

/// Bytes of the files in a folder. Links are not followed.
fn size(folder: &Path, depth: u32) -> u64 {
    let mut sum: u64 = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Of an entry itself, not of what it links to.
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

    /// A run that takes up some more than so many bytes, and is later than all before it.
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
        // What is older than the first that does not fit goes too, small as it is.
        let cleaned = clean(root, 40_000, |_| true).unwrap();
        assert_eq!((cleaned.removed, cleaned.kept), (2, 2));
        assert!(
            cleaned.freed > 50_000 && cleaned.kept_bytes < 40_000,
            "{cleaned:?}"
        );
        assert_eq!(tests(root), ["newest", "newer"]);
        assert_eq!(clean(root, 0, |_| true).unwrap().removed, 2);
        let left = fs::read_dir(root).unwrap().flatten();
        let left: Vec<_> = left
            .map(|entry| entry.file_name())
            .filter(|name| name != ".staging")
            .collect();
        assert!(left.is_empty(), "{left:?}");
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
