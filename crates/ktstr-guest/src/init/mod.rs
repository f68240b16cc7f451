//! PID 1 of the guest. It mounts file systems, takes a job from the mailbox, starts the scheduler under test and the
//! test process, reaps all children, reports to the host, and waits until the host ends the machine. Without a host, it
//! powers the machine off after 30 s.
//!
//! The test function runs in a separate process, of the test's binary. Whatever the function does to its process is
//! therefore a result and not a kernel panic.

mod children;
pub(crate) mod disk;
mod identity;
pub mod lifecycle;
mod mounts;
mod scheduler;
mod signals;
mod test_process;

use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ktstr_mailbox::{CALL_IDLE, Ring, initialise};
use ktstr_scenario::topology::TestTopology;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

pub(crate) use self::scheduler::ATTACH_WITHIN;
use crate::link;
use crate::mail::{Inbox, MailLink, Mapped};
use crate::protocol::{
    ChangeError, ProcessEnd, SchedulerAnswer, SchedulerChange, SchedulerJob, Setup, StartOf,
    ToGuest, ToHost,
};
use crate::realtime::{self, RealTime};
use children::{Child, Children};
use identity::Identity;
use signals::SignalTrace;
pub(crate) use test_process::TEST_PROCESS_ENV;
use test_process::TestProcess;
pub use test_process::{JobSource, TestJob, is_test_process, touch_program};

/// The kernel parameter that tells PID 1 that it runs in the guest. The kernel passes it on as an environment variable.
pub const GUEST_MARK_ENV: &str = "KTSTR_GUEST";

/// Whether this process is PID 1 of a guest and has to call [`main`]. PID 1 of a container lacks the mark.
pub fn is_guest_init() -> bool {
    std::process::id() == 1 && std::env::var_os(GUEST_MARK_ENV).is_some()
}

/// The longest timer tick in use (`CONFIG_HZ=100`), in nanoseconds.
const TICK_NS: u64 = 10_000_000;

/// An error that ends PID 1. The error is a fault of the harness unless its message says otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("could not mount {what} on {target}: {cause}")]
    Mount {
        what: &'static str,
        target: &'static str,
        cause: rustix::io::Errno,
    },
    #[error(
        "could not map the mailbox through /dev/mem (does this kernel have CONFIG_DEVMEM?): {0}"
    )]
    Mailbox(std::io::Error),
    #[error("{what}: {cause}")]
    System { what: String, cause: std::io::Error },
    #[error("{0}")]
    Message(String),
}

impl InitError {
    pub(crate) fn system(what: impl Into<String>, cause: impl Into<std::io::Error>) -> Self {
        Self::System {
            what: what.into(),
            cause: cause.into(),
        }
    }
}

