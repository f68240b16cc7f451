//! The interface of a worker's body: work, sleep, latency samples, checkpoints. This code runs only in the forked child,
//! so it must not allocate, lock or panic.

use std::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use ktstr_assert::{BenchRole, SampleKind};
use ktstr_scenario::workload::WorkType;

use super::arch;
use super::attrs::{self, SchedAttr};
use super::counters::{Slice, SliceCounters};
use super::objects::Objects;
use super::rng::Rng;
use super::shared::{
    Bytes, Control, MAX_MIGRATIONS, MAX_SAMPLES, MAX_SLICES, PhasePage, SAMPLE_NS_BITS, Telemetry,
};
use super::sys::{self, MASK_WORDS, Mask, SchedStat};
use super::unable::Unable;

/// Number of work units between two checkpoints.
pub const CHECKPOINT_UNITS: u64 = 1024;

/// The guest time in ns from the end of one measurement of an iteration's cost to the earliest start of the next. A measurement
/// reads the CPU time twice. Each read is a system call, which takes up to 10 us under the virtual clock, so measuring takes at
/// most a five-hundredth of the worker's time. The interval is no multiple of the kernel's timer tick, so that ticks do not
/// always fall into the measured iterations.
const COST_INTERVAL_NS: u64 = 10_300_000;

/// Set by the stop signal. Each worker process has its own copy; workers that are threads of one leader are stopped
/// together.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// How a worker is connected to the other members of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WakeLink {
    /// The worker is on its own.
    None,
    /// A ring of pipes: a worker reads from `wait`, and wakes the next member by writing to `wake`.
    Pipe { wait: i32, wake: i32 },
    /// A ring of futex words, given by their indices into [`Control::words`].
    Futex { wait: usize, wake: usize },
    /// Futex words that all members share.
    Shared,
    /// Futex words that all members share, and an eventfd.
    Event { fd: i32 },
}

/// The state of one worker, as its body sees it.
pub(super) struct WorkerCtx<'a> {
    /// The work type, for bodies whose parameters are not numbers.
    pub work_type: &'a WorkType,
    /// Parameters of the work type. The body in `kinds` documents what they mean.
    pub params: [u64; 4],
    /// The connection to the other members of the group.
    pub wake_link: WakeLink,
    /// Index in the group; member 0 starts a ring.
    pub member: usize,
    /// Number of members in the group.
    pub group: usize,
    /// Index of the group's first member among all workers that were started together.
    pub base: usize,
    /// The worker parks after this many iterations; 0 means never.
    pub park_after: u64,
    /// Whether the worker reports the end of its first iteration.
    pub reports_first: bool,
    /// The descriptor that a custom function's report is written to; -1 means none.
    pub report_fd: i32,
    /// Bytes that the group shares, if its work type needs some.
    pub bytes: Option<&'a Bytes>,
    /// The CPUs that the worker was allowed to use when the gate opened.
    pub allowed: Mask,
    /// The worker's own random number generator.
    pub rng: Rng,
    tele: &'a Telemetry,
    control: &'a Control,
    phase_page: &'a PhasePage,
    phase: u16,
    slice: usize,
    counters: SliceCounters,
    since_checkpoint: u64,
    total_iterations: u64,
    /// Whether the stop came before the work of the current iteration was done.
    cut: bool,
    /// The worker's CPU time in ns at the start of the iteration whose cost is measured; `None` if none is measured.
    cost_from_ns: Option<u64>,
    /// The guest time in ns from which the cost of another iteration is measured; 0 while one is measured.
    cost_due_ns: u64,
    last_ns: u64,
    released_ns: u64,
    cpu: u32,
    since_release: SinceRelease,
}

/// What a worker reads in its first turn after the release.
#[derive(Debug, Clone, Copy, Default)]
struct SinceRelease {
    sched: SchedStat,
    /// The time in ns since the release. It is read after `sched`, so that it is not less than a wait that began at the release.
    ns: u64,
}

impl SinceRelease {
    /// Returns the time in ns for which the worker waited for a CPU between the release and its first turn. `delay_before_ns` is
    /// the sum of its waits that the parent has read just before the release. A wait that was going on then is not in that sum;
    /// its part before the release does not count.
    fn waited_ns(&self, delay_before_ns: u64) -> u64 {
        let waited = self.sched.run_delay_ns.saturating_sub(delay_before_ns);
        waited.min(self.ns)
    }
}

