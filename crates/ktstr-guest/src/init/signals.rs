//! Who signals the scheduler under test: the kernel's own trace of it. How a process ended is known
//! from `wait`; that a test killed it is known from here alone.

use std::path::{Path, PathBuf};

use crate::protocol::SentSignal;

/// Trace instances of their own do not disturb what a test traces.
const INSTANCE: &str = "/sys/kernel/tracing/instances/ktstr";
/// Room for a trace, on each CPU: some hundred signals.
const BUFFER_KB: &str = "16";

/// A trace of the signals to one process.
#[derive(Debug)]
pub(super) struct SignalTrace(PathBuf);

impl SignalTrace {
    /// Begins to trace. `None` on a kernel that cannot (without CONFIG_FTRACE): nobody is named then.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let instance = Path::new(INSTANCE);
        let write = |file: &str, value: &str| std::fs::write(instance.join(file), value).ok();
        if !instance.exists() {
            std::fs::create_dir(instance).ok()?;
        }
        // The signals that another scheduler was sent are not this one's.
        write("trace", "")?;
        // Before the event is switched on, which gives the buffers their full size.
        write("buffer_size_kb", BUFFER_KB)?;
        write(
            "events/signal/signal_generate/filter",
            &format!("pid == {pid}"),
        )?;
        write("events/signal/signal_generate/enable", "1")?;
        Some(Self(instance.join("trace")))
    }

    /// The last signal that a process sent.
    pub(super) fn last(&self) -> Option<SentSignal> {
        let trace = std::fs::read_to_string(&self.0).ok()?;
        trace.lines().rev().find_map(sent)
    }
}

/// A line of the trace (include/trace/events/signal.h), if a process sent the signal: those of the
/// kernel, such as a fault or lack of memory, have a positive code (include/uapi/asm-generic/siginfo.h).
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

    #[test]
    fn a_line_names_who_sent_it() {
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
