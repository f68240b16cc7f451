//! Checks whether the scheduler under test still runs, by its process and by the state of sched_ext.
//!
//! If a scheduler has no callbacks for CPU hotplug, the kernel detaches it when a CPU goes online or offline, and asks
//! it to attach again (`handle_hotplug` in kernel/sched/ext.c, 6.12 to 7.3). The main loops of schedulers obey that
//! request. The scheduler therefore gets some time to come back, and its return is a note rather than a failure.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ktstr_assert::{Finding, SchedulerEnd};

use super::live_scenario::Attached;
use crate::init::ATTACH_WITHIN;

/// The wait for a scheduler to attach again ends when the scheduler has used no CPU time for this long, in guest time. While
/// a scheduler loads, it uses CPU time almost continuously. Loading itself may take longer than this: under the virtual
/// clock, on a CPU shared with two workers, it took scx-ktstr 2.1 s and `scx_rusty` 21 s.
const IDLE: Duration = Duration::from_secs(20);

/// The interval at which the state of sched_ext is polled during the wait for a scheduler. Polling is necessary, because
/// sysfs offers no event for a change of the state.
const POLL: Duration = Duration::from_millis(10);
/// The number of polls between two calls of `on_wait`, which makes one call a second.
const POLLS_PER_REPORT: u64 = 100;

/// The state that is kept from one check of the scheduler to the next. It contains the values of sched_ext's counters, which the
/// next check compares with the new values.
pub(super) struct Liveness {
    root: PathBuf,
    idle: Duration,
    files: Files,
    process: Option<Process>,
    counts: Counts,
    /// Whether the kernel may detach the scheduler once more although no CPU went online or offline since it came back. A
    /// scheduler that began to load before the last such change is refused (`check_hotplug_seq`), but the kernel may show it as
    /// enabled until a kernel thread has disabled it.
    may_be_refused: bool,
    /// Why the scheduler could not be checked, if it could not.
    blind: Option<String>,
}

/// A file of the kernel that is read again and again. It is opened only once, so that a test which leaves files open until it may
/// open no more, or which unmounts the file system, does not hide the scheduler's state. If it cannot be opened at first, each
/// reading tries again.
struct Kept {
    path: PathBuf,
    file: Option<File>,
}

impl Kept {
    fn open(path: PathBuf) -> Self {
        let file = File::open(&path).ok();
        Self { path, file }
    }

    fn read(&self) -> io::Result<String> {
        let Some(file) = &self.file else {
            return std::fs::read_to_string(&self.path);
        };
        // The kernel makes the text of these files anew whenever it is read from its start, and none is as long as a page.
        let mut text = [0; 4096];
        let length = file.read_at(&mut text, 0)?;
        Ok(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned())
    }
}

/// The files in `/sys/kernel/sched_ext`.
struct Files {
    state: Kept,
    attached: Kept,
    hotplugs: Kept,
}

impl Files {
    fn open(root: &Path) -> Self {
        let kept = |name: &str| Kept::open(root.join("sys/kernel/sched_ext").join(name));
        Self {
            state: kept("state"),
            attached: kept("enable_seq"),
            hotplugs: kept("hotplug_seq"),
        }
    }

    fn counts(&self) -> Counts {
        let read = |file: &Kept| {
            let text = file.read().ok();
            text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        Counts {
            attached: read(&self.attached),
            hotplugs: read(&self.hotplugs),
        }
    }

    /// Returns the state of sched_ext; an error on a kernel without it.
    fn state(&self) -> io::Result<String> {
        self.state.read().map(|text| text.trim().to_owned())
    }
}

/// The process of the scheduler, with the file in /proc that shows its state.
struct Process {
    pid: i32,
    stat: Kept,
}

impl Process {
    fn open(root: &Path, pid: i32) -> Self {
        Self {
            pid,
            stat: Kept::open(root.join(format!("proc/{pid}/stat"))),
        }
    }

