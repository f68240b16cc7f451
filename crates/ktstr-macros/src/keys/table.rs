//! The table of all keys of `#[ktstr_test]`.

/// The table of all keys, in the order of the documentation. It calls the macro `$then` with all of its rows. Each key that is
/// not reserved has an effect: a test expands each of these keys, and checks that the generated code changes.
///
/// In the row
///
/// ```text
/// max_gap_ms: Integer(u64), Check = OFF,
///     "longest time between two iterations of a worker, in milliseconds of guest time" => {
///         /// The longest gap between two iterations of a worker, in milliseconds of guest time.
///         bound workers: u64
///     };
/// ```
///
/// - `Integer` is the [`Kind`](super::Kind) of value that the key takes, here with the type that sets its largest value.
/// - `Check` is the [`Group`](super::Group). A key of the group `Reserved` is not implemented: any use is an error, except
///   for `false` if its kind is `Bool`.
/// - `OFF` is the value if the key is not given, as the documentation prints it: a text, `OFF` or `INHERITED`.
/// - The text is the meaning of the key, in one line, with the unit.
/// - The braces contain the field of `ktstr_assert::Assert` that has the key's name: its documentation, the part of the checks
///   to which it belongs, and its type. A `bound` has a builder of its name, and is on if it is set. A `flag` is on if it is
///   `true`, and its builder is written by hand. Only the keys of the groups `Check` and `MonitorBound` have a field.
///
/// To add a key of these two groups, write its row here and its judgement, which for the part `workers` is in
/// `ktstr-assert/src/check/workers.rs`. The test of a check is a `pair` in `ktstr-assert/tests/recorded/workers.rs`: a
/// run that keeps the bound, and one that breaks it. To add another key, write its row here and the code in `expand.rs`
/// that reads it.
macro_rules! table {
    ($then:ident) => {
        $then! {
            scheduler: Path, Setting = "`Scheduler::EEVDF`", "the scheduler under test, a `const` or `static`";
            numa_nodes: Positive(u32), Setting = INHERITED, "NUMA nodes of the guest";
            llcs: Positive(u32), Setting = INHERITED,
                "last-level caches, over all nodes; a multiple of `numa_nodes`";
            cores: Positive(u32), Setting = INHERITED, "cores of each LLC";
            threads: Positive(u32), Setting = INHERITED, "hardware threads of each core";
            memory_mib: Positive(u32), Setting = "256",
                "memory of the guest in MiB; it gets at least 64 MiB for each CPU, and more for the files packed for \
                it";
            duration_s: Positive(u64), Setting = "12", "the workload window in seconds of guest time";
            watchdog_timeout_s: Positive(u64), Setting = "5",
                "how long sched_ext lets a runnable task wait before it ejects the scheduler, in seconds of guest \
                time";
            num_snapshots: Integer(u32), Setting = "0",
                "captures spread over the window, at most 64 and at least 100 ms apart";
            auto_repro: Bool, Run = "true",
                "whether a run that failed under a BPF scheduler is repeated from the same seed, with captures at the \
                times of its findings; a test that passes pays nothing for it; `true` needs a VM";
            post_vm: Path, Outcome = "with captures: at least one must hold data",
                "`fn(&VmResult) -> anyhow::Result<()>`, called on the host unless the guest's verdict is a failure";
            post_vm_unconditional: Path, Outcome = "none",
                "`fn(&VmResult) -> anyhow::Result<()>`, called on the host after every run in a VM, whatever its verdict";
            payload: Path, Setting = "none",
                "the program of the host that the test runs as its load, a `const` or `static` `Payload`: it is packed \
                for the guest and named in the record; the test function or an operation starts it";
            workloads: Paths, Setting = "`[]`",
                "further programs of the host that the test runs, each a `const` or `static` `Payload`, packed \
                likewise";
            staged_schedulers: Paths, Setting = "`[]`",
                "schedulers that operations of the test may start, each a `const` or `static`";
            extra_sched_args: Texts, Setting = "`[]`", "arguments of the scheduler, after its own";
            config: TextOrPath, Setting = "none",
                "the content of the scheduler's configuration file: given where the scheduler has a `config_file_def`, \
                and only there; needs `scheduler`";
            extra_include_files: Texts, Setting = "`[]`",
                "files of the host, found in the guest under `/include-files/` by their base names, which must differ: \
                a bare name is searched in the current folder and in `PATH`, a folder is copied with its contents, and \
                a program with its shared libraries";
            bpf_map_write: PathOrPaths, Setting = "`[]`",
                "values that the host writes into variables of the scheduler before the scenario makes its first \
                cgroup, each a `const` or `static` `BpfMapWrite`; needs `scheduler`";
            watch_bpf_maps: PathOrPaths, Setting = "`[]`",
                "variables of the scheduler that the host reads in the workload window, as metrics of the run, each a \
                `const` or `static` `WatchBpfMap`; needs `scheduler`";
            perf_delta_assertions: PathOrPaths, Outcome = "`[]`",
                "metrics that may not be much worse than in the earlier run of the test whose sidecar is in the folder \
                `KTSTR_PERF_BASELINE`, each a `const` or `static` `PerfDeltaAssertion`; without that variable nothing \
                is compared";
            not_stuck: Bool, Check = OFF,
                "every worker makes progress; enables the default bound on the gap and, under the real clock, the \
                default bound on the spread" => {
                /// Every worker must do some work. This also enables the checks of gaps and spread with their default
                /// bounds. The default check of spread applies to workers that live for at least a second and sleep for
                /// at most a tenth of their time.
                flag workers: bool
            };
            isolation: Bool, Check = OFF,
                "every worker stays inside its cgroup's cpuset" => {
                /// Every worker must run only on CPUs of its cgroup's cpuset.
                flag workers: bool
            };
            max_gap_ms: Integer(u64), Check = OFF,
                "longest time between two iterations of a worker, in milliseconds of guest time" => {
                /// The longest gap between two iterations of a worker, in milliseconds of guest time.
                bound workers: u64
            };
            max_spread_pct: Float, Check = OFF,
                "largest difference between the off-CPU shares of a cgroup's workers that are entitled to the same share, in \
                percentage points" => {
                /// The largest difference between the off-CPU shares of workers in a cgroup that are entitled to the same
                /// share of a CPU, in percentage points. A bound of 100 or more turns the check off.
                bound workers: f64
            };
            max_throughput_cv: Float, Check = OFF,
                "largest coefficient of variation of work units per CPU-second among a cgroup's workers" => {
                /// The largest coefficient of variation of work units per CPU-second among the workers of a cgroup.
                bound workers: f64
            };
            min_work_rate: Float, Check = OFF,
                "fewest work units per CPU-second of a worker" => {
                /// The smallest number of work units per CPU-second of a worker.
                bound workers: f64
            };
            max_p99_wake_latency_ns: Integer(u64), Check = OFF,
                "largest 99th percentile of a cgroup's wakeup latencies, in nanoseconds of guest time" => {
                /// The largest 99th percentile of the wakeup latencies of a cgroup, in nanoseconds of guest time.
                bound workers: u64
            };
            max_wake_latency_cv: Float, Check = OFF,
                "largest coefficient of variation of a cgroup's wakeup latencies" => {
                /// The largest coefficient of variation of the wakeup latencies of a cgroup.
                bound workers: f64
            };
            min_iteration_rate: Float, Check = OFF,
                "fewest iterations per CPU-second of a worker" => {
                /// The smallest number of iterations per CPU-second of a worker.
                bound workers: f64
            };
            max_migration_ratio: Float, Check = OFF,
                "most migrations per iteration of a cgroup" => {
                /// The largest number of migrations per iteration of a cgroup.
                bound workers: f64
            };
            max_imbalance_ratio: Float, MonitorBound = OFF,
                "monitor: largest imbalance of two runqueues that migrations could reduce" => {
                /// Monitor: the largest imbalance of two runqueues that migrations could reduce
                /// ([`MonitorSample::movable_imbalance`](crate::MonitorSample::movable_imbalance)).
                bound monitor: f64
            };
            max_local_dsq_depth: Integer(u32), MonitorBound = OFF,
                "monitor: most tasks in a local DSQ" => {
                /// Monitor: the largest number of tasks in a CPU's local DSQ. Tasks that may run on this CPU only do not count.
                bound monitor: u32
            };
            fail_on_rq_clock_stuck: Bool, MonitorBound = OFF,
                "monitor: whether a runqueue clock that does not advance is a violation" => {
                /// Monitor: whether a runqueue clock that does not advance is a violation.
                bound monitor: bool
            };
            sustained_samples: Integer(u32), MonitorBound = OFF,
                "monitor: how many samples in a row make a violation" => {
                /// Monitor: the number of consecutive samples that make a violation; 0 counts as 1.
                bound other: usize
            };
            max_fallback_rate: Float, MonitorBound = OFF,
                "monitor: most `SCX_EV_SELECT_CPU_FALLBACK` events per vCPU-second" => {
                /// Monitor: the largest number of `SCX_EV_SELECT_CPU_FALLBACK` events per vCPU-second.
                bound monitor: f64
            };
            max_keep_last_rate: Float, MonitorBound = OFF,
                "monitor: most `SCX_EV_DISPATCH_KEEP_LAST` events per vCPU-second" => {
                /// Monitor: the largest number of `SCX_EV_DISPATCH_KEEP_LAST` events per vCPU-second. If the waiting tasks
                /// are known, an event counts only if a task waited for the CPU from one sample to the next.
                bound monitor: f64
            };
            work_conservation: Bool, MonitorBound = OFF,
                "monitor: whether it is a violation that a CPU idles while tasks wait that are allowed to run on it" => {
                /// Monitor: whether it is a violation if a CPU idles while tasks wait that may run on it.
                bound monitor: bool
            };
            max_owed_ms: Limit, Check = "50",
                "schedule: most CPU time, in milliseconds, to which a task may become entitled while it waits without \
                running" => {
                /// Schedule: the largest CPU time, in milliseconds, to which a task may become entitled while it
                /// waits without running.
                bound schedule: Limit
            };
            min_entitled_share: Limit, Check = "0.7",
                "schedule: smallest share of its entitlement that a cgroup must get in a phase, 0 to 1" => {
                /// Schedule: the smallest share of its entitlement that a cgroup must get in a phase, from 0 to 1.
                bound schedule: Limit
            };
            min_task_share: Limit, Check = "0.5",
                "schedule: smallest share of its entitlement that a single task must get in a phase, 0 to 1" => {
                /// Schedule: the smallest share of its entitlement that a single task must get in a phase, from 0 to 1.
                bound schedule: Limit
            };
            max_wasted_share: Limit, Check = "0.1",
                "schedule: largest share of a phase's CPU time, 0 to 1, that is idle while a task waits that is \
                allowed to run there" => {
                /// Schedule: the largest share of a phase's CPU time, from 0 to 1, that may be idle while a task waits
                /// that may run on that CPU.
                bound schedule: Limit
            };
            max_wake_wait_ms: Limit, Check = "25",
                "schedule: largest 90th percentile of the time that a cgroup's tasks wait after a wakeup, in \
                milliseconds, divided by the average number of tasks per CPU" => {
                /// Schedule: the largest 90th percentile of the waits of a cgroup's tasks after a wakeup, in milliseconds,
                /// divided by the average number of tasks per CPU.
                bound schedule: Limit
            };
            max_preemption_rate: Limit, Check = "3000",
                "schedule: most preemptions per CPU-second of a cgroup" => {
                /// Schedule: the largest number of preemptions per CPU-second of a cgroup.
                bound schedule: Limit
            };
            min_driven_share: Limit, Check = "0.5",
                "schedule: least share of the workers' CPU time, 0 to 1, that the BPF scheduler under test must give, not \
                another class or the bypass" => {
                /// Schedule: the smallest share of the workers' CPU time, from 0 to 1, that the BPF scheduler under test
                /// must give, rather than another class or the bypass.
                bound schedule: Limit
            };
            monitor: Text, Outcome = "`\"enforce\"` if a monitor bound is given",
                "`\"report\"`: broken bounds of the monitor and of the schedule are only reported, no matter where \
                they are set; `\"enforce\"`: they fail the test";
            min_page_locality: Float, Check = OFF,
                "smallest share of pages on the expected nodes, 0 to 1" => {
                /// The smallest share of pages on the expected nodes, from 0 to 1.
                bound numa: f64
            };
            max_cross_node_migration_ratio: Float, Check = OFF,
                "most pages that the kernel moves between nodes in the machine, for each page of the cgroup's workers" => {
                /// The largest ratio of the pages that the kernel moved between nodes in the whole machine to the pages of
                /// the cgroup's workers. The ratio can exceed 1.
                bound numa: f64
            };
            max_slow_tier_ratio: Float, Check = OFF,
                "largest share of pages on memory-only nodes, 0 to 1" => {
                /// The largest share of pages on memory-only nodes, from 0 to 1.
                bound numa: f64
            };
            min_llcs: Positive(u32), Setting = "1",
                "fewest LLCs on which the test makes sense; a declared shape with fewer does not compile";
            max_llcs: Positive(u32), Setting = "12", "most LLCs, checked likewise";
            min_numa_nodes: Positive(u32), Setting = "1", "fewest NUMA nodes, checked likewise";
            max_numa_nodes: Positive(u32), Setting = "1",
                "most NUMA nodes, checked likewise; a limit that is not given rejects no shape";
            min_cpus: Positive(u32), Setting = "1", "fewest CPUs, checked likewise";
            max_cpus: Positive(u32), Setting = "192", "most CPUs, checked likewise";
            requires_smt: Bool, Setting = "false",
                "whether the shape must have more than one thread per core, checked likewise";
            performance_mode: Bool, Run = "false",
                "the numbers of the test are valid only with pinned CPUs and huge pages on the host: there is no \
                such mode, so the test is skipped; with `KTSTR_NO_SKIP_MODE` it fails, with `KTSTR_NO_PERF_MODE` it \
                runs like any other";
            no_perf_mode: Bool, Run = "false",
                "the test does without pinned CPUs; ktstr pins none in any case, so this only allows `cpu_budget`; not \
                with `performance_mode`";
            cpu_budget: Positive(u32), Run = "`KTSTR_CPU_CAP`, or all",
                "most CPUs of the host that the guest's CPUs may use; needs `no_perf_mode`";
            expect_err: Bool, Outcome = "false", "whether the run must end in an error";
            expect_scx_bpf_error_contains: TextOrPath, Check = OFF,
                "the kernel's or the scheduler's message about the scheduler's exit must contain this text; needs \
                `expect_err` and `scheduler`" => {
                /// A text that the message about the scheduler's exit, from the scheduler or the kernel, must contain. It
                /// applies only to tests with `expect_err`.
                bound other: &'static str
            };
            expect_scx_bpf_error_matches: TextOrPath, Check = OFF,
                "the message about the scheduler's exit must match this regular expression; needs `expect_err` and \
                `scheduler`" => {
                /// A regular expression that the message about the scheduler's exit must match. It applies only to
                /// tests with `expect_err`.
                bound other: &'static str
            };
            allow_inconclusive: Bool, Outcome = "false",
                "whether a run without a verdict exits with 0; its record still says inconclusive";
            survives_storm: Bool, Outcome = "false",
                "whether the scheduler must outlive the test: its ejection fails the test, whatever else was \
                concluded, unless a busy host explains it; needs `scheduler`, not with `expect_err`";
            expect_auto_repro: Bool, Reserved = "false", "the second run, with probes, must reproduce the error";
            host_only: Bool, Run = "false",
                "runs the function on the host, without a VM; not with `scheduler`, captures, callbacks, bounds of the \
                monitor or the schedule, `clock`, `cpu_budget`, `perf_delta_assertions`, `fresh_attach` and \
                `cleanup_budget_ms`";
            ignore: Bool, Run = "false", "lists the test as ignored, and does not run it by default";
            kaslr: Bool, Reserved = "false", "randomised kernel addresses, which the guest never has";
            pci: Bool, Reserved = "false", "devices on PCI";
            wprof: Bool, Reserved = "false", "tracing with wprof";
            wprof_args: Any, Reserved = "", "arguments of wprof";
            networks: Any, Reserved = "", "network devices";
            cleanup_budget_ms: Positive(u64), Outcome = "not checked",
                "longest time from the end of the scenario to the end of the guest, in milliseconds of guest time; a \
                longer time fails the test, unless the longest wait of a vCPU for the host explains the excess";
            disk: Path, Run = "none",
                "the guest's disk `/dev/vda`: path to a `DiskConfig`. Its capacity is added to the guest's memory, and its \
                requests take guest time, as those of a real disk";
            workload_root_cgroup: Text, Run = "`/ktstr`",
                "absolute path of the cgroup in the guest under which the scenario's cgroups are created";
            clock: Text, Run = "`\"auto\"`",
                "the guest's clock: `\"real\"`, `\"virtual\"`, or `\"auto\"`, which is real with KVM and virtual \
                without";
            seed: Integer(u64), Run = "0", "the run's seed; `KTSTR_SEED` overrides it";
            fresh_attach: Bool, Run = "false",
                "starts the scheduler in this run, instead of forking a template in which it is already attached";
        }
    };
}
