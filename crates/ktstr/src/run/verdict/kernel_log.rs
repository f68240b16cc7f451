//! What the guest's kernel prints on the console about itself: why it panicked, that it was asked to go down, which
//! processes it killed for lack of memory, and defects or stalls that it detected and survived.

use ktstr_assert::Finding;

/// The largest number of different reports that are kept of a run.
const REPORTS: usize = 8;
/// The number of characters that are kept of a line.
const LINE: usize = 200;

/// How the lines of reports start, and the names of the reports. The first match counts (`lib/bug.c`, `lib/ubsan.c`,
/// `kernel/panic.c`, `kernel/watchdog.c`, `kernel/workqueue.c`, `kernel/hung_task.c`, `kernel/rcu/tree_stall.h`,
/// `kernel/locking/lockdep.c`, `kernel/sched/psi.c`, `arch/x86/kernel/dumpstack.c`, `arch/x86/kernel/apic/ipi.c`).
const KINDS: &[(&str, &str)] = &[
    ("WARNING: possible circular locking", "lockdep report"),
    ("WARNING: possible recursive locking", "lockdep report"),
    ("WARNING: inconsistent lock state", "lockdep report"),
    ("WARNING: suspicious RCU usage", "lockdep report"),
    ("WARNING: ", "WARNING"),
    ("watchdog: BUG: soft lockup", "soft lockup"),
    ("BUG: workqueue lockup", "workqueue lockup"),
    ("BUG: ", "BUG"),
    ("Oops: ", "oops"),
    ("rcu: INFO: rcu", "RCU stall"),
    ("INFO: task ", "hung task"),
    ("psi: task underflow", "psi underflow"),
    (
        "sched: Unexpected reschedule of offline CPU",
        "scheduling defect",
    ),
    ("UBSAN: ", "UBSAN report"),
];

/// Returns the first [`REPORTS`] reports on a console. A report that repeats in the same words is returned once.
pub(in crate::run) fn reports(console: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for line in console.lines().map(without_time) {
        // User space can also write such lines to the console, so a report never decides the verdict.
        let kind = KINDS.iter().find(|(start, _)| line.starts_with(start));
        let Some((_, report)) = kind else { continue };
        let finding = Finding::KernelReport {
            report: (*report).to_owned(),
            line: line.chars().take(LINE).collect(),
        };
        if !found.contains(&finding) {
            found.push(finding);
        }
        if found.len() == REPORTS {
            break;
        }
    }
    found
}

/// Returns the reason that the kernel printed for its last panic; `None` if it did not panic.
pub(super) fn panic_of(console: &str) -> Option<String> {
    let (_, rest) = console.rsplit_once("Kernel panic - not syncing: ")?;
    Some(rest.lines().next().unwrap_or_default().trim().to_owned())
}

/// Returns the last line that the kernel printed because it goes down on request: by `reboot(2)` (kernel/reboot.c) or by a
/// magic SysRq key (drivers/tty/sysrq.c). `None` if it was not asked to.
pub(super) fn asked_to_go_down(console: &str) -> Option<&str> {
    (console.lines().rev().map(without_time).map(str::trim_end)).find(|line| {
        ["reboot: ", "sysrq: Power Off", "sysrq: Resetting"]
            .iter()
            .any(|start| line.starts_with(start))
    })
}

/// Returns the line that the kernel prints when it kills the process `pid`, or any process if `pid` is `None`, because the
/// machine is out of memory (`__oom_kill_process` in `mm/oom_kill.c`); `None` if there is no such line. The line about a
/// process that a memory cgroup's limit kills starts differently, and does not count.
pub(super) fn killed_for_memory(console: &str, pid: Option<i32>) -> Option<String> {
    console.lines().map(without_time).find_map(|line| {
        let rest = line.strip_prefix("Out of memory: Killed process ")?;
        let (killed, _) = rest.split_once(' ')?;
        let is_it = pid.is_none_or(|pid| killed.parse() == Ok(pid));
        is_it.then(|| line.trim_end().chars().take(LINE).collect())
    })
}

/// Returns a line of the kernel's log without its time stamp.
pub(in crate::run) fn without_time(line: &str) -> &str {
    match line.split_once("] ") {
        Some((stamp, rest)) if stamp.starts_with('[') => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_found_and_listed_once() {
        let console = "[    1.0] Linux version 7.3.4\n\
            [   12.1] WARNING: CPU: 1 PID: 7 at kernel/sched/ext.c:100 x+0x1/0x2\n\
            [   12.2] WARNING: CPU: 1 PID: 7 at kernel/sched/ext.c:100 x+0x1/0x2\n\
            [   13.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [spin:7]\n\
            [   14.0] psi: task underflow! cpu=1 t=2 tasks=[0 0 0 0] clear=1 set=0\n";
        let found: Vec<String> = reports(console).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("the guest's kernel reported a WARNING: WARNING: CPU: 1"));
        assert!(reports("[ 1.0] all is well\n").is_empty());
    }

    #[test]
    fn a_process_that_is_killed_for_memory_is_distinguished_from_others() {
        let console = "[    6.6] Out of memory: Killed process 1002 (tail) total-vm:322584kB, anon-rss:320168kB\n\
                       [    7.6] Memory cgroup out of memory: Killed process 7 (hog) total-vm:1kB\n";
        let line = killed_for_memory(console, Some(1002));
        assert!(
            line.is_some_and(|line| line.starts_with("Out of memory: Killed process 1002 (tail)"))
        );
        assert!(killed_for_memory(console, None).is_some());
        assert_eq!(killed_for_memory(console, Some(7)), None);
        assert_eq!(
            killed_for_memory("Out of memory: Killed process", None),
            None
        );
    }

    #[test]
    fn a_request_to_go_down_is_distinguished_from_a_reset() {
        let asked = "[ 3.0] sysrq: Power Off\n[ 3.1] reboot: Power down\n";
        assert_eq!(asked_to_go_down(asked), Some("reboot: Power down"));
        assert_eq!(asked_to_go_down("[ 3.0] x\n"), None);
    }
}
