// SPDX-License-Identifier: GPL-2.0-only
//! The table of planted defects, Rust side: which flag sets which bit of
//! `defects` in .rodata. The bits are named in `bpf/intf.h`, what they do is in
//! `bpf/defects.bpf.h`.
//!
//! Not here: `stall`, `crash` and `degrade_rt`, which are not fixed at load but
//! switched in a running scheduler through .bss.

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
}

/// All of them, in the order of their bits.
pub(crate) const DEFECTS: &[Defect] = &[
    Defect {
        flag: "degrade",
        name: "DEGRADE",
        bit: 0,
        does: "enqueue on random CPUs, leave out half of the dispatches",
    },
    Defect {
        flag: "scattershot",
        name: "SCATTERSHOT",
        bit: 1,
        does: "enqueue on random CPUs",
    },
    Defect {
        flag: "slow",
        name: "SLOW",
        bit: 2,
        does: "leave out three of four dispatches",
    },
    Defect {
        flag: "fail-verify",
        name: "FAIL_VERIFY",
        bit: 3,
        does: "contain an access that the verifier refuses",
    },
    Defect {
        flag: "verify-loop",
        name: "VERIFY_LOOP",
        bit: 4,
        does: "the same behind a loop that fills the verifier's log",
    },
];

impl Defect {
    /// The defect that `--flag` switches on.
    pub(crate) fn by_flag(flag: &str) -> Option<&'static Self> {
        DEFECTS.iter().find(|defect| defect.flag == flag)
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
        let code = include_str!("bpf/defects.bpf.h");
        for defect in DEFECTS {
            let question = format!("has_defect({})", defect.name);
            assert!(code.contains(&question), "nothing asks {question}");
        }
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
