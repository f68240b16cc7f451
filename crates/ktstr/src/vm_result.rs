//! What the host knows about a run after the machine is gone. It is the argument of `post_vm`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use ktstr_assert::monitor::{self, MonitorReport, MonitorSample, WatchdogObservation};
use ktstr_assert::series::SampleSeries;
use ktstr_assert::{
    AssertResult, BetterThanPhase, MetricId, Phase, PhaseBucket, PhaseCgroupStats, ScenarioStats,
    StimulusEvent, Verdict, buckets,
};

pub use ktstr_guest::protocol::DiskCounters as VirtioBlkCountersSnapshot;
pub use ktstr_machine::SwitchDigest;
use ktstr_snapshot::report::ScxExit;

use crate::contention::ContentionWitness;
use crate::moment::MomentCapture;
use crate::snapshot_bridge::SnapshotBridge;

/// How far the guest got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestLifecyclePhase {
    /// The kernel is booting.
    #[default]
    Boot,
    /// PID 1 is running, and the scheduler under test is starting.
    Attach,
    /// The test process has been started.
    Dispatch,
    /// The workload window has opened.
    Body,
    /// The scenario is over.
    Teardown,
}

/// Why the host ended a machine that did not end on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchdogKillReason {
    /// The guest hangs. Without progress, it consumed more CPU time than is allowed (under the virtual clock also more guest
    /// time), or the limit of wall time expired although the host did not delay the guest.
    Tier1CpuBudget,
    /// The guest consumed less than 2 % of a CPU and sent nothing: it is wedged.
    Tier2IdleWedge,
    /// The limit of wall time without progress expired before the other two limits, because the host gave the guest too
    /// little CPU time: the host is at fault.
    Tier3Deadman,
}

/// The CPU time that the host gave the vCPU threads, and how long they waited for it, between two samples of the monitor, or
/// while the test function ran if the monitor has no two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostVcpuSchedstat {
    /// CPU time of all vCPUs together, in nanoseconds.
    pub total_on_cpu_ns: u64,
    /// The time for which the vCPUs were runnable but not running, of all vCPUs together, in nanoseconds.
    pub total_run_delay_ns: u64,
    /// The same time of the vCPU that waited longest, in nanoseconds.
    pub longest_run_delay_ns: u64,
    /// The time that a hypervisor below the host took from one CPU of the host between the samples, in nanoseconds: from the CPU
    /// which lost most. 0 if it is unknown.
    pub host_steal_ns: u64,
    /// The number of vCPUs for which both samples have both times.
    pub sampled_vcpus: u32,
}

impl HostVcpuSchedstat {
    /// Returns how many times longer the vCPUs took than on an otherwise idle host: 1 means no slowdown.
    pub fn dilation(&self) -> f64 {
        let on_cpu = self.total_on_cpu_ns.max(1) as f64;
        1.0 + self.total_run_delay_ns as f64 / on_cpu
    }

    /// Returns the time for which other work kept one vCPU from running, in nanoseconds: its wait for a CPU of the host, or
    /// what a hypervisor below the host took. The larger one counts, because a time can be in both.
    pub fn longest_delay_ns(&self) -> u64 {
        self.longest_run_delay_ns.max(self.host_steal_ns)
    }

    /// Adds the times of one more vCPU.
    fn add(&mut self, ran_ns: u64, waited_ns: u64) {
        self.total_on_cpu_ns += ran_ns;
        self.total_run_delay_ns += waited_ns;
        self.longest_run_delay_ns = self.longest_run_delay_ns.max(waited_ns);
        self.sampled_vcpus += 1;
    }

    /// Computes the value from the first and the last sample of the report. Returns `None` where [`over`](Self::over)
    /// does, which includes every run under the virtual clock, whose samples have no times of vCPUs.
    pub(crate) fn of(report: &MonitorReport) -> Option<Self> {
        Self::over(&report.samples)
    }

    /// Computes the value between two readings of the times of the vCPUs. Returns `None` if there is no vCPU that both have.
    pub(crate) fn between(
        before: &[Option<ktstr_machine::VcpuTime>],
        now: &[Option<ktstr_machine::VcpuTime>],
    ) -> Option<Self> {
        let mut sum = Self::default();
        for pair in before.iter().zip(now) {
            if let (Some(before), Some(now)) = pair {
                sum.add(
                    now.ran_ns.saturating_sub(before.ran_ns),
                    now.waited_ns.saturating_sub(before.waited_ns),
                );
            }
        }
        (sum.sampled_vcpus > 0).then_some(sum)
    }

