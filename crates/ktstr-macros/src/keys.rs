//! The table of all keys of `#[ktstr_test]`: the value that each takes, its default, its meaning, and whether it is available.

/// The kind of value that a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true`, `false`, or the bare key.
    Bool,
    /// An integer that may not be zero.
    Positive {
        /// The largest value that is accepted.
        max: u64,
    },
    /// An integer that may be zero.
    Integer {
        /// The largest value that is accepted.
        max: u64,
    },
    /// A floating-point literal that is finite and at least 0, such as `5.0`.
    Float,
    /// A floating-point or integer literal, or `off`.
    Limit,
    /// A string literal, and nothing that evaluates to one.
    Text,
    /// A string literal or a path to a constant.
    TextOrPath,
    /// A list of string literals.
    Texts,
    /// A path to an item.
    Path,
    /// A list of paths to items.
    Paths,
    /// A path to an item, or a list of them.
    PathOrPaths,
    /// Any expression. Only reserved keys have this kind, so its value is never looked at.
    Any,
}

/// What a key is about. The group decides under which heading of the documentation the key appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// What runs, and on which machine.
    Setting,
    /// A check: a field of `Assert` of the same name.
    Check,
    /// A check that bounds what the monitor samples. A bound that is given is enforced, unless `monitor` is `"report"`.
    MonitorBound,
    /// How the outcome is judged.
    Outcome,
    /// How the test is run.
    Run,
}

/// One key of `#[ktstr_test]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    pub(crate) group: Group,
    /// The value if the key is not given, as the documentation prints it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the page of all keys is checked by a test")
    )]
    pub(crate) default: &'static str,
    /// One line of documentation, including the unit.
    pub(crate) doc: &'static str,
}

/// Whether a key has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Every value has its effect.
    Available,
    /// The key is reserved: any use is an error.
    Later,
    /// Only this value is accepted, and it has no effect.
    Only(bool),
}

use Group::{Check, MonitorBound, Outcome, Run, Setting};
use Kind::{
    Any, Bool, Float, Integer, Limit, Path, PathOrPaths, Paths, Positive, Text, TextOrPath, Texts,
};
use Status::{Available, Later, Only};

const U32: Kind = Positive {
    max: u32::MAX as u64,
};
const U64: Kind = Positive { max: u64::MAX };
const COUNT32: Kind = Integer {
    max: u32::MAX as u64,
};
const COUNT64: Kind = Integer { max: u64::MAX };

const fn key(
    name: &'static str,
    kind: Kind,
    group: Group,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        status: Available,
        group,
        default,
        doc,
    }
}

/// A key that is reserved and not implemented yet: any use is an error.
const fn later(name: &'static str, doc: &'static str) -> Key {
    Key {
        status: Later,
        ..key(name, Any, Run, "", doc)
    }
}

/// A key of which only `false` is implemented.
const fn only_false(name: &'static str, doc: &'static str) -> Key {
    Key {
        status: Only(false),
        ..key(name, Bool, Run, "false", doc)
    }
}

const INHERITED: &str = "the scheduler's";
const OFF: &str = "not checked";

