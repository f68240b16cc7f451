//! The cgroup v2 tree of a test, as a trait: what the step engine asks for and what a test
//! function may ask for itself. The implementation on `/sys/fs/cgroup` is in the guest; a
//! recording one serves in unit tests.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A cgroup v2 controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// CPUs and memory nodes a cgroup may use.
    Cpuset,
    /// Weight and bandwidth of CPU time.
    Cpu,
    /// The controller of memory limits.
    Memory,
    /// Number of processes.
    Pids,
    /// Weight of block I/O.
    Io,
}

impl Controller {
    /// The name in `cgroup.controllers`.
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

/// What went wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The name is not one below the test's own root.
    #[error("cgroup name {name:?}: {reason}")]
    InvalidName {
        /// The name given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value the interface file would never take.
    #[error("cgroup {name:?}: {file} cannot be {value}: {reason}")]
    InvalidValue {
        /// The name of the interface file.
        name: String,
        /// The interface file.
        file: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The kernel does not offer a controller here.
    #[error("cgroup controller {controller} is not available at {path:?} (available: {available})")]
    ControllerMissing {
        /// The controller asked for.
        controller: Controller,
        /// Where it was looked for.
        path: PathBuf,
        /// What `cgroup.controllers` said.
        available: String,
    },
    /// Making, removing or reading something failed.
    #[error("cannot {action} {path:?}: {source}")]
    Access {
        /// What was tried: "create", "remove", "read", "list".
        action: &'static str,
        /// The file or folder that it failed on.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Writing an interface file failed.
    #[error("cannot write {value:?} to {path:?}: {source}")]
    Write {
        /// The interface file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error("cgroup {path:?}: {what} within {waited_ms} ms")]
    TimedOut {
        /// The folder of the cgroup.
        path: PathBuf,
        /// What did not happen: "tasks did not leave".
        what: &'static str,
        /// How long was waited, ms.
        waited_ms: u64,
    },
}

/// A tree of cgroups below one root. Names are relative to the root and may be nested
/// (`cg_0/sub`): what lies between is made and gets the controllers it needs.
pub trait CgroupOps: Send + Sync {
    /// The root of the tree in the file system.
    fn parent_path(&self) -> &Path;
    /// Makes the root and enables controllers for its children.
    fn setup(&self, controllers: &BTreeSet<Controller>) -> Result<(), CgroupError>;
    /// Makes a cgroup.
    fn create_cgroup(&self, name: &str) -> Result<(), CgroupError>;
    /// Removes a cgroup; its tasks must be gone.
    fn remove_cgroup(&self, name: &str) -> Result<(), CgroupError>;
    /// `cpuset.cpus`.
    fn set_cpuset(&self, name: &str, cpus: &BTreeSet<usize>) -> Result<(), CgroupError>;
    /// Empties `cpuset.cpus`: the parent's CPUs.
    fn clear_cpuset(&self, name: &str) -> Result<(), CgroupError>;
    /// `cpuset.mems`.
    fn set_cpuset_mems(&self, name: &str, nodes: &BTreeSet<usize>) -> Result<(), CgroupError>;
    /// Empties `cpuset.mems`: the parent's nodes.
    fn clear_cpuset_mems(&self, name: &str) -> Result<(), CgroupError>;
    /// `cpu.max`: quota (`None` is no limit) and period, microseconds.
    fn set_cpu_max(
        &self,
        name: &str,
        quota_us: Option<u64>,
        period_us: u64,
    ) -> Result<(), CgroupError>;
    /// `cpu.weight`, 1..=10000.
    fn set_cpu_weight(&self, name: &str, weight: u32) -> Result<(), CgroupError>;
    /// `memory.max`, bytes; `None` is no limit.
    fn set_memory_max(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// `memory.high`, bytes; `None` is no limit.
    fn set_memory_high(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// `memory.low`, bytes; `None` is no protection.
    fn set_memory_low(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// `memory.swap.max`, bytes; `None` is no limit.
    fn set_memory_swap_max(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError>;
    /// `io.weight`, 1..=10000.
    fn set_io_weight(&self, name: &str, weight: u16) -> Result<(), CgroupError>;
    /// `cgroup.freeze`.
    fn set_freeze(&self, name: &str, frozen: bool) -> Result<(), CgroupError>;
    /// `pids.max`; `None` is no limit.
    fn set_pids_max(&self, name: &str, max: Option<u64>) -> Result<(), CgroupError>;
    /// Writes another interface file (`cpu.idle`, `cgroup.kill`); `controller` is the one that the file belongs to, which
    /// is enabled first where it is not.
    fn set_file(
        &self,
        name: &str,
        controller: Option<Controller>,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError>;
    /// Moves a process.
    fn move_task(&self, name: &str, pid: i32) -> Result<(), CgroupError>;
    /// Moves processes; those that have ended meanwhile are passed over.
    fn move_tasks(&self, name: &str, pids: &[i32]) -> Result<(), CgroupError>;
    /// Moves a process that waits to be released: that it has ended is an error.
    fn place_task_during_handshake(&self, name: &str, pid: i32) -> Result<(), CgroupError>;
    /// Disables all controllers for the children of a cgroup.
    fn clear_subtree_control(&self, name: &str) -> Result<(), CgroupError>;
    /// Moves all processes of a cgroup to the root of the tree's parent.
    fn drain_tasks(&self, name: &str) -> Result<(), CgroupError>;
    /// `cgroup.procs`.
    fn read_procs(&self, name: &str) -> Result<Vec<i32>, CgroupError>;
    /// Removes every cgroup of the tree.
    fn cleanup_all(&self) -> Result<(), CgroupError>;
}
