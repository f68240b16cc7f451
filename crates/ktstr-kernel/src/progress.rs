//! Word of what is going on while a kernel is fetched and unpacked. Drawing is the caller's.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One piece of news. Several with the same `what` follow one another while a stage runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is being done, e.g. `downloading linux-binary-7.3.4+deb13-cloud-amd64`.
    pub what: String,
    /// How far it is, 0 to 100; `None` when that is unknown, or when this is no stage but a note.
    pub percent: Option<f32>,
    /// The stage is over, or the note is whole.
    pub done: bool,
}

/// Who is told. A closure `|_| {}` is told and silent.
pub type Listener<'a> = dyn FnMut(&Progress) + 'a;

/// Says that a stage begins.
pub(crate) fn begin(listener: &mut Listener<'_>, what: &str) {
    tell(listener, what, None, false);
}

/// Says that a stage is over.
pub(crate) fn end(listener: &mut Listener<'_>, what: &str) {
    tell(listener, what, Some(100.0), true);
}

pub(crate) fn tell(listener: &mut Listener<'_>, what: &str, percent: Option<f32>, done: bool) {
    listener(&Progress {
        what: what.to_owned(),
        percent,
        done,
    });
}

/// Says something that is not a stage.
pub(crate) fn note(listener: &mut Listener<'_>, what: &str) {
    tell(listener, what, None, true);
}

/// How often a stage that takes long is mentioned where lines cannot be overwritten.
const INTERVAL: Duration = Duration::from_secs(30);

/// A listener that keeps one line on stderr up to date when stderr is a terminal; when it is not, it prints one line
/// a finished stage, and one every half minute while a stage goes on.
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
        // Progress is a courtesy: a closed stderr must not end the work.
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

/// The text that takes the place of the line before it. What is still going on is cut to one row of `columns`: of a line
/// that went on in a second row only that row could be overwritten.
fn overwriting(news: &Progress, columns: usize) -> String {
    let words = format!("kernel: {}", in_words(news));
    if news.done {
        return format!("\r\x1b[K{words}\n");
    }
    let room = columns.saturating_sub(1);
    if room == 0 || words.chars().count() <= room {
        return format!("\r\x1b[K{words}");
    }
    // The end of a line is how far the work is.
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
    fn a_line_that_will_be_overwritten_takes_one_row() {
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
    fn a_note_is_not_done() {
        let text = overwriting(&news(None, true), 80);
        assert!(text.ends_with("kernel/sched/core.o\n"), "{text:?}");
    }
}
