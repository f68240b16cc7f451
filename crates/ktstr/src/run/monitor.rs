//! The monitor: samples the runqueues throughout the workload window, from outside the guest, and reads what sched_ext
//! records about a scheduler that ends before the test does.
//!
//! Under the virtual clock a sample is taken while the guest is held, so it costs no guest time and the run is the same
//! without it. Under the real clock the guest keeps running during a sample; see
//! [`Sampler`](ktstr_introspect::sampler::Sampler) for the consequences.

use std::time::{Duration, Instant};

use ktstr_assert::monitor::{
    CpuSchedstat, CpuSnapshot, MonitorReport, MonitorSample, MonitorSummary,
};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::sampler::{Ended, ExitReader, SampleError, Sampler};
use ktstr_machine::{Machine, VcpuTime, host_steal};
use ktstr_snapshot::report::{RqSample, ScxExit};
use ktstr_state::env;

use super::captures::{KernelInfo, LazyKernelInfo, RamView};
use super::guest_state::GuestState;

/// The average guest time between two samples.
const INTERVAL: Duration = Duration::from_millis(100);
/// A vCPU that the host kept waiting for longer than this between two samples counts as preempted.
pub(super) const PREEMPTED: Duration = Duration::from_millis(10);
/// The largest number of samples of a run: more than half an hour's worth.
const MAX_SAMPLES: usize = 20_000;

/// Takes the samples of a run.
pub(super) struct Monitor {
    on: bool,
    /// Whether the scheduler under test is built into the kernel. The state of sched_ext then does not show whether the
    /// scheduler is active.
    builtin: bool,
    sampler: Option<Sampler>,
    exit_reader: Option<ExitReader>,
    seed: u64,
    next: Duration,
    samples: Vec<MonitorSample>,
    torn: u64,
    unavailable: Option<String>,
    ended: Option<Ended>,
    /// The exit with which sched_ext last asked a scheduler for a restart, after which the scheduler attached again.
    restart: Option<ScxExit>,
    /// The number of such restarts.
    restarts: u32,
    /// The value of [`GuestState::attaches`] at the last poll.
    attaches: u32,
    /// When the latest window that the monitor has seen opened. A test function may open several, one after the other.
    window: Option<Duration>,
    /// The wall time for all samples, and for the checks whether the scheduler has ended.
    spent: Duration,
}

impl Monitor {
    /// Creates the monitor of a run with this seed. `KTSTR_MONITOR=0` turns the samples off.
    pub(super) fn new(builtin: bool, seed: u64) -> Self {
        Self {
            builtin,
            on: !env::MONITOR.is_off(),
            sampler: None,
            exit_reader: None,
            restart: None,
            restarts: 0,
            attaches: 0,
            window: None,
            seed,
            next: next_after(Duration::ZERO, seed),
            samples: Vec::new(),
            torn: 0,
            unavailable: None,
            ended: None,
            spent: Duration::ZERO,
        }
    }

    /// Returns the wall time for all samples so far, and for the checks whether the scheduler has ended.
    pub(super) fn spent(&self) -> Duration {
        self.spent
    }

    /// Takes a sample if one is due, and checks whether the scheduler has ended. Returns the time of the next sample; `None`
    /// if no more samples are taken, and while the window is not open or is paused.
    pub(super) fn poll(
        &mut self,
        machine: &mut Machine,
        kernel_info: &mut LazyKernelInfo,
        guest: &GuestState,
        now: Duration,
    ) -> Option<Duration> {
        let began = Instant::now();
        if self.window != guest.window.opened && guest.window.opened.is_some() {
            self.window = guest.window.opened;
            self.next = next_after(Duration::ZERO, self.seed);
        }
        let elapsed = guest.window.elapsed(now).filter(|at| *at >= self.next);
        let sampling = self.on && elapsed.is_some() && self.unavailable.is_none();
        if self.attaches != guest.attaches {
            // The test has started another scheduler, to which the exit record of the previous one does not apply.
            self.attaches = guest.attaches;
            (self.ended, self.exit_reader, self.restart) = (None, None, None);
        }
        let is_over = matches!(&self.ended, Some(Ended::Done(exit)) if !exit.wants_restart());
        let watching = guest.attached.is_some() && !guest.stopped_by_test && !is_over;
        if (sampling || watching)
            && let Ok(info) = kernel_info.get()
        {
            if watching {
                self.look_for_the_end(machine, info, guest);
            }
            if let (true, Some(elapsed)) = (sampling, elapsed) {
                self.sample(machine, info, elapsed, guest.step_index);
            }
        }
        if let Some(elapsed) = elapsed {
            self.next = next_after(elapsed, self.seed);
        }
        if sampling || watching {
            self.spent += began.elapsed();
        }
        match self.on && self.unavailable.is_none() {
            true => guest.window.when(self.next),
            false => None,
        }
    }