/// Every key, in the order of the documentation. A key that is accepted has an effect: a test
/// expands each of them and looks for that effect.
pub(crate) const KEYS: &[Key] = &[
    key(
        "scheduler",
        Path,
        Setting,
        "`Scheduler::EEVDF`",
        "the scheduler under test, a `const` or `static`",
    ),
    key(
        "numa_nodes",
        U32,
        Setting,
        INHERITED,
        "NUMA nodes of the guest",
    ),
    key(
        "llcs",
        U32,
        Setting,
        INHERITED,
        "last-level caches, over all nodes; a multiple of `numa_nodes`",
    ),
    key("cores", U32, Setting, INHERITED, "cores of each LLC"),
    key(
        "threads",
        U32,
        Setting,
        INHERITED,
        "hardware threads of each core",
    ),
    key(
        "memory_mib",
        U32,
        Setting,
        "256",
        "memory of the guest in MiB; it gets at least 64 MiB for each CPU, and more for the files packed for it",
    ),
    key(
        "duration_s",
        U64,
        Setting,
        "12",
        "the workload window in seconds of guest time",
    ),
    key(
        "watchdog_timeout_s",
        U64,
        Setting,
        "5",
        "how long sched_ext lets a runnable task wait before it ejects the scheduler, in seconds of guest time",
    ),
    key(
        "num_snapshots",
        COUNT32,
        Setting,
        "0",
        "captures spread over the window, at most 64 and at least 100 ms apart",
    ),
    key(
        "auto_repro",
        Bool,
        Run,
        "true",
        "whether a run that failed under a BPF scheduler is repeated from the same seed, with captures at the times of its findings; a test that passes pays nothing for it; `true` needs a VM",
    ),
    key(
        "post_vm",
        Path,
        Outcome,
        "with captures: at least one must hold data",
        "`fn(&VmResult) -> anyhow::Result<()>`, called on the host unless the guest's verdict is a failure",
    ),
    key(
        "post_vm_unconditional",
        Path,
        Outcome,
        "none",
        "the same, called after every run in a VM, whatever its verdict",
    ),
    key(
        "payload",
        Path,
        Setting,
        "none",
        "the program of the host that the test runs as its load, a `const` or `static` `Payload`: it is packed for the guest and named in the record; the test function or an operation starts it",
    ),
    key(
        "workloads",
        Paths,
        Setting,
        "`[]`",
        "further programs of the host that the test runs, each a `const` or `static` `Payload`, packed likewise",
    ),
    key(
        "staged_schedulers",
        Paths,
        Setting,
        "`[]`",
        "schedulers that operations of the test may start, each a `const` or `static`",
    ),
    key(
        "extra_sched_args",
        Texts,
        Setting,
        "`[]`",
        "arguments of the scheduler, after its own",
    ),
    key(
        "config",
        TextOrPath,
        Setting,
        "none",
        "the content of the scheduler's configuration file: given where the scheduler has a `config_file_def`, and only there; needs `scheduler`",
    ),
    key(
        "extra_include_files",
        Texts,
        Setting,
        "`[]`",
        "files of the host, found in the guest under `/include-files/` by their base names, which must differ: a bare name is searched in the current folder and in `PATH`, a folder is copied with its contents, and a program with its shared libraries",
    ),
    key(
        "bpf_map_write",
        PathOrPaths,
        Setting,
        "`[]`",
        "values that the host writes into variables of the scheduler before the scenario makes its first cgroup, each a `const` or `static` `BpfMapWrite`; needs `scheduler`",
    ),
    key(
        "watch_bpf_maps",
        PathOrPaths,
        Setting,
        "`[]`",
        "variables of the scheduler that the host reads in the workload window, as metrics of the run, each a `const` or `static` `WatchBpfMap`; needs `scheduler`",
    ),
    key(
        "perf_delta_assertions",
        PathOrPaths,
        Outcome,
        "`[]`",
        "metrics that may not be much worse than in the earlier run of the test whose sidecar is in the folder `KTSTR_PERF_BASELINE`, each a `const` or `static` `PerfDeltaAssertion`; without that variable nothing is compared",
    ),
    key(
        "not_stuck",
        Bool,
        Check,
        OFF,
        "every worker makes progress; enables the default bound on the gap and, under the real clock, the default bound on the spread",
    ),
    key(
        "isolation",
        Bool,
        Check,
        OFF,
        "every worker stays inside its cgroup's cpuset",
    ),
    key(
        "max_gap_ms",
        COUNT64,
        Check,
        OFF,
        "longest time between two iterations of a worker, in milliseconds of guest time",
    ),
    key(
        "max_spread_pct",
        Float,
        Check,
        OFF,
        "largest difference between the off-CPU shares of a cgroup's workers, in percentage points",
    ),
    key(
        "max_throughput_cv",
        Float,
        Check,
        OFF,
        "largest coefficient of variation of work units per CPU-second among a cgroup's workers",
    ),
    key(
        "min_work_rate",
        Float,
        Check,
        OFF,
        "fewest work units per CPU-second of a worker",
    ),
    key(
        "max_p99_wake_latency_ns",
        COUNT64,
        Check,
        OFF,
        "largest 99th percentile of a cgroup's wakeup latencies, in nanoseconds of guest time",
    ),
    key(
        "max_wake_latency_cv",
        Float,
        Check,
        OFF,
        "largest coefficient of variation of a cgroup's wakeup latencies",
    ),
    key(
        "min_iteration_rate",
        Float,
        Check,
        OFF,
        "fewest iterations per CPU-second of a worker",
    ),
    key(
        "max_migration_ratio",
        Float,
        Check,
        OFF,
        "most migrations per iteration of a cgroup",
    ),
    key(
        "max_imbalance_ratio",
        Float,
        MonitorBound,
        OFF,
        "monitor: largest ratio of the longest to the shortest run queue",
    ),
    key(
        "max_local_dsq_depth",
        COUNT32,
        MonitorBound,
        OFF,
        "monitor: most tasks in a local DSQ",
    ),
    key(
        "fail_on_rq_clock_stuck",
        Bool,
        MonitorBound,
        OFF,
        "monitor: whether a run queue clock that does not advance is a violation",
    ),
    key(
        "sustained_samples",
        COUNT32,
        MonitorBound,
        OFF,
        "monitor: how many samples in a row make a violation",
    ),
    key(
        "max_fallback_rate",
        Float,
        MonitorBound,
        OFF,
        "monitor: most `SCX_EV_SELECT_CPU_FALLBACK` events per vCPU-second",
    ),
    key(
        "max_keep_last_rate",
        Float,
        MonitorBound,
        OFF,
        "monitor: most `SCX_EV_DISPATCH_KEEP_LAST` events per vCPU-second",
    ),
    key(
        "work_conservation",
        Bool,
        MonitorBound,
        OFF,
        "monitor: whether it is a violation that a CPU idles while tasks wait that are allowed to run on it",
    ),
    key(
        "max_owed_ms",
        Limit,
        Check,
        "50",
        "schedule: most CPU time, in milliseconds, to which a task may become entitled while it waits without running",
    ),
    key(
        "min_entitled_share",
        Limit,
        Check,
        "0.7",
        "schedule: least share of its entitlement that a cgroup must get in a phase, 0 to 1",
    ),
    key(
        "min_task_share",
        Limit,
        Check,
        "0.5",
        "schedule: least share of its entitlement that a single task must get in a phase, 0 to 1",
    ),
    key(
        "max_wasted_share",
        Limit,
        Check,
        "0.1",
        "schedule: largest share of a phase's CPU time, 0 to 1, that is idle while a task waits that is allowed to run there",
    ),
    key(
        "max_wake_wait_ms",
        Limit,
        Check,
        "25",
        "schedule: largest 90th percentile of the time that a cgroup's tasks wait after a wakeup, in milliseconds, divided by the average number of tasks per CPU",
    ),
    key(
        "max_preemption_rate",
        Limit,
        Check,
        "3000",
        "schedule: most preemptions per CPU-second of a cgroup",
    ),
    key(
        "min_driven_share",
        Limit,
        Check,
        "0.5",
        "schedule: least share of the workers' CPU time, 0 to 1, that the scheduler under test must give, not another class or the bypass",
    ),
    key(
        "monitor",
        Text,
        Outcome,
        "`\"enforce\"` if a monitor bound is given",
        "`\"report\"`: broken bounds of the monitor and of the schedule are only reported, no matter where they are set; `\"enforce\"`: they fail the test",
    ),
    key(
        "min_page_locality",
        Float,
        Check,
        OFF,
        "smallest share of pages on the expected nodes, 0 to 1",
    ),
    key(
        "max_cross_node_migration_ratio",
        Float,
        Check,
        OFF,
        "largest share of pages moved between nodes, 0 to 1",
    ),
    key(
        "max_slow_tier_ratio",
        Float,
        Check,
        OFF,
        "largest share of pages on memory-only nodes, 0 to 1",
    ),
    key(
        "min_llcs",
        U32,
        Setting,
        "1",
        "fewest LLCs on which the test makes sense; a declared shape with fewer does not compile",
    ),
    key(
        "max_llcs",
        U32,
        Setting,
        "12",
        "most LLCs, checked likewise",
    ),
    key(
        "min_numa_nodes",
        U32,
        Setting,
        "1",
        "fewest NUMA nodes, checked likewise",
    ),
    key(
        "max_numa_nodes",
        U32,
        Setting,
        "1",
        "most NUMA nodes, checked likewise; a limit that is not given rejects no shape",
    ),
    key(
        "min_cpus",
        U32,
        Setting,
        "1",
        "fewest CPUs, checked likewise",
    ),
    key(
        "max_cpus",
        U32,
        Setting,
        "192",
        "most CPUs, checked likewise",
    ),
    key(
        "requires_smt",
        Bool,
        Setting,
        "false",
        "whether the shape must have more than one thread per core, checked likewise",
    ),
    key(
        "performance_mode",
        Bool,
        Run,
        "false",
        "the numbers of the test mean something only with pinned CPUs and huge pages on the host: there is no such mode, so the test is skipped; with `KTSTR_NO_SKIP_MODE` it fails, with `KTSTR_NO_PERF_MODE` it runs like any other",
    ),
    key(
        "no_perf_mode",
        Bool,
        Run,
        "false",
        "the test does without pinned CPUs; ktstr pins none in any case, so this only allows `cpu_budget`; not with `performance_mode`",
    ),
    key(
        "cpu_budget",
        U32,
        Run,
        "`KTSTR_CPU_CAP`, or all",
        "most CPUs of the host that the guest's CPUs may use; needs `no_perf_mode`",
    ),
    key(
        "expect_err",
        Bool,
        Outcome,
        "false",
        "whether the run must end in an error",
    ),
    key(
        "expect_scx_bpf_error_contains",
        TextOrPath,
        Check,
        OFF,
        "the kernel's or the scheduler's message about the scheduler's exit must contain this text; needs `expect_err` and `scheduler`",
    ),
    key(
        "expect_scx_bpf_error_matches",
        TextOrPath,
        Check,
        OFF,
        "the message about the scheduler's exit must match this regular expression; needs `expect_err` and `scheduler`",
    ),
    key(
        "allow_inconclusive",
        Bool,
        Outcome,
        "false",
        "whether a run without a verdict exits with 0; its record still says inconclusive",
    ),
    key(
        "survives_storm",
        Bool,
        Outcome,
        "false",
        "whether the scheduler must outlive the test: its ejection fails the test, whatever else was concluded; needs `scheduler`, not with `expect_err`",
    ),
    only_false(
        "expect_auto_repro",
        "the second run, with probes, must reproduce the error",
    ),
    key(
        "host_only",
        Bool,
        Run,
        "false",
        "runs the function on the host, without a VM; not with `scheduler`, captures, callbacks, `clock`, `cpu_budget`, `perf_delta_assertions` and `cleanup_budget_ms`",
    ),
    key(
        "ignore",
        Bool,
        Run,
        "false",
        "lists the test as ignored, and does not run it by default",
    ),
    only_false(
        "kaslr",
        "randomised kernel addresses, which the guest never has",
    ),
    only_false("pci", "devices on PCI"),
    only_false("wprof", "tracing with wprof"),
    later("wprof_args", "arguments of wprof"),
    later("disk", "a block device"),
    later("networks", "network devices"),
    key(
        "cleanup_budget_ms",
        U64,
        Outcome,
        "not checked",
        "longest time from the end of the scenario to the end of the guest, in milliseconds of guest time; a longer time fails the test, unless the host delayed the vCPUs by more than a tenth of their time",
    ),
    key(
        "workload_root_cgroup",
        Text,
        Run,
        "`/ktstr`",
        "absolute path of the cgroup in the guest under which the scenario's cgroups are created",
    ),
    key(
        "clock",
        Text,
        Run,
        "`\"auto\"`",
        "the guest's clock: `\"real\"`, `\"virtual\"`, or `\"auto\"`, which is real with KVM and virtual without",
    ),
    key(
        "seed",
        COUNT64,
        Run,
        "0",
        "the run's seed; `KTSTR_SEED` overrides it",
    ),
    key(
        "fresh_attach",
        Bool,
        Run,
        "false",
        "starts the scheduler in this run, instead of forking a template in which it is already attached",
    ),
];

