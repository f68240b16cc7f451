//! Adds a run that did not pass to the summary page of a CI job: GitHub shows whatever is appended to the file that
//! `GITHUB_STEP_SUMMARY` names.
//!
//! A file that cannot be written causes a warning only, because that says nothing about the run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use ktstr_record::brief::{Excerpt, again};
use ktstr_record::{RecordError, markdown, read};

/// The environment variable that names the file.
const VARIABLE: &str = "GITHUB_STEP_SUMMARY";
/// GitHub shows nothing of a file over 1 MiB.
const FILE_CAP: u64 = 1 << 20;

/// Appends the run with that `record` to the job's page, if there is one. Returns a warning if that failed.
pub(super) fn append(record: &Path) -> Option<String> {
    let file = super::environment(VARIABLE)?;
    let failed = append_to(Path::new(&file), record).err()?;
    Some(format!(
        "ktstr: the run could not be appended to {file}, which {VARIABLE} names: {failed}"
    ))
}

fn append_to(file: &Path, record: &Path) -> Result<(), Failed> {
    let folder = record.parent().unwrap_or(Path::new("."));
    let record = read(record)?;
    let excerpt = Excerpt::of(&record, folder);
    let block = markdown::block(&record, again(&record).as_deref(), excerpt.as_ref());
    let block = format!("{block}\n");
    // Tests write concurrently, so each block is appended in a single write.
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    let size = file.metadata()?.len();
    if size.saturating_add(block.len() as u64) > FILE_CAP {
        return Err(Failed::Full { size });
    }
    Ok(file.write_all(block.as_bytes())?)
}

/// The reason why a run is not on the page.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it has {size} bytes already, and GitHub shows no file over {FILE_CAP}")]
    Full { size: u64 },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ktstr_record::{RunDir, RunRecord};

    use super::*;

    #[test]
    fn blocks_follow_each_other_until_the_file_is_full() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "t").unwrap();
        let record = run.commit(RunRecord::new("a|b")).unwrap();
        let file = root.path().join("summary.md");
        append_to(&file, &record).unwrap();
        append_to(&file, &record).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches("### a\\|b was inconclusive\n").count(), 2);
        assert!(text.ends_with("|\n\n"), "{text}");

        std::fs::write(&file, vec![b'x'; FILE_CAP as usize - 10]).unwrap();
        let full = append_to(&file, &record).unwrap_err().to_string();
        assert!(full.starts_with("it has 1048566 bytes already"), "{full}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), FILE_CAP - 10);

        let folder = append_to(root.path(), &record).unwrap_err();
        assert!(matches!(folder, Failed::Io(_)), "{folder}");
    }
}
