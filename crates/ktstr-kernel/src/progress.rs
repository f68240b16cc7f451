//! Word of what is going on while a kernel is fetched and unpacked. Drawing is the caller's.

use std::io::{IsTerminal, Write};

/// One piece of news. Several with the same `what` follow one another while a stage runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is being done, e.g. `downloading linux-binary-7.3.4+deb13-cloud-amd64`.
    pub what: String,
    /// How far it is, 0 to 100; `None` when it cannot be told.
    pub percent: Option<f32>,
    /// The stage is over.
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

/// A listener that keeps one line on stderr up to date when stderr is a terminal, prints one line
/// a finished stage when it is not.
pub fn on_stderr() -> impl FnMut(&Progress) {
    let terminal = std::io::stderr().is_terminal();
    move |news| {
        let mut out = std::io::stderr().lock();
        // Progress is a courtesy: a closed stderr must not end the work.
        let _ = match (terminal, news.done, news.percent) {
            (true, true, _) => writeln!(out, "\r\x1b[Kkernel: {}: done", news.what),
            (true, false, Some(p)) => write!(out, "\r\x1b[Kkernel: {} {p:3.0}%", news.what),
            (true, false, None) => write!(out, "\r\x1b[Kkernel: {} ...", news.what),
            (false, true, _) => writeln!(out, "kernel: {}: done", news.what),
            (false, false, _) => Ok(()),
        };
        let _ = out.flush();
    }
}
