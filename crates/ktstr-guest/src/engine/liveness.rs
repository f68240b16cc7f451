//! Is the scheduler under test still there: its process, and sched_ext's own word for it.
//!
//! A scheduler without callbacks for CPUs that go on or off line is taken off by the kernel when one does, with the
//! request to attach again (`handle_hotplug` in kernel/sched/ext.c, 6.12 to 7.3), which schedulers' own loops obey. So it
//! has a while to come back, and that it did is a note and no failure.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ktstr_assert::{Finding, SchedulerEnd};

use super::scene::Attached;

/// How long a scheduler may take to attach again, guest time, which sysfs has no event for. Loading takes most of it: scx-ktstr
/// took 2.1 s under the virtual clock, on a CPU that it shared with two workers, and others have ten times its code.
const COMES_BACK: Duration = Duration::from_secs(20);

/// What sched_ext's counters said when the scheduler was last seen to be on.
pub(super) struct Liveness {
    root: PathBuf,
    comes_back: Duration,
    counts: Counts,
}

/// Counters in /sys/kernel/sched_ext, from 6.12 on; 0 on a kernel without sched_ext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// How often a scheduler has attached (`enable_seq`).
    attached: u64,
    /// How often a CPU went on or off line (`hotplug_seq`).
    hotplugs: u64,
}

impl Counts {
    fn read(root: &Path) -> Self {
        let read = |name: &str| {
            let text = std::fs::read_to_string(root.join("sys/kernel/sched_ext").join(name));
            text.ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0)
        };
        Self {
            attached: read("enable_seq"),
            hotplugs: read("hotplug_seq"),
        }
    }
}

impl Liveness {
    /// To be made when the scheduler has attached.
    pub(super) fn new() -> Self {
        Self::at(Path::new("/"))
    }

    fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            comes_back: COMES_BACK,
            counts: Counts::read(root),
        }
    }

    /// `Err`: the end of the scheduler, as far as it can be seen from here; the host knows more, and completes it. `Ok`: it
    /// lives, or the test has none; how often it attached again since the last time.
    pub(super) fn check(&mut self, scheduler: Option<Attached>) -> Result<u64, Finding> {
        match scheduler {
            None => Ok(0),
            Some(Attached { pid, bpf }) => self.check_pid(pid, bpf),
        }
    }

    fn check_pid(&mut self, pid: i32, bpf: bool) -> Result<u64, Finding> {
        let mut found = check_at(&self.root, pid, bpf);
        let asked = Counts::read(&self.root).hotplugs != self.counts.hotplugs;
        let deadline = Instant::now() + self.comes_back;
        while asked && matches!(found, Some(Gone::Off(_))) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            found = check_at(&self.root, pid, bpf);
        }
        let before = self.counts.attached;
        match found {
            Some(Gone::Off(finding) | Gone::Ended(finding)) => Err(finding),
            None => {
                self.counts = Counts::read(&self.root);
                Ok(self.counts.attached.saturating_sub(before))
            }
        }
    }
}

/// How a scheduler is gone.
enum Gone {
    /// Its process is there, and sched_ext is off.
    Off(Finding),
    /// Its process has ended.
    Ended(Finding),
}

/// `None` while it lives.
fn check_at(root: &Path, pid: i32, bpf: bool) -> Option<Gone> {
    let died = |end, how: String| Finding::SchedulerDied {
        scheduler: None,
        end,
        how,
        log: String::new(),
    };
    let stat = std::fs::read_to_string(root.join(format!("proc/{pid}/stat")));
    let Ok(stat) = stat else {
        return Some(Gone::Ended(died(
            SchedulerEnd::Unknown,
            format!("pid {pid} is gone; its last words are in the scheduler log"),
        )));
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
        return Some(Gone::Ended(died(end, format!("pid {pid}: {how}"))));
    }
    let state = std::fs::read_to_string(root.join("sys/kernel/sched_ext/state"));
    match state.as_deref().map(str::trim) {
        Ok("enabled" | "enabling") | Err(_) => None,
        Ok(_) if !bpf => None,
        // Ejected or gone by itself: the host can tell, from the kernel's notes.
        Ok(state) => Some(Gone::Off(died(
            SchedulerEnd::Unknown,
            format!("pid {pid} is there, but sched_ext is {state}"),
        ))),
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
        let (Gone::Off(death) | Gone::Ended(death)) = check_at(tmp.path(), 7, bpf)?;
        assert!(death.to_string().starts_with("scheduler process died"));
        Some(death.kind())
    }

    /// The process lives, and sched_ext is off: for good, or until somebody switches it on.
    fn off(asked: bool, comes_back: bool) -> Result<u64, Finding> {
        let tmp = root(Some("7 (s) S 1 7 0\n"), "enabled\n");
        let sys = tmp.path().join("sys/kernel/sched_ext");
        let put = |name: &str, text: &str| std::fs::write(sys.join(name), text).unwrap();
        put("enable_seq", "1\n");
        put("hotplug_seq", "4\n");
        let mut liveness = Liveness::at(tmp.path());
        liveness.comes_back = Duration::from_millis(500);
        assert_eq!(liveness.check_pid(7, true).unwrap(), 0);
        put("state", "disabled\n");
        if asked {
            put("hotplug_seq", "5\n");
        }
        let sys = sys.clone();
        let back = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            if comes_back {
                std::fs::write(sys.join("enable_seq"), "2\n").unwrap();
                std::fs::write(sys.join("state"), "enabled\n").unwrap();
            }
        });
        let found = liveness.check_pid(7, true);
        back.join().unwrap();
        found
    }

    #[test]
    fn a_restart_that_the_kernel_asked_for_is_awaited() {
        assert_eq!(off(true, true).unwrap(), 1);
        assert!(off(true, false).is_err());
        assert!(off(false, true).is_err(), "nobody asked it to leave");
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