    /// Computes the value between the first and the last of these samples. Returns `None` for fewer than two samples, and if
    /// there is no vCPU for which both samples have both times.
    pub(crate) fn over(samples: &[MonitorSample]) -> Option<Self> {
        let (first, last) = match samples {
            [first, .., last] => (first, last),
            _ => return None,
        };
        let steal = first.host_steal_ns.iter().zip(&last.host_steal_ns);
        let stolen = steal.map(|(first, last)| last.saturating_sub(*first));
        let mut sum = Self {
            host_steal_ns: stolen.max().unwrap_or(0),
            ..Self::default()
        };
        for (before, now) in first.cpus.iter().zip(&last.cpus) {
            let grown = |before: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(before?));
            if let (Some(ran), Some(waited)) = (
                grown(before.vcpu_cpu_time_ns, now.vcpu_cpu_time_ns),
                grown(before.vcpu_run_delay_ns, now.vcpu_run_delay_ns),
            ) {
                sum.add(ran, waited);
            }
        }
        (sum.sampled_vcpus > 0).then_some(sum)
    }
}

/// What the verifier needed for one BPF program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgVerifierStats {
    /// The program's name, which the kernel cuts to 15 bytes.
    pub name: String,
    /// The number of instructions that the verifier processed on all paths; 0 before Linux 5.16.
    pub verified_insns: u64,
}

