//! Types of fields of operations: the cgroup in which workers start, an interrupt, a partition type.

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
    /// The interrupt with this number in `/proc/interrupts`.
    ByNumber(u32),
    /// The interrupt whose handler has this name. The name is the last word of a numbered line in `/proc/interrupts`, and
    /// only one of these lines may have it.
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

/// The end of the message for a cgroup that would become a partition without CPUs. It tells the user how to avoid that.
#[doc(hidden)]
pub const NO_PARTITION: &str = "partition without CPUs of its own: give it CPUs with Op::set_cpuset first, or make it a member with \
     Op::set_cpuset_partition before its CPUs are cleared";

/// The partition type of a cgroup (`cpuset.cpus.partition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpusetPartition {
    /// The cgroup belongs to the partition and the scheduling domain of its parent. This is the default.
    Member,
    /// The CPUs of the cgroup are a separate scheduling domain.
    Root,
    /// The CPUs of the cgroup are in no scheduling domain, so the kernel does not balance tasks among them.
    Isolated,
}

impl CpusetPartition {
    /// Returns the word for the type in `cpuset.cpus.partition`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Root => "root",
            Self::Isolated => "isolated",
        }
    }
}
