//! Custom work of a test: a function, its parameters, and its context.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ktstr_assert::WorkerReport;
use serde::{Deserialize, Serialize};

/// The body of [`WorkType::Custom`](super::WorkType::Custom).
///
/// The function runs once, in the worker's process, and has to return when [`WorkerCtx::stop`] becomes `true`; otherwise the
/// worker is killed five seconds later. `SIGUSR1` is sent with the stop, so that a blocking system call returns with
/// `EINTR`. The function returns the report of the worker. The harness fills in the identity of the worker. The harness also
/// fills in the times, the numbers of `/proc/thread-self/schedstat`, and the CPUs that the worker used, where the function
/// left these fields 0 or empty. A panic ends the worker's process, and its message becomes the report's `exit_info`. A
/// worker that panics, or exits in another way, fails the run, and the verdict holds the test at fault.
pub type CustomFn = fn(&WorkerCtx) -> WorkerReport;

/// The number of slots of each kind in a [`CustomCfg`].
pub const CUSTOM_SLOTS: usize = 4;

/// The parameters of a custom function: a few numbers, whose meaning the test defines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomCfg {
    /// Unsigned numbers of 64 bits, 0 by default.
    pub u64s: [u64; CUSTOM_SLOTS],
    /// Sizes or counts, 0 by default.
    pub usizes: [usize; CUSTOM_SLOTS],
    /// Signed numbers of 32 bits, 0 by default.
    pub i32s: [i32; CUSTOM_SLOTS],
    /// Flags, `false` by default.
    pub bools: [bool; CUSTOM_SLOTS],
    /// Bytes for any other data, 0 by default.
    pub blob: [u8; 32],
}

/// The context of a [`CustomFn`]: the worker in which it runs.
#[derive(Debug)]
pub struct WorkerCtx {
    stop: &'static AtomicBool,
    cpus: Vec<usize>,
    sibling_pids: Vec<i32>,
    cgroup_dir: PathBuf,
    cfg: CustomCfg,
    open: fn(&Path) -> io::Result<File>,
}

impl WorkerCtx {
    /// Creates the context; the harness calls this in the worker's process. `open` opens a file for writing, which this crate
    /// does not do itself.
    #[doc(hidden)]
    pub fn new(
        stop: &'static AtomicBool,
        cpus: Vec<usize>,
        sibling_pids: Vec<i32>,
        cgroup_dir: PathBuf,
        cfg: CustomCfg,
        open: fn(&Path) -> io::Result<File>,
    ) -> Self {
        Self {
            stop,
            cpus,
            sibling_pids,
            cgroup_dir,
            cfg,
            open,
        }
    }

    /// Returns the flag that becomes `true` when the worker has to return.
    pub fn stop(&self) -> &AtomicBool {
        self.stop
    }

    /// Returns the CPUs on which this worker was allowed to run when the harness released it, which is when its work begins. They
    /// are in ascending order.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Returns the thread ids of the workers that were created before this one in the same spawn, in the order of their creation.
    pub fn sibling_pids(&self) -> &[i32] {
        &self.sibling_pids
    }

    /// Returns the directory of the worker's cgroup at the time of its release.
    pub fn cgroup_dir(&self) -> &Path {
        &self.cgroup_dir
    }

    /// Returns the parameters that the test passed to [`WorkType::custom_with`](super::WorkType::custom_with).
    pub fn cfg(&self) -> &CustomCfg {
        &self.cfg
    }

    /// Opens `cgroup.procs` of the cgroup `name`, a sibling of the worker's own cgroup, for writing pids.
    ///
    /// # Errors
    /// The error of the system call, for example if there is no such cgroup; the text names the path.
    pub fn open_sibling_cgroup_procs(&self, name: &str) -> io::Result<File> {
        let parent = self.cgroup_dir.parent().unwrap_or(&self.cgroup_dir);
        let path = parent.join(name).join("cgroup.procs");
        (self.open)(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot open {} for writing: {error}", path.display()),
            )
        })
    }
}
