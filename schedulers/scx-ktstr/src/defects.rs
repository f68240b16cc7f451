// SPDX-License-Identifier: GPL-2.0-only
//! The table of planted defects on the Rust side: which flag sets which bit of `defects` in
//! .rodata. The bits are named in `bpf/intf.h`; their effects are in `bpf/defects.bpf.h`, or in
//! `run.rs` for mistakes of the process.
//!
//! `stall`, `crash` and `degrade_rt` are not in the table, because they are not fixed at load but
//! switched in a running scheduler through .bss.

/// The kind of check that is expected to detect a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oracle {
    /// A task makes no progress, or waits for seconds.
    Stuck,
    /// Shares of CPU time are unfair.
    Unfair,
    /// CPUs are idle while tasks wait.
    Idle,
    /// Wakeups take too long.
    Latency,
    /// There are far too many context switches.
    Switches,
    /// The scheduler is no longer loaded: it exited, or the kernel ejected it.
    Exit,
    /// The scheduler does not load.
    Load,
}

impl Oracle {
    /// Returns the name that `--list-defects` prints.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Unfair => "unfair",
            Self::Idle => "idle",
            Self::Latency => "latency",
            Self::Switches => "switches",
            Self::Exit => "exit",
            Self::Load => "load",
        }
    }
}

/// A planted defect that is fixed at load, with the flag that plants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Defect {
    /// The command line flag, without `--`.
    pub(crate) flag: &'static str,
    /// The name of its enumerator in `bpf/intf.h`, without `KTSTR_DEFECT_`.
    pub(crate) name: &'static str,
    /// Its bit in `defects`.
    pub(crate) bit: u32,
    /// What a scheduler with this defect does wrong, for `--help`.
    pub(crate) does: &'static str,
    /// The kind of check that is expected to detect it.
    pub(crate) seen_by: Oracle,
    /// Whether the defect shows only under some schedules, so that it is not detected in every run.
    pub(crate) rare: bool,
}

/// The defects that take effect some time after attach: the flag, the description, and the kind of
/// check that is expected to detect it. Each flag takes a number of seconds.
pub(crate) const TIMED: &[(&str, &str, Oracle)] = &[
    (
        "stall-after",
        "stop serving the shared queues S seconds after attach",
        Oracle::Stuck,
    ),
    (
        "degrade-after",
        "like --degrade, from S seconds after attach",
        Oracle::Idle,
    ),
    (
        "exit-after",
        "exit with status 0 S seconds after attach",
        Oracle::Exit,
    ),
    (
        "crash-after",
        "let the BPF part report an error S seconds after attach",
        Oracle::Exit,
    ),
];

