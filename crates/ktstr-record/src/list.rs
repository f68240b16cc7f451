//! Reads the records of runs, the newest first.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::RecordError;
use crate::record::{RECORD_FILE, RunRecord, SCHEMA};
use crate::rundir::timestamp;

/// The folder next to the runs that holds the sidecars, which are the newest results of each test; it is no run.
pub const SIDECARS: &str = "sidecars";
/// The name of the test in the record of a verifier cell: a test `verifier/SCHEDULER/KERNEL/PRESET`, which only loads a
/// scheduler. All cells have this name in their records, so the name does not suffice to repeat such a run.
pub const VERIFIER_CELL: &str = "__unit_test_verifier_cell__";

/// The largest size in bytes of a record that is read, so that a damaged file does not cause a huge allocation.
const READ_CAP: u64 = 64 << 20;

/// A record and its path.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The record as it was written.
    pub record: RunRecord,
    /// The path of the `record.json` that it was read from.
    pub path: PathBuf,
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The path of the `record.json` that could not be read.
    pub path: PathBuf,
    /// Why the record could not be read, in one line.
    pub why: String,
}

/// The runs under a root folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The runs that could be read, newest first.
    pub records: Vec<Listed>,
    /// The runs that could not be read, among those that were examined.
    pub damaged: Vec<Damaged>,
}

/// Reads the `last` newest runs under `root`, or all of them for `None`. A root that does not exist holds no runs.
///
/// # Errors
/// Only if `root` itself cannot be read: damaged records are part of the answer.
pub fn list(root: &Path, last: Option<usize>) -> Result<Listing, RecordError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
        Err(e) => return Err(RecordError::io("read", root, e)),
    };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .filter(|entry| entry.file_name() != SIDECARS)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    // A run's name begins with the time of its start, so the newest run can be found without opening any record.
    folders.sort_unstable_by(|a, b| b.file_name().cmp(&a.file_name()));

    let mut listing = Listing::default();
    for folder in folders {
        if last.is_some_and(|last| listing.records.len() >= last) {
            break;
        }
        let path = folder.join(RECORD_FILE);
        match parse(&path) {
            Ok(record) => listing.records.push(Listed { record, path }),
            Err(why) => listing.damaged.push(Damaged { path, why }),
        }
    }
    Ok(listing)
}

/// Returns the path of the `record.json` of the newest run under `root` that the process `pid` wrote: a run's name ends
/// with the pid and a counter of that process. Returns `None` if the process wrote none. Pids are reused, so only runs that
/// began at `since` or later count.
pub fn newest_of_process(root: &Path, pid: u32, since: SystemTime) -> Option<PathBuf> {
    let since = timestamp(since).replace(['-', ':'], "");
    let name = of_process(root, &pid.to_string())
        .filter(|name| *name >= since)
        .max()?;
    Some(root.join(name).join(RECORD_FILE))
}

/// Returns the record of the newest run that repeats the run `record`, whose `record.json` is at `path`; `None` if no
/// record of a repeat can be read. Only runs of the same process are considered, because a run is repeated by the process
/// that made it.
#[must_use]
pub fn repeat_of(record: &RunRecord, path: &Path) -> Option<RunRecord> {
    let root = path.ancestors().nth(2)?;
    let (_, end) = record.run_id.rsplit_once('-')?;
    let (process, _) = end.split_once('.')?;
    let mut names: Vec<String> = of_process(root, process)
        .filter(|name| *name > record.run_id)
        .collect();
    names.sort_unstable();
    names.iter().rev().find_map(|name| {
        let repeat = read(&root.join(name).join(RECORD_FILE)).ok()?;
        let is_meant = repeat.repeats.as_ref()?.run == record.run_id;
        is_meant.then_some(repeat)
    })
}

