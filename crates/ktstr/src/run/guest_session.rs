//! The session with a machine: the messages in its mailbox, the holds under the virtual clock, and the decision to give up
//! on the guest.

use std::time::{Duration, Instant};

use ktstr_guest::protocol::{ToGuest, ToHost};
use ktstr_machine::{Halt, Hold, Machine, MachineError, MailboxRam, Shape, VcpuTime, VirtualClock};
use ktstr_mailbox::{
    CALL_IDLE, Layout, MailboxMemory, Reader, Ring, RingCursor, RingError, WriteError, Writer,
    is_ready,
};

use ktstr_state::env;

use super::captures::LazyKernelInfo;
use super::guest_state::GuestState;
use super::schedule::tracepoints::Edges;
use super::schedule::{self, Recorder};
use super::stall::{StallDetector, StallReport};
use crate::vm_result::{GuestLifecyclePhase, WatchdogKillReason};

/// The interval at which the host polls the mailbox under the real clock.
const POLL: Duration = Duration::from_micros(500);
/// How long the host waits for the guest to be held before it checks whether the machine still runs.
const HOLD_WAIT: Duration = Duration::from_millis(50);
/// The largest number of messages that a poll reads from each ring while the guest runs: a guest that floods the mailbox must
/// not keep the host from its other duties.
const BURST: usize = 256;
/// The largest number of bursts, of [`BURST`] messages each, that a poll reads from a ring once the guest has sent its last
/// message. Together they are more messages than a ring can hold.
const ROUNDS: usize = 1024;
/// How long a boot may show no progress. Under the virtual clock this limits the guest time without progress. Under both
/// clocks it is also passed to [`StallDetector::check`] as the patience with a guest that the host runs at full speed.
const BOOT_PATIENCE: Duration = Duration::from_secs(60);
/// What each CPU adds to [`BOOT_PATIENCE`].
const BOOT_PATIENCE_PER_CPU: Duration = Duration::from_secs(4);
/// How long the guest may show no progress between the boot and the start of the test. PID 1 gives up earlier on a scheduler
/// that does not attach (`ATTACH_WITHIN` in `ktstr-guest`).
const ATTACH_PATIENCE: Duration = Duration::from_secs(150);
/// The interval at which the host checks for a stall.
const CHECK: Duration = Duration::from_millis(250);

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// The guest sent its last message.
    Completed,
    /// The guest stopped, but not at the host's request: it powered off or reset itself, or its accelerator failed.
    Halted(Halt),
    /// The host gave up on the guest.
    TimedOut(WatchdogKillReason, StallReport),
    /// The contents of the mailbox are invalid.
    Garbled(RingError),
    /// Messages were damaged in transit, so the guest's report is incomplete.
    Lost(Lost),
}

/// The number of lost messages, by ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) agent: u64,
    pub(super) test: u64,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |count, who| (count > 0).then(|| format!("{count} of {who}"));
        let parts = [of(self.agent, "PID 1"), of(self.test, "the test process")];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(" and "))
    }
}

/// The positions in the two rings that are in use as long as PID 1 runs: the ring to which PID 1 writes, and the ring to which
/// the host writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RingCursors {
    pub(super) agent: RingCursor,
    pub(super) host: RingCursor,
}

/// A machine, and everything that its guest has reported so far.
#[derive(Debug)]
pub(super) struct GuestSession {
    pub(super) machine: Machine,
    pub(super) guest: GuestState,
    agent: Reader,
    test: Reader,
    host: Writer,
    stall_detector: StallDetector,
    vcpus: u32,
    ready: bool,
    next_check: Instant,
    /// The state at the first check after the last message that showed progress: the number of such messages
    /// ([`GuestState::progress`]), and the CPU times of the vCPUs.
    quiet: (u64, Vec<Option<VcpuTime>>),
    /// Under the virtual clock: why the guest has been held since the last poll.
    pub(super) hold: Option<Hold>,
    /// Records the schedule of a run under the virtual clock.
    pub(super) recorder: Option<Recorder>,
    /// For the schedule of a run under the real clock: when the test process started, and when each hold began and ended.
    edges: Edges,
}