impl<'a> WorkerCtx<'a> {
    /// Initialises the context once the gate is open.
    pub fn begin(
        tele: &'a Telemetry,
        control: &'a Control,
        phase_page: &'a PhasePage,
        work_type: &'a WorkType,
        rng: Rng,
    ) -> Self {
        let mut allowed: Mask = [0; MASK_WORDS];
        for (word, from) in allowed.iter_mut().zip(&tele.allowed) {
            *word = from.load(Relaxed);
        }
        let released_ns = control.released_at_ns.load(Relaxed);
        let mut ctx = Self {
            work_type,
            params: [0; 4],
            wake_link: WakeLink::None,
            member: 0,
            group: 1,
            base: 0,
            park_after: 0,
            reports_first: false,
            report_fd: -1,
            bytes: None,
            allowed,
            rng,
            tele,
            control,
            phase_page,
            phase: phase_page.phase.load(Relaxed),
            slice: 0,
            counters: SliceCounters::default(),
            since_checkpoint: 0,
            total_iterations: 0,
            cut: false,
            cost_from_ns: None,
            cost_due_ns: 0,
            last_ns: released_ns,
            released_ns,
            cpu: sys::current_cpu(),
            since_release: SinceRelease::default(),
        };
        ctx.counters.began_ns = released_ns;
        // The counters are compared with the exact schedule from this mark on, so everything that is counted must come
        // after the mark.
        ctx.counters.began_cpu_ns = ctx.mark();
        ctx.cpu = sys::current_cpu();
        ctx.counters.sched = sys::schedstat();
        ctx.since_release = SinceRelease {
            sched: ctx.counters.sched,
            ns: sys::now_ns().saturating_sub(released_ns),
        };
        tele.slices_used.store(1, Relaxed);
        // This checkpoint records the gap of a worker that waited long for a CPU after the release.
        ctx.checkpoint();
        ctx
    }

    /// Takes the next part of the disk and returns its number. All workers of the scenario take parts from one sequence.
    pub fn disk_part(&self) -> u64 {
        self.phase_page.disk_parts.fetch_add(1, Relaxed).into()
    }

    /// Returns whether the worker was told to stop.
    pub fn stopped(&self) -> bool {
        STOP.load(Relaxed)
    }

    /// Does `units` units of integer work, with a checkpoint after every 1024. Returns early when the worker is told
    /// to stop; the current iteration does not count then.
    pub fn work(&mut self, units: u64) {
        let mut left = units;
        while left > 0 && !self.stopped() {
            let room = CHECKPOINT_UNITS
                .saturating_sub(self.since_checkpoint)
                .max(1);
            let now = left.min(room);
            arch::spin(now);
            left -= now;
            self.count_units(now);
        }
        self.cut |= left > 0;
    }

    /// Counts work units. [`Self::work`] counts its own; a body that works in another way calls this.
    pub fn count_units(&mut self, units: u64) {
        self.counters.work_units = self.counters.work_units.wrapping_add(units);
        self.since_checkpoint = self.since_checkpoint.wrapping_add(units);
        if self.since_checkpoint >= CHECKPOINT_UNITS {
            self.checkpoint();
        }
    }

    /// Works until the monotonic time `deadline_ns`, in pieces of 64 units, or until the worker is told to stop. If the stop
    /// comes first, the current iteration does not count.
    pub fn work_until(&mut self, deadline_ns: u64) {
        while !self.cut && sys::now_ns() < deadline_ns {
            self.work(64);
        }
    }

    /// Counts an iteration of the body, unless the stop came before its work was done. The counted work units are therefore
    /// always at least those that the counted iterations needed.
    pub fn iteration(&mut self) {
        if self.cut {
            return;
        }
        // Use the time of the last checkpoint, because reading the clock here would slow down work types with short
        // iterations.
        if self.last_ns >= self.cost_due_ns {
            self.measure_cost();
        }
        self.counters.iterations = self.counters.iterations.wrapping_add(1);
        self.total_iterations = self.total_iterations.wrapping_add(1);
        if self.reports_first && self.total_iterations == 1 {
            self.control.first_iterations.fetch_add(1, Relaxed);
            sys::futex_wake(&self.control.first_iterations, i32::MAX);
        }
        if self.park_after > 0 && self.total_iterations >= self.park_after {
            self.park();
        }
    }