/// Returns the names of the runs under `root` that the process with this id wrote.
fn of_process(root: &Path, process: &str) -> impl Iterator<Item = String> {
    let is_of_process = move |name: &str| {
        let end = name
            .rsplit_once('-')
            .and_then(|(_, end)| end.split_once('.'));
        end.is_some_and(|(of, _)| of == process)
    };
    fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(move |name| !name.starts_with('.') && is_of_process(name))
}

/// Reads the record at `path`, a `record.json`.
///
/// # Errors
/// If it does not exist, or is not a record of this schema.
pub fn read(path: &Path) -> Result<RunRecord, RecordError> {
    parse(path).map_err(|why| RecordError::Damaged {
        path: path.to_path_buf(),
        why,
    })
}

fn parse(path: &Path) -> Result<RunRecord, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut json = Vec::new();
    file.take(READ_CAP + 1)
        .read_to_end(&mut json)
        .map_err(|e| e.to_string())?;
    if json.len() as u64 > READ_CAP {
        return Err(format!("larger than {READ_CAP} bytes"));
    }
    let record: RunRecord =
        serde_json::from_slice(&json).map_err(|e| format!("not a record: {e}"))?;
    match record.schema {
        SCHEMA => Ok(record),
        other => Err(format!(
            "schema {other}, this version reads {SCHEMA}: use the ktstr that wrote it"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::RunDir;
    use crate::testing::begun;

    fn run(root: &Path, test: &str) -> PathBuf {
        RunDir::create(root, test)
            .unwrap()
            .commit(RunRecord::new(test))
            .unwrap()
    }

    #[test]
    fn newest_first_and_no_more_than_asked() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(SIDECARS)).unwrap();
        for (ms, test) in (0..).zip(["z_first", "m_second", "a_third"]) {
            begun(&run(root.path(), test), ms);
        }
        let names = |last| -> Vec<String> {
            list(root.path(), last)
                .unwrap()
                .records
                .into_iter()
                .map(|listed| listed.record.test)
                .collect()
        };
        assert_eq!(names(None), ["a_third", "m_second", "z_first"]);
        assert_eq!(names(Some(2)), ["a_third", "m_second"]);
        assert!(names(Some(0)).is_empty());
    }

    #[test]
    fn a_run_is_found_by_its_process() {
        let root = tempfile::tempdir().unwrap();
        begun(&run(root.path(), "earlier"), 0);
        let newest = run(root.path(), "a-7.3");
        let own = std::process::id();
        let ever = SystemTime::UNIX_EPOCH;
        assert_eq!(newest_of_process(root.path(), own, ever), Some(newest));
        // This run is too old, as if an earlier process with the same pid had written it.
        let later = SystemTime::now() + std::time::Duration::from_secs(1);
        assert_eq!(newest_of_process(root.path(), own, later), None);
        assert_eq!(newest_of_process(root.path(), own + 1, ever), None);
    }

    #[test]
    fn damage_is_reported_and_not_fatal() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), "good");
        let cut = run(root.path(), "cut");
        let json = fs::read(&cut).unwrap();
        fs::write(&cut, &json[..json.len() / 2]).unwrap();
        let later = run(root.path(), "later");
        fs::write(&later, r#"{"schema": 99, "test": "later"}"#).unwrap();
        fs::create_dir(root.path().join("no-record-here")).unwrap();
        fs::write(root.path().join("a-file"), "").unwrap();

        let listing = list(root.path(), None).unwrap();
        assert_eq!(listing.records.len(), 1);
        let why: Vec<&str> = listing
            .damaged
            .iter()
            .map(|damaged| damaged.why.as_str())
            .collect();
        assert_eq!(why.len(), 3, "{why:?}");
        assert!(why.iter().any(|why| why.contains("schema 99")), "{why:?}");
        assert!(
            why.iter().any(|why| why.contains("not a record")),
            "{why:?}"
        );
    }

    #[test]
    fn a_missing_root_has_no_runs() {
        assert_eq!(
            list(Path::new("/nonexistent/ktstr"), None).unwrap(),
            Listing::default()
        );
    }
}
