//! Verdicts and results, phases, metrics, series of captures, and the checks on them.
//!
//! Everything in this crate is pure: the same input gives the same output. It does no I/O, starts no threads and reads
//! no clock. There are two exceptions: the thread-local phase label ([`phase::PhaseGuard`]), which the step engine
//! installs, and log lines, which a test requests ([`AssertResult::into_anyhow_or_log`], [`Verdict::with_log_passes`])
//! or a user enables with the variable [`LOG_PASSES`].
//!
//! The data flows through the crate as follows. The guest sends [`worker`] reports. The [`check`]s judge the reports, and compute
//! the [`stats`] of each cgroup from them. The outcome is an [`AssertResult`]. Captures become a [`series`]. The statistics and
//! the series are combined in one of the [`buckets`] for each phase, in which [`metric`]s are looked up.
//!
//! Times are guest time, and rates of work are per CPU-second: a rate per wall-clock second would measure the host.

pub mod buckets;
pub mod check;
pub mod metric;
pub mod monitor;
pub mod outcome;
pub mod payload;
pub mod phase;
pub mod series;
pub mod stats;
pub mod stimulus;
pub mod verdict;
pub mod worker;

mod float;
mod math;

pub use buckets::{build_phase_buckets, build_phase_buckets_with_stimulus, fold_carriers};
pub use check::{
    AbsoluteThresholds, Assert, ExpectedErrorError, Limit, assert_benchmarks, assert_isolation,
    assert_not_stuck, assert_thresholds, assert_throughput_parity,
};
pub use metric::{
    BuiltinMetric, MetricDef, MetricId, PerfDeltaAssertion, PerfDeltaError, Polarity,
};
pub use monitor::{MonitorReport, MonitorSample, MonitorSummary, MonitorThresholds};
pub use outcome::{
    AssertDetail, AssertResult, COMPARATOR_VOCABULARY, DetailKind, Ejection, Finding, InfoNote,
    LatencyGate, MAX_RECORDED_PASSES, MonitorBound, NoteValue, Outcome, OutcomeRef,
    PASSES_TRUNCATION_SENTINEL_COMPARATOR, PASSES_TRUNCATION_SENTINEL_NAME, PassDetail,
    QuotaEffect, SchedulerEnd,
};
pub use payload::{
    Metric, MetricCheck, MetricHint, MetricPattern, MetricStream, OutputFormat, PayloadEnd,
    PayloadMetrics, extract_metrics,
};
pub use phase::{Phase, PhaseGuard, current_phase_label};
pub use series::{
    BpfMapCpuProjector, BpfMapProjector, CrossPhaseRatio, DrainedSnapshotEntry, EachClaim,
    FracPair, HostView, MonitorView, PhaseMapExt, Sample, SampleSeries, ScxEvents, SeriesField,
    StatsPathProjector, StatsValue, assert_scx_events_clean,
};
pub use stats::{
    BenchCarrier, BenchTotals, CgroupStats, CgroupStatsClaim, PhaseBucket, PhaseBucketClaim,
    PhaseCgroupStats, PhaseCgroupStatsClaim, SampleSource, ScenarioStats, ScenarioStatsClaim,
    TaobenchStats,
};
pub use stimulus::StimulusEvent;
pub use verdict::{
    BetterClaim, BetterThanPhase, ClaimBuilder, LOG_PASSES, PresentClaim, SeqClaim, SetClaim,
    Verdict,
};
pub use worker::{
    BenchRole, BenchSlice, Migration, PhaseSlice, SampleKind, SamplesMut, WorkerExitInfo,
    WorkerReport, WorkerReportClaim, carrier, carriers_by_phase, cgroup_stats, page_locality,
    parse_numa_maps, parse_vmstat_numa_pages_migrated,
};
