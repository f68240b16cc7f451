//! Types of the operations' fields: the cgroup in which workers start, an interrupt, a partition type.

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
    /// The cgroup of this name.
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
    /// By the name of its handler there, which must be unique.
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

/// The partition type of a cgroup (`cpuset.cpus.partition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpusetPartition {
    /// The cgroup shares the parent's scheduling domain, which is the default.
    Member,
    /// Its CPUs are a separate scheduling domain.
    Root,
    /// Its CPUs are in no scheduling domain: nothing is balanced among them.
    Isolated,
}

impl CpusetPartition {
    /// Returns the word that the kernel uses for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Root => "root",
            Self::Isolated => "isolated",
        }
    }
}