impl GuestSession {
    /// Starts a session with a machine that has not booted yet.
    pub(super) fn new(machine: Machine, vcpus: u32) -> Self {
        Self {
            // Under the virtual clock one thread executes all vCPUs.
            stall_detector: StallDetector::new(match machine.virtual_clock() {
                Some(_) => 1,
                None => vcpus.min(super::host_cpus()),
            }),
            machine,
            guest: GuestState::default(),
            agent: Reader::new(Ring::Agent),
            test: Reader::new(Ring::Test),
            host: Writer::new(Ring::Host),
            vcpus,
            ready: false,
            next_check: Instant::now(),
            quiet: (0, Vec::new()),
            hold: None,
            recorder: None,
            edges: Edges::default(),
        }
    }

    /// Notes that the machine may use at most `cpus` CPUs of the host.
    pub(super) fn limit_cpus(&mut self, cpus: u32) {
        self.stall_detector.limit(cpus);
    }

    /// Starts a session with a machine that was restored. An earlier session had reached the positions `cursors` and the
    /// state `guest`.
    pub(super) fn resume(
        machine: Machine,
        vcpus: u32,
        cursors: RingCursors,
        guest: GuestState,
    ) -> Self {
        Self {
            agent: Reader::resume(Ring::Agent, cursors.agent),
            host: Writer::resume(Ring::Host, cursors.host),
            guest,
            ready: true,
            ..Self::new(machine, vcpus)
        }
    }

    /// Returns the positions in the rings. They are meaningful only while the guest is held or stopped, and after all of its
    /// messages have been read.
    pub(super) fn cursors(&self) -> RingCursors {
        RingCursors {
            agent: self.agent.cursor(),
            host: self.host.cursor(),
        }
    }

    /// Sends a message to PID 1.
    pub(super) fn send(&mut self, message: &ToGuest) -> Result<(), MachineError> {
        let failed = |reason: String| {
            MachineError::system(
                "posting a message to the guest",
                std::io::Error::other(reason),
            )
        };
        let bytes = message.encode().map_err(|e| failed(e.to_string()))?;
        let region = MailboxRam(self.machine.ram());
        match self.host.write(&region, &bytes, 0) {
            Ok(()) => Ok(()),
            Err(WriteError::Memory(error)) => Err(error),
            Err(full) => Err(failed(full.to_string())),
        }
    }

    /// Stores a file in the guest. Returns how the session ended if it ended before the file was stored.
    pub(super) fn write_file(
        &mut self,
        path: &str,
        mode: u32,
        bytes: &[u8],
    ) -> Result<Option<End>, MachineError> {
        let mut offset = 0;
        // An empty file has no chunks, but it must exist in the guest as well.
        let empty = bytes.is_empty().then_some(bytes);
        let chunks = bytes.chunks(Layout::BULK_SIZE as usize);
        for chunk in chunks.chain(empty) {
            self.machine
                .ram()
                .write(Layout::BASE + Layout::BULK, chunk)?;
            let wanted = self.guest.written + 1;
            self.send(&ToGuest::Write {
                path: path.to_owned(),
                offset,
                len: chunk.len() as u64,
                mode,
            })?;
            if let Some(end) = self.wait_until(|guest| guest.written >= wanted)? {
                return Ok(Some(end));
            }
            offset += chunk.len() as u64;
        }
        Ok(None)
    }

    /// Waits until `reached` is true. Returns how the session ended if it ended first.
    pub(super) fn wait_until(
        &mut self,
        reached: impl Fn(&GuestState) -> bool,
    ) -> Result<Option<End>, MachineError> {
        loop {
            let end = self.poll(Duration::ZERO)?;
            if reached(&self.guest) {
                return Ok(None);
            }
            if end.is_some() {
                return Ok(end);
            }
        }
    }

    /// Resumes a machine that was started or restored in the paused state. Under the virtual clock, the guest is then held.
    pub(super) fn run(&mut self) -> Result<(), MachineError> {
        self.machine.run()?;
        self.hold = self.machine.virtual_clock().and_then(VirtualClock::held);
        Ok(())
    }