    /// If a measurement began at the end of the previous iteration, records the cost of the iteration that ends now.
    /// Otherwise begins the measurement of the next iteration.
    fn measure_cost(&mut self) {
        let cpu_ns = sys::thread_cpu_ns();
        if let Some(began_ns) = self.cost_from_ns.take() {
            let cost_ns = cpu_ns.saturating_sub(began_ns);
            self.keep(&self.tele.costs_seen, &self.tele.costs, cost_ns);
            self.cost_due_ns = self.last_ns.saturating_add(COST_INTERVAL_NS);
        } else {
            self.cost_from_ns = Some(cpu_ns);
            self.cost_due_ns = 0;
        }
    }

    /// Waits to be stopped. The wait does not count as a gap, because the worker has nothing left to do.
    pub fn park(&mut self) {
        self.checkpoint();
        while !self.stopped() {
            // The gate never closes again, so only a signal ends the futex wait.
            sys::futex_wait(&self.control.gate, 1);
        }
        self.last_ns = sys::now_ns();
    }

    /// Sleeps for `ns` and records the delay of the wakeup. The requested time does not count as a gap.
    pub fn sleep(&mut self, ns: u64) {
        self.sleep_until(sys::now_ns().wrapping_add(ns));
    }

    /// Sleeps until the deadline, a time of `CLOCK_MONOTONIC` in nanoseconds, and records by how much the worker runs later than
    /// that. If the deadline has passed already, records the delay without a sleep. Returns the delay in nanoseconds, or `None`
    /// when the worker is told to stop.
    pub fn sleep_until(&mut self, deadline_ns: u64) -> Option<u64> {
        let late = self.nap_until(deadline_ns)?;
        self.sample(late);
        self.checkpoint();
        Some(late)
    }

    /// Sleeps like [`Self::sleep`], without recording a sample. Returns the delay of the wakeup in nanoseconds, or
    /// `None` when the worker is told to stop.
    pub fn nap(&mut self, ns: u64) -> Option<u64> {
        self.nap_until(sys::now_ns().wrapping_add(ns))
    }

    fn nap_until(&mut self, deadline: u64) -> Option<u64> {
        let from = sys::now_ns();
        let ns = deadline.saturating_sub(from);
        if ns > 0 {
            sys::sleep_until(deadline);
        }
        if self.stopped() {
            // The signal to stop may have ended the sleep early.
            let slept = sys::now_ns().saturating_sub(from).min(ns);
            self.last_ns = self.last_ns.wrapping_add(slept);
            return None;
        }
        self.last_ns = self.last_ns.wrapping_add(ns);
        Some(sys::now_ns().saturating_sub(deadline))
    }

    /// Returns a futex word that the group shares, and the time stamp in ns that belongs to it. Returns `None` if `at` is not
    /// less than the size of the group, or if the members share no words.
    pub fn shared_futex(&self, at: usize) -> Option<(&'a AtomicU32, &'a AtomicU64)> {
        if !matches!(self.wake_link, WakeLink::Shared | WakeLink::Event { .. }) || at >= self.group
        {
            return None;
        }
        let at = self.base.wrapping_add(at);
        Some((self.control.words.get(at)?, self.control.stamps.get(at)?))
    }

