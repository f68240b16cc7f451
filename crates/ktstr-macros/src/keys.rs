//! The table of keys: what each takes, and whether it is available.

/// What a key takes.
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
    /// A floating-point literal.
    Float,
    /// A floating-point or integer literal, or `off`.
    Limit,
    /// A string literal.
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
    /// Whatever stands there (the key is not available, or takes an expression).
    Any,
}

/// What a key is about. It decides the heading of the documentation that it stands under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// What is run, and on which machine.
    Setting,
    /// A check: a field of `Assert` of the same name.
    Check,
    /// A check that bounds what the monitor samples: one that is given is enforced.
    MonitorBound,
    /// What becomes of the outcome.
    Outcome,
    /// How the run is done.
    Run,
}

/// One key of `#[ktstr_test]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    pub(crate) group: Group,
    /// The value without the key, as the documentation has it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the page of all keys is checked by a test")
    )]
    pub(crate) default: &'static str,
    /// One line of documentation, with the unit.
    pub(crate) doc: &'static str,
}

/// Whether a key has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It has one, whatever its value.
    Available,
    /// Not yet, whatever its value.
    Later,
    /// Only this value, which says that nothing is wanted.
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

/// A key that is known and not built yet: any use is an error.
const fn later(name: &'static str, doc: &'static str) -> Key {
    Key {
        status: Later,
        ..key(name, Any, Run, "", doc)
    }
}

/// A key of which only `false` is built.
const fn only_false(name: &'static str, doc: &'static str) -> Key {
    Key {
        status: Only(false),
        ..key(name, Bool, Run, "false", doc)
    }
}

const INHERITED: &str = "the scheduler's";
const OFF: &str = "not asked";

/// Every key, in the order of the documentation. A key that is accepted has an effect: a test
/// expands each of them and looks for it.
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
        "least memory of the guest in MiB; 64 MiB for each CPU and the files packed for it are added where they need more",
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
    only_false(
        "auto_repro",
        "a second run with probes when the scheduler dies",
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
        "the same, called after every run in a VM",
    ),
    key(
        "payload",
        Path,
        Setting,
        "none",
        "the program of the host that the test runs as its load, a `const` or `static` `Payload`: it is packed for the guest and named in the record; who starts it is the test function or an operation",
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
        "files of the host, found in the guest under `/include-files/` by their base names, which must differ: a bare name is looked for in the current folder and in `PATH`, a folder comes with all that lies in it, a program with its shared libraries",
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
    later("perf_delta_assertions", "comparisons with other runs"),
    key(
        "not_stuck",
        Bool,
        Check,
        OFF,
        "every worker makes progress; turns on the default bounds of gap and, on the real clock, of spread",
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
        "largest difference of off-CPU shares inside a cgroup, in percentage points",
    ),
    key(
        "max_throughput_cv",
        Float,
        Check,
        OFF,
        "largest coefficient of variation of work units a CPU-second inside a cgroup",
    ),
    key(
        "min_work_rate",
        Float,
        Check,
        OFF,
        "fewest work units a CPU-second of a worker",
    ),
    key(
        "max_p99_wake_latency_ns",
        COUNT64,
        Check,
        OFF,
        "largest 99th percentile of a cgroup's wake-up latencies, in nanoseconds of guest time",
    ),
    key(
        "max_wake_latency_cv",
        Float,
        Check,
        OFF,
        "largest coefficient of variation of a cgroup's wake-up latencies",
    ),
    key(
        "min_iteration_rate",
        Float,
        Check,
        OFF,
        "fewest iterations a CPU-second of a worker",
    ),
    key(
        "max_migration_ratio",
        Float,
        Check,
        OFF,
        "most migrations an iteration of a cgroup",
    ),
    key(
        "max_imbalance_ratio",
        Float,
        MonitorBound,
        OFF,
        "monitor: largest ratio of the longest to the shortest runqueue",
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
        "monitor: whether a runqueue clock that does not advance is a violation",
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
        "monitor: most `SCX_EV_SELECT_CPU_FALLBACK` events a vCPU-second",
    ),
    key(
        "max_keep_last_rate",
        Float,
        MonitorBound,
        OFF,
        "monitor: most `SCX_EV_DISPATCH_KEEP_LAST` events a vCPU-second",
    ),
    key(
        "work_conservation",
        Bool,
        MonitorBound,
        OFF,
        "monitor: whether a CPU that idles while tasks wait that may run there is a violation",
    ),
    key(
        "max_owed_ms",
        Limit,
        Check,
        "50",
        "schedule: most CPU time in milliseconds that a task may be entitled to while it waits without being served",
    ),
    key(
        "min_entitled_share",
        Limit,
        Check,
        "0.7",
        "schedule: least share of its entitlement that a cgroup gets in a phase, 0 to 1",
    ),
    key(
        "min_task_share",
        Limit,
        Check,
        "0.5",
        "schedule: the same of a single task",
    ),
    key(
        "max_wasted_share",
        Limit,
        Check,
        "0.1",
        "schedule: largest share of a phase's CPU time, 0 to 1, that idles beside a task which may run there",
    ),
    key(
        "max_wake_wait_ms",
        Limit,
        Check,
        "25",
        "schedule: longest 90th percentile of the waits of a cgroup's tasks after a wake-up, in milliseconds for each task that a CPU has to serve on average",
    ),
    key(
        "max_preemption_rate",
        Limit,
        Check,
        "3000",
        "schedule: most preemptions in a second of CPU time of a cgroup",
    ),
    key(
        "min_driven_share",
        Limit,
        Check,
        "0.5",
        "schedule: least share of the workers' CPU time, 0 to 1, that the scheduler under test gives",
    ),
    key(
        "monitor",
        Text,
        Outcome,
        "`\"enforce\"` if a monitor bound is given",
        "`\"report\"`: broken bounds of the monitor and of the schedule are notes, whoever sets them; `\"enforce\"`: they fail the test",
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
        "fewest LLCs that the test makes sense on; a declared shape with fewer does not compile",
    ),
    key("max_llcs", U32, Setting, "12", "most LLCs, likewise"),
    key(
        "min_numa_nodes",
        U32,
        Setting,
        "1",
        "fewest NUMA nodes, likewise",
    ),
    key(
        "max_numa_nodes",
        U32,
        Setting,
        "1",
        "most NUMA nodes, likewise; a limit that is not given refuses nothing",
    ),
    key("min_cpus", U32, Setting, "1", "fewest CPUs, likewise"),
    key("max_cpus", U32, Setting, "192", "most CPUs, likewise"),
    key(
        "requires_smt",
        Bool,
        Setting,
        "false",
        "whether the shape must have more than one thread to a core, likewise",
    ),
    key(
        "performance_mode",
        Bool,
        Run,
        "false",
        "the numbers of the test mean something only with pinned CPUs and huge pages on the host: there is no such mode, so the test is skipped; with `KTSTR_NO_SKIP_MODE` it fails",
    ),
    key(
        "no_perf_mode",
        Bool,
        Run,
        "false",
        "the test wants no pinned CPUs, so that its shape is built on any host, as every shape is; not with `performance_mode`",
    ),
    later("cpu_budget", "CPUs of the host to share"),
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
        "what the kernel or the scheduler says of the scheduler's end must contain this; needs `expect_err` and `scheduler`",
    ),
    key(
        "expect_scx_bpf_error_matches",
        TextOrPath,
        Check,
        OFF,
        "the same must match this regular expression",
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
        "whether the scheduler must outlive the test: its ejection fails it, whatever else was concluded; needs `scheduler`, not with `expect_err`",
    ),
    only_false(
        "expect_auto_repro",
        "the probed run must show the error again",
    ),
    key(
        "host_only",
        Bool,
        Run,
        "false",
        "runs the function on the host, without a VM; not with `scheduler`, captures, callbacks, `clock` and `cleanup_budget_ms`",
    ),
    key("ignore", Bool, Run, "false", "listed only as ignored"),
    only_false("kaslr", "kernel addresses are never randomised"),
    only_false("pci", "devices on PCI"),
    only_false("wprof", "tracing with wprof"),
    later("wprof_args", "arguments of wprof"),
    later("disk", "a block device"),
    later("networks", "network devices"),
    key(
        "cleanup_budget_ms",
        U64,
        Outcome,
        "not asked",
        "longest time from the end of the scenario to the end of the guest, in milliseconds of guest time; a longer one fails the test, unless the host delayed the vCPUs by more than a tenth of their time",
    ),
    key(
        "workload_root_cgroup",
        Text,
        Run,
        "`/ktstr`",
        "absolute path of the cgroup in the guest under which the scenario's cgroups are made",
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
        "the run's seed; `KTSTR_SEED` goes before it",
    ),
    key(
        "fresh_attach",
        Bool,
        Run,
        "false",
        "starts the scheduler anew, not from a template that has it attached",
    ),
];

