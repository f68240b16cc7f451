//! What workers do and how they are scheduled: data and validation. The workers themselves are in the guest.

mod affinity;
mod bench;
mod config;
mod custom;
mod mem_policy;
mod rt_app;
mod sched;
mod spec;
mod work_type;

pub use affinity::{AffinityError, AffinityIntent, ResolvedAffinity};
pub use bench::{MAX_PIPE_TRANSFER, SchbenchConfig, TaobenchConfig};
pub use config::WorkloadConfig;
pub use custom::{CUSTOM_SLOTS, CustomCfg, CustomFn, WorkerCtx};
pub use mem_policy::{MemPolicy, MemPolicyError, MpolFlags};
pub use rt_app::{RtAction, RtPhase};
pub use sched::{CloneMode, SchedClass, SchedPolicy, SchedPolicyError};
pub(crate) use spec::MAX_COMM;
pub use spec::{WorkSpec, WorkSpecError};
pub use work_type::{
    AluWidth, FutexLockMode, ReapMode, WakeMechanism, WorkPhase, WorkType, WorkTypeValidationError,
};