/// Everything that is known about a run after its end. Only the harness creates it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VmResult {
    /// Whether the guest finished, and its result and the checks of the host passed. It is computed before the callbacks run and
    /// before `expect_err` is applied.
    pub success: bool,
    /// The exit code of the test process; -1 if it did not exit by itself.
    pub exit_code: i32,
    /// Whether the host ended the machine because the guest made no progress.
    pub timed_out: bool,
    /// Why the host ended the machine; `None` unless `timed_out`.
    pub watchdog_kill_reason: Option<WatchdogKillReason>,
    /// How far the guest got.
    pub final_guest_phase: GuestLifecyclePhase,
    /// The number of messages that the guest sent.
    pub final_progress_epoch: u64,
    /// The wall time for which the machine existed.
    pub duration: Duration,
    /// The number of the guest's CPUs.
    pub vcpus: u32,
    /// The number of CPUs of the host that the vCPUs could use: those of this process, or the limit that `KTSTR_CPU_CAP` or the
    /// test's `cpu_budget` sets; 0 if it is unknown.
    pub cpu_budget: u32,
    /// The settings of the run that change its numbers.
    pub(crate) settings: ktstr_record::settings::Settings,
    /// The accelerator that executed the guest: `tcg` or `kvm`.
    pub accelerator: &'static str,
    /// The clock of the guest: `real` or `virtual`.
    pub clock: &'static str,
    /// Millions of instructions, of all CPUs together, in one second of the virtual clock; `None` under the real clock.
    pub mips: Option<u32>,
    /// Under the virtual clock, the BLAKE3 hash of the console and of the memory that the guest changed, at its end: the
    /// same seed gives the same digest. `None` if the guest did not finish, and under the real clock.
    pub digest: Option<String>,
    /// Under the virtual clock, the number of context switches and a digest of them in order. Runs with the same seed have
    /// the same number and digest. `None` under the real clock, and if the plugin missed something.
    pub switches: Option<SwitchDigest>,
    /// Under the virtual clock, the BLAKE3 hash of the contents of all captures, without any time of the host's clock.
    pub captures_digest: Option<String>,
    /// The wall time that computing `digest` and `captures_digest` took.
    pub digest_time: Duration,
    /// The state from which the machine was started: `cold`, `booted` or `attached`.
    pub start: &'static str,
    /// The seed of the run.
    pub seed: u64,
    /// Standard output of the test process.
    pub output: String,
    /// The guest's console, followed by standard error of the test process and the scheduler's log.
    pub stderr: String,
    /// Guest time from the end of the scenario to the guest's own end; `None` if the guest did not end on its own.
    pub cleanup_duration: Option<Duration>,
    /// The message of a panic in the guest's kernel or in the test function.
    pub crash_message: Option<String>,
    /// The host's samples of the runqueues; `None` with `KTSTR_MONITOR=0`.
    pub monitor: Option<MonitorReport>,
    /// The CPU time that the host gave the vCPUs between the monitor's first and last sample or, without two samples, while the
    /// test function ran. `None` under the virtual clock, where it does not matter, and if neither was measured.
    pub host_vcpu_schedstat: Option<HostVcpuSchedstat>,
    /// The CPU time that the host gave the vCPUs in the workload window and in each of its phases, from the monitor's samples;
    /// `None` under the virtual clock, and if the monitor has fewer than two samples.
    pub contention_witness: Option<ContentionWitness>,
    /// The BPF programs that the kernel held when the workload window opened or, if the test attached a scheduler later,
    /// after the last attach; those of the scheduler are among them. Empty if no scheduler was attached.
    pub verifier_stats: Vec<ProgVerifierStats>,
    /// What the test's disk did; `None` without one.
    pub virtio_blk_counters: Option<VirtioBlkCountersSnapshot>,
    /// What sched_ext recorded when it ejected a scheduler; `None` if it ejected none. An exit without an error is
    /// not recorded here.
    pub scx_exit: Option<ScxExit>,
    /// The number of captures that were asked for (`num_snapshots`).
    pub periodic_target: u32,
    /// The number of capture times at which an entry was stored, placeholders included.
    pub periodic_fired: u32,
    /// The number of periodic captures that hold data.
    pub periodic_real: u32,
    /// The host time from the start of the machine until the workload window opened and captures became possible. `None` if no
    /// captures were asked for, or the window never opened.
    pub periodic_prereqs_ready: Option<Duration>,
    /// The host time from the start of the machine until the workload window closed. `None` if no captures were asked for, or
    /// the window never closed.
    pub periodic_window_end: Option<Duration>,
    /// The wall time for which the guest was frozen, for each capture.
    pub capture_freezes: Vec<Duration>,
    /// The store of captures. Draining empties it.
    pub snapshot_bridge: SnapshotBridge,
    /// Whether the values of the test's `bpf_map_write` are in the scheduler's variables; `None` if the guest never asked
    /// for the writes.
    pub bpf_map_writes_delivered: Option<bool>,
    /// How the scheduler's binary was found.
    pub resolve_source: Option<String>,
    /// The KASLR offset of the kernel; 0 as long as kernels boot with `nokaslr`.
    pub kern_kaslr_offset: u64,
    /// The name of the test's entry; always present in the result of a run.
    pub entry_name: Option<&'static str>,
    /// The number of the test's variant: a hash of the shape of its topology, the names of its scheduler and payload, its
    /// sysctls and its kernel arguments. It is part of the names of the test's files in
    /// [`sidecar_dir`](crate::test_support::sidecar_dir). The guest has the same number as `Ctx::variant_hash`.
    pub variant_hash: u64,
    pub(crate) watchdog: Option<WatchdogObservation>,
    pub(crate) trace: Option<ktstr_record::Switches>,
    /// The contents of the schedule's file.
    pub(crate) schedule: Option<Vec<u8>>,
    /// Metrics from the schedule: those of the run, and those of phases and their cgroups.
    pub(crate) schedule_metrics: Option<ScenarioStats>,
    /// Metrics that were sampled from variables of the scheduler.
    pub(crate) watched_maps: std::collections::BTreeMap<String, f64>,
    /// Captures of moments that matter, in the order in which they were taken.
    pub(crate) moments: Vec<MomentCapture>,
    /// What the host knows of the other captures, by their tags.
    pub(crate) captures_taken: std::collections::BTreeMap<String, crate::run::Taken>,
    /// Identifies what the machine's template was built from; `None` for a cold boot and under the real clock.
    pub(crate) template: Option<String>,
    pub(crate) kernel_log: String,
    pub(crate) test_stderr: String,
    pub(crate) scheduler_log: String,
    pub(crate) stimulus: Vec<StimulusEvent>,
    pub(crate) guest_result: Result<AssertResult, String>,
    pub(crate) drained: Arc<OnceLock<SampleSeries>>,
}

impl VmResult {
    /// Describes the clock for people. The text of the virtual clock has its rate and the seed, as in
    /// `virtual clock, 250 MIPS, seed 7`.
    pub fn clock_text(&self) -> String {
        match self.mips {
            Some(mips) => format!("{} clock, {mips} MIPS, seed {}", self.clock, self.seed),
            None => format!("{} clock", self.clock),
        }
    }

    /// Returns all captures except those of moments. The first call drains the bridge, so a later direct drain finds nothing.
    pub fn captures_series(&self) -> &SampleSeries {
        self.drained.get_or_init(|| {
            SampleSeries::from_drained_typed(
                self.snapshot_bridge.drain_ordered_with_stats(),
                self.monitor.clone(),
            )
        })
    }

    /// Returns the captures of moments: sched_ext ended or bypassed the scheduler, the guest hung, its kernel panicked, or a
    /// requested time came. The slice is empty if none of these happened.
    pub fn moment_captures(&self) -> &[MomentCapture] {
        &self.moments
    }

