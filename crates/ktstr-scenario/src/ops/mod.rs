//! Steps of a scenario: their cgroups with workers, their operations and their holds. This module has the data and its
//! validation; the engine that runs steps is in the guest.

mod backdrop;
mod cgroup_def;
mod cpuset;
mod kernel;
mod op;
mod op_types;
mod step;
mod table;

pub use backdrop::Backdrop;
pub use cgroup_def::{
    CgroupDef, CgroupDefError, CpuLimits, IoLimits, MAX_WEIGHT, MemoryLimits, PidsLimits,
};
pub use cpuset::{CpusetError, CpusetSpec};
pub use kernel::{KernelTarget, KernelValue, KernelValueWidth, MAX_KERNEL_BYTES, validate_writes};
pub use op::{Op, OpFunctions};
pub use op_types::{CpusetPartition, IrqSelector, NO_PARTITION, SpawnPlacement};
pub use step::{HoldError, HoldSpec, Setup, Step};