    fn sample(
        &mut self,
        machine: &mut Machine,
        info: &KernelInfo,
        elapsed: Duration,
        step_index: u16,
    ) {
        if self.samples.len() >= MAX_SAMPLES {
            self.unavailable = Some(format!("only the first {MAX_SAMPLES} samples are kept"));
            return;
        }
        let running = machine.virtual_clock().is_none();
        let vcpus = machine.vcpu_times();
        let host_steal_ns = match running {
            true => host_steal(),
            false => Vec::new(),
        };
        let memory = RamView(machine.ram());
        if self.sampler.is_none() {
            let made = KernelView::new(&memory, &info.symbols, &info.btf)
                .and_then(|view| Sampler::new(&view));
            match made {
                Ok(sampler) => self.sampler = Some(sampler),
                Err(error) => {
                    self.unavailable = Some(error.to_string());
                    return;
                }
            }
        }
        let Some(sampler) = &mut self.sampler else {
            return;
        };
        match sampler.sample(&memory, running) {
            Ok(sample) => {
                let cpus = sample.cpus.into_iter().enumerate();
                self.samples.push(MonitorSample {
                    elapsed_ms: elapsed.as_millis() as u64,
                    step_index: Some(step_index),
                    scx_attached: sample.scx_attached.filter(|_| !self.builtin),
                    host_steal_ns,
                    cpus: cpus
                        .map(|(cpu, rq)| snapshot(rq, vcpus.get(cpu).copied().flatten()))
                        .collect(),
                });
            }
            Err(SampleError::Torn { .. }) => self.torn += 1,
            Err(error) => self.unavailable = Some(error.to_string()),
        }
    }

    /// Reads what sched_ext has recorded about the end of the scheduler.
    fn look_for_the_end(&mut self, machine: &Machine, info: &KernelInfo, guest: &GuestState) {
        let memory = RamView(machine.ram());
        if let Some(Ended::Done(restart)) = &self.ended {
            let restart = restart.clone();
            // The scheduler was asked for a restart. Once it has attached again, its next end counts.
            let made = KernelView::new(&memory, &info.symbols, &info.btf)
                .and_then(|view| ExitReader::new(&view))
                .and_then(|mut reader| Ok(reader.follow(&memory)?.then_some(reader)));
            if let Ok(Some(reader)) = made {
                self.exit_reader = Some(reader);
                (self.ended, self.restart) = (None, Some(restart));
                self.restarts = self.restarts.saturating_add(1);
            }
            return;
        }
        if self.exit_reader.is_none() {
            let made = KernelView::new(&memory, &info.symbols, &info.btf)
                .and_then(|view| ExitReader::new(&view));
            let Ok(reader) = made else {
                // On an older kernel only the console shows the ejection.
                self.ended = Some(Ended::No);
                return;
            };
            self.exit_reader = Some(reader);
        }
        let Some(reader) = &mut self.exit_reader else {
            return;
        };
        match reader.look(&memory, &info.btf, &info.symbols) {
            Ok(Ended::No) | Err(_) => {}
            // After the test, PID 1 stops the scheduler. That exit is not an early end.
            Ok(Ended::Ending(exit) | Ended::Done(exit))
                if !exit.is_error() && guest.test_end.is_some() => {}
            Ok(ended) => self.ended = Some(ended),
        }
    }

