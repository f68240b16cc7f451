//! A file of results, with one line of JSON per result, so that an interrupted series of runs can be continued. There is one
//! file for each set of binaries (by their content) and settings, because results depend on them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ktstr_state::{Folder, Place};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Outcome;

#[derive(Serialize, Deserialize)]
struct Line<K> {
    case: K,
    outcome: Outcome,
}

/// The results so far, in memory and on disk, by case.
#[derive(Debug)]
pub struct Store<K> {
    path: PathBuf,
    file: Option<File>,
    known: BTreeMap<K, Outcome>,
}

impl<K: Ord + Serialize + DeserializeOwned> Store<K> {
    /// Opens the results of these binaries with these settings under `folder`, for reading and appending.
    ///
    /// # Errors
    ///
    /// A binary cannot be read, the folder belongs to another user or is writable by other users, or the file cannot be opened.
    pub fn open(folder: &Path, binaries: &[&Path], settings: &str) -> Result<Self> {
        let folder = Folder::owned(folder, Place::POWER)?;
        let path = folder
            .path()
            .join(format!("{}.jsonl", key(binaries, settings)?));
        let file = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        let mut file = file.with_context(|| format!("opening {}", path.display()))?;
        let store = Self::read(&path)?;
        // A writer that was killed may have left a part of a line, to which the next result must not be added.
        let ends = fs::read(&path).is_ok_and(|text| text.last().is_none_or(|last| *last == b'\n'));
        if !ends {
            file.write_all(b"\n")
                .with_context(|| format!("writing to {}", path.display()))?;
        }
        Ok(Self {
            file: Some(file),
            ..store
        })
    }

    /// Opens the newest results under `folder` for reading, whatever binaries they belong to.
    ///
    /// # Errors
    ///
    /// There are no results, they cannot be read, or the folder belongs to another user or is writable by other users.
    pub fn newest(folder: &Path) -> Result<Self> {
        let files = match Folder::existing(folder, Place::POWER)? {
            Some(folder) => Some(
                fs::read_dir(folder.path())
                    .with_context(|| format!("looking in {}", folder.path().display()))?,
            ),
            None => None,
        };
        let newest = files
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "jsonl"))
            .max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok())
            .with_context(|| format!("there are no results in {}", folder.display()))?;
        Self::read(&newest.path())
    }

    /// Reads a file of results. A truncated line is ignored, and its case is run again.
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        // A line may be cut inside a character.
        let text = String::from_utf8_lossy(&bytes);
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line<K>>(line).ok());
        Ok(Self {
            path: path.to_owned(),
            file: None,
            known: lines.map(|line| (line.case, line.outcome)).collect(),
        })
    }

    /// Returns the outcome of a case; `None` if it has not been run.
    pub fn get(&self, case: &K) -> Option<&Outcome> {
        self.known.get(case)
    }

    /// Returns all outcomes, by case.
    pub fn all(&self) -> impl Iterator<Item = (&K, &Outcome)> {
        self.known.iter()
    }

    /// Returns the path of the file that holds the results.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the outcome of a case in memory, and as a line of the file if the store was opened with [`Store::open`].
    pub fn put(&mut self, case: K, outcome: Outcome) -> Result<()> {
        let line = Line { case, outcome };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes())
                .with_context(|| format!("writing to {}", self.path.display()))?;
        }
        self.known.insert(line.case, line.outcome);
        Ok(())
    }
}

/// Returns a file name derived from the content of the binaries and from the settings. The hash may differ between versions of
/// Rust's standard library, which is harmless: a build of this command with another version then starts without results.
fn key(binaries: &[&Path], settings: &str) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    hasher.write(settings.as_bytes());
    for path in binaries {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        hasher.write(&bytes);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::super::{Cell, Under};
    use super::*;

    fn case(seed: u64) -> Cell {
        Cell::new("steady", Under::Eevdf, seed)
    }

    #[test]
    fn stored_results_are_read_back_without_a_truncated_line() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("binary");
        fs::write(&binary, "one").unwrap();
        let outcome = Outcome::without_answer("why".to_owned());
        let mut store = Store::open(folder.path(), &[&binary], "").unwrap();
        store.put(case(1), outcome.clone()).unwrap();
        store.put(case(2), outcome.clone()).unwrap();
        let whole = fs::read(store.path()).unwrap();
        fs::write(store.path(), &whole[..whole.len() - 10]).unwrap();

        let mut again = Store::open(folder.path(), &[&binary], "").unwrap();
        assert_eq!(again.get(&case(1)), Some(&outcome));
        assert_eq!(again.get(&case(2)), None);
        // The next result is a line of its own.
        again.put(case(3), outcome.clone()).unwrap();
        let third = Store::open(folder.path(), &[&binary], "").unwrap();
        assert_eq!(third.get(&case(3)), Some(&outcome));
        assert_eq!(
            Store::<Cell>::newest(folder.path()).unwrap().all().count(),
            2
        );

        // A line that is cut inside a character is ignored in the same way.
        again
            .put(case(4), Outcome::without_answer("5 µs".to_owned()))
            .unwrap();
        let whole = fs::read(again.path()).unwrap();
        let cut = whole.iter().rposition(|byte| *byte == 0xc2).unwrap();
        fs::write(again.path(), &whole[..=cut]).unwrap();
        let fourth = Store::open(folder.path(), &[&binary], "").unwrap();
        assert_eq!(fourth.get(&case(3)), Some(&outcome));
        assert_eq!(fourth.get(&case(4)), None);

        fs::write(&binary, "two").unwrap();
        let other = Store::<Cell>::open(folder.path(), &[&binary], "").unwrap();
        assert_eq!(other.all().count(), 0);

        fs::write(&binary, "one").unwrap();
        let set = Store::<Cell>::open(folder.path(), &[&binary], "KTSTR_TURN_US=50").unwrap();
        assert_eq!(set.all().count(), 0);
    }

    #[test]
    fn results_are_kept_where_nobody_else_can_write() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("ktstr-power");
        let none = Store::<Cell>::newest(&folder).unwrap_err().to_string();
        assert!(none.starts_with("there are no results in "), "{none}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = Store::<Cell>::open(&folder, &[], "").unwrap().path;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        for error in [
            Store::<Cell>::open(&folder, &[], "").unwrap_err(),
            Store::<Cell>::newest(&folder).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("can be written by other users"), "{error}");
        }
    }
}
