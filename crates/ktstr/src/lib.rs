//! Tests for Linux process schedulers, as functions.
//!
//! A function with [`ktstr_test`](macro@ktstr_test) on it boots a real Linux kernel in a VM with
//! the declared topology, starts the scheduler under test, runs its scenario of cgroups and
//! workloads, freezes the VM to read kernel and BPF state, and ends in a verdict that names whose
//! fault it is. The same binary is the host's test runner and the process in the guest that calls the function.
//!
//! ```no_run
//! use anyhow::Result;
//! use ktstr::prelude::*;
//!
//! const SCHED: Scheduler = Scheduler::named("mine").binary(SchedulerSpec::Discover("scx_mine"));
//!
//! #[ktstr_test(scheduler = SCHED, llcs = 2, cores = 2, duration_s = 5, not_stuck)]
//! fn two_cgroups_make_progress(ctx: &Ctx) -> Result<AssertResult> {
//!     execute_defs(ctx, vec![
//!         CgroupDef::named("left").workers(4),
//!         CgroupDef::named("right").workers(4),
//!     ])
//! }
//! # fn main() {}
//! ```

extern crate self as ktstr;

mod canned;
mod contention;
mod discovery;
mod dispatch;
mod entry;
mod entry_builders;
mod entry_metrics;
mod env_names;
mod gates;
mod guest_side;
mod host_side;
mod moment;
mod nextest;
pub mod payloads;
pub mod run;
mod scenario_file;
mod sidecar;
mod snapshot_bridge;
pub mod table;
mod tools;
mod variant;
mod vm_result;

pub use discovery::find_kernel;
pub use env_names::*;
pub use ktstr_assert::monitor::WatchdogObservation;
pub use ktstr_assert::{claim, claim_present};
pub use ktstr_guest::kmsg::{read_kmsg, send_kmsg};
pub use ktstr_macros::{Claim, Payload, declare_scheduler, json, ktstr_test, ktstr_test_entry};
pub use linkme;
pub use linkme::distributed_slice;
pub use tools::*;

/// Results, verdicts, phases, metrics, series and checks.
pub mod assert {
    pub use ktstr_assert::*;
}

/// Scenarios: the context that a test function receives, and the steps that it runs.
pub mod scenario {
    pub use ktstr_guest::direct::{
        CgroupGroup, collect_all, dfl_wl, resolve_affinity_for_cgroup, setup_cgroups, spawn_diverse,
    };
    pub use ktstr_guest::payload::{PayloadHandle, PayloadRun, RunsPayloads};
    pub use ktstr_scenario::{Ctx, CtxBuilder};

    /// Steps, cgroups, operations, and the functions that execute them.
    pub mod ops {
        pub use ktstr_guest::engine::{
            execute_defs, execute_scenario, execute_scenario_with, execute_steps,
            execute_steps_with,
        };
        pub use ktstr_scenario::ops::*;
    }
    pub use ops::*;

    pub use ktstr_scenario::text::{Names, Scenario, TextError, Unsayable};

    /// Scenarios in files, as `cargo ktstr run` runs them.
    pub mod file {
        pub use crate::scenario_file::{entry, fits, judge, settings};
        pub use ktstr_scenario::text::{
            Bounds, ClaimDef, Invalid, ScenarioFile, Setting, SettingValue,
        };
    }