    /// Returns the text of `/proc/PID/stat`; `Ok(None)` if there is no such process. Only a `/proc` in which other processes are
    /// still found shows that a process is gone. Any other error says nothing about the process.
    fn stat(&self, root: &Path) -> io::Result<Option<String>> {
        match self.stat.read() {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match std::fs::symlink_metadata(root.join("proc/self")) {
                    Ok(_) => Ok(None),
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Counters in `/sys/kernel/sched_ext`, which exist from 6.12 on; 0 on a kernel without sched_ext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// Number of times that a scheduler has attached (`enable_seq`).
    attached: u64,
    /// Number of times that a CPU went online or offline (`hotplug_seq`).
    hotplugs: u64,
}

impl Liveness {
    /// Starts from the current values of the counters. Call this when the scheduler has attached.
    pub(super) fn new(scheduler: Option<Attached>) -> Self {
        Self::at(Path::new("/"), scheduler.map(|by| by.pid))
    }

    /// Starts from the current values of the counters after one attach; `before` has the values from before the attach. The
    /// attach is taken as counted even if `enable_seq` has not grown yet: the kernel counts it only after sched_ext shows the
    /// state `enabled` (`scx_enable` in kernel/sched/ext.c).
    pub(super) fn after_attach(before: &Self, pid: i32) -> Self {
        let mut now = Self::at(&before.root, Some(pid));
        let counted = before.counts.attached.saturating_add(1);
        now.counts.attached = now.counts.attached.max(counted);
        now
    }

    fn at(root: &Path, pid: Option<i32>) -> Self {
        let files = Files::open(root);
        Self {
            root: root.to_owned(),
            idle: IDLE,
            counts: files.counts(),
            files,
            process: pid.map(|pid| Process::open(root, pid)),
            may_be_refused: false,
            blind: None,
        }
    }

    /// Returns why the last check could not see the scheduler, if it could not.
    pub(super) fn take_blind(&mut self) -> Option<String> {
        self.blind.take()
    }

    /// Checks the scheduler, and waits for it if the kernel asked it to attach again. `on_wait` is called when a wait starts
    /// and once a second while it lasts. `Ok` is the number of times that the scheduler has attached again since the last
    /// check; it is 0 if the test has no scheduler. `Err` is how the scheduler exited or was detached, as far as the guest
    /// can see; the host adds what it knows.
    pub(super) fn check(
        &mut self,
        scheduler: Option<Attached>,
        on_wait: &mut dyn FnMut(),
    ) -> Result<u64, Finding> {
        match scheduler {
            None => Ok(0),
            Some(Attached { pid, bpf }) => self.check_pid(pid, bpf, on_wait),
        }
    }

    fn check_pid(
        &mut self,
        pid: i32,
        bpf: bool,
        on_wait: &mut dyn FnMut(),
    ) -> Result<u64, Finding> {
        if self.process.as_ref().is_none_or(|known| known.pid != pid) {
            self.process = Some(Process::open(&self.root, pid));
        }
        let mut found = self.look(pid, bpf);
        let hotplugs = self.files.counts().hotplugs;
        let changed = hotplugs != self.counts.hotplugs;
        if (changed || self.may_be_refused) && matches!(found, Some(Gone::Off(_))) {
            self.may_be_refused = changed;
            found = self.await_return(pid, bpf, on_wait);
            // Keep the count from before the wait: a hotplug during the wait makes the kernel ask for one more attach.
            self.counts.hotplugs = hotplugs;
        }
        let before = self.counts.attached;
        match found {
            Some(Gone::Off(finding) | Gone::Ended(finding)) => Err(finding),
            None => {
                // Keep the old count of hotplugs: the kernel counts a hotplug first and detaches the scheduler a moment later,
                // so the next check must still see the change. An attach may be counted late; see `after_attach`.
                self.counts.attached = self.files.counts().attached.max(before);
                Ok(self.counts.attached.saturating_sub(before))
            }
        }
    }

    /// Waits until the scheduler is attached again, for at most as long as a start may take. Gives up earlier if the scheduler
    /// exits, or uses no CPU time for `idle`. Returns `None` once the scheduler is attached, or if it is just attaching when
    /// the time is up; otherwise how it exited or was detached.
    fn await_return(&mut self, pid: i32, bpf: bool, on_wait: &mut dyn FnMut()) -> Option<Gone> {
        let mut patience = Patience::from(Instant::now(), self.idle);
        let mut polls = 0_u64;
        loop {
            if polls.is_multiple_of(POLLS_PER_REPORT) {
                on_wait();
            }
            polls += 1;
            std::thread::sleep(POLL);
            let found = self.look(pid, bpf);
            let lasts = patience.lasts(self.cpu_ticks(), Instant::now());
            // The state `enabling` does not end the wait: the kernel still refuses the scheduler if another CPU has gone
            // online or offline since the scheduler began to load.
            let comes = match found {
                None => self.files.state().is_ok_and(|state| state == "enabling"),
                Some(Gone::Off(_)) => true,
                Some(Gone::Ended(_)) => false,
            };
            if !comes || !lasts {
                return found;
            }
        }
    }

    /// Returns how the scheduler exited or was detached; `None` while it runs, or if this cannot be seen. If `bpf` is false, it
    /// counts as running as long as its process lives.
    fn look(&mut self, pid: i32, bpf: bool) -> Option<Gone> {
        let stat = self.process.as_ref()?.stat(&self.root);
        match stat {
            Ok(None) => {
                return Some(Gone::Ended(died(
                    SchedulerEnd::Unknown,
                    format!("pid {pid} is gone; the scheduler log has its last output"),
                )));
            }
            Ok(Some(stat)) => {
                if let Some(status) = zombie_status(&stat) {
                    let (end, how) = how_it_exited(status);
                    return Some(Gone::Ended(died(end, format!("pid {pid}: {how}"))));
                }
            }
            Err(error) => self.is_blind(&format!("/proc/{pid}/stat: {error}")),
        }
        if !bpf {
            return None;
        }
        match self.files.state().as_deref() {
            Ok("enabled" | "enabling") => None,
            // The kernel ejected the scheduler, or the scheduler detached itself; the host learns which from the kernel's log.
            Ok(state) => Some(Gone::Off(died(
                SchedulerEnd::Disabled,
                format!(
                    "the kernel has disabled the scheduler or is disabling it (the state of sched_ext is `{state}`); its process, pid {pid}, still exists"
                ),
            ))),
            Err(error) => {
                self.is_blind(&format!("/sys/kernel/sched_ext/state: {error}"));
                None
            }
        }
    }

    fn is_blind(&mut self, why: &str) {
        self.blind.get_or_insert_with(|| {
            format!(
                "the harness could not see whether the scheduler still ran ({why}): does the test leave files open, or does it \
                 unmount /proc or /sys?"
            )
        });
    }

    fn cpu_ticks(&self) -> Option<u64> {
        let stat = self.process.as_ref()?.stat(&self.root).ok()??;
        cpu_ticks(&stat)
    }
}

/// Decides how long to wait for a scheduler that was asked to attach again.
struct Patience {
    began: Instant,
    /// The wait ends when the scheduler has used no CPU time for this long.
    idle: Duration,
    /// The time at which the scheduler's CPU time was last seen to have changed.
    worked: Instant,
    used: Option<u64>,
}

impl Patience {
    fn from(now: Instant, idle: Duration) -> Self {
        Self {
            began: now,
            idle,
            worked: now,
            used: None,
        }
    }

    /// Returns whether the wait goes on at the time `now`. `ticks` is the CPU time that the process has used in total.
    fn lasts(&mut self, ticks: Option<u64>, now: Instant) -> bool {
        if ticks != self.used {
            (self.used, self.worked) = (ticks, now);
        }
        now - self.worked < self.idle && now - self.began < ATTACH_WITHIN
    }
}

/// Returns the CPU time in the text of `/proc/PID/stat` (`proc_pid_stat(5)`, fields 14 and 15), in clock ticks; `None` if it has
/// none.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()?.saturating_add(ticks()?))
}

/// The ways in which a scheduler is no longer attached.
enum Gone {
    /// The process runs, but sched_ext is off.
    Off(Finding),
    /// The process has exited.
    Ended(Finding),
}

fn died(end: SchedulerEnd, how: String) -> Finding {
    Finding::SchedulerDied {
        scheduler: None,
        end,
        how,
        log: String::new(),
    }
}

/// Returns how a process with this wait status ended.
fn how_it_exited(status: i32) -> (SchedulerEnd, String) {
    match (status & 0x7f, status >> 8 & 0xff) {
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
    }
}

/// Returns the wait status in the text of /proc/PID/stat (`proc_pid_stat(5)`, fields 3 and 52) of a process that has exited
/// but was not reaped; `None` for a process that has not exited.
fn zombie_status(stat: &str) -> Option<i32> {
    // The process name in parentheses may contain any character, so search from the right.
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
        put("proc/self", "");
        put("sys/kernel/sched_ext/state", state);
        tmp
    }

    fn kind(stat: Option<&str>, state: &str, bpf: bool) -> Option<DetailKind> {
        let tmp = root(stat, state);
        let mut liveness = Liveness::at(tmp.path(), Some(7));
        let (Gone::Off(death) | Gone::Ended(death)) = liveness.look(7, bpf)?;
        assert_eq!(liveness.take_blind(), None);
        assert!(death.to_string().starts_with("scheduler process died"));
        Some(death.kind())
    }

    /// The scheduler runs, and the test has hidden what shows this. A file that was opened before can still be read.
    #[test]
    fn a_scheduler_that_cannot_be_seen_has_not_died() {
        let tmp = root(Some("7 (s) S 1 7 0\n"), "enabled\n");
        let mut opened_before = Liveness::at(tmp.path(), Some(7));
        std::fs::remove_dir_all(tmp.path().join("proc")).unwrap();
        std::fs::remove_dir_all(tmp.path().join("sys")).unwrap();
        assert!(opened_before.look(7, true).is_none());
        assert_eq!(opened_before.take_blind(), None);
        let mut opened_after = Liveness::at(tmp.path(), Some(7));
        assert!(opened_after.look(7, true).is_none());
        let why = opened_after.take_blind().unwrap();
        assert!(why.contains("(/proc/7/stat: No such file"), "{why}");
    }

    /// The kernel counts an attach a little after it shows the state `enabled`.
    #[test]
    fn an_attach_that_is_counted_late_is_no_second_one() {
        let tmp = root(Some("7 (s) S 1 7 0\n"), "enabled\n");
        let seq = tmp.path().join("sys/kernel/sched_ext/enable_seq");
        std::fs::write(&seq, "1\n").unwrap();
        let mut liveness = Liveness::after_attach(&Liveness::at(tmp.path(), None), 7);
        let mut check = || liveness.check_pid(7, true, &mut || {}).unwrap();
        assert_eq!(check(), 0);
        std::fs::write(&seq, "2\n").unwrap();
        assert_eq!(check(), 0);
        std::fs::write(&seq, "3\n").unwrap();
        assert_eq!(check(), 1);
    }

    /// Checks a scheduler whose process lives while sched_ext is off. With `asked`, a CPU hotplug asks the scheduler to
    /// attach again; with `comes_back`, sched_ext is enabled again during the wait.
    fn off(asked: bool, comes_back: bool) -> Result<u64, Finding> {
        let tmp = root(Some("7 (s) S 1 7 0\n"), "enabled\n");
        let sys = tmp.path().join("sys/kernel/sched_ext");
        let put = |name: &str, text: &str| std::fs::write(sys.join(name), text).unwrap();
        put("enable_seq", "1\n");
        put("hotplug_seq", "4\n");
        let mut liveness = Liveness::at(tmp.path(), Some(7));
        liveness.idle = Duration::from_millis(500);
        assert_eq!(liveness.check_pid(7, true, &mut || {}).unwrap(), 0);
        if asked {
            put("hotplug_seq", "5\n");
        }
        // The kernel has counted the hotplug, and has not detached the scheduler yet.
        assert_eq!(liveness.check_pid(7, true, &mut || {}).unwrap(), 0);
        put("state", "disabled\n");
        let mut reports = 0;
        let found = liveness.check_pid(7, true, &mut || {
            reports += 1;
            if comes_back {
                put("enable_seq", "2\n");
                put("state", "enabled\n");
            }
        });
        assert_eq!(reports > 0, asked, "a wait is reported, and nothing else");
        found
    }

    #[test]
    fn a_restart_requested_by_the_kernel_is_awaited() {
        assert_eq!(off(true, true).unwrap(), 1);
        assert!(off(true, false).is_err());
        assert!(off(false, true).is_err(), "no hotplug explains the detach");
    }

    fn put_in(tmp: &tempfile::TempDir, name: &str, text: &str) {
        let path = tmp.path().join("sys/kernel/sched_ext").join(name);
        std::fs::write(path, text).unwrap();
    }

    /// Returns a check that began before CPUs went online and offline several times.
    fn while_cpus_change() -> (tempfile::TempDir, Liveness) {
        let tmp = root(Some("7 (s) S 1 7 0\n"), "enabled\n");
        put_in(&tmp, "enable_seq", "1\n");
        put_in(&tmp, "hotplug_seq", "4\n");
        let liveness = Liveness::at(tmp.path(), Some(7));
        put_in(&tmp, "hotplug_seq", "15\n");
        (tmp, liveness)
    }

    /// If CPUs go online or offline while a scheduler loads, the kernel refuses the scheduler again when it attaches.
    #[test]
    fn a_scheduler_that_is_refused_while_it_attaches_is_still_awaited() {
        let (tmp, mut liveness) = while_cpus_change();
        let put = |name: &str, text: &str| put_in(&tmp, name, text);
        put("state", "disabled\n");
        let mut states = ["enabling\n", "disabled\n", "enabled\n"].into_iter();
        let found = liveness.check_pid(7, true, &mut || {
            let next = states.next().unwrap();
            if next.starts_with("enabled") {
                put("enable_seq", "2\n");
            }
            put("state", next);
        });
        assert_eq!(found.unwrap(), 1);
        assert_eq!(states.next(), None);
    }

    /// After the last hotplug, the kernel may still show `enabled` for a scheduler that it is about to refuse, but only once.
    #[test]
    fn a_scheduler_that_is_refused_after_it_was_shown_as_enabled_is_awaited_once_more() {
        let (tmp, mut liveness) = while_cpus_change();
        let put = |name: &str, text: &str| put_in(&tmp, name, text);
        for seq in ["2\n", "3\n"] {
            put("state", "disabled\n");
            let found = liveness.check_pid(7, true, &mut || {
                put("enable_seq", seq);
                put("state", "enabled\n");
            });
            assert_eq!(found.unwrap(), 1);
        }
        put("state", "disabled\n");
        let found = liveness.check_pid(7, true, &mut || panic!("no hotplug explains the detach"));
        assert!(found.is_err());
    }

    /// The wait for a scheduler that is loading lasts as long as a start may take; if the scheduler has stopped loading, the
    /// wait ends earlier.
    #[test]
    fn a_scheduler_is_waited_for_while_it_works() {
        let second = Duration::from_secs(1);
        let began = Instant::now();
        let mut busy = Patience::from(began, IDLE);
        let lasted = (1..).find(|s| !busy.lasts(Some(u64::from(*s)), began + second * *s));
        assert_eq!(lasted, Some(ATTACH_WITHIN.as_secs() as u32));
        let mut stuck = Patience::from(began, IDLE);
        let lasted =
            (1..).find(|s| !stuck.lasts(Some(u64::from((*s).min(9))), began + second * *s));
        assert_eq!(lasted, Some(9 + IDLE.as_secs() as u32));
    }

    #[test]
    fn cpu_time_is_read_behind_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0\n";
        assert_eq!(cpu_ticks(stat), Some(175));
        assert_eq!(cpu_ticks("7 (a) b) S 1"), None);
    }

    #[test]
    fn every_exit_has_its_kind() {
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