/// Runs as PID 1 until the host ends the machine.
pub fn main() -> ! {
    if let Err(error) = run() {
        link::send(&ToHost::HarnessError {
            message: error.to_string(),
        });
        // The console works even when the mailbox does not.
        eprintln!("ktstr: PID 1: {error}");
    }
    link::send(&ToHost::Bye);
    // The host ends the machine on Bye. A guest without a host must still power off.
    std::thread::sleep(Duration::from_secs(30));
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn run() -> Result<(), InitError> {
    // Never restore the priority: this process lives as long as the machine.
    std::mem::forget(RealTime::raise(realtime::PID_1));
    mounts::mount_all()?;
    let region = Mapped::open().map_err(InitError::Mailbox)?;
    initialise(&region).map_err(InitError::Mailbox)?;
    let own = Mapped::open().map_err(InitError::Mailbox)?;
    link::install(Box::new(MailLink::new(own, Ring::Agent)));
    let mut agent = Agent {
        region,
        children: Children::new()?,
        identity: Identity::open()?,
        scheduler: None,
        signals: None,
        test: None,
        kills_before: 0,
        disable: Vec::new(),
        own: None,
        staged: Vec::new(),
    };
    touch_program();
    link::send(&boot_report());
    let result = agent.serve();
    agent.children.kill_all();
    result
}

/// The mount point of the cgroup tree.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// The state of PID 1 between two messages.
struct Agent {
    region: Mapped,
    children: Children,
    identity: Identity,
    scheduler: Option<Child>,
    signals: Option<SignalTrace>,
    test: Option<TestProcess>,
    /// The value of the kernel's OOM kill counter when the test process was started.
    kills_before: u64,
    /// The `echo` lines that switch off a scheduler inside the kernel.
    disable: Vec<String>,
    /// The test's own scheduler.
    own: Option<SchedulerJob>,
    /// The schedulers that operations of the test may start.
    staged: Vec<(String, SchedulerJob)>,
}

impl Agent {
    /// Executes the host's messages until the test has run, or ends earlier if the scheduler does not attach or the test
    /// process exits before it is ready. A template of this machine is saved while this loop waits for a message.
    fn serve(&mut self) -> Result<(), InitError> {
        let mut inbox = Inbox::new();
        loop {
            match inbox.next(&self.region).map_err(InitError::Message)? {
                None => {
                    crate::mail::call_host(CALL_IDLE);
                    // Under the virtual clock, a message that the host had for the guest was written during the call.
                    if !inbox.has_next(&self.region) {
                        self.idle()?;
                    }
                }
                Some(ToGuest::Refresh {
                    realtime_ns,
                    entropy,
                    last_pid,
                }) => self.identity.refresh(realtime_ns, &entropy, last_pid)?,
                Some(ToGuest::Write {
                    path,
                    offset,
                    len,
                    mode,
                }) => {
                    self.write(&path, offset, len, mode)
                        .map_err(|e| InitError::system(format!("writing {path}"), e))?;
                    link::send(&ToHost::Written);
                }
                Some(ToGuest::Prepare(setup)) => {
                    if !self.prepare(setup)? {
                        return Ok(());
                    }
                    link::send(&ToHost::Prepared);
                }
                Some(ToGuest::Load {
                    binary,
                    workload_root,
                }) => {
                    // Do as much as possible before the machine is saved, so that forks do not repeat it.
                    make_cgroup(&workload_root)?;
                    self.kills_before = oom_kills();
                    self.test = TestProcess::load(&mut self.children, &binary)?;
                    // A machine whose scheduler has exited meanwhile must not become a template.
                    let own = self.scheduler.as_ref();
                    let ended = own.and_then(|s| Some((s.pid(), s.end(&self.children)?)));
                    self.report_scheduler_exit(ended.as_slice());
                    if self.test.is_none() {
                        return Ok(());
                    }
                    link::send(&ToHost::Loaded);
                }
                Some(ToGuest::Run { job, seed }) => return self.run(&job, seed),
            }
        }
    }

    /// Waits until a child prints something or exits, for at most a millisecond. If the scheduler exits meanwhile, reports
    /// its exit to the host. The wait is short, because the host has no way to wake the guest.
    fn idle(&mut self) -> Result<(), InitError> {
        let ended = self.children.wait(Some(Duration::from_millis(1)))?;
        self.report_scheduler_exit(&ended);
        Ok(())
    }

    fn report_scheduler_exit(&self, ended: &[(i32, ProcessEnd)]) {
        for (pid, end) in ended {
            if Some(*pid) == self.scheduler.as_ref().map(Child::pid) {
                link::send(&ToHost::SchedulerDied {
                    end: *end,
                    signal: self.signals.as_ref().and_then(|signals| signals.last(*end)),
                });
            }
        }
    }

    fn write(&self, path: &str, offset: u64, len: u64, mode: u32) -> std::io::Result<()> {
        if let Some(folder) = Path::new(path).parent() {
            std::fs::create_dir_all(folder)?;
        }
        if offset == 0 {
            // Do not overwrite the file: processes of the template, such as this one, may be executing it.
            let _ = std::fs::remove_file(path);
        }
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(mode)
            .open(path)?
            .write_all_at(self.region.bulk(len)?, offset)
    }

    /// Prepares what tests under one scheduler share. Returns `false` if the scheduler did not attach; the reason has
    /// then been reported to the host.
    fn prepare(&mut self, setup: Setup) -> Result<bool, InitError> {
        for (key, value) in &setup.sysctls {
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            std::fs::write(&path, value)
                .map_err(|e| InitError::system(format!("setting sysctl {key}={value}"), e))?;
        }
        if let Some(disk) = &setup.disk {
            disk::set_up(disk)?;
        }
        if let Some(parent) = &setup.cgroup_parent {
            make_cgroup(parent)?;
        }
        self.own = setup.scheduler.clone();
        self.staged = setup.staged;
        match setup.scheduler {
            None => {}
            Some(SchedulerJob::Program { path, args, env }) => {
                if let Err(reason) = self.start(&path, &args, &env)? {
                    link::send(&ToHost::SchedulerNotAttached { reason });
                    return Ok(false);
                }
            }
            Some(SchedulerJob::Builtin { enable, disable }) => {
                scheduler::echo_lines(&enable)?;
                self.disable = disable;
            }
        }
        Ok(true)
    }

    /// Starts a scheduler, waits until it has attached, and returns its process id. The inner `Err` is the reason why the
    /// scheduler did not attach.
    fn start(
        &mut self,
        path: &str,
        args: &[String],
        env: &[(String, String)],
    ) -> Result<Result<i32, String>, InitError> {
        let started = scheduler::start(&mut self.children, path, args, env)?;
        Ok(started.map(|child| {
            let pid = child.pid();
            self.signals = SignalTrace::of(pid);
            self.scheduler = Some(child);
            pid
        }))
    }

    /// Stops and starts schedulers as the test requests. The outer `Err` is an error of the harness, which ends PID 1.
    fn change(&mut self, change: SchedulerChange) -> Result<SchedulerAnswer, InitError> {
        let refused = |why: String| Ok(Err(ChangeError::Refused(why)));
        let job = match &change.start {
            None => None,
            Some(StartOf::Own) => match &self.own {
                Some(job) => Some(job.clone()),
                None => return refused("the test has no scheduler of its own".to_owned()),
            },
            Some(StartOf::Staged(name)) => {
                let found = self.staged.iter().find(|(known, _)| known == name);
                let Some((_, job)) = found else {
                    let names: Vec<&str> = self.staged.iter().map(|(name, _)| &**name).collect();
                    return refused(format!(
                        "the guest has no scheduler {name:?} (it has: {}); name it in the test's \
                         staged_schedulers",
                        names.join(", ")
                    ));
                };
                Some(job.clone())
            }
        };
        // Before the stop, check everything that can be refused, because the current scheduler must stay attached after a
        // refusal.
        let program = match job {
            None => None,
            Some(SchedulerJob::Program { path, args, env }) => Some((path, args, env)),
            Some(SchedulerJob::Builtin { .. }) => {
                return refused(
                    "a scheduler inside the kernel is switched through its own files and has no process to start"
                        .to_owned(),
                );
            }
        };
        match (change.stop, &self.scheduler) {
            (true, None) => return refused("no scheduler is attached".to_owned()),
            (false, Some(child)) => {
                return refused(format!(
                    "a scheduler is attached, as process {}: detach it first, or replace it",
                    child.pid()
                ));
            }
            _ => {}
        }
        // Send this before the stop, so that the host does not take the scheduler's exit for a crash.
        link::send(&ToHost::SchedulerStopping);
        if let Some(child) = self.scheduler.take() {
            self.signals = None;
            if let Some(left) = scheduler::stop(&mut self.children, &child)? {
                self.scheduler = Some(child);
                return refused(left);
            }
        }
        match program {
            None => Ok(Ok(None)),
            Some((path, args, env)) => {
                let staged = match change.start {
                    Some(StartOf::Staged(name)) => Some(name),
                    Some(StartOf::Own) | None => None,
                };
                let scheduler = staged.clone().unwrap_or_else(|| "of the test".to_owned());
                link::send(&ToHost::SchedulerStarting { staged });
                let started = self.start(&path, &args, &env)?;
                Ok(started
                    .map(Some)
                    .map_err(|why| ChangeError::NotAttached { scheduler, why }))
            }
        }
    }

    fn run(&mut self, job: &[u8], seed: u64) -> Result<(), InitError> {
        let end = self.run_test(job, seed)?;
        link::send(&end);
        if let Some(child) = &self.scheduler {
            let state = std::fs::read_to_string(scheduler::STATE);
            if state.is_ok_and(|state| state.trim() != "enabled") {
                // The scheduler is exiting on its own. How it exits is part of the verdict.
                let ended = scheduler::await_end(&mut self.children, child)?;
                self.report_scheduler_exit(&ended);
            }
            if let Some(what) = scheduler::stop(&mut self.children, child)? {
                link::send(&ToHost::SchedulerLeft { what });
            }
        }
        scheduler::echo_lines(&self.disable)
    }

    fn run_test(&mut self, job: &[u8], seed: u64) -> Result<ToHost, InitError> {
        let Some(mut test) = self.test.take() else {
            return Err(InitError::Message(
                "the host asked to run a test whose process was not loaded".to_owned(),
            ));
        };
        delay_start(seed);
        link::send(&ToHost::TestStarted { pid: test.pid() });
        test.run(job, self.scheduler.as_ref().map(Child::pid));
        let mut listening = true;
        let end = loop {
            // A change of the scheduler reaps all processes that end meanwhile. The test process may be among them.
            if let Some(end) = test.child.end(&self.children) {
                break end;
            }
            let control = listening.then(|| test.control.as_fd());
            let ended = self.children.wait_or(None, control)?;
            self.report_scheduler_exit(&ended);
            if let Some(end) = test.child.end(&self.children) {
                break end;
            }
            if !listening || !is_readable(&test.control) {
                continue;
            }
            match lifecycle::take(&mut test.control) {
                Ok(change) => {
                    let answer = self.change(change)?;
                    listening = lifecycle::put(&mut test.control, &answer).is_ok();
                }
                // The test process has closed its end, or sent something malformed.
                Err(_) => listening = false,
            }
        };
        self.children.drain_all();
        if let Some(counters) = disk::counters() {
            link::send(&ToHost::Disk(counters));
        }
        let killed = matches!(end, ProcessEnd::Signaled(signal) if signal == Signal::KILL.as_raw());
        Ok(ToHost::TestEnded {
            end,
            oom_killed: killed && oom_kills() > self.kills_before,
        })
    }
}

/// Returns whether the socket has data to read, or its peer has closed it.
fn is_readable(socket: &UnixStream) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn boot_report() -> ToHost {
    let topology = TestTopology::from_system()
        .map_err(|e| e.to_string())
        .and_then(|seen| seen.short_text());
    ToHost::Hello { topology }
}

/// Creates a cgroup, given as an absolute path below `/sys/fs/cgroup`. If it is nested, every controller that its ancestors
/// offer is enabled for it, because nobody else enables controllers on its ancestors. A cgroup at the top level is left as
/// the kernel creates it.
fn make_cgroup(path: &str) -> Result<(), InitError> {
    let folder = format!("{CGROUPS}{path}");
    std::fs::create_dir_all(&folder)
        .map_err(|e| InitError::system(format!("creating the cgroup {folder}"), e))?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut above = CGROUPS.to_owned();
    for part in parts.iter().filter(|_| parts.len() > 1) {
        let offered = std::fs::read_to_string(format!("{above}/cgroup.controllers"));
        for controller in offered.unwrap_or_default().split_whitespace() {
            // A controller that cannot be enabled is reported by the code that needs it.
            let _ = std::fs::write(
                format!("{above}/cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
        above = format!("{above}/{part}");
    }
    Ok(())
}

/// Spins for up to a timer tick, depending on the seed: the position of the test's start between two ticks influences
/// much of what the scheduler does. Seed 0 is the plain run, without a delay.
fn delay_start(seed: u64) {
    if seed == 0 {
        return;
    }
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let until = crate::clock::monotonic_ns() + (mixed >> 32) % TICK_NS;
    // Compute instead of calling `spin_loop`: if one thread of QEMU executes all CPUs, each PAUSE switches to the next CPU and
    // back, which takes about a thousand host instructions.
    while crate::clock::monotonic_ns() < until {
        crate::workers::spin(16);
    }
}

/// Returns how many processes the OOM killer has killed so far (`/proc/vmstat`).
fn oom_kills() -> u64 {
    std::fs::read_to_string("/proc/vmstat")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        .unwrap_or(0)
}