/// Renders the table of all keys, which is the documentation of `#[ktstr_test]`.
#[cfg(test)]
pub(crate) fn page() -> String {
    use std::fmt::Write;

    let mut text = String::new();
    let built = |key: &&Key| key.status == Available;
    for (groups, heading) in [
        (&[Setting][..], "What runs, and on which machine"),
        (&[Check, MonitorBound], "Checks"),
        (&[Outcome], "How the outcome is judged"),
        (&[Run], "How it runs"),
    ] {
        let _ = write!(
            text,
            "# {heading}\n\n| Key | Takes | Default | Meaning |\n| --- | --- | --- | --- |\n"
        );
        let here = |key: &&Key| groups.contains(&key.group);
        for key in KEYS.iter().filter(built).filter(here) {
            let takes = match key.kind {
                Bool => "`bool`".to_owned(),
                Positive { max } if max > u64::from(u32::MAX) => "`u64`, at least 1".to_owned(),
                Positive { .. } => "`u32`, at least 1".to_owned(),
                Integer { max } if max > u64::from(u32::MAX) => "`u64`".to_owned(),
                Integer { .. } => "`u32`".to_owned(),
                Float => "`f64` literal".to_owned(),
                Limit => "number or `off`".to_owned(),
                Text => "string literal".to_owned(),
                TextOrPath => "string literal or path".to_owned(),
                Texts => "list of string literals".to_owned(),
                Path => "path".to_owned(),
                Paths => "list of paths".to_owned(),
                PathOrPaths => "path or list of paths".to_owned(),
                Any => "expression".to_owned(),
            };
            let _ = writeln!(
                text,
                "| `{}` | {takes} | {} | {} |",
                key.name, key.default, key.doc
            );
        }
        text.push('\n');
    }
    text.push_str("# Reserved\n\nThese keys are not implemented yet. Using one is a compile error, except for `false` where the table says so.\n\n| Key | Intended meaning |\n| --- | --- |\n");
    for key in KEYS.iter().filter(|key| !built(key)) {
        let only = if key.status == Only(false) {
            " (`false` is accepted)"
        } else {
            ""
        };
        let _ = writeln!(text, "| `{}` | {}{only} |", key.name, key.doc);
    }
    text
}

