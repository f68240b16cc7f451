// SPDX-License-Identifier: GPL-2.0-only
//! The table of planted defects, Rust side: which flag sets which bit of
//! `defects` in .rodata. The bits are named in `bpf/intf.h`, what they do is in
//! `bpf/defects.bpf.h`, or in `run.rs` for what the process does wrong.
//!
//! Not here: `stall`, `crash` and `degrade_rt`, which are not fixed at load but
//! switched in a running scheduler through .bss.

/// What is expected to notice a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oracle {
    /// Someone makes no progress, or waits for seconds.
    Stuck,
    /// Shares of CPU time.
    Unfair,
    /// CPUs that idle while tasks wait.
    Idle,
    /// Wake-ups that take too long.
    Latency,
    /// Context switches that are far too many.
    Switches,
    /// The scheduler is gone.
    Exit,
    /// It never came.
    Load,
}

impl Oracle {
    /// As `--list-defects` spells it.
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

/// One planted defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Defect {
    /// The command line flag, without `--`.
    pub(crate) flag: &'static str,
    /// Its enumerator in `bpf/intf.h`, without `KTSTR_DEFECT_`.
    pub(crate) name: &'static str,
    /// Its bit in `defects`.
    pub(crate) bit: u32,
    /// What a scheduler with it does wrong, for `--help`.
    pub(crate) does: &'static str,
    /// What is expected to notice it.
    pub(crate) seen_by: Oracle,
    /// Whether it depends on the schedule whether it strikes: some runs, or most, go without.
    pub(crate) rare: bool,
}

/// One that comes some time after attach: flag, what it does, what notices it. The flag takes
/// seconds.
pub(crate) const TIMED: &[(&str, &str, Oracle)] = &[
    (
        "stall-after",
        "stop serving the shared queues S seconds after attach",
        Oracle::Stuck,
    ),
    (
        "degrade-after",
        "as --degrade, from S seconds after attach",
        Oracle::Idle,
    ),
    (
        "exit-after",
        "exit with status 0 S seconds after attach",
        Oracle::Exit,
    ),
    (
        "crash-after",
        "let the BPF half report an error S seconds after attach",
        Oracle::Exit,
    ),
];

/// All of those that are fixed at load, in the order of their bits.
pub(crate) const DEFECTS: &[Defect] = &[
    Defect {
        flag: "degrade",
        name: "DEGRADE",
        bit: 0,
        does: "enqueue on random CPUs, leave out half of the dispatches",
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
        does: "leave out three of four dispatches",
        seen_by: Oracle::Latency,
        rare: false,
    },
    Defect {
        flag: "fail-verify",
        name: "FAIL_VERIFY",
        bit: 3,
        does: "contain an access that the verifier refuses",
        seen_by: Oracle::Load,
        rare: false,
    },
    Defect {
        flag: "verify-loop",
        name: "VERIFY_LOOP",
        bit: 4,
        does: "the same behind a loop that fills the verifier's log",
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
        does: "send bound tasks to the CPU they began on, even when it was taken from them",
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
        does: "put woken tasks 100 ms behind the others, tell no idle CPU",
        seen_by: Oracle::Latency,
        rare: false,
    },
    Defect {
        flag: "invert-priority",
        name: "INVERT_PRIORITY",
        bit: 14,
        does: "charge heavy tasks more, light ones less",
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
        does: "keep the queues of removed cgroups, so that after 4 there is none left",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "cpuset-unfair",
        name: "CPUSET_UNFAIR",
        bit: 19,
        does: "put a task 3 s behind the others when its CPU is taken from it",
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
        does: "take vtimes over to an LLC whose clock is another",
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
        does: "go on with the weight that a task had when it came",
        seen_by: Oracle::Unfair,
        rare: false,
    },
    Defect {
        flag: "wrap-vtime",
        name: "WRAP_VTIME",
        bit: 25,
        does: "compare vtimes as if they never wrapped, and begin shortly before they do",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "starve-kthreads",
        name: "STARVE_KTHREADS",
        bit: 26,
        does: "serve the kernel threads of a CPU only when no other task wants to run",
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
        does: "put new tasks 2 s behind the others",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "newest-first",
        name: "NEWEST_FIRST",
        bit: 29,
        does: "serve the task first that came last",
        seen_by: Oracle::Stuck,
        rare: false,
    },
    Defect {
        flag: "leave-on-hotplug",
        name: "LEAVE_ON_HOTPLUG",
        bit: 30,
        does: "exit instead of attaching again when a CPU goes on or off line",
        seen_by: Oracle::Exit,
        rare: false,
    },
];

impl Defect {
    /// The defect that `--flag` switches on.
    pub(crate) fn by_flag(flag: &str) -> Option<&'static Self> {
        DEFECTS.iter().find(|defect| defect.flag == flag)
    }

    /// All of them for programs: a line each of flag, `S` if it takes seconds, what notices it,
    /// `rare` or nothing, and what it does, with tabs between.
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

    /// Its bit as a mask.
    pub(crate) fn mask(&self) -> u64 {
        1 << self.bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The enumerators of `enum ktstr_defect`: (name, value).
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
    fn both_halves_of_the_table_agree() {
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
            assert!(asked, "nothing asks {in_bpf}");
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
