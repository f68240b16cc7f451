//! Is the scheduler under test still there: its process, and sched_ext's own word for it.

use std::path::Path;

use ktstr_assert::{Finding, SchedulerEnd};
use ktstr_scenario::Ctx;

/// `None` while it lives, or when the test has none; else the end of the scheduler, as far as it can
/// be seen from here. The host knows more, and completes it.
pub(super) fn check(ctx: &Ctx) -> Option<Finding> {
    let pid = ctx.sched_pid?;
    let bpf = ctx
        .current_scheduler()
        .is_some_and(|spec| spec.has_bpf_scheduler());
    check_at(Path::new("/"), pid, bpf)
}

fn check_at(root: &Path, pid: i32, bpf: bool) -> Option<Finding> {
    let died = |end, how: String| {
        Some(Finding::SchedulerDied {
            scheduler: None,
            end,
            how,
            log: String::new(),
        })
    };
    let stat = std::fs::read_to_string(root.join(format!("proc/{pid}/stat")));
    let Ok(stat) = stat else {
        return died(
            SchedulerEnd::Unknown,
            format!("pid {pid} is gone; its last words are in the scheduler log"),
        );
    };
    if let Some(status) = zombie_status(&stat) {
        let (end, how) = match (status & 0x7f, status >> 8 & 0xff) {
            (0, 0) => (
                SchedulerEnd::Left,
                "it exited with code 0 before the scenario was over".to_owned(),
            ),
            (0, code) => (
                SchedulerEnd::Crashed,
                format!("it exited with code {code}; see the scheduler log"),
            ),
            (signal, _) => (
                SchedulerEnd::Crashed,
                format!("signal {signal} killed it; see the scheduler log"),
            ),
        };
        return died(end, format!("pid {pid}: {how}"));
    }
    let state = std::fs::read_to_string(root.join("sys/kernel/sched_ext/state"));
    match state.as_deref().map(str::trim) {
        Ok("enabled" | "enabling") | Err(_) => None,
        Ok(_) if !bpf => None,
        Ok(state) => died(
            // Ejected or gone by itself: the host can tell, from the kernel's notes.
            SchedulerEnd::Unknown,
            format!("pid {pid} is there, but sched_ext is {state}"),
        ),
    }
}

/// The wait status of a process that has ended but was not reaped (proc_pid_stat(5), fields 3
/// and 52).
fn zombie_status(stat: &str) -> Option<i32> {
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if !matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.last().and_then(|f| f.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ktstr_assert::DetailKind;

    use super::*;

    fn root(stat: Option<&str>, state: &str) -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = tmp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        if let Some(stat) = stat {
            put("proc/7/stat", stat);
        }
        put("sys/kernel/sched_ext/state", state);
        tmp
    }

    fn kind(stat: Option<&str>, state: &str, bpf: bool) -> Option<DetailKind> {
        let tmp = root(stat, state);
        let death = check_at(tmp.path(), 7, bpf)?;
        assert!(death.to_string().starts_with("scheduler process died"));
        Some(death.kind())
    }

    #[test]
    fn every_end_has_its_kind() {
        let alive = Some("7 (scx (x) y) S 1 7 0\n");
        assert_eq!(kind(alive, "enabled\n", true), None);
        assert_eq!(kind(alive, "disabled\n", false), None);
        let ejected = kind(alive, "disabled\n", true);
        assert_eq!(ejected, Some(DetailKind::SchedulerDiedUnknownReason));
        let gone = kind(None, "disabled\n", true);
        assert_eq!(gone, Some(DetailKind::SchedulerDiedUnknownReason));
        let clean = kind(Some("7 (s) Z 1 0 0\n"), "disabled\n", true);
        assert_eq!(clean, Some(DetailKind::SchedulerExitedCleanly));
        let code = kind(Some("7 (s) Z 1 0 256\n"), "disabled\n", true);
        assert_eq!(code, Some(DetailKind::SchedulerCrashed));
        let signal = kind(Some("7 (s) Z 1 0 11\n"), "enabled\n", true);
        assert_eq!(signal, Some(DetailKind::SchedulerCrashed));
    }
}