    /// The canned scenarios, and the table that lists them.
    pub mod scenarios {
        pub use crate::canned::*;
    }
    /// Canned scenarios about CPU affinity.
    pub mod affinity {
        pub use crate::canned::{
            custom_affinity_churn, custom_cgroup_affinity_change,
            custom_cgroup_cpuset_multicpu_pin, custom_cgroup_multicpu_pin,
        };
    }
    /// Canned scenarios that need a single step and plain cgroups.
    pub mod basic {
        pub use crate::canned::{
            custom_cgroup_pipe_io, custom_crash_light, custom_host_cgroup_contention,
            custom_sched_mixed,
        };
    }
    /// Canned scenarios about cpusets.
    pub mod cpuset {
        pub use crate::canned::{
            custom_cgroup_cpuset_apply_midrun, custom_cgroup_cpuset_change_imbalance,
            custom_cgroup_cpuset_clear_midrun, custom_cgroup_cpuset_load_shift,
            custom_cgroup_cpuset_merge, custom_cgroup_cpuset_resize,
            custom_cgroup_cpuset_swap_disjoint, custom_cgroup_cpuset_widen,
            custom_cgroup_cpuset_workload_imbalance,
        };
    }
    /// Canned scenarios that create and remove cgroups while workers run.
    pub mod dynamic {
        pub use crate::canned::{
            custom_cgroup_add_during_imbalance, custom_cgroup_add_midrun,
            custom_cgroup_cpuset_add_remove, custom_cgroup_rapid_churn,
            custom_cgroup_remove_midrun,
        };
    }
    /// Canned scenarios in which cgroups compete with each other.
    pub mod interaction {
        pub use crate::canned::{
            custom_cgroup_4way_load_imbalance, custom_cgroup_add_load_imbalance,
            custom_cgroup_cpuset_imbalance_combined,
            custom_cgroup_cpuset_overlap_imbalance_combined,
            custom_cgroup_imbalance_mixed_workload, custom_cgroup_io_compute_imbalance,
            custom_cgroup_load_oscillation, custom_cgroup_no_ctrl_cpuset_change,
            custom_cgroup_no_ctrl_imbalance, custom_cgroup_no_ctrl_load_imbalance,
            custom_cgroup_no_ctrl_task_migration, custom_nice_mix, custom_nice_sweep,
        };
    }
    /// Canned scenarios with nested cgroups.
    pub mod nested {
        pub use crate::canned::{
            custom_nested_cgroup_cpuset, custom_nested_cgroup_imbalance,
            custom_nested_cgroup_no_ctrl, custom_nested_cgroup_rapid_churn,
            custom_nested_cgroup_steady, custom_nested_cgroup_task_move,
        };
    }
    /// Canned scenarios about cache locality and wakeup latency.
    pub mod performance {
        pub use crate::canned::{
            custom_cache_pipe_io_compute_imbalance, custom_cache_pressure_imbalance,
            custom_cache_yield_wake_affine, custom_fan_out_compute, custom_fan_out_wake,
            custom_futex_ping_pong, custom_lock_convoy, custom_thundering_herd, custom_wake_chain,
            custom_wake_under_load,
        };
    }
    /// Canned scenarios with many events or many cgroups.
    pub mod stress {
        pub use crate::canned::{
            custom_bursts, custom_bursts_spare, custom_cgroup_cpuset_cross_llc_race,
            custom_cgroup_cpuset_workload_variety, custom_cgroup_dsq_contention,
            custom_cgroup_dynamic_workload_variety, custom_cgroup_exhaust_reuse,
            custom_cgroup_per_cpu, custom_cgroup_workload_variety, custom_fork_storm,
            custom_idle_churn, custom_yield_storm,
        };
    }
}

/// Workers, and the work types that they execute.
pub mod workload {
    pub use ktstr_assert::{
        Migration, PhaseSlice, WorkerExitInfo, WorkerReport, WorkerReportClaim,
    };
    pub use ktstr_guest::workers::WorkloadHandle;
    pub use ktstr_scenario::workload::*;
}

/// CPUs, caches and NUMA nodes.
pub mod topology {
    pub use ktstr_scenario::topology::*;
}

/// The cgroup v2 tree of a test: the trait of its operations, and the manager that carries them out.
pub mod cgroup {
    pub use ktstr_guest::cgroup::CgroupManager;
    pub use ktstr_scenario::cgroup::*;
}

/// Snapshots of kernel memory: the values that a capture holds.
pub mod snapshot {
    pub use crate::moment::{CaptureMoment, MomentCapture};
    pub use crate::snapshot_bridge::{
        BridgeGuard, CaptureCallback, CgroupProcsSnapshot, KernelOp, KernelOpCallback,
        MAX_WATCH_SNAPSHOTS, SnapshotBridge, WatchRegisterCallback,
    };
    pub use ktstr_snapshot::report::*;
    pub use ktstr_snapshot::snapshot::*;
}

/// The names of metrics, built in and dynamic.
pub mod metric_types {
    pub use ktstr_assert::{BuiltinMetric, MetricId, Polarity};
}

/// The declaration of a guest's disk.
pub mod disk {
    pub use ktstr_scenario::disk::{
        DiskConfig, DiskError, DiskThrottle, DiskThrottleValidationError, Filesystem,
        ThrottleDimension,
    };
}

/// What a scenario did, and when.
pub mod timeline {
    pub use ktstr_assert::StimulusEvent;
}

/// The declarations of tests and schedulers, and the functions that run tests.
pub mod test_support {
    pub use crate::discovery::{resolve_scheduler, resolve_test_kernel};
    pub use crate::dispatch::run_as_main;
    pub use crate::entry::{
        ClockMode, EntryError, KTSTR_SCHEDULERS, KTSTR_TESTS, KtstrTestEntry, find_scheduler,
        find_test,
    };
    pub use crate::run::{
        EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_PASS, SchedulerSource as ResolveSource, run_ktstr_test,
    };
    pub use crate::sidecar::{
        MeasuredAssertion, SidecarResult, analyze_sidecars, newest_run_dir, read_sidecars,
        sidecar_dir,
    };
    pub use ktstr_assert::{
        Metric, MetricCheck, MetricHint, MetricPattern, MetricStream, OutputFormat, PayloadEnd,
        PayloadMetrics, PerfDeltaAssertion, PerfDeltaError, extract_metrics,
    };
    pub use ktstr_record::{HostRecord as HostContext, runs_root};
    pub use ktstr_scenario::payload::{Payload, PayloadError, PayloadKind};
    pub use ktstr_scenario::scheduler::{
        BpfMapAgg, BpfMapWrite, CgroupPath, Promise, Promises, Scheduler, SchedulerSpec, Speed,
        Sysctl, WatchBpfMap,
    };
    pub use ktstr_scenario::topology::{
        CacheAssociativity, CacheWritePolicy, MemSideCache, NumaDistance, NumaNode, Topology,
        TopologyConstraints,
    };
}

