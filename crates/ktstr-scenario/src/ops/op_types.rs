//! What operations are told with: where workers start, which interrupt, what a cpuset is.

use std::borrow::Cow;

/// Where `Op::Spawn` puts its workers.
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

/// An interrupt, for `Op::SteerIrq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IrqSelector {
    /// By its number in `/proc/interrupts`.
    ByNumber(u32),
    /// By the name of its handler there, which one line alone must have.
    ByLabel(Cow<'static, str>),
}

impl IrqSelector {
    /// The interrupt of this number.
    pub const fn by_number(number: u32) -> Self {
        Self::ByNumber(number)
    }

    /// The interrupt whose handler has this name.
    pub fn by_label(label: impl Into<Cow<'static, str>>) -> Self {
        Self::ByLabel(label.into())
    }
}

/// What a cgroup is to its parent's CPUs (`cpuset.cpus.partition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpusetPartition {
    /// It shares the parent's scheduling domain, as cgroups do from the start.
    Member,
    /// Its CPUs are a scheduling domain of their own.
    Root,
    /// Its CPUs are in no scheduling domain: nothing is balanced among them.
    Isolated,
}

impl CpusetPartition {
    /// The word that the kernel takes for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Root => "root",
            Self::Isolated => "isolated",
        }
    }
}
