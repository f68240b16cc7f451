//! The cgroup v2 tree of a test as a trait, with the operations that the step engine and test functions use. The implementation
//! on `/sys/fs/cgroup` is in the guest; unit tests use an implementation that records the calls.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A cgroup v2 controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// The CPUs and memory nodes that a cgroup may use.
    Cpuset,
    /// Weight and bandwidth of CPU time.
    Cpu,
    /// The controller of memory limits.
    Memory,
    /// The limit on the number of tasks; each thread counts as one.
    Pids,
    /// Weight of block I/O.
    Io,
}

impl Controller {
    /// Returns the name of the controller in `cgroup.controllers`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpuset => "cpuset",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The name is not a valid path below the root of the test.
    #[error("cgroup name {name:?}: {reason}")]
    InvalidName {
        /// The name of the cgroup, as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value that the interface file never accepts.
    #[error("cgroup {name:?}: {file} cannot be {value}: {reason}")]
    InvalidValue {
        /// The name of the cgroup, as it was given.
        name: String,
        /// The interface file, such as `cpu.weight`.
        file: &'static str,
        /// The value that was asked for, as text.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A controller is not available in the parent cgroup.
    #[error("cgroup controller {controller} is not available at {path:?} (available: {available})")]
    ControllerMissing {
        /// The controller that was to be enabled.
        controller: Controller,
        /// The folder of the cgroup that lacks the controller.
        path: PathBuf,
        /// The content of `cgroup.controllers`.
        available: String,
    },
    /// Finding, creating, removing or reading a cgroup or one of its files failed.
    #[error("cannot {action} {path:?}: {cause}")]
    Access {
        /// What was tried: "find", "create", "remove", "read" or "list".
        action: &'static str,
        /// The file or folder on which the action failed.
        path: PathBuf,
        /// The error of the system call.
        cause: io::Error,
    },
    /// Writing an interface file failed.
    #[error("cannot write {value:?} to {path:?}: {cause}")]
    Write {
        /// The absolute path of the interface file.
        path: PathBuf,
        /// The value that was written.
        value: String,
        /// The error of the system call.
        cause: io::Error,
    },
    /// A change that was waited for did not happen in time.
    #[error("cgroup {path:?}: {what} within {waited_ms} ms")]
    TimedOut {
        /// The folder of the cgroup.
        path: PathBuf,
        /// What went wrong, as a clause to which the message adds the time: "tasks did not leave".
        what: &'static str,
        /// How long the caller waited, in milliseconds.
        waited_ms: u64,
    },
}

/// A tree of cgroups below one root. Names are relative to the root and may be nested (`cg_0/sub`):
/// missing parents are created and get the controllers that are needed.
pub trait CgroupOps: Send + Sync {
    /// The root of the tree in the file system.
    fn parent_path(&self) -> &Path;
    /// Creates the root and enables controllers for its children.
    fn setup(&self, controllers: &BTreeSet<Controller>) -> Result<(), CgroupError>;
    /// Creates a cgroup and its missing ancestors. A cgroup that exists already is kept.
    fn create_cgroup(&self, name: &str) -> Result<(), CgroupError>;
    /// Removes a cgroup, and waits for tasks that are still exiting, up to a limit. A cgroup that does not exist is
    /// not an error.
    fn remove_cgroup(&self, name: &str) -> Result<(), CgroupError>;
    /// Sets `cpuset.cpus`, the CPUs of the cgroup. The empty set is an error.
    fn set_cpuset(&self, name: &str, cpus: &BTreeSet<usize>) -> Result<(), CgroupError>;
    /// Clears `cpuset.cpus`, so that the cgroup has the parent's CPUs.
    fn clear_cpuset(&self, name: &str) -> Result<(), CgroupError>;
    /// Sets `cpuset.mems`, the memory nodes of the cgroup. The empty set is an error.
    fn set_cpuset_mems(&self, name: &str, nodes: &BTreeSet<usize>) -> Result<(), CgroupError>;
    /// Clears `cpuset.mems`, so that the cgroup has the parent's nodes.
    fn clear_cpuset_mems(&self, name: &str) -> Result<(), CgroupError>;
    /// Sets `cpu.max`: the quota (`None` is no limit) and the period in microseconds.
    fn set_cpu_max(
        &self,
        name: &str,
        quota_us: Option<u64>,
        period_us: u64,
    ) -> Result<(), CgroupError>;
    /// Sets `cpu.weight`, the share of CPU time relative to sibling cgroups, in 1..=10000.
    fn set_cpu_weight(&self, name: &str, weight: u32) -> Result<(), CgroupError>;
    /// Sets `memory.max` in bytes; `None` is no limit.
    fn set_memory_max(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// Sets `memory.high` in bytes; `None` is no limit.
    fn set_memory_high(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// Sets `memory.low` in bytes; `None` is no protection.
    fn set_memory_low(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// Sets `memory.swap.max` in bytes; `None` is no limit.
    fn set_memory_swap_max(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// Sets the default of `io.weight`, the share of block I/O relative to sibling cgroups, in 1..=10000.
    fn set_io_weight(&self, name: &str, weight: u16) -> Result<(), CgroupError>;
    /// Freezes or thaws all tasks of the cgroup and its descendants (`cgroup.freeze`), and does not wait until they are frozen.
    fn set_freeze(&self, name: &str, frozen: bool) -> Result<(), CgroupError>;
    /// Sets `pids.max`; `None` is no limit.
    fn set_pids_max(&self, name: &str, max: Option<u64>) -> Result<(), CgroupError>;
    /// Writes another interface file (`cpu.idle`, `cgroup.kill`); `controller` is the controller that the file belongs to,
    /// which is enabled first if necessary.
    fn set_file(
        &self,
        name: &str,
        controller: Option<Controller>,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError>;
    /// Moves a process with all its threads into the cgroup. It is an error if the process has exited.
    fn move_task(&self, name: &str, pid: i32) -> Result<(), CgroupError>;
    /// Moves processes with all their threads into the cgroup. Processes that have exited in the meantime are skipped.
    fn move_tasks(&self, name: &str, pids: &[i32]) -> Result<(), CgroupError>;
    /// Moves a new worker process into the cgroup. The worker does no work until the harness releases it after this call, so
    /// that all of its work is done in this cgroup. It is an error if the process has exited.
    fn place_task_during_handshake(&self, name: &str, pid: i32) -> Result<(), CgroupError>;
    /// Disables all controllers for the children of a cgroup.
    fn clear_subtree_control(&self, name: &str) -> Result<(), CgroupError>;
    /// Moves all processes of a cgroup to the root of the cgroup2 file system. The processes of its descendants stay.
    fn drain_tasks(&self, name: &str) -> Result<(), CgroupError>;
    /// Returns the process ids in `cgroup.procs`, which does not list the processes of the cgroup's descendants.
    fn read_procs(&self, name: &str) -> Result<Vec<i32>, CgroupError>;
    /// Moves all processes out of the cgroups below the root, and removes these cgroups. The root is kept.
    fn cleanup_all(&self) -> Result<(), CgroupError>;
}