    /// Returns the periodic captures.
    pub fn periodic_series(&self) -> SampleSeries {
        self.captures_series().clone().periodic_only()
    }

    /// Returns one bucket per phase, in order. A bucket combines what the captures, the guest's reports per cgroup, the monitor
    /// and the exact schedule show of the phase.
    pub fn phase_buckets(&self) -> Vec<PhaseBucket> {
        let mut all =
            buckets::build_phase_buckets_with_stimulus(self.captures_series(), &self.stimulus);
        if let Ok(result) = &self.guest_result {
            buckets::fold_carriers(&mut all, result.stats.phases.clone());
        }
        if let Some(report) = &self.monitor {
            monitor::fold_into(&mut all, &report.samples);
        }
        if let Some(seen) = &self.schedule_metrics {
            buckets::fold_schedule(&mut all, &seen.phases);
        }
        all
    }

    fn bucket(&self, phase: Phase) -> Option<PhaseBucket> {
        self.phase_buckets()
            .into_iter()
            .find(|bucket| bucket.step_index == phase.as_u16())
    }

    /// Returns the telemetry of one cgroup in one phase; `None` if the phase or the cgroup does not exist.
    pub fn phase_cgroup(&self, phase: Phase, name: &str) -> Option<PhaseCgroupStats> {
        self.bucket(phase)?.per_cgroup.remove(name)
    }

    /// Returns a metric of a phase: the bucket's own, otherwise the sum of the cgroups' counters. `None` if the phase or the
    /// metric does not exist.
    pub fn phase_metric(&self, phase: Phase, metric: impl Into<MetricId>) -> Option<f64> {
        let bucket = self.bucket(phase)?;
        let metric = metric.into();
        let name = metric.wire_name();
        bucket
            .get(name)
            .or_else(|| bucket.cgroup_counter_total(name))
    }

    /// Returns a metric of one cgroup in one phase; `None` if the phase, the cgroup or the metric does not exist.
    pub fn phase_cgroup_metric(
        &self,
        phase: Phase,
        cgroup: &str,
        metric: impl Into<MetricId>,
    ) -> Option<f64> {
        let stats = self.phase_cgroup(phase, cgroup)?;
        let metric = metric.into();
        let name = metric.wire_name();
        stats.get(name).or_else(|| stats.cgroup_counter(name))
    }

    /// Returns a metric of the whole run, from the first source that has it: the guest's result, the exact schedule, the watched
    /// variables of the scheduler, the monitor, or the captures, whose values per phase are combined
    /// ([`of_phases`](ktstr_assert::metric::of_phases)). `None` if no source has it.
    pub fn run_metric(&self, metric: impl Into<MetricId>) -> Option<f64> {
        let metric = metric.into();
        let stats = self.guest_result.as_ref().ok().map(|result| &result.stats);
        let sent = stats.and_then(|stats| stats.run_metric(metric.clone()));
        let seen = self.schedule_metrics.as_ref();
        let seen = seen.and_then(|stats| stats.ext_metrics.get(metric.wire_name()));
        let watched = self.watched_maps.get(metric.wire_name());
        let sampled = || {
            let samples = &self.monitor.as_ref()?.samples;
            monitor::metrics(samples).remove(metric.wire_name())
        };
        let captured = || match &metric {
            MetricId::Builtin(metric) => {
                ktstr_assert::metric::of_phases(&self.phase_buckets(), *metric)
            }
            MetricId::Dynamic(_) => None,
        };
        let known = sent.or(seen.copied()).or(watched.copied());
        known.or_else(sampled).or_else(captured)
    }