/// Returns the error message for a key that is not among `keys`. It suggests the key that is most like `given`, if there is one,
/// and lists all keys.
pub(crate) fn unknown(given: &str, keys: &[&str]) -> String {
    let hint =
        nearest(given, keys).map_or(".".to_owned(), |name| format!(", did you mean `{name}`?"));
    format!(
        "unknown key `{given}`{hint} Valid keys: {}",
        keys.join(", ")
    )
}

/// Returns the first of the names that are closest to `given`; `None` if no name is so close that `given` could be a
/// misspelling of it.
pub(crate) fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    // Two swapped letters are a distance of two.
    let limit = if given.len() < 4 {
        1
    } else {
        (given.len() / 3).max(2)
    };
    names
        .iter()
        .map(|&name| (distance(given, name), name))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Returns the Levenshtein distance of two strings.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, &cb) in row.iter_mut().skip(1).zip(&b) {
            let here = (diagonal + usize::from(ca != cb))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn the_documentation_is_the_table() {
        let (kept, page) = (include_str!("attributes.md"), page());
        if kept != page {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/attributes.md.new");
            std::fs::write(path, &page).expect("writable");
            panic!("src/attributes.md differs from the table of keys; replace it with {path}");
        }
    }

    #[test]
    fn names_are_unique() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..i].iter().all(|k| k.name != key.name), "{}", key.name);
        }
    }

    #[test]
    fn typing_errors_are_recognised() {
        let names = ["duration_s", "llcs", "cores"];
        assert_eq!(nearest("duration", &names), Some("duration_s"));
        assert_eq!(nearest("llc", &names), Some("llcs"));
        assert_eq!(nearest("payload", &names), None);
    }
}
