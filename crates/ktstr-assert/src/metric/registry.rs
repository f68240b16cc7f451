//! What is measured: the table of the workers' counters, and the registry of metrics, one metric per line. To add a metric,
//! add a line to `registry!` and the code that measures it. Most of the code of a metric that workers count is generated
//! from its row in [`worker_counters!`](crate::worker_counters).
//!
//! Columns of the registry: variant, wire name, polarity, kind, absolute and relative gate, unit, source. Metrics with the
//! source `Pending` have a definition and gates, but nothing measures them yet.

use super::def::Reduction::{Cv, Mean, Median, P99, P999, Worst};
use super::def::{GaugeFold, MetricDef, MetricKind, Polarity, Source};
use crate::stats::SampleSource::{RunDelayNs, TimerLatencyNs, WakeLatencyNs};

/// The table of the counters that every worker has. It calls the macro `$then` with all of its rows. `$then` generates a
/// struct with a field for each counter, or code that copies, folds or looks up all counters.
///
/// In the row
///
/// ```text
/// /// The number of iterations.
/// counted iterations {
///     /// The number of iterations of all workers together.
///     sum total_iterations TotalIterations
/// };
/// ```
///
/// - `iterations` is the field of `WorkerReport`, of `PhaseSlice`, and of the worker's memory in the guest. The counter
///   over a worker's life is the sum over its slices.
/// - `counted` means that the worker adds to the counter while it works, and that every checkpoint publishes it. `measured`
///   means that `ktstr-guest/src/workers/ctx.rs` reads the value from the kernel and stores it in the worker's memory.
/// - `total_iterations` is the field of `PhaseCgroupStats`, into which the workers of a cgroup are folded by `sum` or by
///   `max`. Its doc comment must have exactly one line. A counter without braces is in the worker's report and slices only.
/// - `TotalIterations` is the variant of the metric in the registry. A total with a metric is also a field of `CgroupStats`,
///   and the metric over the run is folded from these fields by the same `sum` or `max`. A total without a metric has no
///   such variant in its row.
///
/// To add a counter, write its row here, the line of its metric in `registry!` below and in `docs/metrics.md`, and, where
/// the worker is to count, an addition to `counters.NAME` in `ktstr-guest/src/workers/ctx.rs`.
///
/// Tokens after `$then` are passed on to it in front of the rows, so that tables can be chained:
/// `worker_counters!(worker_samples report)` calls `worker_samples!`, which calls `report!` with the rows of both tables.
#[doc(hidden)]
#[macro_export]
macro_rules! worker_counters {
    ($then:ident $($before:tt)*) => {
        $then! {
            $($before)*

            /// The units of work done.
            counted work_units;

            /// The iterations of the outer loop of the work type.
            counted iterations {
                /// The loop iterations of all workers together.
                sum total_iterations TotalIterations
            };

            /// The number of changes of CPU that were observed.
            counted migration_count {
                /// The number of times that a worker changed its CPU.
                sum total_migrations TotalMigrations
            };

            /// The CPU time consumed, in nanoseconds.
            measured cpu_time_ns {
                /// The CPU time of all workers together, in nanoseconds.
                sum total_cpu_time_ns TotalCpuTimeNs
            };

            /// The time for which the worker existed, from start to stop, in nanoseconds of guest time.
            measured wall_time_ns {
                /// The longest time that a worker existed, in nanoseconds.
                max longest_life_ns
            };

            /// From `/proc/thread-self/schedstat`: nanoseconds spent runnable but waiting (kernel/sched/stats.h).
            measured schedstat_run_delay_ns;

            /// From `/proc/thread-self/schedstat`: nanoseconds on a CPU; 0 if the kernel has no schedstats.
            measured schedstat_cpu_time_ns;

            /// From `/proc/thread-self/schedstat`: the number of times that the worker was put on a CPU since it began to
            /// work; 0 if it kept its CPU, or if the kernel has no schedstats.
            measured schedstat_run_count {
                /// The number of times that a worker was put on a CPU (`pcount` of schedstats); 0 without schedstats.
                sum total_run_count
            };
        }
    };
}

