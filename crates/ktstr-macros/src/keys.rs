//! The table of keys: what each takes, and whether it is available.

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true`, `false`, or the bare key.
    Bool,
    /// An integer that may not be zero.
    Positive {
        /// The largest.
        max: u64,
    },
    /// An integer.
    Integer {
        /// The largest.
        max: u64,
    },
    /// A floating-point literal.
    Float,
    /// A string literal.
    Text,
    /// A string literal or a path to a constant.
    TextOrPath,
    /// A list of string literals.
    Texts,
    /// A path to an item.
    Path,
    /// Whatever stands there (the key is not available, or takes an expression).
    Any,
}

/// One key of `#[ktstr_test]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
}

/// Whether a key has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It has.
    Available,
    /// Not yet, whatever its value.
    Later,
    /// Only this value, which says that nothing is wanted.
    Only(bool),
}

use Kind::{Any, Bool, Float, Integer, Path, Positive, Text, TextOrPath, Texts};
use Status::{Available, Later, Only};

const U32: Kind = Positive {
    max: u32::MAX as u64,
};
const U64: Kind = Positive { max: u64::MAX };
const COUNT32: Kind = Integer {
    max: u32::MAX as u64,
};
const COUNT64: Kind = Integer { max: u64::MAX };

const fn key(name: &'static str, kind: Kind, status: Status) -> Key {
    Key { name, kind, status }
}

/// Every key, in the order of the documentation.
pub(crate) const KEYS: &[Key] = &[
    key("scheduler", Path, Available),
    key("numa_nodes", U32, Available),
    key("llcs", U32, Available),
    key("cores", U32, Available),
    key("threads", U32, Available),
    key("memory_mib", U32, Available),
    key("duration_s", U64, Available),
    key("watchdog_timeout_s", U64, Available),
    key("num_snapshots", COUNT32, Available),
    key("auto_repro", Bool, Available),
    key("post_vm", Path, Available),
    key("post_vm_unconditional", Path, Available),
    key("payload", Any, Later),
    key("workloads", Any, Later),
    key("staged_schedulers", Any, Later),
    key("extra_sched_args", Texts, Available),
    key("config", Any, Later),
    key("extra_include_files", Texts, Available),
    key("bpf_map_write", Any, Later),
    key("watch_bpf_maps", Any, Later),
    key("perf_delta_assertions", Any, Later),
    key("not_stuck", Bool, Available),
    key("isolation", Bool, Available),
    key("max_gap_ms", COUNT64, Available),
    key("max_spread_pct", Float, Available),
    key("max_throughput_cv", Float, Available),
    key("min_work_rate", Float, Available),
    key("max_p99_wake_latency_ns", COUNT64, Available),
    key("max_wake_latency_cv", Float, Available),
    key("min_iteration_rate", Float, Available),
    key("max_migration_ratio", Float, Available),
    key("max_imbalance_ratio", Float, Available),
    key("max_local_dsq_depth", COUNT32, Available),
    key("fail_on_rq_clock_stuck", Bool, Available),
    key("sustained_samples", COUNT32, Available),
    key("max_fallback_rate", Float, Available),
    key("max_keep_last_rate", Float, Available),
    key("work_conservation", Bool, Available),
    key("min_page_locality", Float, Available),
    key("max_cross_node_migration_ratio", Float, Available),
    key("max_slow_tier_ratio", Float, Available),
    key("min_llcs", U32, Available),
    key("max_llcs", U32, Available),
    key("min_numa_nodes", U32, Available),
    key("max_numa_nodes", U32, Available),
    key("min_cpus", U32, Available),
    key("max_cpus", U32, Available),
    key("requires_smt", Bool, Available),
    key("performance_mode", Bool, Only(false)),
    key("no_perf_mode", Bool, Available),
    key("cpu_budget", Any, Later),
    key("expect_err", Bool, Available),
    key("expect_scx_bpf_error_contains", TextOrPath, Available),
    key("expect_scx_bpf_error_matches", TextOrPath, Available),
    key("allow_inconclusive", Bool, Available),
    key("survives_storm", Bool, Only(false)),
    key("expect_auto_repro", Bool, Only(false)),
    key("host_only", Bool, Available),
    key("ignore", Bool, Available),
    key("kaslr", Bool, Only(false)),
    key("pci", Bool, Only(false)),
    key("wprof", Bool, Only(false)),
    key("wprof_args", Any, Later),
    key("disk", Any, Later),
    key("networks", Any, Later),
    key("cleanup_budget_ms", U64, Available),
    key("workload_root_cgroup", Text, Available),
    key("clock", Text, Available),
    key("seed", COUNT64, Available),
    key("fresh_attach", Bool, Available),
];

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