    /// Returns the objects that the workers of the scenario share by name.
    pub fn objects(&self) -> &'a Objects {
        &self.phase_page.objects
    }

    /// Returns the monotonic time in ns at which the workers were released.
    pub fn released_ns(&self) -> u64 {
        self.released_ns
    }

    /// Returns the number of workers that were started together.
    pub fn workers(&self) -> u32 {
        self.control.workers.load(Relaxed)
    }

    /// Returns the thread id of a worker by its index among those that were started together, or 0 if there is no such
    /// worker.
    pub fn tid_of(&self, worker: usize) -> i32 {
        let tid = self.control.tids.get(worker);
        tid.map_or(0, |tid| tid.load(Relaxed))
    }

    /// Declares that the worker only waited for others until the monotonic time `ns`, so that this time does not count
    /// as a gap.
    pub fn idle_until(&mut self, ns: u64) {
        self.last_ns = self.last_ns.max(ns.min(sys::now_ns()));
    }

    /// Gives up because the body lacks something that it needs. The body must return after that.
    pub fn unable(&self, why: Unable, errno: i32) {
        give_up(self.tele, why, errno);
    }

    /// Passes bytes from a custom function to the parent. `Err` is the errno.
    pub fn hand_over(&self, bytes: &[u8]) -> Result<(), i32> {
        let mut left = bytes;
        while !left.is_empty() {
            // SAFETY: readable bytes of the length that is passed; a wrong descriptor only causes an error.
            let put = unsafe { libc::write(self.report_fd, left.as_ptr().cast(), left.len()) };
            match put {
                n if n > 0 => left = left.get(n as usize..).unwrap_or(&[]),
                _ if sys::errno() == libc::EINTR => {}
                _ => return Err(sys::errno()),
            }
        }
        Ok(())
    }

    /// Changes the worker's scheduling policy; its nice value stays. If the kernel refuses, the worker's report says
    /// so.
    pub fn become_policy(&self, attr: SchedAttr) {
        self.become_attr(&attr.with_own_nice());
    }

    /// Changes the worker's scheduling attributes to these. If the kernel refuses, or if the real-time priority is lowered, the
    /// worker's report says so.
    pub fn become_attr(&self, attr: &SchedAttr) {
        if let Some(priority) = attr.is_lowered() {
            self.tele.lowered_from.store(priority, Relaxed);
        }
        match attrs::set(0, attr) {
            Ok(()) => self
                .tele
                .realtime
                .store(u32::from(attr.is_realtime()), Relaxed),
            Err(errno) => {
                // A later change that succeeds does not clear these, so that the report still names the refusal.
                self.tele.policy.store(attr.policy(), Relaxed);
                self.tele.policy_errno.store(errno, Relaxed);
            }
        }
    }

    /// Marks this worker as a messenger, which only wakes others.
    pub fn only_wakes_others(&self) {
        self.tele.messenger.store(1, Relaxed);
    }

    /// Records the kind of this worker's samples. Without this call they are of the first kind in [`SampleKind::ALL`].
    pub fn samples_are(&self, kind: SampleKind) {
        let index = SampleKind::ALL.iter().position(|known| *known == kind);
        self.tele
            .sample_kind
            .store(index.unwrap_or(0) as u32, Relaxed);
    }

    /// Records one latency. The first 100 000 latencies are all kept. If there are more, a uniform random choice of 100 000
    /// of them is kept. A sample belongs to the phase in which it was measured, even if the worker slept through the start
    /// of that phase.
    pub fn sample(&mut self, ns: u64) {
        self.enter_phase();
        self.counters.samples = self.counters.samples.wrapping_add(1);
        self.keep(&self.tele.samples_seen, &self.tele.samples, ns);
    }

    /// Records the role that this worker plays in a benchmark.
    pub fn plays(&self, role: BenchRole) {
        let place = BenchRole::ALL.iter().position(|known| *known == role);
        let tag = place.map_or(0, |place| place as u32 + 1);
        self.tele.bench_role.store(tag, Relaxed);
    }

    /// Records a sample of this worker's role in a second reservoir; see [`BenchRole`] for what is measured.
    pub fn bench_sample(&mut self, value: u64) {
        self.enter_phase();
        self.counters.bench_samples = self.counters.bench_samples.wrapping_add(1);
        self.keep(&self.tele.bench_seen, &self.tele.bench, value);
    }

    /// Counts an event of the worker's benchmark: for taobench a look-up that found its key, for rt-app a missed period. Nothing
    /// is counted if the stop came before the work of the iteration was done.
    pub fn hit(&mut self) {
        if self.cut {
            return;
        }
        self.counters.bench_hits = self.counters.bench_hits.wrapping_add(1);
    }

    fn enter_phase(&mut self) {
        if self.phase_page.phase.load(Acquire) != self.phase {
            self.checkpoint();
        }
    }

    /// Offers a value to a reservoir (Vitter's algorithm R); `seen` counts the values that were offered to it so far.
    fn keep(&mut self, seen: &AtomicU64, reservoir: &[AtomicU64], value: u64) {
        let before = seen.load(Relaxed);
        seen.store(before.wrapping_add(1), Relaxed);
        let at = if (before as usize) < MAX_SAMPLES {
            before
        } else {
            self.rng.below(before.wrapping_add(1))
        };
        if let Some(slot) = reservoir.get(at as usize) {
            let value = value.min((1 << SAMPLE_NS_BITS) - 1);
            slot.store(u64::from(self.phase) << SAMPLE_NS_BITS | value, Relaxed);
        }
    }

    /// Wakes the next member of the ring.
    pub fn wake_next(&self) {
        let now = sys::now_ns();
        match self.wake_link {
            WakeLink::None | WakeLink::Shared | WakeLink::Event { .. } => {}
            WakeLink::Pipe { wake, .. } => {
                // A failure is ignored: either the stop signal interrupted the write, or the next member has ended.
                // SAFETY: eight readable bytes; a pipe write this small is atomic.
                unsafe { libc::write(wake, std::ptr::from_ref(&now).cast(), 8) };
            }
            WakeLink::Futex { wake, .. } => {
                if let (Some(stamp), Some(word)) =
                    (self.control.stamps.get(wake), self.control.words.get(wake))
                {
                    stamp.store(now, Relaxed);
                    word.store(1, std::sync::atomic::Ordering::Release);
                    sys::futex_wake(word, 1);
                }
            }
        }
    }

    /// Blocks until the previous member wakes this one, and records the wakeup latency. Returns `false` when the
    /// worker is told to stop, or when the ring is broken.
    pub fn wait_turn(&mut self) -> bool {
        match self.wake_link {
            WakeLink::None | WakeLink::Shared | WakeLink::Event { .. } => false,
            WakeLink::Pipe { wait, .. } => {
                let mut stamp = 0u64;
                while !self.stopped() {
                    // SAFETY: room for eight bytes; the descriptor is this worker's own end of the pipe.
                    let got = unsafe { libc::read(wait, std::ptr::from_mut(&mut stamp).cast(), 8) };
                    if got == 8 {
                        self.sample(sys::now_ns().saturating_sub(stamp));
                        self.checkpoint();
                        return true;
                    }
                    if got >= 0 || sys::errno() != libc::EINTR {
                        return false;
                    }
                }
                false
            }
            WakeLink::Futex { wait, .. } => {
                let (Some(word), Some(stamp)) =
                    (self.control.words.get(wait), self.control.stamps.get(wait))
                else {
                    return false;
                };
                while !self.stopped() {
                    if word.swap(0, Acquire) == 1 {
                        let stamp = stamp.load(Relaxed);
                        self.sample(sys::now_ns().saturating_sub(stamp));
                        self.checkpoint();
                        return true;
                    }
                    sys::futex_wait(word, 0);
                }
                false
            }
        }
    }

    /// Reads the clock, the CPU and the phase, and publishes the counters so far.
    pub fn checkpoint(&mut self) {
        self.since_checkpoint = 0;
        let now = sys::now_ns();
        let (cpu, phase) = place(&self.phase_page.phase, sys::current_cpu);
        let gap = now.saturating_sub(self.last_ns);
        if gap > self.counters.max_gap_ns {
            self.counters.max_gap_ns = gap;
            self.counters.max_gap_at_ns = now.saturating_sub(self.released_ns);
            self.counters.max_gap_cpu = cpu;
        }
        self.last_ns = now.max(self.last_ns);
        if phase != self.phase {
            // A gap that began in the old phase counts in the old phase, and so do the units done since the last
            // checkpoint. The CPU counts in the new one.
            self.publish(now);
            self.next_slice(now, phase);
        }
        if cpu != self.cpu {
            self.migrated(now, cpu);
        }
        // If no slot for the counters of a new phase is left, the CPU is not counted in any phase.
        if phase == self.phase {
            self.was_on(cpu);
        }
        self.publish(now);
        self.tele.last_cpu.store(cpu, Relaxed);
        self.tele
            .live_iterations
            .store(self.total_iterations, Relaxed);
    }

    fn migrated(&mut self, now: u64, cpu: u32) {
        let seen = self.tele.moves_seen.load(Relaxed);
        if let Some(slot) = self
            .tele
            .moves
            .get(seen.min(MAX_MIGRATIONS as u64) as usize)
        {
            slot.at_ns
                .store(now.saturating_sub(self.released_ns), Relaxed);
            slot.cpus
                .store(u64::from(self.cpu) << 32 | u64::from(cpu), Relaxed);
        }
        self.tele.moves_seen.store(seen.wrapping_add(1), Relaxed);
        self.counters.migration_count = self.counters.migration_count.wrapping_add(1);
        self.cpu = cpu;
    }

    fn publish(&self, now: u64) {
        let Some(slot) = self.tele.slices.get(self.slice) else {
            return;
        };
        slot.phase.store(u32::from(self.phase), Relaxed);
        self.counters.publish(slot);
        slot.wall_time_ns
            .store(now.saturating_sub(self.counters.began_ns), Relaxed);
    }

    /// Adds a CPU to the mask of the CPUs that the worker used in this phase. Only a changed word is published, because storing
    /// all sixteen words at each checkpoint would double its cost.
    fn was_on(&mut self, cpu: u32) {
        let (at, bit) = (cpu as usize / 64, 1 << (cpu % 64));
        let Some(word) = self.counters.cpus.get_mut(at) else {
            return;
        };
        if *word & bit != 0 {
            return;
        }
        *word |= bit;
        let slot = self.tele.slices.get(self.slice);
        if let Some(published) = slot.and_then(|slot| slot.cpus.get(at)) {
            published.store(*word, Relaxed);
        }
    }

    /// Sets a mark in the exact schedule, and returns the CPU time just before it. An interrupt may come between the read of
    /// the CPU time and the mark, so the CPU time from just before to just after the mark is added to
    /// `Telemetry::slack_ns`, the uncertainty of the comparison with the exact schedule.
    fn mark(&self) -> u64 {
        let [before, after] = sys::marked_cpu_ns();
        let slack = &self.tele.slack_ns;
        let sum = slack
            .load(Relaxed)
            .saturating_add(after.saturating_sub(before));
        slack.store(sum, Relaxed);
        before
    }

    /// At the end of a phase, stores the counters that are too expensive to read at every checkpoint: the CPU time, which
    /// `cpu_ns` reads, and schedstat.
    fn close_slice(&self, slot: &Slice, cpu_ns: impl FnOnce() -> u64) -> (u64, SchedStat) {
        // The order matters: everything that is counted must come before the last mark.
        let sched = sys::schedstat();
        let cpu_ns = cpu_ns();
        let began = &self.counters.sched;
        slot.cpu_time_ns
            .store(cpu_ns.saturating_sub(self.counters.began_cpu_ns), Relaxed);
        slot.schedstat_run_delay_ns.store(
            sched.run_delay_ns.saturating_sub(began.run_delay_ns),
            Relaxed,
        );
        slot.schedstat_run_count
            .store(sched.count.saturating_sub(began.count), Relaxed);
        slot.schedstat_cpu_time_ns
            .store(sched.cpu_ns.saturating_sub(began.cpu_ns), Relaxed);
        (cpu_ns, sched)
    }

    fn next_slice(&mut self, now: u64, phase: u16) {
        let Some(slot) = self.tele.slices.get(self.slice) else {
            return;
        };
        if self.slice + 1 >= MAX_SLICES {
            return;
        }
        let (cpu_ns, sched) = self.close_slice(slot, sys::thread_cpu_ns);
        self.slice += 1;
        self.phase = phase;
        self.counters = SliceCounters {
            began_ns: now,
            began_cpu_ns: cpu_ns,
            sched,
            ..SliceCounters::default()
        };
        self.publish(now);
        self.tele.slices_used.store(self.slice as u32 + 1, Relaxed);
    }

    /// Publishes the final counters.
    pub fn finish(&mut self) {
        self.checkpoint();
        if let Some(slot) = self.tele.slices.get(self.slice) {
            let (_, sched) = self.close_slice(slot, || self.mark());
            let first = &self.since_release;
            // A task that runs was put on a CPU at least once, so 0 means that the kernel has no schedstats. The worker cannot
            // read its own waits before its first turn, so without the parent's value they are unknown.
            if sched.count > 0 && self.tele.delay_known.load(Relaxed) == 1 {
                let later_ns = sched.run_delay_ns.saturating_sub(first.sched.run_delay_ns);
                let first_ns = first.waited_ns(self.tele.delay_before_ns.load(Relaxed));
                self.tele
                    .waited_ns
                    .store(first_ns.saturating_add(later_ns), Relaxed);
                self.tele.waited_known.store(1, Relaxed);
            }
        }
        self.tele
            .finished
            .store(1, std::sync::atomic::Ordering::Release);
    }
}

