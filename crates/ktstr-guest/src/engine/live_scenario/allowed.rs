//! The CPUs that the workers of each cgroup were allowed to use, against which they are judged.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::CpusetPartition;
use ktstr_scenario::topology::{OwnCpus, TestTopology, effective_cpus, parse_cpulist};

use super::super::partition;
use super::{LiveCgroup, LiveScenario, RUNNER};

/// The CPUs that the workers of a cgroup were allowed to use at any time of their lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Allowed {
    /// All CPUs of the machine.
    All,
    /// Only these CPUs, by number.
    Only(BTreeSet<usize>),
}

impl Allowed {
    /// Returns the CPUs that the workers must stay on, or `None` if they may use all.
    pub fn cpus(&self) -> Option<&BTreeSet<usize>> {
        match self {
            Self::All => None,
            Self::Only(cpus) => Some(cpus),
        }
    }

    /// Returns the CPUs that at least one of the two allows.
    pub fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a | b),
            _ => Self::All,
        }
    }
}

impl LiveCgroup {
    /// Records which CPUs the cgroup has from now on. If it has or had workers, its earlier CPUs stay allowed, too.
    pub(super) fn allow(&mut self, now: Allowed) {
        let untouched = self.handles.is_empty() && self.reports.is_empty();
        if self
            .last_allowed
            .replace(now.clone())
            .is_some_and(|last| last != now)
        {
            self.forces_moves();
        }
        self.allowed = match untouched {
            true => now,
            false => self.allowed.or(&now),
        };
    }
}

impl LiveScenario {
    /// Records that the test took a CPU offline. A cgroup whose CPUs are all offline uses the CPUs of its parent until one of its
    /// own CPUs is online again (Documentation/admin-guide/cgroup-v2.rst, `cpuset.cpus.effective`). A partition whose CPUs are
    /// all offline is invalid until then, and any cgroup may use its CPUs meanwhile. The cgroup files are not read here, because
    /// the kernel may update them later.
    pub fn cpu_is_off(&mut self, ctx: &Ctx, cpu: usize) {
        self.off_line.insert(cpu);
        let had = |t: &&mut LiveCgroup| t.allowed.cpus().is_none_or(|cpus| cpus.contains(&cpu));
        (self.tracked.iter_mut().filter(had)).for_each(LiveCgroup::forces_moves);
        let any = self.has_partitions();
        for at in 0..self.tracked.len() {
            let cpus = self.cpus_of(&self.tracked[at].name, ctx.topo);
            if any || cpus.is_none_or(|cpus| cpus.is_subset(&self.off_line)) {
                self.tracked[at].allowed = Allowed::All;
            }
        }
    }

    /// Records that the test brought a CPU back online.
    pub fn cpu_is_on(&mut self, cpu: usize) {
        self.off_line.remove(&cpu);
    }

    fn has_partitions(&self) -> bool {
        let mut tracked = self.tracked.iter();
        tracked.any(|t| t.partition != CpusetPartition::Member)
    }

    /// Returns the CPUs that a cgroup has according to the cpusets and partitions of the scenario; `None` stands for all CPUs.
    pub fn cpus_of(&self, name: &str, topology: &TestTopology) -> Option<BTreeSet<usize>> {
        let sets = self.tracked.iter().filter_map(|t| {
            Some(OwnCpus {
                name: &t.name,
                cpus: t.cpuset.as_ref()?,
                partition: t.partition != CpusetPartition::Member,
            })
        });
        effective_cpus(name, &topology.all_cpuset(), sets)
    }

    /// Notes the CPUs that each cgroup has now. Call this after cpusets or partitions have changed, and after cgroups were
    /// created or removed.
    pub fn note_effective_cpus(&mut self, ctx: &Ctx) {
        for at in 0..self.tracked.len() {
            if self.tracked[at].name != RUNNER {
                let now = self.allowed_now(ctx, &self.tracked[at].name);
                self.tracked[at].allow(now);
            }
        }
    }

    /// Returns the CPUs that a cgroup has now. All CPUs count as allowed if the kernel gives the cgroup CPUs that the scenario
    /// does not give to it, or may do so because CPUs are offline.
    pub(super) fn allowed_now(&self, ctx: &Ctx, name: &str) -> Allowed {
        let Some(cpus) = self.cpus_of(name, ctx.topo) else {
            return Allowed::All;
        };
        let partition_is_unsure = self.has_partitions() && !self.off_line.is_empty();
        let of_kernel = effective(ctx.cgroups.parent_path(), name);
        let more = of_kernel.is_some_and(|of_kernel| !of_kernel.is_subset(&cpus));
        match more || partition_is_unsure || cpus.is_subset(&self.off_line) {
            true => Allowed::All,
            false => Allowed::Only(cpus),
        }
    }

    /// Checks that each partition of the scenario is still valid. A cgroup that gets CPUs of a sibling partition may end the
    /// partition, depending on the kernel. Nothing is checked while CPUs are offline: a partition may then be invalid for a time.
    pub fn partitions_are_valid(&self, ctx: &Ctx) -> Result<()> {
        if !self.off_line.is_empty() {
            return Ok(());
        }
        let tracked = self.tracked.iter();
        for partition in tracked.filter(|t| t.partition != CpusetPartition::Member) {
            let name = &partition.name;
            partition::is_valid(&ctx.cgroups.parent_path().join(name))
                .with_context(|| format!("cgroup {name:?} is no longer a partition"))?;
        }
        Ok(())
    }
}

/// Returns the CPUs that the kernel gives to a cgroup, or `None` if they cannot be read. A cgroup without the cpuset
/// controller lacks `cpuset.cpus.effective`; it has the CPUs of the nearest cgroup above it that has the file.
fn effective(root: &Path, name: &str) -> Option<BTreeSet<usize>> {
    let folder = root.join(name);
    let read = |folder: &Path| std::fs::read_to_string(folder.join("cpuset.cpus.effective")).ok();
    let text = folder.ancestors().find_map(read)?;
    parse_cpulist(text.trim()).ok()
}