    /// Returns whether the scheduler that attached last has exited, or is exiting: before the end of the test, or with an
    /// error.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.ended, Some(Ended::Ending(_) | Ended::Done(_)))
    }

    /// Returns how many times a scheduler has attached again because sched_ext asked it to.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Returns the report, and what sched_ext recorded about the end of the scheduler. The report is `None` if the monitor
    /// was off. The record is `None` unless the scheduler ended before the test did, or with an error. A scheduler that has
    /// attached again, and has not ended since, has the record of the restart.
    pub(super) fn done(self) -> (Option<MonitorReport>, Option<ScxExit>) {
        let exit = match self.ended {
            Some(Ended::Ending(exit) | Ended::Done(exit)) => Some(exit),
            _ => self.restart,
        };
        let sampler = self.sampler.as_ref();
        let report = MonitorReport {
            summary: MonitorSummary::of(&self.samples),
            samples: self.samples,
            watchdog_observation: None,
            preemption_threshold_ns: PREEMPTED.as_nanos() as u64,
            scx_event_counters_supported: sampler.is_some_and(Sampler::has_event_counters),
            interval_ms: INTERVAL.as_millis() as u64,
            torn_samples: self.torn,
            unavailable: self.unavailable,
        };
        (self.on.then_some(report), exit)
    }
}

/// Returns when the sample after one at `elapsed` is due: at the next multiple of the interval, plus a jitter of less than a
/// quarter of the interval, which the seed draws. Because of the multiples, a late sample does not delay the following ones.
/// Without the jitter, work that repeats in step with the samples would be seen at the same point of its cycle each time.
/// The guest reports the time, so `elapsed` may be any value.
pub(super) fn next_after(elapsed: Duration, seed: u64) -> Duration {
    let since = elapsed.as_nanos() % INTERVAL.as_nanos();
    // The value is less than the interval of about 10^8 ns, so the cast does not truncate it.
    let since = Duration::from_nanos(since as u64);
    let multiple = elapsed.saturating_add(INTERVAL.saturating_sub(since));
    multiple.saturating_add(jitter(seed, multiple))
}

/// Returns a time of less than a quarter of the interval, drawn from the seed and the multiple of the interval.
fn jitter(seed: u64, multiple: Duration) -> Duration {
    let mut drawn = blake3::Hasher::new();
    drawn.update(&seed.to_le_bytes());
    drawn.update(&multiple.as_nanos().to_le_bytes());
    let [low, high, ..] = *drawn.finalize().as_bytes();
    INTERVAL / 4 * u32::from(u16::from_le_bytes([low, high])) / (u32::from(u16::MAX) + 1)
}

/// Combines what the guest's memory shows about a CPU with what the host knows about its vCPU.
fn snapshot(rq: RqSample, vcpu: Option<VcpuTime>) -> CpuSnapshot {
    CpuSnapshot {
        nr_running: rq.nr_running,
        scx_nr_running: rq.scx_nr_running,
        local_dsq_depth: rq.local_dsq_depth,
        rq_clock: rq.rq_clock,
        scx_flags: rq.scx_flags,
        avg_irq_util: rq.avg_irq_util,
        event_counters: rq.event_counters,
        schedstat: rq.schedstat.map(|stat| {
            let count = |read: fn(&ktstr_snapshot::report::RqCounts) -> u32| {
                stat.counts.as_ref().map(|counts| u64::from(read(counts)))
            };
            CpuSchedstat {
                run_delay: stat.run_delay,
                pcount: stat.pcount,
                yld_count: count(|c| c.yld_count),
                sched_count: count(|c| c.sched_count),
                sched_goidle: count(|c| c.sched_goidle),
                ttwu_count: count(|c| c.ttwu_count),
                ttwu_local: count(|c| c.ttwu_local),
            }
        }),
        vcpu_cpu_time_ns: vcpu.map(|time| time.ran_ns),
        vcpu_run_delay_ns: vcpu.map(|time| time.waited_ns),
        idle: Some(rq.idle),
        online: rq.online,
        nr_switches: rq.nr_switches,
        waiting: rq.waiting,
        sched_domains: rq.sched_domains,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_due_once_an_interval_and_never_in_step() {
        let due = |seed: u64| -> Vec<Duration> {
            let next = |at: &Duration| Some(next_after(*at, seed));
            std::iter::successors(next(&Duration::ZERO), next)
                .take(40)
                .collect()
        };
        let times = due(7);
        for (number, at) in (1..).zip(&times) {
            let late = at.saturating_sub(INTERVAL * number);
            assert!(late < INTERVAL / 4, "{at:?}");
        }
        let first = times[0].saturating_sub(INTERVAL);
        assert!(
            (1..)
                .zip(&times)
                .any(|(number, at)| at.saturating_sub(INTERVAL * number) != first)
        );
        assert_eq!(due(7), times);
        assert_ne!(due(8), times);
    }
}
