//! Reports the progress of fetching, unpacking and building a kernel. The caller decides how to display it; [`on_stderr`] is
//! what commands use.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One progress report. While a stage runs, several reports follow each other. Their `what` is the same, except that during
/// a build it also has the number of compiled files and the name of the current file.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The current stage, e.g. `downloading linux-binary-7.3.4+deb13-cloud-amd64`, or a note.
    pub what: String,
    /// The progress of the stage, 0 to 100; `None` if it is unknown, or if this is a note.
    pub percent: Option<f32>,
    /// Whether the stage is over. This is always set for a note.
    pub done: bool,
}

/// A receiver of progress reports. The closure `|_| {}` ignores them.
pub type Listener<'a> = dyn FnMut(&Progress) + 'a;

/// Reports that a stage begins.
pub(crate) fn begin(listener: &mut Listener<'_>, what: &str) {
    report(listener, what, None, false);
}

/// Reports that a stage is over.
pub(crate) fn end(listener: &mut Listener<'_>, what: &str) {
    report(listener, what, Some(100.0), true);
}

pub(crate) fn report(listener: &mut Listener<'_>, what: &str, percent: Option<f32>, done: bool) {
    listener(&Progress {
        what: what.to_owned(),
        percent,
        done,
    });
}

/// Reports a note, which belongs to no stage.
pub(crate) fn note(listener: &mut Listener<'_>, what: &str) {
    report(listener, what, None, true);
}

/// The least interval between two lines about a running stage if lines cannot be overwritten.
const INTERVAL: Duration = Duration::from_secs(30);

/// Returns a listener that writes to stderr. On a terminal, it keeps one line up to date. Otherwise, it prints one line for
/// each finished stage and each note, and at most one every half minute during a stage.
pub fn on_stderr() -> impl FnMut(&Progress) {
    let terminal = std::io::stderr().is_terminal();
    let mut last = Instant::now();
    move |news| {
        let mut out = std::io::stderr().lock();
        let text = if terminal {
            let columns = rustix::termios::tcgetwinsize(&out).map_or(0, |size| size.ws_col);
            overwriting(news, usize::from(columns))
        } else if news.done || last.elapsed() >= INTERVAL {
            last = Instant::now();
            format!("kernel: {}\n", in_words(news))
        } else {
            return;
        };
        // Ignore errors: a closed stderr must not stop the work.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn in_words(news: &Progress) -> String {
    let what = &news.what;
    match (news.done, news.percent) {
        (true, Some(_)) => format!("{what}: done"),
        (true, None) => what.clone(),
        (false, Some(percent)) => format!("{what} {percent:3.0}%"),
        (false, None) => format!("{what} ..."),
    }
}

/// Returns the text that replaces the previous line. A report about a running stage is shortened to one row of `columns`,
/// because only the last row of a wrapped line could be overwritten. It is not shortened if `columns` is 0, which stands
/// for an unknown width.
fn overwriting(news: &Progress, columns: usize) -> String {
    let words = format!("kernel: {}", in_words(news));
    if news.done {
        return format!("\r\x1b[K{words}\n");
    }
    let room = columns.saturating_sub(1);
    if room == 0 || words.chars().count() <= room {
        return format!("\r\x1b[K{words}");
    }
    // Keep the end of the line, which shows the progress.
    let (head, tail) = (room / 2, room - room / 2 - 1);
    let skipped = words.chars().count() - tail;
    let head: String = words.chars().take(head).collect();
    let tail: String = words.chars().skip(skipped).collect();
    format!("\r\x1b[K{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(percent: Option<f32>, done: bool) -> Progress {
        Progress {
            what: "building a/long/path/to/a/tree: 12 files, kernel/sched/core.o".to_owned(),
            percent,
            done,
        }
    }

    #[test]
    fn a_line_that_will_be_overwritten_fits_one_row() {
        let long = overwriting(&news(None, false), 0);
        assert_eq!(
            long,
            "\r\x1b[Kkernel: building a/long/path/to/a/tree: 12 files, kernel/sched/core.o ..."
        );
        let cut = overwriting(&news(Some(42.0), false), 40);
        assert_eq!(cut, "\r\x1b[Kkernel: building a/…l/sched/core.o  42%");
        assert_eq!(cut.trim_start_matches("\r\x1b[K").chars().count(), 39);
        assert_eq!(overwriting(&news(None, false), 2), "\r\x1b[K…");
        let done = overwriting(&news(Some(100.0), true), 40);
        assert!(done.ends_with("kernel/sched/core.o: done\n"), "{done:?}");
    }

    #[test]
    fn a_note_does_not_end_with_done() {
        let text = overwriting(&news(None, true), 80);
        assert!(text.ends_with("kernel/sched/core.o\n"), "{text:?}");
    }
}
