//! What a step can do besides making cgroups and holding.

use std::borrow::Cow;

use super::cgroup_def::CgroupDef;
use super::cpuset::CpusetSpec;
use crate::workload::{AffinityIntent, WorkSpec, WorkType};

/// Where [`Op::Spawn`] puts its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnPlacement {
    /// The cgroup of the harness itself.
    RunnerCgroup,
    /// This cgroup, which must exist already.
    Cgroup(Cow<'static, str>),
}

impl SpawnPlacement {
    /// Into the cgroup of this name.
    pub fn cgroup(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Cgroup(name.into())
    }

    /// The cgroup of the harness itself.
    pub const fn runner_cgroup() -> Self {
        Self::RunnerCgroup
    }
}

/// One operation. The engine answers those it cannot do yet with an error that says so.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Makes a cgroup without workers.
    AddCgroup {
        /// The name of the new cgroup.
        name: Cow<'static, str>,
    },
    /// Makes a cgroup with its workers, as the setup of a step does.
    AddCgroupDef {
        /// The cgroup's declaration, workers included.
        def: CgroupDef,
    },
    /// Stops a cgroup's workers and removes it; a missing one is a warning.
    RemoveCgroup {
        /// The name of the cgroup to remove.
        cgroup: Cow<'static, str>,
    },
    /// Sets a cgroup's CPUs.
    SetCpuset {
        /// The name of the cgroup.
        cgroup: Cow<'static, str>,
        /// Its CPUs from now on.
        cpus: CpusetSpec,
    },
    /// Gives a cgroup all CPUs.
    ClearCpuset {
        /// The name of the cgroup.
        cgroup: Cow<'static, str>,
    },
    /// Exchanges the CPUs of two cgroups.
    SwapCpusets {
        /// The name of one cgroup.
        a: Cow<'static, str>,
        /// The name of the other cgroup.
        b: Cow<'static, str>,
    },
    /// Starts more workers.
    Spawn {
        /// The cgroup that the workers start in.
        placement: SpawnPlacement,
        /// The workers to start.
        work: WorkSpec,
    },
    /// Stops a cgroup's workers and keeps it.
    StopCgroup {
        /// The name of the cgroup.
        cgroup: Cow<'static, str>,
    },
    /// Sets the affinity of all live workers of a cgroup.
    SetAffinity {
        /// The name of the cgroup.
        cgroup: Cow<'static, str>,
        /// Where they may run from now on.
        affinity: AffinityIntent,
    },
    /// Moves all tasks of a cgroup to another; an empty name is the harness's own.
    MoveAllTasks {
        /// The name of the cgroup that is emptied.
        from: Cow<'static, str>,
        /// The name of the cgroup that the tasks come to.
        to: Cow<'static, str>,
    },
    /// Freezes a cgroup.
    FreezeCgroup {
        /// The name of the cgroup.
        cgroup: Cow<'static, str>,
    },
    /// Thaws a cgroup.
    UnfreezeCgroup {
        /// The name of the cgroup.
        cgroup: Cow<'static, str>,
    },
    /// Has the host capture the guest's state now, and waits for it.
    CaptureSnapshot {
        /// The tag it is stored under, 1 to 64 bytes.
        name: Cow<'static, str>,
    },
}

impl Op {
    /// Makes a cgroup without workers.
    pub fn add_cgroup(name: impl Into<Cow<'static, str>>) -> Self {
        Self::AddCgroup { name: name.into() }
    }

    /// Makes a cgroup with its workers.
    pub const fn add_cgroup_def(def: CgroupDef) -> Self {
        Self::AddCgroupDef { def }
    }

    /// Stops a cgroup's workers and removes it.
    pub fn remove_cgroup(cgroup: impl Into<Cow<'static, str>>) -> Self {
        Self::RemoveCgroup {
            cgroup: cgroup.into(),
        }
    }

    /// Sets a cgroup's CPUs.
    pub fn set_cpuset(cgroup: impl Into<Cow<'static, str>>, cpus: CpusetSpec) -> Self {
        Self::SetCpuset {
            cgroup: cgroup.into(),
            cpus,
        }
    }

    /// Gives a cgroup all CPUs.
    pub fn clear_cpuset(cgroup: impl Into<Cow<'static, str>>) -> Self {
        Self::ClearCpuset {
            cgroup: cgroup.into(),
        }
    }

    /// Exchanges the CPUs of two cgroups.
    pub fn swap_cpusets(a: impl Into<Cow<'static, str>>, b: impl Into<Cow<'static, str>>) -> Self {
        Self::SwapCpusets {
            a: a.into(),
            b: b.into(),
        }
    }

    /// Starts more workers.
    pub const fn spawn(placement: SpawnPlacement, work: WorkSpec) -> Self {
        Self::Spawn { placement, work }
    }

    /// Starts more workers in a cgroup.
    pub fn spawn_workers(cgroup: impl Into<Cow<'static, str>>, work: WorkSpec) -> Self {
        Self::spawn(SpawnPlacement::cgroup(cgroup), work)
    }

