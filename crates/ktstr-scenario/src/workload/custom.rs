//! Work that a test brings along: a function, what it is told, and what it may ask.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ktstr_assert::WorkerReport;
use serde::{Deserialize, Serialize};

/// The body of [`WorkType::Custom`](super::WorkType::Custom).
///
/// It runs once, in the worker's process, and returns when [`WorkerCtx::stop`] says so: a loop that
/// does not look there is killed five seconds after it was told to stop. `SIGUSR1` comes with the
/// stop, so that a blocking system call returns with `EINTR`. The report it returns is the worker's;
/// the harness fills in who the worker was and, where the function left them 0, CPU time, wall time
/// and the numbers of `/proc/thread-self/schedstat`. A panic ends the worker's process, and its
/// message is the report's `exit_info`.
pub type CustomFn = fn(&WorkerCtx) -> WorkerReport;

/// How many slots of each kind a [`CustomCfg`] has.
pub const CUSTOM_SLOTS: usize = 4;

/// What a test tells its function: a few numbers, without a meaning of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomCfg {
    /// Four unsigned numbers.
    pub u64s: [u64; CUSTOM_SLOTS],
    /// Four sizes or counts.
    pub usizes: [usize; CUSTOM_SLOTS],
    /// Four signed numbers.
    pub i32s: [i32; CUSTOM_SLOTS],
    /// Four switches that mean what the function makes of them.
    pub bools: [bool; CUSTOM_SLOTS],
    /// Bytes of any other meaning.
    pub blob: [u8; 32],
}

/// What a [`CustomFn`] sees of the worker it runs in.
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
    /// Put together by the harness in the worker's process. `open` opens a file for writing: this
    /// crate touches none itself.
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

    /// Becomes `true` when the worker has to return.
    pub fn stop(&self) -> &AtomicBool {
        self.stop
    }

    /// The CPUs that this worker was allowed when it was let go, in ascending order.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// The thread ids of the workers that were started together with this one and before it, in
    /// their order.
    pub fn sibling_pids(&self) -> &[i32] {
        &self.sibling_pids
    }

    /// The directory of the worker's cgroup, as it was when the worker was let go.
    pub fn cgroup_dir(&self) -> &Path {
        &self.cgroup_dir
    }

    /// What the test gave to [`WorkType::custom_with`](super::WorkType::custom_with).
    pub fn cfg(&self) -> &CustomCfg {
        &self.cfg
    }

    /// Opens `cgroup.procs` of the cgroup `name` beside the worker's own, for writing process ids.
    ///
    /// # Errors
    /// What the kernel answers, most of all that there is no such cgroup; the path is in the text.
    pub fn open_sibling_cgroup_procs(&self, name: &str) -> io::Result<File> {
        let beside = self.cgroup_dir.parent().unwrap_or(&self.cgroup_dir);
        let path = beside.join(name).join("cgroup.procs");
        (self.open)(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot open {} for writing: {error}", path.display()),
            )
        })
    }
}
