//! Detects that libbpf refused to load a scheduler because it does not match this kernel: the scheduler calls a
//! function, or reads a variable, that is missing from the kernel's type information (BTF) or has another type there.
//! This is neither a defect of the scheduler's code nor proof of a defect of the kernel: either the BTF is wrong
//! (pahole before 1.31 leaves kfuncs of sched_ext out, or gives them another prototype), or the scheduler was built for
//! another version.
//!
//! The messages are those of `bpf_object__resolve_ksym_*` in libbpf.c, which prints them as warnings only if the load
//! fails.

use std::fmt;

/// The text before the symbol's name in libbpf's messages, for a function and for a variable.
const BEFORE_NAME: [&str; 2] = ["extern (func ksym) '", "extern (var ksym) '"];

/// A symbol of the kernel that the scheduler needs and that does not match.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit<'a> {
    /// The name of the function or variable.
    name: &'a str,
    how: How,
    /// libbpf's message about the symbol.
    pub(super) line: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
enum How {
    /// The symbol's type in the kernel is not the one with which the scheduler was built.
    Differs,
    /// The symbol is missing from the kernel's BTF.
    Missing,
}

/// Returns the last mismatch in a scheduler's log; `None` if it contains none.
pub(super) fn of(log: &str) -> Option<Misfit<'_>> {
    log.lines().rev().find_map(|line| {
        let rest = BEFORE_NAME
            .iter()
            .find_map(|before| Some(line.split_once(before)?.1))?;
        let (name, problem) = rest.split_once("': ")?;
        let how = if problem.contains("incompatible ") {
            How::Differs
        } else if problem.starts_with("not found in kernel") {
            How::Missing
        } else {
            return None;
        };
        let line = line.trim();
        Some(Misfit { name, how, line })
    })
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        f.write_str("this scheduler does not match this kernel: ")?;
        match self.how {
            How::Differs => write!(f, "`{name}` has another type in the kernel's BTF"),
            How::Missing => write!(f, "the kernel's BTF has no `{name}`"),
        }
    }
}

impl Misfit<'_> {
    /// Returns the evidence, and what to do.
    pub(super) fn evidence(&self) -> String {
        format!(
            "{:?}: the kernel's BTF is incomplete (pahole before 1.31), or the scheduler was built for another version; \
             use another kernel (KTSTR_KERNEL), or build the scheduler for this one",
            self.line
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_is_reported_with_its_symbol() {
        for (line, says) in [
            (
                "libbpf: extern (func ksym) 'scx_bpf_create_dsq': func_proto [171] incompatible with vmlinux [97242]",
                "`scx_bpf_create_dsq` has another type in the kernel's BTF",
            ),
            (
                "libbpf: extern (func ksym) 'scx_bpf_new': not found in kernel or module BTFs",
                "the kernel's BTF has no `scx_bpf_new`",
            ),
            (
                "libbpf: extern (var ksym) 'root': incompatible types, expected [3] struct x, but kernel has [7] int y",
                "`root` has another type in the kernel's BTF",
            ),
        ] {
            let log = format!("starting\n{line}\nlibbpf: failed to load object 'bpf_bpf'\n");
            let misfit = of(&log).expect("a misfit");
            assert!(misfit.to_string().ends_with(says), "{misfit}");
            assert!(misfit.evidence().contains(line), "{}", misfit.evidence());
        }
    }

    #[test]
    fn other_messages_are_not_mismatches() {
        for log in [
            "",
            "attached\n",
            include_str!("../../../tests/data/refused.log"),
            "libbpf: extern (func ksym) 'x",
            "libbpf: extern (func ksym) 'x': resolved to kernel [12]\n",
        ] {
            assert_eq!(of(log), None, "{log}");
        }
    }
}
