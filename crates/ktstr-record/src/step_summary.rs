//! The summary page of a CI job: GitHub shows whatever is appended to the file that `GITHUB_STEP_SUMMARY` names.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The largest size of the file, 1 MiB in bytes. GitHub shows nothing of a larger one.
pub const FILE_CAP: u64 = 1 << 20;

/// The reason why a block is not on the page.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The file cannot be opened or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file would become too large, so nothing was appended.
    #[error("it has {size} bytes already, and GitHub shows no file over {FILE_CAP}")]
    Full {
        /// The size of the file in bytes.
        size: u64,
    },
}

/// Appends a block of Markdown and an empty line to the page `file`. Several processes may append at the same time.
///
/// # Errors
///
/// The file cannot be written, or would become larger than [`FILE_CAP`].
pub fn append_to(file: &Path, block: &str) -> Result<(), Failed> {
    let block = format!("{block}\n");
    // Tests write concurrently, so each block is appended in a single write.
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    let size = file.metadata()?.len();
    if size.saturating_add(block.len() as u64) > FILE_CAP {
        return Err(Failed::Full { size });
    }
    Ok(file.write_all(block.as_bytes())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn blocks_follow_each_other_until_the_file_is_full() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("summary.md");
        append_to(&file, "### one\n").unwrap();
        append_to(&file, "### two\n").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "### one\n\n### two\n\n");

        std::fs::write(&file, vec![b'x'; FILE_CAP as usize - 8]).unwrap();
        let full = append_to(&file, "### one\n").unwrap_err().to_string();
        assert!(full.starts_with("it has 1048568 bytes already"), "{full}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), FILE_CAP - 8);
        append_to(&file, "1234567").unwrap();

        let folder = append_to(root.path(), "").unwrap_err();
        assert!(matches!(folder, Failed::Io(_)), "{folder}");
    }
}
