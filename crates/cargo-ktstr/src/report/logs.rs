//! The logs of a run. Only the end of a long log is shown, which is the most useful part.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ktstr_record::RunRecord;
use serde_json::Value;

use super::html::text;

/// The largest number of bytes that are shown of a log, before they are escaped.
const SHOWN: usize = 48 << 10;
/// The logs that are shown, in this order.
const LOGS: &[&str] = &["scheduler.log", "stdout.log", "stderr.log", "console.log"];

/// Renders sched_ext's dump, if there is one, and the logs that the record names.
pub fn logs(record: &RunRecord, folder: &Path) -> String {
    let named = |name: &str| record.artefacts.iter().any(|artefact| artefact == name);
    let mut out = String::new();
    let exit = fs::read(folder.join("scx_exit.json"))
        .ok()
        .filter(|_| named("scx_exit.json"));
    let exit: Option<Value> = exit.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let printed = |name: &str| exit.as_ref().and_then(|exit| exit.get(name)?.as_str());
    if let Some(dump) = printed("dump") {
        let head = format!(
            "{}: {}",
            printed("reason").unwrap_or_default(),
            printed("msg").unwrap_or_default()
        );
        one(
            &mut out,
            "What sched_ext noted (scx_exit.json)",
            &format!("{head}\n\n{dump}"),
            true,
        );
    }
    for name in LOGS.iter().filter(|name| named(name)) {
        // The file may have been deleted since.
        if let Ok(bytes) = fs::read(folder.join(name)) {
            one(&mut out, name, &String::from_utf8_lossy(&bytes), false);
        }
    }
    if out.is_empty() {
        out.push_str("<p>This run left no logs.</p>\n");
    }
    out
}

fn one(out: &mut String, name: &str, log: &str, open: bool) {
    let mut room = SHOWN;
    let (from, shown) = loop {
        let from = beginning(log, room);
        let shown = text(&log[from..]);
        // Escaping makes the text longer, so less of the log is shown if the text becomes too long.
        if shown.len() <= 2 * SHOWN {
            break (from, shown);
        }
        room /= 2;
    };
    let open = if open { " open" } else { "" };
    let name = text(name);
    let _ = write!(
        out,
        "<details{open}><summary>{name}, {} bytes</summary>",
        log.len()
    );
    if from > 0 {
        let _ = write!(out, "<p>The first {from} bytes are only in the file.</p>");
    }
    let _ = writeln!(out, "<pre tabindex=\"0\">{shown}</pre></details>");
}

/// Returns the index of the byte at which the last `room` bytes of `log` start, rounded up to the start of a line, or to
/// the start of a character if no line starts in these bytes.
fn beginning(log: &str, room: usize) -> usize {
    let mut from = log.len().saturating_sub(room);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    match from {
        0 => 0,
        from => log[from..].find('\n').map_or(from, |end| from + end + 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn logs_are_shown_from_their_end_as_text() {
        let folder = tempfile::tempdir().unwrap();
        let long: String = (0..9_000).map(|n| format!("line {n}\n")).collect();
        fs::write(
            folder.path().join("console.log"),
            format!("{long}</pre><script>x\u{1b}[2J"),
        )
        .unwrap();
        fs::write(
            folder.path().join("scx_exit.json"),
            r#"{"reason":"stall","msg":"m","dump":"<d>"}"#,
        )
        .unwrap();
        let mut record = RunRecord::new("t");
        assert!(logs(&record, folder.path()).contains("no logs"));
        record.artefacts = vec![
            "console.log".to_owned(),
            "scx_exit.json".to_owned(),
            "stdout.log".to_owned(),
        ];
        let page = logs(&record, folder.path());
        assert!(page.contains("stall: m\n\n&lt;d&gt;"), "{page}");
        assert!(
            page.contains("line 8999\n&lt;/pre&gt;&lt;script&gt;x\\u001b[2J</pre>"),
            "the end of the log is not on the page"
        );
        assert!(!page.contains("line 100\n") && page.contains(" bytes are only in the file."));
        assert!(page.len() < SHOWN + 2_000);
        fs::write(folder.path().join("console.log"), "<".repeat(1 << 20)).unwrap();
        assert!(logs(&record, folder.path()).len() < 2 * SHOWN + 2_000);
    }
}
