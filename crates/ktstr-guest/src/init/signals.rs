//! Traces the signals sent to the scheduler under test, so that a scheduler which the test kills is not reported as crashed.
//! `wait` reports how a process ended, but not which process sent the signal.

use std::path::{Path, PathBuf};

use crate::protocol::{ProcessEnd, SentSignal};

/// A separate trace instance, so that tracing by the test is not disturbed.
const INSTANCE: &str = "/sys/kernel/tracing/instances/ktstr";
/// Size of the trace buffer of each CPU in KiB: room for some hundred signals.
const BUFFER_KB: &str = "16";

/// A trace of the signals sent to one process.
#[derive(Debug)]
pub(super) struct SignalTrace(PathBuf);

impl SignalTrace {
    /// Starts the trace. Returns `None` if the kernel cannot trace signals, for example without `CONFIG_FTRACE`; the sender
    /// of a signal is then unknown.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let instance = Path::new(INSTANCE);
        let write = |file: &str, value: &str| std::fs::write(instance.join(file), value).ok();
        if !instance.exists() {
            std::fs::create_dir(instance).ok()?;
        }
        // Drop the signals that were sent to an earlier scheduler.
        write("trace", "")?;
        // Set the size first: enabling the event allocates the buffers at their full size.
        write("buffer_size_kb", BUFFER_KB)?;
        write(
            "events/signal/signal_generate/filter",
            &format!("pid == {pid}"),
        )?;
        write("events/signal/signal_generate/enable", "1")?;
        Some(Self(instance.join("trace")))
    }

    /// Returns the last signal that a process sent to the traced process and that can have ended it; `None` if there was none,
    /// or if the trace is not readable or no longer has it.
    pub(super) fn last(&self, end: ProcessEnd) -> Option<SentSignal> {
        last(&std::fs::read_to_string(&self.0).ok()?, end)
    }
}

fn last(trace: &str, end: ProcessEnd) -> Option<SentSignal> {
    let mut all = trace.lines().rev().filter_map(sent);
    all.find(|signal| signal.can_end(Some(end)))
}

/// Parses a line of the trace (include/trace/events/signal.h). Returns `None` for a line that is no signal, and for a signal
/// of the kernel, such as a fault or an out-of-memory kill: the code of a signal of the kernel is positive
/// (include/uapi/asm-generic/siginfo.h).
fn sent(line: &str) -> Option<SentSignal> {
    let (sender, event) = line.split_once(" [")?;
    let (_, fields) = event.split_once("signal_generate: ")?;
    let number = |name: &str| {
        let field = fields.split_whitespace().find_map(|f| f.strip_prefix(name));
        field?.parse::<i32>().ok()
    };
    if number("code=")? > 0 {
        return None;
    }
    let (comm, pid) = sender.trim().rsplit_once('-')?;
    Some(SentSignal {
        signal: number("sig=")?,
        sender: pid.trim().parse().ok()?,
        comm: comm.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stopped process acts on SIGTERM (15) only after SIGCONT (18) has continued it.
    #[test]
    fn the_signal_that_ended_the_process_is_not_the_one_that_continued_it() {
        let line = |number: i32| {
            format!(
                "    t-100 [000] d..1. 1.0: signal_generate: sig={number} errno=0 code=0 comm=s pid=7 grp=1 res=0"
            )
        };
        let trace = [19, 15, 18].map(line).join("\n");
        let of = |end| last(&trace, end).map(|signal| signal.signal);
        assert_eq!(of(ProcessEnd::Signaled(15)), Some(15));
        assert_eq!(of(ProcessEnd::Exited(1)), Some(15));
        assert_eq!(of(ProcessEnd::Signaled(11)), None);
    }

    #[test]
    fn a_trace_line_names_the_sender() {
        let line = "        my-test-7     [001] d..2.    12.345678: signal_generate: sig=9 errno=0 \
                    code=0 comm=scx-ktstr pid=101 grp=1 res=0";
        assert_eq!(
            sent(line),
            Some(SentSignal {
                signal: 9,
                sender: 7,
                comm: "my-test".to_owned(),
            })
        );
        let fault = line.replace("code=0", "code=128");
        assert_eq!(sent(&fault), None);
        for odd in ["", "# tracer: nop", "a-b [x] signal_generate: code=0 sig=9"] {
            assert_eq!(sent(odd), None, "{odd}");
        }
    }
}
