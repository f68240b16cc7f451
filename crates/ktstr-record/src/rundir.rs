//! The folder of one run, from its creation until it is moved to the finished runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use serde::Serialize;

use crate::artefact::{JSON_CAP, TEXT_CAP, check_name, cut_text};
use crate::error::RecordError;
use crate::record::{RECORD_FILE, RunRecord, SCHEMA};
use crate::staging::{self, Staging};

/// The number of names to try before giving up. Two names are only the same if runs of one test begin in the same millisecond in
/// processes with the same id, as in two PID namespaces.
const NAME_TRIES: u32 = 64;

/// A run that is being recorded. If it is dropped without [`RunDir::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    run_id: String,
    timestamp: String,
    staging: Staging,
    artefacts: Vec<String>,
    omitted: Vec<String>,
    committed: bool,
}

/// Formats a time for the field `timestamp` of a record. The alphabetical order of these texts is the order of the times.
#[must_use]
pub fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

impl RunDir {
    /// Begins the record of a run of `test` under `root`, and removes the leftovers of killed runs there.
    ///
    /// # Errors
    /// If the folder cannot be made or locked, or if every name that was tried is taken.
    pub fn create(root: &Path, test: &str) -> Result<Self, RecordError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        // Locks and moves must refer to the same place even if the working directory changes.
        let root = std::path::absolute(root).map_err(|e| RecordError::io("find", root, e))?;
        let timestamp = timestamp(SystemTime::now());
        let stamp = timestamp.replace(['-', ':'], "");
        for _ in 0..NAME_TRIES {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let run_id = format!("{stamp}-{}-{}.{count}", slug(test), process::id());
            if let Some(staging) = staging::enter(&root, &run_id)? {
                let (artefacts, omitted) = (Vec::new(), Vec::new());
                return Ok(Self {
                    root,
                    run_id,
                    timestamp,
                    staging,
                    artefacts,
                    omitted,
                    committed: false,
                });
            }
        }
        let taken = std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "every name that was tried is taken",
        );
        Err(RecordError::io("name a run under", &root, taken))
    }

    /// Returns the run's name, which is unique under its root.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Returns the folder to which the run is written. Files can be put here directly and registered with [`RunDir::adopt`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.staging.path
    }

    /// Writes a text artefact. If it is longer than [`TEXT_CAP`], only its beginning and its end are kept, and `omitted` in
    /// the record names it.
    ///
    /// # Errors
    /// If the name is not a plain file name, or the file cannot be written.
    pub fn add_text(&mut self, name: &str, text: impl AsRef<[u8]>) -> Result<(), RecordError> {
        let text = text.as_ref();
        check_name(name)?;
        match cut_text(text, TEXT_CAP) {
            None => self.write(name, text)?,
            Some(cut) => {
                self.write(name, &cut)?;
                self.omitted.push(format!(
                    "{name}: cut from {} to {} bytes",
                    text.len(),
                    cut.len()
                ));
            }
        }
        self.note(name);
        Ok(())
    }

    /// Writes a JSON artefact. If it is longer than [`JSON_CAP`], it is left out entirely, and `omitted` in the
    /// record names it.
    ///
    /// # Errors
    /// If the name is not a plain file name, the value has no JSON form, or the file cannot be written.
    pub fn add_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), RecordError> {
        check_name(name)?;
        let json = serde_json::to_vec(value).map_err(|cause| RecordError::Json {
            name: name.to_owned(),
            cause,
        })?;
        if json.len() > JSON_CAP {
            self.omitted.push(format!(
                "{name}: left out, {} bytes are over the cap of {JSON_CAP}",
                json.len()
            ));
            return Ok(());
        }
        self.write(name, &json)?;
        self.note(name);
        Ok(())
    }

    /// Writes an artefact that consists of bytes. It is never cut, however long it is.
    ///
    /// # Errors
    /// If the name is not a plain file name, or the file cannot be written.
    pub fn add_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), RecordError> {
        check_name(name)?;
        self.write(name, bytes)?;
        self.note(name);
        Ok(())
    }

    /// Registers a file that other code has already written into [`RunDir::path`].
    ///
    /// # Errors
    /// If the name is not a plain file name, or the file does not exist.
    pub fn adopt(&mut self, name: &str) -> Result<(), RecordError> {
        check_name(name)?;
        let path = self.staging.path.join(name);
        fs::metadata(&path).map_err(|e| RecordError::io("find", &path, e))?;
        self.note(name);
        Ok(())
    }

    /// Writes the record, moves the whole run into place, and returns the path of its `record.json`.
    ///
    /// # Errors
    /// If the record cannot be written or the folder cannot be moved; nothing of the run is left then.
    pub fn commit(mut self, mut record: RunRecord) -> Result<PathBuf, RecordError> {
        record.schema = SCHEMA;
        record.ktstr = env!("CARGO_PKG_VERSION").to_owned();
        record.run_id.clone_from(&self.run_id);
        record.timestamp.clone_from(&self.timestamp);
        record.artefacts = std::mem::take(&mut self.artefacts);
        record.omitted.append(&mut self.omitted);
        record.normalise();
        let mut json = serde_json::to_vec_pretty(&record).map_err(|cause| RecordError::Json {
            name: RECORD_FILE.to_owned(),
            cause,
        })?;
        json.push(b'\n');
        self.write(RECORD_FILE, &json)?;
        let place = self.root.join(&self.run_id);
        fs::rename(&self.staging.path, &place)
            .map_err(|e| RecordError::io("move the run to", &place, e))?;
        self.committed = true;
        Ok(place.join(RECORD_FILE))
    }

    fn note(&mut self, name: &str) {
        if !self.artefacts.iter().any(|known| known == name) {
            self.artefacts.push(name.to_owned());
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RecordError> {
        let path = self.staging.path.join(name);
        fs::write(&path, bytes).map_err(|e| RecordError::io("write", &path, e))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.committed {
            // A folder that cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(&self.staging.path);
        }
    }
}

/// Returns the part of a run's name that stands for the test: at most 60 characters, all of them safe in a path.
fn slug(test: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let slug: String = test.chars().map(safe).take(60).collect();
    if slug.is_empty() {
        "run".to_owned()
    } else {
        slug
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::list;

    #[test]
    fn a_run_is_seen_only_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunDir::create(root.path(), "ktstr/two steps").unwrap();
        run.add_text("console.log", "booted\n").unwrap();
        run.add_json("captures.json", &[1, 2]).unwrap();
        assert!(
            list(root.path(), None).unwrap().records.is_empty(),
            "an unfinished run was listed"
        );

        let id = run.run_id().to_owned();
        let path = run
            .commit(RunRecord {
                reason: Some("a\nb".into()),
                ..RunRecord::new("two steps")
            })
            .unwrap();
        assert_eq!(path, root.path().join(&id).join("record.json"));
        let listing = list(root.path(), None).unwrap();
        let record = &listing.records[0].record;
        assert_eq!(record.run_id, id);
        assert_eq!(record.reason.as_deref(), Some("a"));
        assert_eq!(record.artefacts, ["console.log", "captures.json"]);
        assert!(
            record.timestamp.ends_with('Z') && record.timestamp.starts_with("20"),
            "{}",
            record.timestamp
        );
        assert_eq!(
            fs::read_to_string(path.with_file_name("console.log")).unwrap(),
            "booted\n"
        );
        assert_eq!(
            fs::read_dir(root.path().join(staging::STAGING))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn a_run_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "t").unwrap();
        let path = run.path().to_path_buf();
        assert!(path.exists());
        drop(run);
        assert!(!path.exists());
    }

    #[test]
    fn a_text_over_the_cap_is_cut_and_the_record_says_so() {
        let root = tempfile::tempdir().unwrap();
        let mut run = RunDir::create(root.path(), "t").unwrap();
        run.add_text("console.log", vec![b'x'; TEXT_CAP + 1])
            .unwrap();
        let path = run.commit(RunRecord::new("t")).unwrap();
        let record = &list(root.path(), None).unwrap().records[0].record;
        assert!(
            record.omitted[0].starts_with("console.log: cut from"),
            "{:?}",
            record.omitted
        );
        let size = fs::metadata(path.with_file_name("console.log"))
            .unwrap()
            .len();
        assert!(size < TEXT_CAP as u64 + 100, "{size}");
    }

    #[test]
    fn the_folder_of_a_live_run_is_not_removed() {
        let root = tempfile::tempdir().unwrap();
        let first = RunDir::create(root.path(), "t").unwrap();
        let second = RunDir::create(root.path(), "t").unwrap();
        assert!(first.path().exists());
        second.commit(RunRecord::new("t")).unwrap();
        first.commit(RunRecord::new("t")).unwrap();
        assert_eq!(list(root.path(), None).unwrap().records.len(), 2);
    }

    #[test]
    fn names_of_tests_are_safe_in_paths() {
        assert_eq!(slug("../../etc/passwd"), "------etc-passwd");
        assert_eq!(slug(""), "run");
        assert_eq!(slug(&"é".repeat(100)).len(), 60);
    }
}