    /// Claims that a metric is better in the phase `candidate` than in the phase `baseline`.
    pub fn better_across_phases<'v>(
        &self,
        verdict: &'v mut Verdict,
        baseline: Phase,
        candidate: Phase,
        metric: impl Into<MetricId>,
    ) -> BetterThanPhase<'v> {
        let metric = metric.into();
        let at = |phase| (phase, self.phase_metric(phase, metric.clone()));
        BetterThanPhase::new(verdict, metric.clone(), None, at(baseline), at(candidate))
    }

    /// Claims that a metric of one cgroup is better in the phase `candidate` than in the phase `baseline`.
    pub fn better_across_phases_cgroup<'v>(
        &self,
        verdict: &'v mut Verdict,
        baseline: Phase,
        candidate: Phase,
        cgroup: &str,
        metric: impl Into<MetricId>,
    ) -> BetterThanPhase<'v> {
        let metric = metric.into();
        let at = |phase| {
            (
                phase,
                self.phase_cgroup_metric(phase, cgroup, metric.clone()),
            )
        };
        let (was, is) = (at(baseline), at(candidate));
        BetterThanPhase::new(verdict, metric, Some(cgroup), was, is)
    }

    /// Returns the iterations per CPU-second of a phase, which is the metric `iteration_rate`; `None` if it was not measured.
    pub fn step_throughput(&self, phase: Phase) -> Option<f64> {
        self.phase_metric(phase, "iteration_rate")
    }

    /// Returns the throughput of `b` divided by that of `a`; `None` if either is missing or `a` is 0.
    pub fn throughput_ratio(&self, a: Phase, b: Phase) -> Option<f64> {
        let (a, b) = (self.step_throughput(a)?, self.step_throughput(b)?);
        (a != 0.0).then(|| b / a)
    }

    /// Returns what the scenario did, and when.
    pub fn stimulus_timeline(&self) -> Vec<StimulusEvent> {
        self.stimulus.clone()
    }

    /// Returns the result that the guest sent.
    ///
    /// # Errors
    /// Returns an error with the reason if the guest sent no result.
    pub fn guest_assert_result(&self) -> anyhow::Result<AssertResult> {
        self.guest_result
            .clone()
            .map_err(anyhow::Error::msg)
            .context("the guest sent no result")
    }

    /// Returns the guest's console.
    pub fn guest_kmsg(&self) -> &str {
        &self.kernel_log
    }

    /// Returns the output of the scheduler under test.
    pub fn scheduler_log(&self) -> &str {
        &self.scheduler_log
    }

    /// Returns the stall timeout of sched_ext that was in effect in the workload window, and the one that the test
    /// requests. `None` if no scheduler was attached in the window, if the timeout could not be read, or if the kernel's
    /// configuration is unknown.
    pub fn watchdog_observation(&self) -> Option<WatchdogObservation> {
        self.watchdog
    }

    /// Returns the path of the file with the capture of the guest: a `FailureDumpReport` as JSON, which
    /// `FailureDumpReportAny` reads too. A failed or an inconclusive run leaves the file, also if `expect_err` turns the
    /// failure into a pass. The file is written before the callbacks are called if the run has failed or is inconclusive by then.
    /// It is written after them if something else fails the run: an expected error that is missing, `survives_storm`, a callback,
    /// or a later check. After a run that passed without `expect_err` there is no such file.
    ///
    /// # Errors
    /// Returns an error if the result does not name its test.
    pub fn failure_dump_path(&self) -> anyhow::Result<std::path::PathBuf> {
        let name = self.entry_name.context(
            "only the result of a run names its test, and the file has the name of the test",
        )?;
        Ok(crate::sidecar::dump_path(name, self.variant_hash))
    }

    /// Returns whether kernel addresses were randomized.
    pub fn kaslr_enabled(&self) -> bool {
        self.kern_kaslr_offset != 0
    }
}

#[cfg(test)]
impl VmResult {
    /// Creates the result of a run with nothing but a machine, for tests to fill in.
    pub(crate) fn blank() -> Self {
        Self {
            success: false,
            exit_code: 0,
            timed_out: false,
            watchdog_kill_reason: None,
            final_guest_phase: GuestLifecyclePhase::Boot,
            final_progress_epoch: 0,
            duration: Duration::ZERO,
            vcpus: 2,
            cpu_budget: 2,
            settings: Default::default(),
            bpf_map_writes_delivered: None,
            accelerator: "tcg",
            clock: "virtual",
            mips: Some(250),
            digest: None,
            switches: None,
            captures_digest: None,
            digest_time: Duration::ZERO,
            trace: None,
            schedule: None,
            template: None,
            start: "attached",
            seed: 7,
            stderr: String::new(),
            output: String::new(),
            crash_message: None,
            scx_exit: None,
            host_vcpu_schedstat: None,
            contention_witness: None,
            verifier_stats: Vec::new(),
            virtio_blk_counters: None,
            watchdog: None,
            monitor: None,
            periodic_prereqs_ready: None,
            periodic_window_end: None,
            periodic_target: 0,
            periodic_fired: 0,
            periodic_real: 0,
            capture_freezes: Vec::new(),
            snapshot_bridge: SnapshotBridge::default(),
            resolve_source: None,
            cleanup_duration: None,
            test_stderr: String::new(),
            kern_kaslr_offset: 0,
            entry_name: None,
            variant_hash: 0,
            kernel_log: String::new(),
            scheduler_log: String::new(),
            stimulus: Vec::new(),
            guest_result: Err(String::new()),
            schedule_metrics: None,
            moments: Vec::new(),
            captures_taken: Default::default(),
            watched_maps: Default::default(),
            drained: Arc::default(),
        }
    }
}
