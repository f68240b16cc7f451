//! Pressure stall information of every cgroup (kernel/sched/psi.c), as the kernel last averaged it, which it does every two
//! seconds while there are tasks.

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::report::{CgroupPsi, PsiLine};

/// The largest number of cgroups that are listed.
const MAX_CGROUPS: usize = 1024;
/// The number of averages of each state: over 10, 60 and 300 s.
const AVERAGES: u64 = 3;
/// The largest number of states; there are seven or eight.
const MAX_STATES: u64 = 16;
/// An average of one percent (`FIXED_1`, include/linux/sched/loadavg.h).
const PERCENT: f64 = 2048.0;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the pressure of each cgroup, the root first, and the reason if some are missing.
    ///
    /// # Errors
    /// If the kernel does not account pressure, or memory cannot be read.
    pub fn cgroup_pressure(&self) -> Result<(Vec<CgroupPsi>, Option<String>), KernelError> {
        let lines = Lines::new(self)?;
        let cgroup = |path| Ok::<u64, KernelError>(self.member("cgroup", path)?.offset());
        let (group, node) = (cgroup("psi")?, cgroup("kn")?);
        let (children, sibling) = (cgroup("self.children")?, cgroup("self.sibling")?);
        let root = self
            .symbol("cgrp_dfl_root")?
            .wrapping_add(self.member("cgroup_root", "cgrp")?.offset());
        let mut found = Vec::new();
        let mut trouble = None;
        let mut waiting = VecDeque::from([root]);
        let mut seen = 1;
        while let Some(at) = waiting.pop_front() {
            let head = at.wrapping_add(children);
            let room = MAX_CGROUPS.saturating_sub(seen);
            let walked = self.walk_list("children of a cgroup", head, room, |child| {
                waiting.push_back(child.wrapping_sub(sibling));
                seen += 1;
                true
            });
            if let Err(error) = walked {
                trouble.get_or_insert(error.to_string());
            }
            let psi = match at == root {
                // The pressure of the whole machine, which is not stored in the root cgroup.
                true => self.symbol("psi_system")?,
                false => self.read_u64(at.wrapping_add(group))?,
            };
            // A cgroup that is being removed no longer has a name.
            let path = self
                .read_u64(at.wrapping_add(node))
                .and_then(|node| self.cgroup_at(node));
            if let (true, Ok((_, path))) = (psi != 0, path) {
                match lines.read(self, psi) {
                    Ok(lines) => found.push(CgroupPsi { path, lines }),
                    Err(error) => {
                        trouble.get_or_insert(error.to_string());
                    }
                }
            }
        }
        Ok((found, trouble))
    }
}

/// The members of a group with its numbers, looked up once per capture.
struct Lines {
    /// Names of the states in their order, such as `cpu.some`.
    names: Vec<String>,
    average: u64,
    total: u64,
}

impl Lines {
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let average = view.member("psi_group", "avg")?;
        let total = view.member("psi_group", "total")?;
        let states = (average.size / (8 * AVERAGES)).min(MAX_STATES);
        let names = (0..states).map_while(|state| {
            let name = view
                .btf()
                .enumerator("psi_states", i64::try_from(state).ok()?)?;
            let name = name.strip_prefix("PSI_")?.to_lowercase();
            Some(name.replacen('_', ".", 1))
        });
        Ok(Self {
            names: names.collect(),
            average: average.offset(),
            total: total.offset(),
        })
    }

    fn read<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        group: u64,
    ) -> Result<BTreeMap<String, PsiLine>, KernelError> {
        let mut lines = BTreeMap::new();
        for (state, name) in (0..).zip(&self.names) {
            let of = |start: u64, step: u64| group.wrapping_add(start + step * state);
            let average = view.read_u64(of(self.average, 8 * AVERAGES))?;
            // The first totals are those of the averages, the others those of triggers.
            let total_ns = view.read_u64(of(self.total, 8))?;
            let line = PsiLine {
                avg10: average as f64 / PERCENT,
                total_us: total_ns / 1000,
            };
            lines.insert(name.clone(), line);
        }
        Ok(lines)
    }
}