/// The table of the kinds of samples that a worker can take. It calls the macro `$then` with `samples { … }`, which contains
/// all of its rows, and the tokens after `$then`.
///
/// In the row
///
/// ```text
/// /// How late timers fired, in nanoseconds.
/// Timer timer_latencies_ns {
///     /// The number of timers from which the latencies were sampled.
///     timer_sample_total
/// };
/// ```
///
/// `Timer` is the variant of `SampleKind`. `timer_latencies_ns` and `timer_sample_total` are fields of `WorkerReport`, of
/// `PhaseSlice` and of `PhaseCgroupStats`, into which the samples of a cgroup's workers are collected. A worker takes samples of
/// one kind, by default of the first kind. The body of its work type chooses another with `WorkerCtx::samples_are`.
///
/// To add a kind, write its row here, compute its metrics in `stats/summary.rs`, and add these metrics to `registry!` below.
#[doc(hidden)]
#[macro_export]
macro_rules! worker_samples {
    ($then:ident $($after:tt)*) => {
        $then! {
            samples {
                /// The wakeup latencies in nanoseconds: of each worker, a uniform sample of at most 100 000.
                Wakeup wake_latencies_ns {
                    /// The number of wakeups from which the latencies were sampled.
                    wake_sample_total
                };

                /// How late timers fired, in nanoseconds: of each worker, a uniform sample of at most 100 000.
                Timer timer_latencies_ns {
                    /// The number of timers from which the latencies were sampled.
                    timer_sample_total
                };
            }
            $($after)*
        }
    };
}

macro_rules! registry {
    ($($variant:ident $name:literal $polarity:ident [$($kind:tt)+]
       $abs:literal, $rel:literal, $unit:literal $source:ident;)*) => {
        /// A metric of the registry; the variant is its wire name in camel case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum BuiltinMetric {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        /// The definitions, in the order of [`BuiltinMetric`].
        pub static REGISTRY: &[MetricDef] = &[
            $(MetricDef {
                name: $name,
                polarity: Polarity::$polarity,
                kind: MetricKind::$($kind)+,
                default_abs: $abs,
                default_rel: $rel,
                display_unit: $unit,
                source: Source::$source,
            },)*
        ];

        impl BuiltinMetric {
            /// Every metric of the registry.
            pub const ALL: &'static [BuiltinMetric] = &[$(BuiltinMetric::$variant,)*];
        }
    };
}

