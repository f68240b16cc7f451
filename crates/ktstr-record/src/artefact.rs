//! Artefacts: files next to the record. Texts and JSON have a limit on their size.

use std::fmt::Write as _;

use crate::error::RecordError;
use crate::record::RECORD_FILE;

/// The largest number of bytes that are kept of a text artefact, so that a guest that prints warnings without end cannot fill
/// the disk.
pub const TEXT_CAP: usize = 16 << 20;

/// The largest size of a JSON artefact in bytes. JSON cannot be cut, so a larger artefact is left out entirely.
pub const JSON_CAP: usize = 256 << 20;

/// Refuses names that would leave the run's folder or replace its record, hidden names, and names of more than 128 bytes.
pub(crate) fn check_name(name: &str) -> Result<(), RecordError> {
    let plain = !name.is_empty()
        && name.len() <= 128
        && name != RECORD_FILE
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0']);
    if plain {
        Ok(())
    } else {
        Err(RecordError::ArtefactName {
            name: name.to_owned(),
        })
    }
}

/// Returns `None` if `text` fits into `cap` bytes. Otherwise returns the beginning of the text, which gets a quarter of the cap,
/// and its end, which gets the rest, with a line between them that states how many bytes are left out. The beginning shows the
/// configuration, and the end shows a crash.
pub(crate) fn cut_text(text: &[u8], cap: usize) -> Option<Vec<u8>> {
    if text.len() <= cap {
        return None;
    }
    let head = line_end_before(text, cap / 4);
    let tail = text.len() - (cap - cap / 4);
    let mut note = String::new();
    // Writing to a String cannot fail.
    let _ = write!(note, "\n[… {} bytes left out …]\n", tail - head);
    let mut out = Vec::with_capacity(head + note.len() + text.len() - tail);
    out.extend_from_slice(&text[..head]);
    out.extend_from_slice(note.as_bytes());
    out.extend_from_slice(&text[tail..]);
    Some(out)
}

/// Returns the position after the last newline in the 4096 bytes before `limit`; `limit` itself if there is none.
fn line_end_before(text: &[u8], limit: usize) -> usize {
    let window = &text[limit.saturating_sub(4096)..limit];
    window
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(limit, |at| limit - window.len() + at + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let text: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let cut = String::from_utf8(cut_text(text.as_bytes(), 400).unwrap()).unwrap();
        assert!(
            cut.starts_with("line 0\n") && cut.ends_with("line 999\n"),
            "{cut}"
        );
        assert!(cut.contains("bytes left out"));
        assert!(cut.len() < 450, "{}", cut.len());
        assert_eq!(cut_text(b"short", 400), None);
    }

    #[test]
    fn names_stay_in_the_folder() {
        for good in ["console.log", "captures.json", "ktstr-1.txt"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "..",
            "../x",
            "a/b",
            "record.json",
            ".hidden",
            "/etc/passwd",
            "a\0b",
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
