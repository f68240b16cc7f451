//! Starts the scheduler under test, waits until it has attached, and stops it.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::InitError;
use super::children::{Child, Children};
use crate::clock::monotonic_ns;
use crate::link;
use crate::protocol::{ProcessEnd, Stream, ToHost};

const NS_PER_S: u64 = 1_000_000_000;
/// The kernel's file that contains `enabled` while a sched_ext scheduler is attached (kernel/sched/ext.c).
pub(super) const STATE: &str = "/sys/kernel/sched_ext/state";

/// Guest time that a scheduler may take to attach. The verifier alone can take seconds where instructions are
/// emulated.
pub(crate) const ATTACH_WITHIN: Duration = Duration::from_secs(120);
/// Guest time that a scheduler may take to exit after each signal.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Guest time that a scheduler may take to exit after sched_ext has detached it. In this time, the scheduler prints the
/// kernel's dump.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Starts the program and waits until sched_ext is enabled. The inner `Err` says why the scheduler did not attach; the
/// caller has to report it to the host.
pub(super) fn start(
    children: &mut Children,
    path: &str,
    args: &[String],
    env: &[(String, String)],
) -> Result<Result<Child, String>, InitError> {
    let not_attached = |reason: String| Ok(Err(reason));
    if std::fs::metadata(STATE).is_err() {
        return not_attached("this kernel has no sched_ext".to_owned());
    }
    let began = monotonic_ns();
    let mut seconds = 0;
    let mut command = Command::new(path);
    command.args(args);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let child = children.spawn(command, Stdio::null(), Stream::Scheduler, Stream::Scheduler)?;
    loop {
        children.wait(Some(Duration::from_millis(5)))?;
        let took_ns = monotonic_ns() - began;
        // Show the host that the guest is alive, because a scheduler may load for longer than the host waits for a silent guest.
        if took_ns / NS_PER_S > seconds {
            seconds = took_ns / NS_PER_S;
            link::send(&ToHost::Alive);
        }
        if let Some(end) = child.end(children) {
            children.drain();
            let advice = match end {
                ProcessEnd::Exited(0) => "; a scheduler must stay in the foreground",
                _ => "",
            };
            return not_attached(format!("it {end} before it attached{advice}"));
        }
        if is_enabled() {
            link::send(&ToHost::SchedulerAttached {
                pid: child.pid(),
                took_ns,
            });
            return Ok(Ok(child));
        }
        if took_ns > ATTACH_WITHIN.as_nanos() as u64 {
            // Stop the scheduler now. If it attached during a later call of this function, that call would take it for its own
            // scheduler, since the file does not say which scheduler is attached.
            let left = stop(children, &child)?;
            let left = left.map_or_else(String::new, |left| format!("; {left}"));
            return not_attached(format!(
                "{STATE} was still not `enabled` after {} s of guest time{left}",
                ATTACH_WITHIN.as_secs()
            ));
        }
    }
}

fn is_enabled() -> bool {
    std::fs::read_to_string(STATE).is_ok_and(|state| state.trim() == "enabled")
}

/// Waits briefly for the exit of a scheduler that sched_ext has already detached. Returns all children that exited
/// meanwhile; the scheduler is one of them if it exited in time.
pub(super) fn await_end(
    children: &mut Children,
    child: &Child,
) -> Result<Vec<(i32, ProcessEnd)>, InitError> {
    let began = monotonic_ns();
    let mut ended = Vec::new();
    while child.end(children).is_none() && monotonic_ns() - began < END_WITHIN.as_nanos() as u64 {
        ended.extend(children.wait(Some(Duration::from_millis(20)))?);
    }
    Ok(ended)
}

/// Sends SIGTERM to the scheduler, and SIGKILL if it does not exit in time. Returns `None` if it has exited. A process that
/// sleeps in the kernel where no signal can wake it outlives both; the result then says what it does.
pub(super) fn stop(children: &mut Children, child: &Child) -> Result<Option<String>, InitError> {
    for signal in [Signal::TERM, Signal::KILL] {
        child.signal(children, signal);
        let began = monotonic_ns();
        while child.end(children).is_none() {
            children.wait(Some(Duration::from_millis(20)))?;
            if monotonic_ns() - began > STOP_WITHIN.as_nanos() as u64 {
                break;
            }
        }
    }
    children.drain();
    Ok(child.end(children).is_none().then(|| survivor(child.pid())))
}

/// Describes a scheduler that outlived SIGKILL: its state, and the kernel function in which it waits (`proc_pid_status(5)`,
/// `proc_pid_wchan(5)`).
fn survivor(pid: i32) -> String {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let status = read("status").unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    let state = state.map_or("unknown", str::trim);
    let place = match read("wchan") {
        Ok(function) if !matches!(function.trim(), "" | "0") => {
            format!(", in the kernel function {}", function.trim())
        }
        _ => String::new(),
    };
    format!(
        "the scheduler, process {pid}, did not exit within {} s of SIGKILL: its state is {state}{place}",
        STOP_WITHIN.as_secs()
    )
}

/// Executes lines of the form `echo VALUE > PATH`.
pub(super) fn echo_lines(lines: &[String]) -> Result<(), InitError> {
    for line in lines {
        let (value, path) = line
            .strip_prefix("echo ")
            .and_then(|rest| rest.split_once('>'))
            .ok_or_else(|| {
                InitError::Message(format!("`{line}` is not of the form `echo VALUE > PATH`"))
            })?;
        std::fs::write(path.trim(), value.trim())
            .map_err(|e| InitError::system(format!("carrying out `{line}`"), e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_is_described_by_its_state() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep(1)");
        let pid = child.id();
        // Right after its start the child may still be running.
        let text = loop {
            let text = survivor(pid as i32);
            if !text.contains("state is R") {
                break text;
            }
            std::thread::yield_now();
        };
        child.kill().expect("own child");
        child.wait().expect("own child");
        let start = format!("the scheduler, process {pid}, did not exit within 10 s of SIGKILL");
        assert!(
            text.starts_with(&start) && text.contains("state is S (sleeping)"),
            "{text}"
        );
        assert!(survivor(i32::MAX).ends_with("its state is unknown"));
    }
}