    /// Starts workers of this type in a cgroup.
    pub fn spawn_in_cgroup(cgroup: impl Into<Cow<'static, str>>, work_type: WorkType) -> Self {
        Self::spawn_workers(cgroup, WorkSpec::new(work_type))
    }

    /// Starts workers in the harness's own cgroup.
    pub const fn spawn_host(work: WorkSpec) -> Self {
        Self::spawn(SpawnPlacement::RunnerCgroup, work)
    }

    /// Stops a cgroup's workers and keeps it.
    pub fn stop_cgroup(cgroup: impl Into<Cow<'static, str>>) -> Self {
        Self::StopCgroup {
            cgroup: cgroup.into(),
        }
    }

    /// Sets the affinity of all live workers of a cgroup.
    pub fn set_affinity(cgroup: impl Into<Cow<'static, str>>, affinity: AffinityIntent) -> Self {
        Self::SetAffinity {
            cgroup: cgroup.into(),
            affinity,
        }
    }

    /// Moves all tasks of a cgroup to another.
    pub fn move_all_tasks(
        from: impl Into<Cow<'static, str>>,
        to: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::MoveAllTasks {
            from: from.into(),
            to: to.into(),
        }
    }

    /// Freezes a cgroup.
    pub fn freeze_cgroup(cgroup: impl Into<Cow<'static, str>>) -> Self {
        Self::FreezeCgroup {
            cgroup: cgroup.into(),
        }
    }

    /// Thaws a cgroup.
    pub fn unfreeze_cgroup(cgroup: impl Into<Cow<'static, str>>) -> Self {
        Self::UnfreezeCgroup {
            cgroup: cgroup.into(),
        }
    }

    /// Has the host capture the guest's state now, under this tag.
    pub fn capture_snapshot(name: impl Into<Cow<'static, str>>) -> Self {
        Self::CaptureSnapshot { name: name.into() }
    }

    /// The operation's number in records: fixed for ever. Numbers not used here belong to
    /// operations that do not exist yet (10-12 payloads, 16 watches, 17-20 kernel memory,
    /// 21-24 schedulers, 25 maps, 26 process lists, 27 interrupts).
    pub const fn wire_index(&self) -> u8 {
        match self {
            Self::AddCgroup { .. } => 0,
            Self::AddCgroupDef { .. } => 1,
            Self::RemoveCgroup { .. } => 2,
            Self::SetCpuset { .. } => 3,
            Self::ClearCpuset { .. } => 4,
            Self::SwapCpusets { .. } => 5,
            Self::Spawn { .. } => 6,
            Self::StopCgroup { .. } => 7,
            Self::SetAffinity { .. } => 8,
            Self::MoveAllTasks { .. } => 9,
            Self::FreezeCgroup { .. } => 13,
            Self::UnfreezeCgroup { .. } => 14,
            Self::CaptureSnapshot { .. } => 15,
        }
    }

    /// The name of the variant.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AddCgroup { .. } => "AddCgroup",
            Self::AddCgroupDef { .. } => "AddCgroupDef",
            Self::RemoveCgroup { .. } => "RemoveCgroup",
            Self::SetCpuset { .. } => "SetCpuset",
            Self::ClearCpuset { .. } => "ClearCpuset",
            Self::SwapCpusets { .. } => "SwapCpusets",
            Self::Spawn { .. } => "Spawn",
            Self::StopCgroup { .. } => "StopCgroup",
            Self::SetAffinity { .. } => "SetAffinity",
            Self::MoveAllTasks { .. } => "MoveAllTasks",
            Self::FreezeCgroup { .. } => "FreezeCgroup",
            Self::UnfreezeCgroup { .. } => "UnfreezeCgroup",
            Self::CaptureSnapshot { .. } => "CaptureSnapshot",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_indices_do_not_move() {
        let ops = [
            Op::add_cgroup("a"),
            Op::add_cgroup_def(CgroupDef::named("a")),
            Op::remove_cgroup("a"),
            Op::set_cpuset("a", CpusetSpec::llc(0)),
            Op::clear_cpuset("a"),
            Op::swap_cpusets("a", "b"),
            Op::spawn_host(WorkSpec::default()),
            Op::stop_cgroup("a"),
            Op::set_affinity("a", AffinityIntent::SingleCpu),
            Op::move_all_tasks("a", ""),
            Op::freeze_cgroup("a"),
            Op::unfreeze_cgroup("a"),
            Op::capture_snapshot("a"),
        ];
        let seen: Vec<_> = ops.iter().map(|op| (op.wire_index(), op.name())).collect();
        insta::assert_compact_debug_snapshot!(seen, @r#"[(0, "AddCgroup"), (1, "AddCgroupDef"), (2, "RemoveCgroup"), (3, "SetCpuset"), (4, "ClearCpuset"), (5, "SwapCpusets"), (6, "Spawn"), (7, "StopCgroup"), (8, "SetAffinity"), (9, "MoveAllTasks"), (13, "FreezeCgroup"), (14, "UnfreezeCgroup"), (15, "CaptureSnapshot")]"#);
    }
}