/// All defects that are fixed at load, in the order of their bits.
pub(crate) const DEFECTS: &[Defect] = &[
    Defect {
        flag: "degrade",
        name: "DEGRADE",
        bit: 0,
        does: "enqueue on random CPUs, and skip half of the dispatches",
        seen_by: Oracle::Idle,
        rare: false,
    },
    Defect {
        flag: "scattershot",
        name: "SCATTERSHOT",
        bit: 1,
        does: "enqueue on random CPUs",
        seen_by: Oracle::Idle,
        rare: false,
    },
    Defect {
        flag: "slow",
        name: "SLOW",
        bit: 2,
        does: "skip three of four dispatches",
        seen_by: Oracle::Latency,
        rare: false,
    },
    Defect {
        flag: "fail-verify",
        name: "FAIL_VERIFY",
        bit: 3,
        does: "contain an access that the verifier rejects",
        seen_by: Oracle::Load,
        rare: false,
    },
    Defect {
        flag: "verify-loop",
        name: "VERIFY_LOOP",
        bit: 4,
        does: "contain an access that the verifier rejects, after a loop that fills its log",
        seen_by: Oracle::Load,
        rare: false,
    },
    Defect {
        flag: "forget",
        name: "FORGET",
        bit: 5,
        does: "forget one of 200 tasks whose slice ends",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "starve-cgroup",
        name: "STARVE_CGROUP",
        bit: 6,
        does: "serve the first cgroup only when no other task wants to run",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "starve-nice",
        name: "STARVE_NICE",
        bit: 7,
        does: "serve tasks of positive nice values only when no other task wants to run",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "ignore-affinity",
        name: "IGNORE_AFFINITY",
        bit: 8,
        does: "dispatch bound tasks to any CPU",
        seen_by: Oracle::Exit,
        rare: false,
    },
    Defect {
        flag: "stale-cpuset",
        name: "STALE_CPUSET",
        bit: 9,
        does: "send bound tasks to the CPU they started on, even if their affinity no longer allows it",
        seen_by: Oracle::Exit,
        rare: true,
    },
    Defect {
        flag: "wrong-cpu",
        name: "WRONG_CPU",
        bit: 10,
        does: "find an idle CPU and dispatch to its neighbour",
        seen_by: Oracle::Latency,
        rare: false,
    },
    Defect {
        flag: "idle-cpu",
        name: "IDLE_CPU",
        bit: 11,
        does: "never let the last CPU take a task from a queue",
        seen_by: Oracle::Idle,
        rare: false,
    },
    Defect {
        flag: "idle-llc",
        name: "IDLE_LLC",
        bit: 12,
        does: "use only the first LLC",
        seen_by: Oracle::Idle,
        rare: false,
    },
    Defect {
        flag: "slow-wake",
        name: "SLOW_WAKE",
        bit: 13,
        does: "queue woken tasks 100 ms behind the others, and kick no idle CPU",
        seen_by: Oracle::Latency,
        rare: false,
    },
    Defect {
        flag: "invert-priority",
        name: "INVERT_PRIORITY",
        bit: 14,
        does: "charge heavy tasks more and light ones less",
        seen_by: Oracle::Unfair,
        rare: false,
    },
    Defect {
        flag: "slice-long",
        name: "SLICE_LONG",
        bit: 15,
        does: "give slices of 10 s",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "switch-storm",
        name: "SWITCH_STORM",
        bit: 16,
        does: "preempt a task as soon as it runs, 63 times of 64",
        seen_by: Oracle::Switches,
        rare: false,
    },
    Defect {
        flag: "lost-wakeup",
        name: "LOST_WAKEUP",
        bit: 17,
        does: "lose one of 10,000 wakeups",
        seen_by: Oracle::Stuck,
        rare: true,
    },
    Defect {
        flag: "leak-queues",
        name: "LEAK_QUEUES",
        bit: 18,
        does: "keep the queues of removed cgroups, so that the fifth cgroup gets no queue",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "cpuset-unfair",
        name: "CPUSET_UNFAIR",
        bit: 19,
        does: "queue a task 3 s behind the others when its CPU is taken from it",
        seen_by: Oracle::Unfair,
        rare: false,
    },
    Defect {
        flag: "livelock",
        name: "LIVELOCK",
        bit: 20,
        does: "let CPUs preempt each other instead of taking a task, when many wait",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "migrate-vtime",
        name: "MIGRATE_VTIME",
        bit: 21,
        does: "keep the vtime of a task that moves to an LLC with a different clock",
        seen_by: Oracle::Unfair,
        rare: false,
    },
    Defect {
        flag: "no-steal",
        name: "NO_STEAL",
        bit: 22,
        does: "never take a task from another LLC",
        seen_by: Oracle::Idle,
        rare: false,
    },
    Defect {
        flag: "favour-cgroup",
        name: "FAVOUR_CGROUP",
        bit: 23,
        does: "charge the tasks of the first cgroup a quarter of their CPU time",
        seen_by: Oracle::Unfair,
        rare: false,
    },
    Defect {
        flag: "first-weight",
        name: "FIRST_WEIGHT",
        bit: 24,
        does: "keep using the weight that a task had when it came to the scheduler",
        seen_by: Oracle::Unfair,
        rare: false,
    },
    Defect {
        flag: "wrap-vtime",
        name: "WRAP_VTIME",
        bit: 25,
        does: "compare vtimes as if they never wrapped, and start shortly before they do",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "starve-kthreads",
        name: "STARVE_KTHREADS",
        bit: 26,
        does: "serve per-CPU kernel threads only when no other task wants to run",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "hoard",
        name: "HOARD",
        bit: 27,
        does: "take four tasks at once to a CPU's own queue",
        seen_by: Oracle::Idle,
        rare: false,
    },
    Defect {
        flag: "late-newcomers",
        name: "LATE_NEWCOMERS",
        bit: 28,
        does: "queue new tasks 2 s behind the others",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "newest-first",
        name: "NEWEST_FIRST",
        bit: 29,
        does: "serve the most recently queued task first",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "leave-on-hotplug",
        name: "LEAVE_ON_HOTPLUG",
        bit: 30,
        does: "exit instead of attaching again when a CPU goes online or offline",
        seen_by: Oracle::Exit,
        rare: false,
    },
];