/// Stores the reason why a worker gives up, unless one is already stored.
pub(super) fn give_up(tele: &Telemetry, why: Unable, errno: i32) {
    if tele.unable.load(Relaxed) == 0 {
        tele.unable_errno.store(errno, Relaxed);
        tele.unable.store(why.code(), Relaxed);
    }
}

/// Returns the CPU that `cpu` reads, and the phase in which it was read. The scheduler may preempt a worker between
/// two reads for any length of time, even across the start of a step that changes the worker's cpuset. A CPU therefore
/// counts only if the phase was the same before and after it was read.
fn place(phase: &AtomicU16, mut cpu: impl FnMut() -> u32) -> (u32, u16) {
    let mut before = phase.load(Acquire);
    loop {
        let seen = cpu();
        let after = phase.load(Acquire);
        if after == before {
            return (seen, after);
        }
        before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::Shared;
    use super::*;

    /// The worker of the first row has never had a CPU before the release, and its wait began before the release.
    #[test]
    fn a_wait_for_the_first_turn_counts_from_the_release_on() {
        // The sum of the waits before the release and in the first turn, the time since the release, and the expected wait.
        for (before, in_first_turn, since_release, expected) in [
            (0, 4_500, 4_000, 4_000),
            (30, 50, 4_000, 20),
            (30, 30, 4_000, 0),
        ] {
            let first = SinceRelease {
                sched: SchedStat {
                    run_delay_ns: in_first_turn,
                    ..SchedStat::default()
                },
                ns: since_release,
            };
            assert_eq!(first.waited_ns(before), expected);
        }
    }

    fn cpus_of(slice: &Slice) -> Vec<usize> {
        let first = slice.cpus[0].load(Relaxed);
        (0..64).filter(|cpu| first >> cpu & 1 == 1).collect()
    }

    /// The worker reads its CPU, is preempted, and runs again two steps later on the CPU that its new cpuset allows.
    #[test]
    fn a_cpu_read_before_a_change_of_phase_is_read_again() {
        let phase = AtomicU16::new(1);
        let mut reads = 0;
        let found = place(&phase, || {
            reads += 1;
            match reads {
                1 => {
                    phase.store(3, Relaxed);
                    2
                }
                _ => 0,
            }
        });
        assert_eq!(found, (0, 3));
        assert_eq!(reads, 2);
    }

    #[test]
    fn a_sample_after_a_phase_change_counts_in_the_new_phase() {
        let (tele, control, page) = (
            Shared::<Telemetry>::new().expect("memory"),
            Shared::<Control>::new().expect("memory"),
            Shared::<PhasePage>::new().expect("memory"),
        );
        control.released_at_ns.store(sys::now_ns(), Relaxed);
        let mut ctx = WorkerCtx::begin(&tele, &control, &page, &WorkType::SpinWait, Rng::new(0, 0));
        ctx.count_units(10);
        page.phase.store(2, Relaxed);
        // The worker measures a wakeup before its next checkpoint.
        ctx.sample(5);
        assert_eq!(tele.slices_used.load(Relaxed), 2);
        let sample = tele.samples[0].load(Relaxed);
        assert_eq!(sample, 2 << SAMPLE_NS_BITS | 5);
        ctx.finish();
        let [old, new] = [&tele.slices[0], &tele.slices[1]];
        assert_eq!(old.samples.load(Relaxed), 0);
        assert_eq!(old.work_units.load(Relaxed), 10);
        assert_eq!(new.phase.load(Relaxed), 2);
        assert_eq!(new.samples.load(Relaxed), 1);
        // This thread may have been migrated between two checkpoints.
        assert!(!cpus_of(new).is_empty());
    }
}