#[rustfmt::skip]
registry! {
    // Spread, gap and migration
    WorstSpread "worst_spread" LowerBetter [Gauge(GaugeFold::Last)] 5.0, 0.25, "pp" Workers;
    WorstGapMs "worst_gap_ms" LowerBetter [Peak] 500.0, 0.5, "ms" Workers;
    TotalMigrations "total_migrations" Informational [Counter] 2.0, 0.3, "" Workers;
    WorstMigrationRatio "worst_migration_ratio" LowerBetter [Gauge(GaugeFold::Last)] 0.05, 0.2, "" Workers;
    // Runqueues and local DSQs
    MaxImbalanceRatio "max_imbalance_ratio" LowerBetter [Peak] 1.0, 0.25, "x" Monitor;
    AvgImbalanceRatio "avg_imbalance_ratio" LowerBetter [Gauge(GaugeFold::Avg)] 0.5, 0.25, "x" Monitor;
    MaxDsqDepth "max_dsq_depth" LowerBetter [Peak] 10.0, 0.5, "" Captures;
    AvgDsqDepth "avg_dsq_depth" LowerBetter [Gauge(GaugeFold::Avg)] 5.0, 0.5, "" Captures;
    StuckCount "stuck_count" LowerBetter [Counter] 1.0, 0.5, "" Monitor;
    AvgNrRunning "avg_nr_running" LowerBetter [Gauge(GaugeFold::Avg)] 0.5, 0.2, "" Captures;
    // sched_ext events
    TotalFallback "total_fallback" Informational [Counter] 5.0, 0.3, "" Monitor;
    TotalKeepLast "total_keep_last" Informational [Counter] 5.0, 0.3, "" Monitor;
    TotalFallbackPooled "total_fallback_pooled" Informational [Counter] 1.0, 0.3, "" Monitor;
    TotalKeepLastPooled "total_keep_last_pooled" Informational [Counter] 1.0, 0.3, "" Monitor;
    TotalEventVcpuSec "total_event_vcpu_sec" Informational [Counter] 0.001, 0.3, "s" Monitor;
    FallbackPerVcpuSec "fallback_per_vcpu_sec" LowerBetter [Rate { numerator: "total_fallback_pooled", denominator: "total_event_vcpu_sec" }] 1.0, 0.3, "1/vcpu-s" Monitor;
    KeepLastPerVcpuSec "keep_last_per_vcpu_sec" LowerBetter [Rate { numerator: "total_keep_last_pooled", denominator: "total_event_vcpu_sec" }] 1.0, 0.3, "1/vcpu-s" Monitor;
    // Runqueue schedstat
    TotalRunDelay "total_run_delay" Informational [Counter] 1000.0, 0.1, "ns" Monitor;
    TotalPcount "total_pcount" Informational [Counter] 1.0, 0.1, "" Monitor;
    TotalSchedCount "total_sched_count" Informational [Counter] 1.0, 0.1, "" Monitor;
    TotalYldCount "total_yld_count" Informational [Counter] 1.0, 0.1, "" Monitor;
    TotalSchedGoidle "total_sched_goidle" Informational [Counter] 1.0, 0.1, "" Monitor;
    TotalTtwuCount "total_ttwu_count" Informational [Counter] 1.0, 0.1, "" Monitor;
    TotalTtwuLocal "total_ttwu_local" Informational [Counter] 1.0, 0.1, "" Monitor;
    TotalSchedstatVcpuSec "total_schedstat_vcpu_sec" Informational [Counter] 0.1, 0.3, "s" Monitor;
    TotalRunDelayNsPerSched "total_run_delay_ns_per_sched" LowerBetter [Rate { numerator: "total_run_delay", denominator: "total_pcount" }] 100.0, 0.15, "ns" Monitor;
    TtwuLocalFraction "ttwu_local_fraction" HigherBetter [Rate { numerator: "total_ttwu_local", denominator: "total_ttwu_count" }] 0.05, 0.1, "" Monitor;
    SchedGoidleFraction "sched_goidle_fraction" Informational [Rate { numerator: "total_sched_goidle", denominator: "total_sched_count" }] 0.05, 0.1, "" Monitor;
    RunDelayPerVcpuSec "run_delay_per_vcpu_sec" LowerBetter [Rate { numerator: "total_run_delay", denominator: "total_schedstat_vcpu_sec" }] 1000.0, 0.3, "ns/vcpu-s" Monitor;
    PcountPerVcpuSec "pcount_per_vcpu_sec" Informational [Rate { numerator: "total_pcount", denominator: "total_schedstat_vcpu_sec" }] 1.0, 0.3, "1/vcpu-s" Monitor;
    SchedCountPerVcpuSec "sched_count_per_vcpu_sec" Informational [Rate { numerator: "total_sched_count", denominator: "total_schedstat_vcpu_sec" }] 1.0, 0.3, "1/vcpu-s" Monitor;
    YldCountPerVcpuSec "yld_count_per_vcpu_sec" Informational [Rate { numerator: "total_yld_count", denominator: "total_schedstat_vcpu_sec" }] 1.0, 0.3, "1/vcpu-s" Monitor;
    TtwuCountPerVcpuSec "ttwu_count_per_vcpu_sec" Informational [Rate { numerator: "total_ttwu_count", denominator: "total_schedstat_vcpu_sec" }] 1.0, 0.3, "1/vcpu-s" Monitor;
    SchedGoidlePerVcpuSec "sched_goidle_per_vcpu_sec" Informational [Rate { numerator: "total_sched_goidle", denominator: "total_schedstat_vcpu_sec" }] 1.0, 0.3, "1/vcpu-s" Monitor;
    // Wake latency over the run
    WorstP99WakeLatencyUs "worst_p99_wake_latency_us" LowerBetter [Distribution { source: WakeLatencyNs, reduction: P99 }] 50.0, 0.25, "µs" Workers;
    WorstMedianWakeLatencyUs "worst_median_wake_latency_us" LowerBetter [Distribution { source: WakeLatencyNs, reduction: Median }] 20.0, 0.25, "µs" Workers;
    WorstWakeLatencyCv "worst_wake_latency_cv" LowerBetter [Distribution { source: WakeLatencyNs, reduction: Cv }] 0.1, 0.25, "" Workers;
    WorstWakeLatencyTailRatio "worst_wake_latency_tail_ratio" LowerBetter [WakeLatencyTailRatio] 0.5, 0.25, "x" Workers;
    // Timer latency over the run
    WorstP99TimerLatencyUs "worst_p99_timer_latency_us" LowerBetter [Distribution { source: TimerLatencyNs, reduction: P99 }] 50.0, 0.25, "µs" Workers;
    WorstMedianTimerLatencyUs "worst_median_timer_latency_us" LowerBetter [Distribution { source: TimerLatencyNs, reduction: Median }] 20.0, 0.25, "µs" Workers;
    WorstP999TimerLatencyUs "worst_p999_timer_latency_us" LowerBetter [Distribution { source: TimerLatencyNs, reduction: P999 }] 100.0, 0.25, "µs" Workers;
    WorstTimerLatencyUs "worst_timer_latency_us" LowerBetter [Distribution { source: TimerLatencyNs, reduction: Worst }] 200.0, 0.25, "µs" Workers;
    // Run delay over the run
    WorstMeanRunDelayUs "worst_mean_run_delay_us" LowerBetter [Distribution { source: RunDelayNs, reduction: Mean }] 50.0, 0.25, "µs" Workers;
    WorstRunDelayUs "worst_run_delay_us" LowerBetter [Distribution { source: RunDelayNs, reduction: Worst }] 100.0, 0.5, "µs" Workers;
    // Throughput
    TotalIterations "total_iterations" Informational [Counter] 2.0, 0.1, "" Workers;
    TotalCpuTimeSec "total_cpu_time_sec" Informational [Counter] 1.0, 0.3, "s" Workers;
    TotalIterationsPooled "total_iterations_pooled" Informational [Counter] 1.0, 0.1, "" Workers;
    IterationRate "iteration_rate" HigherBetter [Rate { numerator: "total_iterations_pooled", denominator: "total_cpu_time_sec" }] 10.0, 0.1, "iter/cpu-s" Workers;
    WorstIterationsPerWorker "worst_iterations_per_worker" Informational [WorstLowest { numerator: "total_iterations", denominator: "num_workers" }] 10.0, 0.1, "" Workers;
    WorstIterationsPerCpuSec "worst_iterations_per_cpu_sec" HigherBetter [WorstLowest { numerator: "total_iterations", denominator: "total_cpu_time_sec" }] 10.0, 0.1, "iter/cpu-s" Workers;
    TotalCpuTimeNs "total_cpu_time_ns" Informational [Counter] 100.0, 0.1, "ns" Workers;
    // CPU time of the tasks
    SystemTimeNs "system_time_ns" Informational [PerPhaseDeltaSum] 1000.0, 0.3, "ns" Captures;
    UserTimeNs "user_time_ns" Informational [PerPhaseDeltaSum] 1000.0, 0.3, "ns" Captures;
    ObservedTaskCpuTimeNs "observed_task_cpu_time_ns" Informational [PerPhaseDeltaSum] 1000.0, 0.3, "ns" Captures;
    SystemCpuFraction "system_cpu_fraction" LowerBetter [Rate { numerator: "system_time_ns", denominator: "observed_task_cpu_time_ns" }] 0.02, 0.3, "" Captures;
    // Interrupts
    TotalHardirqs "total_hardirqs" Informational [Counter] 10.0, 0.5, "" Captures;
    TotalSoftirqNetRx "total_softirq_net_rx" Informational [Counter] 10.0, 0.5, "" Captures;
    TotalSoftirqNetTx "total_softirq_net_tx" Informational [Counter] 10.0, 0.5, "" Captures;
    TotalSoftirqTimer "total_softirq_timer" Informational [Counter] 10.0, 0.5, "" Captures;
    TotalSoftirqSched "total_softirq_sched" Informational [Counter] 10.0, 0.5, "" Captures;
    TotalIrqTimeNs "total_irq_time_ns" Informational [Counter] 1000.0, 0.5, "ns" Captures;
    TotalSoftirqTimeNs "total_softirq_time_ns" Informational [Counter] 1000.0, 0.5, "ns" Captures;
    TotalStealTimeNs "total_steal_time_ns" Informational [Counter] 1000.0, 0.5, "ns" Captures;
    TotalPhaseGuestCpuSec "total_phase_guest_cpu_sec" Informational [Counter] 0.1, 0.3, "s" Captures;
    TotalPhaseGuestCpuNs "total_phase_guest_cpu_ns" Informational [Counter] 1000.0, 0.3, "ns" Captures;
    AvgIrqUtil "avg_irq_util" LowerBetter [Gauge(GaugeFold::Avg)] 20.0, 0.3, "" Monitor;
    MaxAvgIrqUtil "max_avg_irq_util" LowerBetter [Peak] 50.0, 0.3, "" Monitor;
    HardirqsPerCpuSec "hardirqs_per_cpu_sec" Informational [Rate { numerator: "total_hardirqs", denominator: "total_phase_guest_cpu_sec" }] 1.0, 0.3, "1/cpu-s" Captures;
    NetRxSoftirqsPerCpuSec "net_rx_softirqs_per_cpu_sec" Informational [Rate { numerator: "total_softirq_net_rx", denominator: "total_phase_guest_cpu_sec" }] 1.0, 0.3, "1/cpu-s" Captures;
    IrqTimeFraction "irq_time_fraction" LowerBetter [Rate { numerator: "total_irq_time_ns", denominator: "total_phase_guest_cpu_ns" }] 0.02, 0.3, "" Captures;
    MaxCpuHardirqs "max_cpu_hardirqs" Informational [Peak] 10.0, 0.5, "" Captures;
    MaxCpuSoftirqNetRx "max_cpu_softirq_net_rx" Informational [Peak] 10.0, 0.5, "" Captures;
    MaxCpuHardirqConcentration "max_cpu_hardirq_concentration" LowerBetter [Peak] 1.0, 0.25, "x" Captures;
    MaxCpuSoftirqNetRxConcentration "max_cpu_softirq_net_rx_concentration" LowerBetter [Peak] 1.0, 0.25, "x" Captures;
    // Pressure
    MaxCgroupIrqPressure "max_cgroup_irq_pressure" Informational [Peak] 1.0, 0.5, "µs" Captures;
    MaxCgroupIrqPressureConcentration "max_cgroup_irq_pressure_concentration" LowerBetter [Peak] 1.0, 0.25, "x" Captures;
    MaxCgroupPsiIrqAvg10 "max_cgroup_psi_irq_avg10" LowerBetter [Peak] 5.0, 0.3, "%" Captures;
    PsiIrqFullAvg10 "psi_irq_full_avg10" LowerBetter [Gauge(GaugeFold::Avg)] 5.0, 0.3, "%" Captures;
    TotalIrqPressureUs "total_irq_pressure_us" Informational [Counter] 1.0, 0.5, "µs" Captures;
    // Variables of particular schedulers
    AvgCpuUtilCompScale "avg_cpu_util_comp_scale" LowerBetter [Gauge(GaugeFold::Avg)] 0.5, 0.3, "x" Pending;
    AvgTaskLatCri "avg_task_lat_cri" Informational [Gauge(GaugeFold::Avg)] 50.0, 0.3, "" Pending;
    MaxTaskLatCri "max_task_lat_cri" Informational [Peak] 100.0, 0.3, "" Pending;
    // NUMA
    WorstPageLocality "worst_page_locality" HigherBetter [WorstLowest { numerator: "numa_pages_local", denominator: "numa_pages_total" }] 0.05, 0.1, "" Workers;
    WorstCrossNodeMigrationRatio "worst_cross_node_migration_ratio" LowerBetter [WorstCrossNodeRatio] 0.05, 0.2, "" Workers;
    // From the exact schedule: of a cgroup in a phase, of a phase, and of the run
    ScheduleCpuTimeNs "schedule_cpu_time_ns" Informational [Counter] 1000.0, 0.1, "ns" Schedule;
    ScheduleWaitTimeNs "schedule_wait_time_ns" LowerBetter [Counter] 1000000.0, 0.25, "ns" Schedule;
    ScheduleThrottledTimeNs "schedule_throttled_time_ns" Informational [Counter] 1000000.0, 0.1, "ns" Schedule;
    ScheduleSwitches "schedule_switches" Informational [Counter] 2.0, 0.3, "" Schedule;
    SchedulePreemptions "schedule_preemptions" Informational [Counter] 2.0, 0.3, "" Schedule;
    ScheduleWakeups "schedule_wakeups" Informational [Counter] 2.0, 0.3, "" Schedule;
    ScheduleMigrations "schedule_migrations" Informational [Counter] 2.0, 0.3, "" Schedule;
    ScheduleLlcMigrations "schedule_llc_migrations" LowerBetter [Counter] 2.0, 0.3, "" Schedule;
    ScheduleNodeMigrations "schedule_node_migrations" LowerBetter [Counter] 2.0, 0.3, "" Schedule;
    ScheduleMedianWaitUs "schedule_median_wait_us" LowerBetter [Pooled] 20.0, 0.25, "µs" Schedule;
    ScheduleP99WaitUs "schedule_p99_wait_us" LowerBetter [Pooled] 50.0, 0.25, "µs" Schedule;
    ScheduleMaxWaitUs "schedule_max_wait_us" LowerBetter [Pooled] 100.0, 0.5, "µs" Schedule;
    ScheduleMedianWakeUs "schedule_median_wake_us" LowerBetter [Pooled] 20.0, 0.25, "µs" Schedule;
    ScheduleP99WakeUs "schedule_p99_wake_us" LowerBetter [Pooled] 50.0, 0.25, "µs" Schedule;
    ScheduleMaxWakeUs "schedule_max_wake_us" LowerBetter [Pooled] 100.0, 0.5, "µs" Schedule;
    ScheduleIdleBesideWaiterNs "schedule_idle_beside_waiter_ns" LowerBetter [Counter] 1000000.0, 0.25, "ns" Schedule;
    // One cgroup in one phase
    P99WakeLatencyUs "p99_wake_latency_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    MedianWakeLatencyUs "median_wake_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    WakeLatencyCv "wake_latency_cv" LowerBetter [PerPhase] 0.1, 0.25, "" Workers;
    P99TimerLatencyUs "p99_timer_latency_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    MedianTimerLatencyUs "median_timer_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    P999TimerLatencyUs "p999_timer_latency_us" LowerBetter [PerPhase] 100.0, 0.25, "µs" Workers;
    MeanRunDelayUs "mean_run_delay_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    MaxRunDelayUs "max_run_delay_us" LowerBetter [PerPhase] 100.0, 0.5, "µs" Workers;
    AvgOffCpuPct "avg_off_cpu_pct" LowerBetter [PerPhase] 5.0, 0.25, "%" Workers;
    MinOffCpuPct "min_off_cpu_pct" LowerBetter [PerPhase] 5.0, 0.25, "%" Workers;
    MaxOffCpuPct "max_off_cpu_pct" LowerBetter [PerPhase] 5.0, 0.25, "%" Workers;
    OffCpuSpreadPct "off_cpu_spread_pct" LowerBetter [PerPhase] 5.0, 0.25, "pp" Workers;
    MigrationRatio "migration_ratio" LowerBetter [PerPhase] 0.05, 0.2, "" Workers;
    IterationsPerWorker "iterations_per_worker" Informational [PerPhase] 10.0, 0.1, "" Workers;
    PageLocality "page_locality" HigherBetter [PerPhase] 0.05, 0.1, "" Workers;
    CrossNodeMigrationRatio "cross_node_migration_ratio" LowerBetter [PerPhase] 0.05, 0.2, "" Workers;
    // Schbench: one cgroup in one phase, and the worst cgroup of a phase
    WakeupP50LatencyUs "wakeup_p50_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    WakeupP90LatencyUs "wakeup_p90_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    WakeupP99LatencyUs "wakeup_p99_latency_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    WakeupP999LatencyUs "wakeup_p999_latency_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    WakeupMinLatencyUs "wakeup_min_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    WakeupMaxLatencyUs "wakeup_max_latency_us" LowerBetter [PerPhase] 50.0, 0.5, "µs" Workers;
    RequestP50LatencyUs "request_p50_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    RequestP90LatencyUs "request_p90_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    RequestP99LatencyUs "request_p99_latency_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    RequestP999LatencyUs "request_p999_latency_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    RequestMinLatencyUs "request_min_latency_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    RequestMaxLatencyUs "request_max_latency_us" LowerBetter [PerPhase] 50.0, 0.5, "µs" Workers;
    SchedDelayMsgUs "sched_delay_msg_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    SchedDelayWorkerUs "sched_delay_worker_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    SchbenchLoopCount "schbench_loop_count" Informational [PerPhase] 1.0, 0.3, "" Workers;
    SchbenchLoopsPerCpuSec "schbench_loops_per_cpu_sec" HigherBetter [PerPhase] 1.0, 0.3, "loops/cpu-s" Workers;
    RpsP20 "rps_p20" Informational [PerPhase] 10.0, 0.1, "req/s" Workers;
    RpsP50 "rps_p50" Informational [PerPhase] 10.0, 0.1, "req/s" Workers;
    RpsP90 "rps_p90" Informational [PerPhase] 10.0, 0.1, "req/s" Workers;
    RpsMin "rps_min" Informational [PerPhase] 10.0, 0.1, "req/s" Workers;
    RpsMax "rps_max" Informational [PerPhase] 10.0, 0.1, "req/s" Workers;
    // Schbench over the run
    WakeupP50LatencyUsWhole "wakeup_p50_latency_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    WakeupP90LatencyUsWhole "wakeup_p90_latency_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    WakeupP99LatencyUsWhole "wakeup_p99_latency_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    WakeupP999LatencyUsWhole "wakeup_p999_latency_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    WakeupMinLatencyUsWhole "wakeup_min_latency_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    WakeupMaxLatencyUsWhole "wakeup_max_latency_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.5, "µs" Workers;
    RequestP50LatencyUsWhole "request_p50_latency_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    RequestP90LatencyUsWhole "request_p90_latency_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    RequestP99LatencyUsWhole "request_p99_latency_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    RequestP999LatencyUsWhole "request_p999_latency_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    RequestMinLatencyUsWhole "request_min_latency_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    RequestMaxLatencyUsWhole "request_max_latency_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.5, "µs" Workers;
    RpsP20Whole "rps_p20_whole" Informational [PerRunDistribution] 10.0, 0.1, "req/s" Workers;
    RpsP50Whole "rps_p50_whole" Informational [PerRunDistribution] 10.0, 0.1, "req/s" Workers;
    RpsP90Whole "rps_p90_whole" Informational [PerRunDistribution] 10.0, 0.1, "req/s" Workers;
    RpsMinWhole "rps_min_whole" Informational [PerRunDistribution] 10.0, 0.1, "req/s" Workers;
    RpsMaxWhole "rps_max_whole" Informational [PerRunDistribution] 10.0, 0.1, "req/s" Workers;
    TotalSchbenchMsgRunDelayNs "total_schbench_msg_run_delay_ns" Informational [Counter] 1000.0, 0.1, "ns" Workers;
    TotalSchbenchMsgPcount "total_schbench_msg_pcount" Informational [Counter] 1.0, 0.1, "" Workers;
    TotalSchbenchWorkerRunDelayNs "total_schbench_worker_run_delay_ns" Informational [Counter] 1000.0, 0.1, "ns" Workers;
    TotalSchbenchWorkerPcount "total_schbench_worker_pcount" Informational [Counter] 1.0, 0.1, "" Workers;
    TotalSchbenchLoops "total_schbench_loops" Informational [Counter] 1.0, 0.1, "" Workers;
    TotalSchbenchWorkerCpuSec "total_schbench_worker_cpu_sec" Informational [Counter] 1.0, 0.3, "s" Workers;
    SchbenchTotalLoopsPerCpuSec "schbench_total_loops_per_cpu_sec" HigherBetter [Rate { numerator: "total_schbench_loops", denominator: "total_schbench_worker_cpu_sec" }] 1.0, 0.1, "loops/cpu-s" Workers;
    SchbenchMsgRunDelayNsPerSched "schbench_msg_run_delay_ns_per_sched" LowerBetter [Rate { numerator: "total_schbench_msg_run_delay_ns", denominator: "total_schbench_msg_pcount" }] 100.0, 0.1, "ns" Workers;
    SchbenchWorkerRunDelayNsPerSched "schbench_worker_run_delay_ns_per_sched" LowerBetter [Rate { numerator: "total_schbench_worker_run_delay_ns", denominator: "total_schbench_worker_pcount" }] 100.0, 0.1, "ns" Workers;
    // Taobench: one cgroup in one phase, and the worst cgroup of a phase
    TaobenchTotalOpsPerCpuSec "taobench_total_ops_per_cpu_sec" HigherBetter [PerPhase] 10.0, 0.1, "ops/cpu-s" Workers;
    TaobenchFastOpsPerCpuSec "taobench_fast_ops_per_cpu_sec" HigherBetter [PerPhase] 10.0, 0.1, "ops/cpu-s" Workers;
    TaobenchSlowOpsPerCpuSec "taobench_slow_ops_per_cpu_sec" Informational [PerPhase] 10.0, 0.1, "ops/cpu-s" Workers;
    TaobenchHitRatio "taobench_hit_ratio" Informational [PerPhase] 0.02, 0.05, "" Workers;
    TaobenchHitRate "taobench_hit_rate" Informational [PerPhase] 0.02, 0.05, "" Workers;
    TaobenchServeP50Us "taobench_serve_p50_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    TaobenchServeP90Us "taobench_serve_p90_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    TaobenchServeP99Us "taobench_serve_p99_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    TaobenchServeP999Us "taobench_serve_p999_us" LowerBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    TaobenchServeMinUs "taobench_serve_min_us" LowerBetter [PerPhase] 20.0, 0.25, "µs" Workers;
    TaobenchServeMaxUs "taobench_serve_max_us" LowerBetter [PerPhase] 50.0, 0.5, "µs" Workers;
    // Taobench over the run
    TotalTaobenchOps "total_taobench_ops" Informational [Counter] 10.0, 0.1, "" Workers;
    TotalTaobenchFastOps "total_taobench_fast_ops" Informational [Counter] 10.0, 0.1, "" Workers;
    TotalTaobenchSlowOps "total_taobench_slow_ops" Informational [Counter] 10.0, 0.1, "" Workers;
    TotalTaobenchGetCmds "total_taobench_get_cmds" Informational [Counter] 10.0, 0.1, "" Workers;
    TotalTaobenchGetHits "total_taobench_get_hits" Informational [Counter] 10.0, 0.1, "" Workers;
    TotalTaobenchWallSec "total_taobench_wall_sec" Informational [Counter] 1.0, 0.3, "s" Workers;
    TotalTaobenchCpuSec "total_taobench_cpu_sec" Informational [Counter] 1.0, 0.3, "s" Workers;
    TaobenchTotalOpsPerCpuSecWhole "taobench_total_ops_per_cpu_sec_whole" HigherBetter [Rate { numerator: "total_taobench_ops", denominator: "total_taobench_cpu_sec" }] 10.0, 0.1, "ops/cpu-s" Workers;
    TaobenchFastOpsPerCpuSecWhole "taobench_fast_ops_per_cpu_sec_whole" HigherBetter [Rate { numerator: "total_taobench_fast_ops", denominator: "total_taobench_cpu_sec" }] 10.0, 0.1, "ops/cpu-s" Workers;
    TaobenchSlowOpsPerCpuSecWhole "taobench_slow_ops_per_cpu_sec_whole" Informational [Rate { numerator: "total_taobench_slow_ops", denominator: "total_taobench_cpu_sec" }] 10.0, 0.1, "ops/cpu-s" Workers;
    TaobenchHitFraction "taobench_hit_fraction" Informational [Rate { numerator: "total_taobench_fast_ops", denominator: "total_taobench_ops" }] 0.02, 0.05, "" Workers;
    TaobenchCommandHitRate "taobench_command_hit_rate" Informational [Rate { numerator: "total_taobench_get_hits", denominator: "total_taobench_get_cmds" }] 0.02, 0.05, "" Workers;
    TaobenchServeP50UsWhole "taobench_serve_p50_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    TaobenchServeP90UsWhole "taobench_serve_p90_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    TaobenchServeP99UsWhole "taobench_serve_p99_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    TaobenchServeP999UsWhole "taobench_serve_p999_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    TaobenchServeMinUsWhole "taobench_serve_min_us_whole" LowerBetter [PerRunDistribution] 20.0, 0.25, "µs" Workers;
    TaobenchServeMaxUsWhole "taobench_serve_max_us_whole" LowerBetter [PerRunDistribution] 50.0, 0.5, "µs" Workers;
    // Timers of rt-app threads: one cgroup in one phase, and over the run
    RtAppSlackMinUs "rt_app_slack_min_us" HigherBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    RtAppSlackP10Us "rt_app_slack_p10_us" HigherBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    RtAppSlackP50Us "rt_app_slack_p50_us" HigherBetter [PerPhase] 50.0, 0.25, "µs" Workers;
    RtAppMissedPeriods "rt_app_missed_periods" LowerBetter [PerPhase] 1.0, 0.1, "" Workers;
    TotalRtAppMissedPeriods "total_rt_app_missed_periods" LowerBetter [Counter] 1.0, 0.1, "" Workers;
    RtAppSlackMinUsWhole "rt_app_slack_min_us_whole" HigherBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    RtAppSlackP10UsWhole "rt_app_slack_p10_us_whole" HigherBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
    RtAppSlackP50UsWhole "rt_app_slack_p50_us_whole" HigherBetter [PerRunDistribution] 50.0, 0.25, "µs" Workers;
}