/// The page of all keys, which is the documentation of `#[ktstr_test]`.
#[cfg(test)]
pub(crate) fn page() -> String {
    use std::fmt::Write;

    let mut text = String::new();
    let built = |key: &&Key| key.status == Available;
    for (groups, heading) in [
        (&[Setting][..], "What runs, and on which machine"),
        (&[Check, MonitorBound], "Checks"),
        (&[Outcome], "What becomes of the outcome"),
        (&[Run], "How it runs"),
    ] {
        let _ = write!(
            text,
            "# {heading}\n\n| Key | Takes | Without it | Meaning |\n| --- | --- | --- | --- |\n"
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
    text.push_str("# Known, not built yet\n\nUsing one of these is a compile error; of those marked so, `false` is accepted.\n\n| Key | What it is to be |\n| --- | --- |\n");
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

/// The keys of the table `keys` as an error message lists them, with the one most like `given`.
pub(crate) fn unknown(given: &str, keys: &[&str]) -> String {
    let hint =
        nearest(given, keys).map_or(".".to_owned(), |name| format!(", did you mean `{name}`?"));
    format!(
        "unknown key `{given}`{hint} Valid keys: {}",
        keys.join(", ")
    )
}

/// The name of `names` closest to `given`, when it is close enough to be a slip.
pub(crate) fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    // Two letters swapped are a distance of two.
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

/// Levenshtein's edit distance.
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
            panic!("src/attributes.md is not the table of keys; put {path} in its place");
        }
    }

    #[test]
    fn names_are_unique() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..i].iter().all(|k| k.name != key.name), "{}", key.name);
        }
    }

    #[test]
    fn slips_are_recognised() {
        let names = ["duration_s", "llcs", "cores"];
        assert_eq!(nearest("duration", &names), Some("duration_s"));
        assert_eq!(nearest("llc", &names), Some("llcs"));
        assert_eq!(nearest("payload", &names), None);
    }
}