impl Defect {
    /// Returns the defect that `--flag` plants; `None` if there is no such defect.
    pub(crate) fn by_flag(flag: &str) -> Option<&'static Self> {
        DEFECTS.iter().find(|defect| defect.flag == flag)
    }

    /// Lists all defects for programs, one per line with tab-separated fields: the flag, `S` if
    /// it takes seconds, the kind of check that is expected to detect it, `rare` or nothing,
    /// and the description.
    pub(crate) fn list() -> String {
        let fixed = DEFECTS.iter().map(|d| {
            let rare = if d.rare { "rare" } else { "" };
            format!("{}\t\t{}\t{rare}\t{}", d.flag, d.seen_by.name(), d.does)
        });
        let timed = TIMED
            .iter()
            .map(|(flag, does, seen_by)| format!("{flag}\tS\t{}\t\t{does}", seen_by.name()));
        fixed.chain(timed).collect::<Vec<_>>().join("\n")
    }

    /// Returns the defect's bit as a mask.
    pub(crate) fn mask(&self) -> u64 {
        1 << self.bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the enumerators of `enum ktstr_defect` as (name, value).
    fn enumerators() -> Vec<(&'static str, u32)> {
        include_str!("bpf/intf.h")
            .lines()
            .filter_map(|line| {
                let (name, value) = line
                    .trim()
                    .strip_prefix("KTSTR_DEFECT_")?
                    .strip_suffix(',')?
                    .split_once(" = ")?;
                Some((name, value.parse().expect("a number")))
            })
            .collect()
    }

    #[test]
    fn the_rust_and_the_bpf_table_agree() {
        let rust: Vec<_> = DEFECTS.iter().map(|d| (d.name, d.bit)).collect();
        assert_eq!(rust, enumerators());
    }

    #[test]
    fn every_defect_has_code() {
        let bpf = include_str!("bpf/defects.bpf.h");
        let process = include_str!("run.rs");
        for defect in DEFECTS {
            let in_bpf = format!("has_defect({})", defect.name);
            let in_process = format!("has_defect(\"{}\")", defect.flag);
            let asked = bpf.contains(&in_bpf) || process.contains(&in_process);
            assert!(asked, "nothing uses {in_bpf}");
        }
    }

    #[test]
    fn a_line_of_the_list_has_five_fields() {
        for line in Defect::list().lines() {
            assert_eq!(line.split('\t').count(), 5, "{line}");
        }
        assert!(Defect::list().contains("lost-wakeup\t\tstuck\trare\tlose one"));
        assert!(Defect::list().contains("exit-after\tS\texit\t\texit with"));
    }

    #[test]
    fn flags_and_bits_are_unique() {
        for (i, defect) in DEFECTS.iter().enumerate() {
            assert_eq!(defect.bit as usize, i);
            assert_eq!(Defect::by_flag(defect.flag), Some(defect));
        }
        assert_eq!(Defect::by_flag("no-such-defect"), None);
    }
}