/// Everything that most tests need, for a glob import.
pub mod prelude {
    pub use crate::assert::*;
    pub use crate::cgroup::CgroupManager;
    pub use crate::contention::{BodyContentionWindow, ContentionWitness, PerPhaseSchedstat};
    pub use crate::disk::*;
    pub use crate::gates::{
        capture_starvation_witness, periodic_starvation_gate, post_vm_skip, stall_ejection_skip,
        starved_below_minimum_skip,
    };
    pub use crate::scenario::ops::*;
    pub use crate::scenario::scenarios;
    pub use crate::scenario::{
        CgroupGroup, Ctx, CtxBuilder, PayloadHandle, PayloadRun, RunsPayloads, Scenario,
        collect_all, spawn_diverse,
    };
    pub use crate::snapshot::{
        ArenaSnapshot, DegradedFailureDumpReport, DsqState, DualFailureDumpReport,
        EventCounterSample, FailureDumpArrayEntry, FailureDumpEntry, FailureDumpFdArray,
        FailureDumpMap, FailureDumpPercpuEntry, FailureDumpPercpuHashEntry, FailureDumpReport,
        FailureDumpReportAny, FailureDumpRingbuf, FailureDumpStack, FailureDumpStackTrace,
        PerCpuTimeStats, PerNodeNumaStats, ProgRuntimeStats, QueuedTask,
        REASON_DEGRADED_RENDEZVOUS_TIMEOUT, RenderedMember, RenderedValue, RqScxState,
        SCHEMA_DEGRADED, SCHEMA_DUAL, SCHEMA_SINGLE, ScxSchedState, TaskEnrichment,
    };
    pub use crate::snapshot::{
        BridgeGuard, CaptureCallback, CaptureMoment, CgroupProcsSnapshot, JsonField,
        MAX_WATCH_SNAPSHOTS, MissingStatsReason, MomentCapture, Snapshot, SnapshotBridge,
        SnapshotEntry, SnapshotError, SnapshotField, SnapshotMap, SnapshotResult,
        WatchRegisterCallback, pickers, stats_path,
    };
    pub use crate::test_support::*;
    pub use crate::topology::{LlcInfo, NodeMemInfo, TestTopology};
    pub use crate::vm_result::{
        GuestLifecyclePhase, HostVcpuSchedstat, ProgVerifierStats, SwitchDigest,
        VirtioBlkCountersSnapshot, VmResult, WatchdogKillReason,
    };
    pub use crate::workload::*;
    pub use crate::{
        Payload, claim, claim_present, declare_scheduler, distributed_slice, ktstr_test,
        ktstr_test_entry,
    };
    pub use anyhow::Result;
    /// The type of the value that [`SnapshotBridge::kernel_op_value`] returns.
    pub use ktstr_scenario::ops::KernelValue as KernelOpValue;
}

/// The items that the macros expand to. They are not part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use ktstr_guest::payload::RunsPayloads;
    pub use linkme;

    use crate::entry::{KtstrTestEntry, config_misfit};
    use crate::test_support::Scheduler;

    /// The paths of the `#[test]` functions that `#[ktstr_test]` generates, each with the name of its crate.
    #[linkme::distributed_slice]
    pub static LIBTEST_NAMES: [&'static str];

    /// Returns `content`, the configuration of a test. Panics if it does not fit the scheduler; in a `static`, that is a compile
    /// error of the test.
    pub const fn config_content(
        scheduler: &Scheduler,
        content: Option<&'static str>,
    ) -> Option<&'static str> {
        match config_misfit(scheduler, content) {
            Some(what) => panic!("{}", what),
            None => content,
        }
    }

    /// Returns whether the command line of this test binary asks for ignored tests, or for one test by its exact name.
    fn is_asked_for() -> bool {
        let flags = ["--ignored", "--include-ignored", "--exact"];
        std::env::args().any(|arg| flags.contains(&arg.as_str()))
    }

    /// The body of the `#[test]` function of an entry.
    ///
    /// # Panics
    /// If the test fails, and if another test of this binary has the same name: the guest finds the function by its name.
    pub fn run_under_libtest(entry: &'static KtstrTestEntry) {
        if let Some(first) = crate::entry::find_test(entry.name)
            && !std::ptr::eq(first, entry)
        {
            panic!(
                "several tests of this binary have the name {:?}, by which the guest finds the function: rename all but one",
                entry.name
            );
        }
        if crate::nextest::is_ignored_test(entry) && !is_asked_for() {
            eprintln!(
                "SKIP  {}: the entry is ignored; --ignored runs it",
                entry.name
            );
            return;
        }
        let finished = crate::run::run_and_repeat(entry);
        if finished.exit_code() == crate::run::EXIT_PASS {
            finished.print();
        } else {
            // libtest learns of a failure from a panic. The panic's message is the report.
            panic!("{}", finished.text);
        }
    }
}
