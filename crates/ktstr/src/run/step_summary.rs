//! Adds a run that did not pass to the summary page of a CI job (`ktstr_record::step_summary`).
//!
//! If the page's file cannot be written, that is only a warning, because it says nothing about the run.

use std::path::Path;

use ktstr_record::brief::{Excerpt, again};
use ktstr_record::{RecordError, markdown, read, step_summary};
use ktstr_state::env::GITHUB_STEP_SUMMARY;

/// Appends the run whose record is the file `record` to the job's page, if there is one. Returns a warning if that failed.
pub(super) fn append(record: &Path) -> Option<String> {
    let file = GITHUB_STEP_SUMMARY.get()?;
    let failed = append_to(&file, record).err()?;
    Some(format!(
        "ktstr: the run could not be appended to {}, which {GITHUB_STEP_SUMMARY} names: {failed}",
        file.display()
    ))
}

fn append_to(file: &Path, record: &Path) -> Result<(), Failed> {
    let folder = record.parent().unwrap_or(Path::new("."));
    let record = read(record)?;
    let excerpt = Excerpt::of(&record, folder);
    let block = markdown::block(&record, again(&record).as_deref(), excerpt.as_ref());
    Ok(step_summary::append_to(file, &block)?)
}

/// The reason why a run is not on the page.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Page(#[from] step_summary::Failed),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ktstr_record::{RunDir, RunRecord};

    use super::*;

    #[test]
    fn a_run_is_a_block_of_the_page() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "t").unwrap();
        let record = run.commit(RunRecord::new("a|b")).unwrap();
        let file = root.path().join("summary.md");
        append_to(&file, &record).unwrap();
        append_to(&file, &record).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches("### a\\|b was inconclusive\n").count(), 2);
        assert!(text.ends_with("|\n\n"), "{text}");

        let none = append_to(&file, Path::new("none/record.json")).unwrap_err();
        assert!(matches!(none, Failed::Record(_)), "{none}");
        let folder = append_to(root.path(), &record).unwrap_err();
        assert!(matches!(folder, Failed::Page(_)), "{folder}");
    }
}