    /// Under the virtual clock: lets the guest run until it waits for a message, and leaves it held there. Returns how the
    /// session ended if it ended first. Does nothing under the real clock.
    pub(super) fn run_until_idle(&mut self) -> Result<Option<End>, MachineError> {
        if self.machine.virtual_clock().is_none() {
            return Ok(None);
        }
        while self.hold != Some(Hold::Call(CALL_IDLE)) {
            if let Some(end) = self.poll(Duration::MAX)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// Runs the guest to its end, and calls `on_tick` after every poll, with the reason why the guest is held. Under
    /// the virtual clock it is called only while the guest is held: at any other moment its effect would depend on the
    /// speed of the host. `stall_limit` is how long the guest may show no progress once the test process has started.
    pub(super) fn run_to_end(
        &mut self,
        stall_limit: Duration,
        mut on_tick: impl FnMut(
            &mut Machine,
            &mut Option<Recorder>,
            &mut GuestState,
            Duration,
            Option<Hold>,
        ) -> Result<(), MachineError>,
    ) -> Result<End, MachineError> {
        loop {
            if let Some(end) = self.poll(stall_limit)? {
                return Ok(end);
            }
            if self.machine.virtual_clock().is_some() && self.hold.is_none() {
                continue;
            }
            let now = self.now();
            let (machine, recorder, guest) =
                (&mut self.machine, &mut self.recorder, &mut self.guest);
            on_tick(machine, recorder, guest, now, self.hold)?;
        }
    }

    /// Returns the current time on the clock that measures workload windows: guest time under the virtual clock, otherwise the
    /// time for which the machine has run, without the time for which it was stopped.
    pub(super) fn now(&self) -> Duration {
        match (self.machine.virtual_clock(), self.hold) {
            (Some(_), Some(Hold::Due(ns))) => Duration::from_nanos(ns),
            (Some(_), Some(Hold::Changed(ns) | Hold::Moment(_, ns) | Hold::Clock(ns))) => {
                Duration::from_nanos(ns).max(self.guest.at)
            }
            (Some(_), _) => self.guest.at,
            (None, _) => self.machine.running_time(),
        }
    }

    /// Waits a moment, or until the guest is held, and processes the messages that have arrived. Under the virtual
    /// clock the guest is held at each event until the next poll: whatever the host does in between happens at a point
    /// of guest time that is the same in every run. Returns how the session ended, if it did.
    pub(super) fn poll(&mut self, stall_limit: Duration) -> Result<Option<End>, MachineError> {
        if let Some(clock) = self.machine.virtual_clock() {
            if self.hold.take().is_some() {
                clock.release();
            }
            self.hold = clock.wait(HOLD_WAIT);
            if self.hold.is_none() {
                let halted = self.machine.halt()?;
                if halted.is_none() {
                    return Ok(self.check(stall_limit));
                }
                // The guest no longer runs, so the mailbox holds its last messages.
            }
            if let (Some(recorder), Some(clock)) =
                (&mut self.recorder, self.machine.virtual_clock())
            {
                recorder.drain(clock);
            }
            if self.hold == Some(Hold::Full) {
                return Ok(self.check(stall_limit));
            }
        } else {
            std::thread::sleep(POLL);
        }
        let halted = self.machine.halt()?;
        if !self.ready {
            self.ready = is_ready(&MailboxRam(self.machine.ram()))?;
        }
        if self.ready {
            // The test's ring is read after PID 1's: when PID 1 has reported that the test has ended, all messages of the
            // test are in its ring.
            let (machine, guest, edges) = (&self.machine, &mut self.guest, &mut self.edges);
            for reader in [&mut self.agent, &mut self.test] {
                // After the last message of PID 1 the test's ring is read to its end: no process writes to the ring any more.
                for _ in 0..ROUNDS {
                    let taken = drain(&MailboxRam(machine.ram()), reader, |message, time_ns| {
                        let now = match machine.virtual_clock() {
                            Some(_) => Duration::from_nanos(time_ns),
                            None => machine.running_time(),
                        };
                        let (held, test) = (guest.held, guest.test_pid);
                        guest.take(message, now);
                        if guest.held != held {
                            edges.holds.push((time_ns, guest.held));
                        }
                        if guest.test_pid != test {
                            edges.from_ns = Some(time_ns);
                        }
                    });
                    match taken {
                        Ok(BURST) if guest.bye => {}
                        Ok(_) => break,
                        Err(error) => return Ok(Some(End::Garbled(error))),
                    }
                }
            }
            let lost = Lost {
                agent: self.agent.dropped(),
                test: self.test.dropped(),
            };
            if lost != Lost::default() {
                return Ok(Some(End::Lost(lost)));
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.follow(&self.guest);
        }
        if self.guest.bye {
            return Ok(Some(End::Completed));
        }
        if let Some(halt) = halted {
            return Ok(Some(End::Halted(halt)));
        }
        if self.is_past_stall_limit(stall_limit) {
            let reason = WatchdogKillReason::Tier1CpuBudget;
            return Ok(Some(End::TimedOut(reason, self.stall_report(stall_limit))));
        }
        Ok(self.check(stall_limit))
    }

    /// Returns whether, under the virtual clock, the guest has shown no progress for `stall_limit` of guest time. This is always
    /// `false` before the test process has started. The answer is `true` only while the guest is held because a requested time
    /// has come ([`Hold::Due`]), so it does not depend on the speed of the host.
    fn is_past_stall_limit(&self, stall_limit: Duration) -> bool {
        match self.hold {
            Some(Hold::Due(ns)) if self.guest.phase > GuestLifecyclePhase::Attach => {
                Duration::from_nanos(ns) >= self.guest.progress_at.saturating_add(stall_limit)
            }
            _ => false,
        }
    }

    /// Returns the contents of the schedule's file; `None` if no schedule was recorded. Under the virtual clock, the guest must
    /// have stopped before this call. Under the real clock, this call stops the guest.
    pub(super) fn finish_recording(
        &mut self,
        kernel_info: &mut LazyKernelInfo,
        shape: &Shape,
    ) -> Option<Vec<u8>> {
        let Some(clock) = self.machine.virtual_clock() else {
            if env::SCHEDULE.is_off() {
                return None;
            }
            // An error only means that the guest has stopped already, or that QEMU is gone.
            let _ = self.machine.stop();
            return schedule::of_tracepoints(&self.machine, kernel_info, shape, &self.edges);
        };
        let mut recorder = self.recorder.take()?;
        recorder.drain(clock);
        recorder.look_up(&self.machine, kernel_info);
        Some(recorder.finish())
    }

    /// Gives up on a guest that has stalled. Does nothing until [`CHECK`] has passed since the last check.
    fn check(&mut self, stall_limit: Duration) -> Option<End> {
        let now = Instant::now();
        if now < self.next_check {
            return None;
        }
        self.next_check = now + CHECK;
        let reason = self.stalled(stall_limit)?;
        Some(End::TimedOut(reason, self.stall_report(stall_limit)))
    }

    fn stalled(&mut self, stall_limit: Duration) -> Option<WatchdogKillReason> {
        let patience = match self.guest.phase {
            GuestLifecyclePhase::Boot => BOOT_PATIENCE + BOOT_PATIENCE_PER_CPU * self.vcpus,
            GuestLifecyclePhase::Attach => ATTACH_PATIENCE,
            _ => stall_limit,
        };
        // Under the virtual clock, guest time that passes shows that the guest runs, but not that the test makes progress. A
        // guest that hangs while its timers run is detected by the guest time since its last message that showed progress: here
        // before the test function is called, and in `is_past_stall_limit` afterwards.
        if self.guest.called.is_none()
            && let Some(clock) = self.machine.virtual_clock()
            && is_silent(clock.now_ns(), self.guest.progress_at, patience)
        {
            return Some(WatchdogKillReason::Tier1CpuBudget);
        }
        let sent = self.guest.progress;
        if self.quiet.0 != sent || self.quiet.1.is_empty() {
            self.quiet = (sent, self.machine.vcpu_times());
        }
        let progress = match self.machine.virtual_clock() {
            Some(clock) => sent.wrapping_add(clock.now_ns()),
            None => sent,
        };
        let cpu = self.machine.cpu_time()?;
        match self.stall_detector.check(progress, cpu, patience) {
            Some(WatchdogKillReason::Tier3Deadman) if !self.host_was_busy() => {
                Some(WatchdogKillReason::Tier1CpuBudget)
            }
            reason => reason,
        }
    }

    /// Returns whether the host kept the machine's vCPUs from running since the guest's last message that showed progress. Also
    /// returns `true` if the times of the vCPUs are unknown, and under the virtual clock.
    fn host_was_busy(&mut self) -> bool {
        if self.machine.virtual_clock().is_some() {
            return true;
        }
        let now = self.machine.vcpu_times();
        let (mut ran, mut waited) = (0, 0);
        for (before, now) in self.quiet.1.iter().zip(now) {
            let (Some(before), Some(now)) = (before, now) else {
                return true;
            };
            ran += now.ran_ns.saturating_sub(before.ran_ns);
            waited += now.waited_ns.saturating_sub(before.waited_ns);
        }
        dilated(ran, waited)
    }

    /// Describes the stall of a guest that the host gave up on.
    fn stall_report(&mut self, stall_limit: Duration) -> StallReport {
        let elapsed = self
            .stall_detector
            .since_progress(self.machine.cpu_time().unwrap_or_default());
        let ran = |(before, now): (&Option<VcpuTime>, Option<VcpuTime>)| {
            let ran_ns = now?.ran_ns.checked_sub(before.as_ref()?.ran_ns)?;
            Some(Duration::from_nanos(ran_ns))
        };
        let vcpus = self.quiet.1.iter().zip(self.machine.vcpu_times());
        StallReport {
            guest_clock: self
                .machine
                .virtual_clock()
                .map(|clock| Duration::from_nanos(clock.now_ns())),
            wall: elapsed.wall,
            cpu_used: elapsed.cpu,
            vcpus: vcpus.filter_map(ran).collect(),
            cpus: self.vcpus,
            tasks: Vec::new(),
            limit: (self.guest.phase > GuestLifecyclePhase::Attach).then_some(stall_limit),
            processes: Vec::new(),
        }
    }
}

/// Returns whether the host slowed the guest down: its threads ran for `ran_ns` and waited for a CPU for `waited_ns`, at least
/// half as long. If they used no CPU time, nothing can be concluded, and the host is assumed to be slow.
fn dilated(ran_ns: u64, waited_ns: u64) -> bool {
    ran_ns == 0 || waited_ns >= ran_ns / 2
}

/// Returns whether a guest whose clock shows `now_ns` has shown no progress for longer than `patience`; `at` is the time of
/// its last message that showed progress.
fn is_silent(now_ns: u64, at: Duration, patience: Duration) -> bool {
    Duration::from_nanos(now_ns) > at.saturating_add(patience)
}

/// Processes at most [`BURST`] messages of a ring, each with the guest time at which it was written, and returns their number. A
/// message that cannot be parsed becomes an error of the harness.
fn drain<M: MailboxMemory>(
    memory: &M,
    reader: &mut Reader,
    mut take: impl FnMut(ToHost, u64),
) -> Result<usize, RingError> {
    for taken in 0..BURST {
        let Some(message) = reader.next(memory)? else {
            return Ok(taken);
        };
        let time_ns = message.time_ns;
        let message =
            serde_json::from_slice(&message.bytes).unwrap_or_else(|error| ToHost::HarnessError {
                message: format!("a message from the guest is invalid: {error}"),
            });
        take(message, time_ns);
    }
    Ok(BURST)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_host_is_busy_if_the_vcpus_waited_for_it() {
        // One of sixteen vCPUs spun for 200 s and got all the time that it wanted.
        assert!(!dilated(200_000_000_000, 1_000_000));
        assert!(dilated(15_000_000_000, 185_000_000_000));
        assert!(dilated(0, 0));
    }

    /// A mailbox in a buffer of the test.
    struct Memory(RefCell<Vec<u8>>);

    impl MailboxMemory for Memory {
        type Error = Infallible;

        fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
            let from = offset as usize;
            buf.copy_from_slice(&self.0.borrow()[from..from + buf.len()]);
            Ok(())
        }

        fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Infallible> {
            let to = offset as usize;
            self.0.borrow_mut()[to..to + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn load(&self, offset: u64) -> Result<u64, Infallible> {
            let mut bytes = [0u8; 8];
            self.read(offset, &mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        }

        fn store(&self, offset: u64, value: u64) -> Result<(), Infallible> {
            self.write(offset, &value.to_le_bytes())
        }
    }

    #[test]
    fn a_corrupted_frame_is_counted_and_not_delivered() {
        let memory = Memory(RefCell::new(vec![0; Layout::SIZE as usize]));
        let mut writer = Writer::new(Ring::Test);
        for message in [ToHost::TestStarted { pid: 7 }, ToHost::Bye] {
            writer.write(&memory, &message.encode(), 7).expect("room");
        }
        // The offset of a byte in the payload of the first frame, which follows the frame's header of 32 bytes.
        let at = Ring::Test.offset() as usize + 32 + 13;
        memory.0.borrow_mut()[at] ^= 1;
        let mut reader = Reader::new(Ring::Test);
        let mut taken = Vec::new();
        drain(&memory, &mut reader, |message, at| {
            taken.push((message, at))
        })
        .expect("intact rings");
        assert!(matches!(taken[..], [(ToHost::Bye, 7)]), "{taken:?}");
        assert_eq!(reader.dropped(), 1);
    }
}
