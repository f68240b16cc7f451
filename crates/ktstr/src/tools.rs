//! Modules of the crate's root for programs around tests: kernels, schedulers' binaries, locks, hosts. They only re-export
//! what is defined elsewhere in the workspace.

/// The user's cache of kernels.
pub mod cache {
    pub use ktstr_kernel::cache::{Cache, Damaged, list, remove};
    pub use ktstr_kernel::{Kernel, KernelError, Source};
}

/// Kernels that the user's cache lacks: what is offered, and how it is fetched.
pub mod fetch {
    pub use ktstr_kernel::progress::{Listener, on_stderr};
    pub use ktstr_kernel::{Candidate, Offers, Progress, fetch, offered};
}

/// How the name of a kernel is resolved to its image: what `KTSTR_KERNEL` may name, and the kernel that a run uses.
pub mod kernel_path {
    pub use crate::discovery::{find_kernel, resolve_test_kernel};
    pub use ktstr_kernel::version::Spec;
    pub use ktstr_kernel::{Resolver, requested, resolve};
}

/// The shapes of machines on which a test runs in the gauntlet, and the constraints that choose among them.
pub mod gauntlet {
    pub use ktstr_scenario::topology::{PRESETS, Preset, TopologyConstraints};
}

/// What is recorded about the host of a run.
pub mod host_context {
    pub use ktstr_record::HostRecord as HostContext;
}

/// Locks in files, and the processes that hold them.
pub mod flock {
    pub use ktstr_state::{Holder, Lock, Place, StateError};
}

/// How many instructions the kernel's verifier processed for the programs of a scheduler.
pub mod verifier {
    pub use crate::vm_result::ProgVerifierStats;
}

/// The binary of a scheduler, and how it was found.
pub mod scheduler_artifact {
    pub use crate::discovery::resolve_scheduler;
    pub use crate::run::SchedulerSource as ResolveSource;
}
